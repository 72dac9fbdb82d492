"""Names of tags: what they say of a word, and how the ways of writing entities become one.

    IOB2   B-PER I-PER O        begins, goes on, is outside; the way that all others become
    IOB1   I-PER I-PER O        B- only where an entity follows another of its type at once
    BILOU  B-PER L-PER U-LOC    L- ends an entity, U- is one of a single word
    BIOES  B-PER E-PER S-LOC    the same in other letters (M- is I-)
    plain  PROPN VERB ADP       no parts: each word is an entity of its own, but for O

Tjong Kim Sang & Veenstra 1999 for IOB1 and IOB2, Ratinov & Roth 2009 for BILOU.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

OUTSIDE = "O"
UNTYPED = "_"
"""The type of an entity whose tag is a letter alone."""
SCHEMES = ("iob1", "iob2", "bilou", "bioes", "plain")
_LETTERS = {"iob1": "BI", "iob2": "BI", "bilou": "BILU", "bioes": "BIMES"}
_BEGINS, _ENDS = "BUS", "LUES"
_PART = re.compile(r"([BIMELSU])(?:-(.+))?", re.DOTALL)


def parts(tag: str) -> tuple[str, str]:
    """(letter, type) of an entity's tag; ("", "") of one that is written otherwise."""
    match = _PART.fullmatch(tag)
    return (match[1], match[2] or UNTYPED) if match else ("", "")


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """Which of SCHEMES the tags of some sentences are written in: plain unless most that are not
    "O" have the parts of an entity's.

    B and I alone are IOB1 where no B begins what an I could have begun, and some I begins an
    entity; else IOB2.
    """
    letters: Counter[str] = Counter()
    needless = bare = False
    for tags in sentences:
        before = ""
        for tag in tags:
            letter, kind = ("", "") if tag == OUTSIDE else parts(tag)
            letters[letter] += tag != OUTSIDE
            needless |= letter == "B" and kind != before
            bare |= letter == "I" and kind != before
            before = kind
    plain = letters.pop("", 0)
    used = {letter for letter, many in letters.items() if many}
    if letters.total() <= plain:
        return "plain"
    if used <= set("BI"):
        return "iob1" if bare and not needless else "iob2"
    return next((name for name in ("bilou", "bioes") if used <= set(_LETTERS[name])), "plain")


def as_iob2(tags: Sequence[str], scheme: str) -> tuple[list[str], int]:
    """The tags of one sentence in IOB2, and how many of them broke the rules of `scheme`: an
    entity that goes on without having begun, which begins there, or that is not ended.

    Plain tags stay as they are. Raises ValueError for a tag that is none of the scheme's.
    """
    if scheme == "plain":
        return list(tags), 0
    written: list[str] = []
    broken, closes = 0, scheme in ("bilou", "bioes")
    open_ = ""
    for tag in tags:
        letter, kind = ("", "") if tag == OUTSIDE else parts(tag)
        if tag != OUTSIDE and letter not in (_LETTERS[scheme] if letter else ()):
            raise ValueError(f"the tag {tag!r} is none of {scheme.upper()}")
        begins = letter == "B" or letter in _BEGINS or kind != open_
        if closes and open_ and (begins or not letter):
            broken += 1  # what was open was not ended
        elif letter and begins and letter not in _BEGINS and scheme != "iob1":
            broken += 1
        written.append(f"{'B' if begins else 'I'}-{kind}" if letter else OUTSIDE)
        open_ = "" if closes and letter and letter in _ENDS else kind
    if closes and open_:
        broken += 1
    return written, broken


def ordered(tags: Iterable[str], scheme: str) -> tuple[str, ...]:
    """The names of classes, each once: "O" first, then by type; of entities B- and I-, whichever
    of them is there, for a model may say either."""
    named = set(tags)
    if scheme == "plain":
        return tuple(sorted(named, key=lambda tag: (tag != OUTSIDE, tag)))
    types = sorted({parts(tag)[1] for tag in named if tag != OUTSIDE})
    outside = (OUTSIDE,) if OUTSIDE in named else ()
    return (*outside, *(f"{letter}-{kind}" for kind in types for letter in "BI"))


@dataclass(frozen=True)
class Tagset:
    """C tags in IOB2, or plain ones, by number; -1 stands for no tag at all, which is outside.

    `types` are the T types of entities, and plain tags' own names.
    """

    names: tuple[str, ...]

    @cached_property
    def plain(self) -> bool:
        """Whether any tag is neither "O" nor of IOB2: then each word is an entity of its own."""
        return any(name != OUTSIDE and parts(name)[0] not in ("B", "I") for name in self.names)

    @cached_property
    def types(self) -> tuple[str, ...]:
        named = (name for name in self.names if name != OUTSIDE)
        return tuple(dict.fromkeys(name if self.plain else parts(name)[1] for name in named))

    @cached_property
    def type_of(self) -> NDArray[np.int64]:
        """(C + 1,) the number of each tag's type, -1 outside; the last is that of -1."""
        place = {name: number for number, name in enumerate(self.types)}
        of = [place.get(name if self.plain else parts(name)[1], -1) for name in self.names]
        return np.asarray([*of, -1], dtype=np.int64)

    @cached_property
    def goes_on(self) -> NDArray[np.bool_]:
        """(C + 1,) whether a tag may go on with the entity before it."""
        on = [not self.plain and parts(name)[0] == "I" for name in self.names]
        return np.asarray([*on, False], dtype=np.bool_)


@dataclass(frozen=True)
class Spans:
    """E entities of sentences that follow each other: from word `start` up to `end`, of a type.

    `begun` says which begin with a B-, and so are entities of strict IOB2, too.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    type: NDArray[np.int64]
    begun: NDArray[np.bool_]


def spans(tags: NDArray[np.integer], starts: NDArray[np.integer], tagset: Tagset) -> Spans:
    """The entities of N sentences by conlleval's rule (Tjong Kim Sang & Buchholz 2000): an I- that
    follows nothing of its type begins one.

    `tags` (R,) are the numbers of all words, `starts` (N + 1,) where each sentence begins.
    """
    kind, on = tagset.type_of[tags], tagset.goes_on[tags]
    before = np.full(len(tags), -1, dtype=np.int64)
    before[1:] = kind[:-1]
    before[starts[:-1][starts[:-1] < len(tags)]] = -1
    joined = on & (before == kind) & (kind >= 0)
    start = np.flatnonzero((kind >= 0) & ~joined)
    stops = np.append(np.flatnonzero(~joined), len(tags))
    end = stops[np.searchsorted(stops, start, side="right")]
    return Spans(start, end, kind[start], ~on[start])
