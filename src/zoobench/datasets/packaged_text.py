"""The two text sets that are made from what pip packages carry."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from zoobench.datasets.ids import text_id
from zoobench.datasets.readers import Texts
from zoobench.datasets.splits import Found
from zoobench.errors import BadData
from zoobench.interfaces import Split
from zoobench.tasks.classification import Labels

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
    words: list[str] = []
    labels: list[int] = []
    neutral = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        word, _, _, ratings = line.split("\t")
        scores = json.loads(ratings)
        if not word.isalpha() or len(scores) != RATINGS:
            continue
        mean = sum(scores) / RATINGS
        if abs(mean) < NEUTRAL:
            neutral += 1
            continue
        words.append(word)
        labels.append(int(mean > 0))
    ids = tuple(text_id(word) for word in words)
    groups = {one: word[:STEM].casefold() for one, word in zip(ids, words, strict=True)}
    train = Split("train", ids, Labels(np.asarray(labels, dtype=np.int64)), Texts(tuple(words)))
    notes = {"neutral_left_out": neutral}
    return Found(train, None, None, ("negative", "positive"), "text", notes, groups)


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
