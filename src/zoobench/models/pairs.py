"""Questions with their texts through a network that reads pieces, in windows of bounded length.

A window is the question and a part of the text, as the tokenizer joins two texts: at most PIECES
pieces, special ones included, of which OVERLAP of the text stand in the next window too (PROTOCOL
section 2, Extractive question answering). Of a question 64 pieces are read at most. A network that
takes less has all three in proportion. Offsets are characters of the text as it was given.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from zoobench.errors import Unsupported
from zoobench.tasks.question_answering import AnswerSpan, TextQuestion
from zoobench.views import TokenReader

if TYPE_CHECKING:
    import torch

PIECES = 384
OVERLAP = 3
"""A third of a window's length stands in the next one, too."""
ASKED = 6
"""A sixth of a window's length is the most that is read of a question."""
WORD = re.compile(r"\w+|[^\w\s]")
"""What a network that looks words up is given."""
NONE = 0
"""The place that stands for no answer: the first piece, which is a special one in most networks."""

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class PairWindow:
    """`ids` and `types` (T,) of a question and a part of its text; the pieces from `first` on are
    the text's, its own numbers `begin` to `end`. Those of the whole text stand for the characters
    in `text`, (start, end) each, the end excluded. `number` is the question's.
    """

    ids: tuple[int, ...]
    types: tuple[int, ...]
    first: int
    begin: int
    end: int
    text: Spans
    number: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def places(self) -> list[int]:
        """(P,) the places in `ids` that an answer's ends are chosen of: NONE, then the text's."""
        return [NONE, *range(self.first, self.first + self.end - self.begin)]

    def target(self, answer: AnswerSpan | None) -> tuple[int, int]:
        """Which of `places` hold the answer's first and last piece; (0, 0), none, where this part
        of the text does not hold all of it."""
        if answer is None:
            return NONE, NONE
        held = [k for k, (a, b) in enumerate(self.text) if b > answer.start and a < answer.end]
        if not held or held[0] < self.begin or held[-1] >= self.end:
            return NONE, NONE
        return 1 + held[0] - self.begin, 1 + held[-1] - self.begin

    def said(self, context: str, start: int, end: int) -> str:
        """The exact part of the context from one of `places` to another, but for blanks around it;
        "" for the first of them. Accents that a tokenizer leaves out belong to their letter."""
        if NONE in (start, end):
            return ""
        a, b = self.text[self.begin + start - 1][0], self.text[self.begin + end - 1][1]
        while b < len(context) and unicodedata.category(context[b])[0] == "M":
            b += 1
        return context[a:b].strip()


@dataclass(frozen=True)
class _Pair:
    """The pieces of a question joined with those of its whole text: what comes before the text's,
    its own, and what comes after, each with the types of its pieces."""

    ids: Sequence[int]
    types: Sequence[int]
    first: int
    end: int
    spans: Spans


def pair_windows(asked: TextQuestion, reader: TokenReader, number: int = 0) -> list[PairWindow]:
    """The windows of one question, at least one; together they hold every piece of the text."""
    length = min(PIECES, reader.length)
    most = max(1, length // ASKED)
    pair = (
        _by_words(asked, reader, most) if reader.backend is None else _joined(asked, reader, most)
    )
    before, after = pair.first, len(pair.ids) - pair.end
    room = length - before - after
    overlap = min(length // OVERLAP, room - 1)
    if overlap < 0:
        raise Unsupported(f"a window of {length} pieces has no room for a text beside a question")
    found = []
    for start in _starts(len(pair.spans), room, overlap):
        a, b = before + start, min(before + start + room, pair.end)
        ids, types = (
            (*row[:before], *row[a:b], *row[pair.end :]) for row in (pair.ids, pair.types)
        )
        found.append(PairWindow(ids, types, before, start, start + b - a, pair.spans, number))
    return found


def _starts(n: int, room: int, overlap: int) -> Iterator[int]:
    """Where windows of `room` pieces begin; the last one ends with the text."""
    start = 0
    while start + room < n:
        yield start
        start += room - overlap
    yield max(0, min(start, n - room))


def _joined(asked: TextQuestion, reader: TokenReader, most: int) -> _Pair:
    """As the tokenizer joins two texts, of which the question has `most` pieces at most. Half of a
    surrogate pair reads as '?', a character too."""
    question, text = (
        one.encode("utf-8", "replace").decode() for one in (asked.question, asked.context)
    )
    # In one call: what trims offsets of blanks takes a letter too where it reads a text twice.
    said = reader.backend.encode(question, text)
    number = accumulate(of == 0 for of in said.sequence_ids)
    kept = [
        i
        for i, (of, k) in enumerate(zip(said.sequence_ids, number, strict=True))
        if of != 0 or k <= most
    ]
    ids, types, sequence, spans = (
        [row[i] for i in kept] for row in (said.ids, said.type_ids, said.sequence_ids, said.offsets)
    )
    of_text = [i for i, of in enumerate(sequence) if of == 1]
    first, end = (of_text[0], of_text[-1] + 1) if of_text else (len(ids), len(ids))
    return _Pair(ids, types, first, end, tuple(spans[first:end]))


def _by_words(asked: TextQuestion, reader: TokenReader, most: int) -> _Pair:
    """One text after the other, each word by its own pieces."""
    before = [one for word in reader.pieces(WORD.findall(asked.question)) for one in word][:most]
    words = list(WORD.finditer(asked.context))
    pieces = reader.pieces([word.group() for word in words])
    ids = [one for word in pieces for one in word]
    spans = tuple(word.span() for word, own in zip(words, pieces, strict=True) for _ in own)
    head = [*reader.before, *before] or [reader.pad_id]
    whole = [*head, *ids, *reader.after]
    return _Pair(whole, [0] * len(whole), len(head), len(head) + len(ids), spans)


def collate_pairs(some: Sequence[PairWindow], reader: TokenReader) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and, where the network takes them, `token_type_ids`, each
    (B, T) int64, T the longest of the batch."""
    import torch

    width = max(len(one) for one in some)
    names = ("input_ids", "attention_mask", *(("token_type_ids",) if reader.type_ids else ()))
    batch: dict[str, Any] = {
        name: torch.full(
            (len(some), width), reader.pad_id if name == "input_ids" else 0, dtype=torch.int64
        )
        for name in names
    }
    for i, one in enumerate(some):
        batch["input_ids"][i, : len(one)] = torch.tensor(one.ids, dtype=torch.int64)
        batch["attention_mask"][i, : len(one)] = 1
        if reader.type_ids:
            batch["token_type_ids"][i, : len(one)] = torch.tensor(one.types, dtype=torch.int64)
    return batch
