"""Read a run for a comparison: fast, and only what a comparison looks at.

`store.load` keeps all of a record; two runs of 100,000 records would not fit in the
gigabyte that a CI machine can spare. Here equal parts are kept once (all cells of a
model share its provenance and costs), samples of times become a median and a spread,
and what no gate reads is dropped.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from sys import intern
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
from pydantic_core import from_json

from zoobench.analysis.compare_packed import BASELINE, SUPERSEDED, packed_run
from zoobench.errors import StoreError
from zoobench.schema import SCHEMA, Cell, Measurement, Record, record_from_json
from zoobench.store import SUITE, Run, located, no_collection, upgrade

EXACT = ("params", "macs", "weights_bytes", "feature_dim")
TIMED = ("latency_ms_p50", "throughput", "peak_memory_bytes")
_SETTING = ("device", "dtype", "layout", "threads", "batch", "counter", "how", "over")
"""Entries of a measurement's detail that decide whether two of them may be compared."""
SAMPLES = ("samples_ms", "samples")


class Number(msgspec.Struct, gc=False):
    """A measurement, without its interval."""

    metric: str
    value: int | float
    n: int | None = None
    unit: str = ""
    better: Literal["higher", "lower", "none"] = "none"
    detail: msgspec.Raw = msgspec.Raw()


class _Cell(msgspec.Struct, gc=False):
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


_LINES = msgspec.json.Decoder(Line).decode_lines
_CELL = msgspec.json.Decoder(_Cell).decode
decoded_table = msgspec.json.Decoder(dict[str, Any]).decode
decoded = msgspec.json.Decoder(Any).decode
_Kept = TypeVar("_Kept")
_NEWLINE = ord("\n")
_BLOCK = 2**16
"""Bytes that are read and decoded at one time: a call a line costs as much as the line."""


@dataclass
class Shared:
    """Equal values, kept once: all cells of a model repeat its provenance and its costs, and
    the two sides of a comparison repeat each other's cells. `wanted` metrics are kept."""

    wanted: frozenset[str]
    cells: dict[bytes, Cell] = field(default_factory=dict)
    tables: dict[bytes, Mapping[str, Any]] = field(default_factory=lambda: {b"": {}, b"null": {}})
    values: dict[bytes, Any] = field(default_factory=dict)
    slim: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    numbers: dict[tuple[Any, ...], Measurement] = field(default_factory=dict)

    @classmethod
    def of(cls, metrics: Iterable[str]) -> Shared:
        """For the quality `metrics`, and the counts and times of every run."""
        return cls(frozenset((*metrics, *EXACT, *TIMED)))

    def cell(self, raw: msgspec.Raw) -> Cell:
        text = bytes(raw)
        held = self.cells.get(text)
        if held is None:
            body = _CELL(text)
            held = self.cells[text] = Cell(
                intern(body.model), intern(body.dataset), intern(body.method),
                self.table(body.params), body.seed, body.shots, self.table(body.versions),
            )  # fmt: skip
        return held

    def table(self, raw: msgspec.Raw) -> Mapping[str, Any]:
        text = bytes(raw)
        held = self.tables.get(text)
        if held is None:
            held = self.tables[text] = decoded_table(text)
        return held

    def entries(self, raw: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
        """A table that is new with each few-shot draw, though most of its entries aren't."""
        values, found = self.values, {}
        for name, entry in raw.items():
            text = bytes(entry)
            held = values.get(text)
            if held is None:
                held = values[text] = decoded(text)
            found[name] = held
        return found

    def equal(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.slim.setdefault(repr(value), value)

    def measurements(self, numbers: Iterable[Number]) -> tuple[Measurement, ...]:
        """Those of wanted metrics."""
        wanted, known = self.wanted, self.numbers
        found = []
        for m in numbers:
            if m.metric in wanted:
                # 3 and 3.0 are one key, but not one text in a baseline's file.
                key = (m.metric, m.value, type(m.value), m.n, m.unit, m.better, bytes(m.detail))
                held = known.get(key)
                if held is None:
                    slim = self.equal(slim_detail(decoded_table(key[-1]) if key[-1] else {}))
                    held = known[key] = Measurement(
                        intern(m.metric), m.value, unit=intern(m.unit), better=m.better, n=m.n,
                        detail=slim,
                    )  # fmt: skip
                found.append(held)
        return tuple(found)


def slim_detail(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The setting of a measurement, and its samples as their median and spread.

    `spread` is 1.4826 x the median absolute deviation: a normal sample's standard
    deviation, unmoved by outliers. `samples` is how many there were.
    """
    slim = {name: detail[name] for name in _SETTING if name in detail}
    if "median" in detail:
        return slim | {name: detail[name] for name in ("median", "mad", "samples_n")}
    samples = next((detail[name] for name in SAMPLES if detail.get(name)), None)
    if samples:
        middle = _median(samples)
        mad = 1.4826 * _median([abs(s - middle) for s in samples])
        slim |= {"median": middle, "mad": mad, "samples_n": len(samples)}
    return slim


def _median(values: list[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def load(
    path: str | Path, metrics: tuple[str, ...] = ("accuracy",), today: date | None = None
) -> Run:
    """A run directory, a lone records.jsonl or an accepted baseline, for `compare`.

    `metrics` are the quality metrics to keep; `today` decides which acceptances "until" a
    date still hold. Raises StoreError for what cannot be read: no records, a line that is no
    record, a newer schema. A last line that a kill cut short is left out, as `store.load` does.
    """
    return _load(Path(path), Shared.of(metrics), today)


def load_both(
    baseline: str | Path, candidate: str | Path, metrics: tuple[str, ...] = ("accuracy",)
) -> tuple[Run, Run]:
    """`load` of both sides of a comparison: what they have in common is kept once."""
    shared = Shared.of(metrics)
    with no_collection():
        return _load(Path(baseline), shared), _load(Path(candidate), shared)


def _load(path: Path, shared: Shared, today: date | None = None) -> Run:
    folder, file = located(path)
    records = read_records(file, shared)
    if not (folder / BASELINE).exists():
        return Run(folder, records, read_suite(folder))
    superseded = folder / SUPERSEDED
    older = read_records(superseded, shared) if superseded.exists() else ()
    return packed_run(folder, records, older, today or date.today())


def read_suite(folder: Path) -> dict[str, Any]:
    """The suite.toml of a run, or an empty table. Raises StoreError."""
    suite = folder / SUITE
    if not suite.exists():
        return {}
    try:
        return tomllib.loads(suite.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{suite}: not TOML: {error}") from error


def read_records(file: Path, shared: Shared) -> tuple[Record, ...]:
    """The newest record of each key, with only the wanted metrics. Raises StoreError."""
    return read_lines(file, partial(_quick, shared=shared), partial(slow, shared=shared))


def read_lines(
    file: Path,
    quick: Callable[[Iterable[Line]], Iterable[tuple[str, _Kept]]],
    one: Callable[[bytes], tuple[str, _Kept]],
) -> tuple[_Kept, ...]:
    """What is kept of the newest record of each key. `quick` gives (key, kept) of decoded lines,
    `one` the same of a line that is of an older schema or has NaN. Raises StoreError."""
    newest: dict[str, _Kept] = {}
    number = 0
    with no_collection():
        for block in _blocks(file):
            try:
                lines = _decoded(block)
                newest.update(quick(lines))
                number += len(lines)
                continue
            except (msgspec.MsgspecError, *_MISTAKES):
                pass  # an older schema, NaN or a damaged line: which one, and where?
            for line in block.split(b"\n")[:-1]:
                number += 1
                try:
                    key, kept = one(line)
                except _MISTAKES as error:
                    raise StoreError(f"{file}:{number}: not a record: {error}") from error
                newest[key] = kept
    return tuple(newest.values())


_MISTAKES = (ValueError, KeyError, TypeError, AttributeError)
"""What decoding raises of a line that is no record."""


def _blocks(file: Path) -> Iterator[bytes]:
    """The whole lines of a file, many at a time; a last one that was cut short is left out."""
    rest = b""
    with file.open("rb", buffering=0) as handle:
        while block := handle.read(_BLOCK):
            whole, newline, tail = block.rpartition(b"\n")
            if newline:
                yield b"".join((rest, whole, newline))
                rest = tail
            else:
                rest += block


def _decoded(block: bytes) -> list[Line]:
    """Lines of today's schema. Raises ValueError, or one of msgspec's errors, where a line is of
    another, is empty, or holds NaN."""
    bodies = _LINES(block)
    whole = np.count_nonzero(np.frombuffer(block, np.uint8) == _NEWLINE)  # bytes.count: half speed
    if len(bodies) != whole or any(b.schema != SCHEMA for b in bodies):
        raise ValueError("not all lines are records of today's schema")
    return bodies


def _quick(bodies: Iterable[Line], shared: Shared) -> Iterator[tuple[str, Record]]:
    """(key, record) of decoded lines."""
    for body in bodies:
        error = bytes(body.error)
        record = Record(
            shared.cell(body.cell),
            intern(body.status),
            shared.measurements(body.measurements),
            predictions=body.predictions,
            environment=shared.table(body.environment),
            provenance=shared.entries(body.provenance),
            started=intern(body.started),
            error=decoded_table(error) if error and error != b"null" else None,
        )
        yield body.key or record.key, record


def slow(line: bytes, shared: Shared) -> tuple[str, Record]:
    """The same of any schema that is not newer than this zoobench, NaN and all."""
    body = upgrade(from_json(line))
    record = record_from_json(body)
    kept = [
        dataclasses.replace(m, detail=shared.equal(slim_detail(m.detail)), low=None, high=None)
        for m in record.measurements
        if m.metric in shared.wanted
    ]
    slim = dataclasses.replace(record, measurements=tuple(kept), chosen={}, flags=(), seconds=0.0)
    return body.get("key", "") or record.key, slim


def finite(value: Any) -> bool:
    """Whether a measured value is a number."""
    return isinstance(value, (int, float)) and math.isfinite(value)
