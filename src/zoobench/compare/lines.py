"""The lines of a records.jsonl, decoded many at a time and only as far as they are read."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np

from zoobench.errors import StoreError
from zoobench.schema import SCHEMA
from zoobench.store import no_collection

_Kept = TypeVar("_Kept")
_Made = TypeVar("_Made")


class Number(msgspec.Struct, gc=False):
    """A measurement, without its interval."""

    metric: str
    value: int | float
    n: int | None = None
    unit: str = ""
    better: Literal["higher", "lower", "none"] = "none"
    detail: msgspec.Raw = msgspec.Raw()


class Repeated(Generic[_Made]):
    """What `make` gives of a model's costs, one object for all of its cells that repeat them."""

    def __init__(self, make: Callable[[list[Number]], _Made]) -> None:
        self._make = make
        self._held: dict[tuple[str | int | float, ...], tuple[list[Number], _Made]] = {}

    def __call__(self, model: str, numbers: list[Number]) -> _Made:
        key = (model, *[m.value for m in numbers])
        held = self._held.get(key)
        if held is None or not _alike(held[0], numbers):
            # A decoded detail is a view of its whole block, which needn't stay for it.
            kept = [msgspec.structs.replace(m, detail=m.detail.copy()) for m in numbers]
            held = self._held[key] = (kept, self._make(kept))
        return held[1]


def _alike(some: Sequence[Number], others: Sequence[Number]) -> bool:
    """Whether they would be written the same: 3 and 3.0 are equal, as 0.0 and -0.0 are, but not
    one text."""
    return some == others and all(
        type(m.value) is type(o.value) and (m.value or str(m.value) == str(o.value))
        for m, o in zip(some, others, strict=True)
    )


class Asked(msgspec.Struct, gc=False):
    """A `schema.Cell`, its tables as text."""

    model: str
    dataset: str
    method: str
    params: msgspec.Raw = msgspec.Raw()
    seed: int = 0
    shots: int | None = None
    versions: msgspec.Raw = msgspec.Raw()


class Line(msgspec.Struct, gc=False):
    """A record as far as a comparison reads it; tables stay text until they are new."""

    schema: int
    status: str
    cell: msgspec.Raw
    key: str = ""
    measurements: tuple[Number, ...] = ()
    predictions: str = ""
    environment: msgspec.Raw = msgspec.Raw()
    provenance: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)
    started: str = ""
    error: msgspec.Raw = msgspec.Raw()


class Span(NamedTuple):
    """Whole lines of a file: its bytes from `start` until `stop`."""

    start: int
    stop: int


WHOLE = (Span(0, sys.maxsize),)
_LINES = msgspec.json.Decoder(Line).decode_lines
asked = msgspec.json.Decoder(Asked).decode
decoded_table = msgspec.json.Decoder(dict[str, Any]).decode
decoded = msgspec.json.Decoder(Any).decode
_NEWLINE = ord("\n")
_BLOCK = 2**17
"""Bytes that are read and decoded at one time: a call a line costs as much as the line."""
_MISTAKES = (ValueError, KeyError, TypeError, AttributeError)
"""What decoding raises of a line that is no record."""
_HEAD = re.compile(rb'\{"key": "\w*", "cell": \{"model": "([^"\\\n]*)"')
"""How `store.encode` begins a line."""


class _Model(msgspec.Struct, gc=False):
    model: str


class _Whose(msgspec.Struct, gc=False):
    cell: _Model


_WHOSE = msgspec.json.Decoder(_Whose).decode


def read_lines(
    file: Path,
    quick: Callable[[Iterable[Line]], Iterable[tuple[str, _Kept]]],
    one: Callable[[bytes], tuple[str, _Kept]],
    spans: Sequence[Span],
) -> tuple[_Kept, ...]:
    """What is kept of the newest record of each key. `quick` gives (key, kept) of decoded lines,
    `one` the same of a line that is of an older schema or has NaN; `spans` limit what is read.
    A last line that a kill cut short is left out. Raises StoreError."""
    newest: dict[str, _Kept] = {}
    with no_collection():
        for start, block in _blocks(file, spans):
            try:
                newest.update(quick(_decoded(block)))
                continue
            except (msgspec.MsgspecError, *_MISTAKES):
                pass  # an older schema, NaN or a damaged line: which one, and where?
            for line in block.split(b"\n")[:-1]:
                try:
                    key, kept = one(line)
                except _MISTAKES as error:
                    before = _blocks(file, [Span(0, start)])
                    number = 1 + sum(block.count(b"\n") for _, block in before)
                    raise StoreError(f"{file}:{number}: not a record: {error}") from error
                newest[key] = kept
                start += len(line) + 1
    return tuple(newest.values())


def spans_of_models(file: Path) -> dict[str, list[Span]]:
    """Model, as the lines write it -> its lines; "" has those of which that can't be told."""
    begins: list[tuple[int, bytes]] = []
    whose, end = None, 0
    for start, block in _blocks(file, WHOLE):
        at = 0
        while (newline := block.find(b"\n", at)) >= 0:
            head = _HEAD.match(block, at)
            model = head[1] if head else _whose(block[at:newline])
            if model != whose:
                begins.append((start + at, model))
                whose = model
            at = newline + 1
        end = start + at
    found: dict[str, list[Span]] = {}
    for (start, model), (stop, _) in pairwise([*begins, (end, b"")]):
        found.setdefault(model.decode(errors="replace"), []).append(Span(start, stop))
    return found


def _whose(line: bytes) -> bytes:
    try:
        return _WHOSE(line).cell.model.encode()
    except msgspec.MsgspecError:  # NaN, or damaged: whoever reads it will say so
        return b""


def _blocks(file: Path, spans: Iterable[Span]) -> Iterator[tuple[int, bytes]]:
    """A place in the file, and the whole lines from there on, many at a time; a last one that was
    cut short is left out."""
    with file.open("rb") as handle:
        for start, stop in spans:
            size = _BLOCK
            while start < stop:
                handle.seek(start)
                block = handle.read(min(size, stop - start))
                whole = block.rfind(b"\n") + 1
                if whole:
                    yield start, block[:whole]
                    start += whole
                elif len(block) < size:
                    break
                else:
                    size *= 2  # a line longer than that


def _decoded(block: bytes) -> list[Line]:
    """Lines of today's schema. Raises ValueError, or one of msgspec's errors, where a line is of
    another, is empty, or holds NaN."""
    bodies = _LINES(block)
    whole = np.count_nonzero(np.frombuffer(block, np.uint8) == _NEWLINE)  # bytes.count: half speed
    if len(bodies) != whole or any(b.schema != SCHEMA for b in bodies):
        raise ValueError("not all lines are records of today's schema")
    return bodies
