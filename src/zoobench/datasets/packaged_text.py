"""The text sets that are made from what pip packages carry."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoobench.datasets.conll_ import Columns, parsed
from zoobench.datasets.ids import text_id
from zoobench.datasets.readers import Texts
from zoobench.datasets.splits import Found
from zoobench.datasets.tagged import Written
from zoobench.datasets.tagged import found as tagged
from zoobench.errors import BadData
from zoobench.interfaces import Split, Targets
from zoobench.tasks.classification import Labels
from zoobench.tasks.regression import Numbers

NEUTRAL = 1.0
"""A word whose mean rating lies nearer to 0 than this is left out: on VADER's scale
of -4 to 4, "slightly" negative or positive is 1."""

RATINGS = 10

STEM = 4
"""Words that share their first letters are one family, and stay on one side of a split:
`abandon` in train would give `abandoned` in test away."""


def word_polarity(path: Path) -> Found:
    """VADER's lexicon (Hutto & Gilbert 2014): a word, and the sign of its mean human rating.

    Kept are tokens of letters only, with ten ratings, and a mean of at least
    `NEUTRAL` either way.
    """
    rated = _rated(path)
    kept = [(word, mean) for word, mean in rated if abs(mean) >= NEUTRAL]
    labels = np.asarray([mean > 0 for _, mean in kept], dtype=np.int64)
    notes = {"neutral_left_out": len(rated) - len(kept)}
    train, groups = _words([word for word, _ in kept], Labels(labels))
    return Found(train, None, None, ("negative", "positive"), "text", notes, groups)


def word_valence(path: Path) -> Found:
    """VADER's lexicon: a word, and the mean of its ten human ratings, from -4 to 4."""
    rated = _rated(path)
    means = np.asarray([mean for _, mean in rated], dtype=np.float64)
    train, groups = _words([word for word, _ in rated], Numbers(means))
    return Found(train, None, None, (), "text", {}, groups, task="regression")


def _rated(path: Path) -> list[tuple[str, float]]:
    """(word, mean rating) of each token of letters only that has ten ratings."""
    rated = []
    for line in path.read_text(encoding="utf-8").splitlines():
        word, _, _, ratings = line.split("\t")
        scores = json.loads(ratings)
        if word.isalpha() and len(scores) == RATINGS:
            rated.append((word, sum(scores) / RATINGS))
    return rated


def _words(words: Sequence[str], targets: Targets) -> tuple[Split, dict[str, str]]:
    """The words as one pool, and the family of each by its id."""
    ids = tuple(text_id(word) for word in words)
    groups = {one: word[:STEM].casefold() for one, word in zip(ids, words, strict=True)}
    return Split("train", ids, targets, Texts(tuple(words))), groups


def hironsan(path: Path) -> Found:
    """Hironsan's corpus: the words of Japanese sentences as its authors cut them, and IOB2 tags, in
    the first and last column of lines of different lengths."""
    read = parsed(path.read_text(encoding="utf-8"), path.name, Columns(ragged=True))
    return tagged({"train": read.sentences}, read.faults, Written("iob2"), path.name, {})


LANGUAGES = {
    "ar": "Arabic", "bg": "Bulgarian", "ca": "Catalan", "cs": "Czech", "cy": "Welsh",
    "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish",
    "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "ga": "Irish", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian",
    "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ko": "Korean",
    "lt": "Lithuanian", "lv": "Latvian", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "sq": "Albanian",
    "sv": "Swedish", "sw": "Swahili", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese",
}  # fmt: skip
"""Forty languages with rich tables; of twins such as Norwegian's two, none or one."""

PER_LANGUAGE = 120
TABLES = ("languages", "territories", "scripts")


def language_id() -> Found:
    """CLDR's names of languages, countries and scripts, in each of `LANGUAGES`.

    A name that two of the languages share says nothing of its language, so it is
    left out; so are names under 4 characters (2 in Japanese and Korean). The 120
    names of each that come first by hash are kept.
    """
    from babel import localedata  # the locale tables are read by its own reader

    names = {code: _names(localedata.load(code), code) for code in LANGUAGES}
    shared = Counter(name.casefold() for known in names.values() for name in known)
    texts: list[str] = []
    labels: list[int] = []
    for label, (code, known) in enumerate(names.items()):
        own = sorted((name for name in known if shared[name.casefold()] == 1), key=_by_hash)
        if len(own) < PER_LANGUAGE:
            raise BadData(f"Babel has {len(own)} names in {code}, {PER_LANGUAGE} are needed")
        texts += own[:PER_LANGUAGE]
        labels += [label] * PER_LANGUAGE
    ids = tuple(text_id(text) for text in texts)
    train = Split("train", ids, Labels(np.asarray(labels, dtype=np.int64)), Texts(tuple(texts)))
    notes = {"babel": importlib.metadata.version("Babel")}
    return Found(train, None, None, tuple(LANGUAGES.values()), "text", notes)


def _names(locale: dict[str, Any], code: str) -> set[str]:
    """One spelling of each name: two that differ in case alone count as one."""
    shortest = 2 if code in ("ja", "ko") else 4
    found: dict[str, str] = {}
    for table in TABLES:
        for name in sorted(str(value).strip() for value in locale[table].values()):
            if len(name) >= shortest:
                found.setdefault(name.casefold(), name)
    return set(found.values())


def _by_hash(name: str) -> str:
    return hashlib.sha256(f"language-id:{name}".encode()).hexdigest()
