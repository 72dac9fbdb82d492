"""Which spellings of a label are one class: of a table's column, a folder's names, a hub set.

>>> spelt(["1", "1.0", "2", " cat", "cat", ""])
{'1': '1', '1.0': '1', '2': '2', ' cat': 'cat', 'cat': 'cat', '': ''}
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from zoobench.errors import unknown
from zoobench.schema import Ref

WAYS = ("numbers", "words")
"""What the option `labels` may be: whether spellings of one number are one class."""
NAMED = 20
"""How many classes a note names."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u2060"))
"""Marks without width, that stand at the edge of what was copied from a page."""
_TRUTH = frozenset({"true", "false"})


def as_words(ref: Ref, where: str = "") -> bool:
    """Whether the option `labels` asks for words alone: for codes, of which 1.1 and 1.10 are two.

    Raises UserError for another value than those of `WAYS`.
    """
    asked = str(ref.option("labels", WAYS[0]))
    if asked not in WAYS:
        raise unknown(where, "labels", asked, WAYS, f"of {ref.id}")
    return asked == "words"


def spelt(spellings: Iterable[str], *, words: bool = False) -> dict[str, str]:
    """Spelling -> the name of its class, which is its shortest spelling; "" of an empty label.

    One class are spellings of the same number (1, 1.0, 1e0), those that differ in Unicode's
    form (NFC) or in blanks alone, and TRUE, True and true where nothing else is a label. Case
    counts otherwise. A word `nan` among numbers is an empty label. Under `words` only blanks and
    Unicode's form do not count.
    """
    plain = {spelling: _plain(spelling) for spelling in dict.fromkeys(spellings)}
    texts = {text for text in plain.values() if text}
    keys: dict[str, object]
    if words:
        keys = {text: text for text in texts}
    elif texts and all(text.casefold() in _TRUTH for text in texts):
        keys = {text: text.casefold() for text in texts}
    else:
        values = {text: number(text) for text in texts}
        keys = {text: text if value is None else value for text, value in values.items()}
        if all(isinstance(key, Decimal) or _is_nan(text) for text, key in keys.items()):
            keys = {text: key for text, key in keys.items() if not _is_nan(text)}
    same: defaultdict[object, list[str]] = defaultdict(list)
    for text, key in keys.items():
        same[key].append(text)
    name = {key: min(every, key=lambda text: (len(text), text)) for key, every in same.items()}
    return {spelling: name[keys[t]] if t in keys else "" for spelling, t in plain.items()}


def number(text: str) -> Decimal | None:
    """The number that `text` spells, exactly; None of a word, of nan and of infinity."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def order(name: str) -> tuple[int, Decimal, str]:
    """A sort key: numbers first, by size, then words by spelling."""
    value = number(name)
    return (1, Decimal(0), name) if value is None else (0, value, name)


def notes(classes: Mapping[str, str]) -> dict[str, Any]:
    """What a reader must know of what `spelt` returned, for the record; often nothing.

    `merged_labels`: spellings that were taken for one class. `labels_alike`: classes that
    differ in case alone, and a class called nan among words.
    """
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    folded: defaultdict[str, set[str]] = defaultdict(set)
    for spelling, name in classes.items():
        spellings[name].append(spelling)
        if name:
            folded[name.casefold()].add(name)
    merged = [
        " = ".join(repr(text) for text in (name, *sorted(set(texts) - {name})))
        for name, texts in sorted(spellings.items())
        if name and len({_plain(text) for text in texts}) > 1
    ]
    alike = [", ".join(map(repr, sorted(names))) for names in folded.values() if len(names) > 1]
    alike += [repr(name) for name in spellings if _is_nan(name)]
    found = {"merged_labels": merged[:NAMED], "labels_alike": sorted(alike)[:NAMED]}
    return {key: value for key, value in found.items() if value}


def _plain(spelling: str) -> str:
    text = unicodedata.normalize("NFC", spelling).translate(_INVISIBLE)
    return " ".join(text.split())


def _is_nan(text: str) -> bool:
    return text.casefold() in ("nan", "-nan", "+nan")
