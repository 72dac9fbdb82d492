"""Read a run for a comparison: fast, and only what a comparison looks at.

`store.load` keeps all of a record; two runs of 100,000 records would not fit in the
gigabyte that a CI machine can spare. Here equal parts are kept once (all cells of a
model share its provenance and costs), samples of times become a median and a spread,
and what no gate reads is dropped.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from sys import intern
from typing import Any

import msgspec
from pydantic_core import from_json

from zoobench.compare.baseline import BASELINE, SUPERSEDED, packed_run
from zoobench.compare.lines import (
    WHOLE,
    Line,
    Number,
    Repeated,
    Span,
    asked,
    decoded,
    decoded_table,
    read_lines,
)
from zoobench.compare.match import short
from zoobench.compare.record import COSTS, Slim, SlimRun
from zoobench.errors import StoreError
from zoobench.schema import Cell, Measurement, Record, record_from_json
from zoobench.store import SUITE, located, no_collection, upgrade

READ = frozenset(("splits", "sizes", "classes", "model"))
"""Entries of a provenance that a comparison reads."""
_SETTING = (
    "device", "dtype", "layout", "threads", "batch", "counter", "how", "over", "compiled",
)  # fmt: skip
"""Entries of a measurement's detail that decide whether two of them may be compared."""
SAMPLES = ("samples_ms", "samples")


@dataclass(frozen=True)
class Share:
    """Models, by their short names, and the lines of the two sides' records that are theirs."""

    models: frozenset[str]
    baseline: Sequence[Span]
    candidate: Sequence[Span]


@dataclass
class Shared:
    """Equal values, kept once: all cells of a model repeat its provenance and its costs, and
    the two sides of a comparison repeat each other's cells. `metrics` are kept, and the costs."""

    metrics: frozenset[str]
    cells: dict[bytes, Cell] = field(default_factory=dict)
    tables: dict[bytes, Mapping[str, Any]] = field(default_factory=lambda: {b"": {}, b"null": {}})
    values: dict[bytes, Any] = field(default_factory=dict)
    numbers: dict[tuple[Any, ...], Measurement] = field(default_factory=dict)
    costs: Repeated[tuple[Measurement, ...]] = field(default_factory=lambda: Repeated(_costs))

    def cell(self, raw: msgspec.Raw) -> Cell:
        text = bytes(raw)
        held = self.cells.get(text)
        if held is None:
            body = asked(text)
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
            if name in READ:
                text = bytes(entry)
                held = values.get(text)
                if held is None:
                    held = values[text] = decoded(text)
                found[name] = held
        return found

    def quality(self, numbers: Iterable[Number]) -> tuple[Measurement, ...]:
        """Accuracies are counts over n: few are new."""
        known, found = self.numbers, []
        for m in numbers:
            key = (m.metric, m.value or str(m.value), type(m.value), m.n)
            held = known.get(key)
            if held is None:
                held = known[key] = _measurement(m, {})
            found.append(held)
        return tuple(found)


def _costs(numbers: Iterable[Number]) -> tuple[Measurement, ...]:
    details = ((m, decoded_table(m.detail) if bytes(m.detail) else {}) for m in numbers)
    return tuple(_measurement(m, slim_detail(detail)) for m, detail in details)


def _measurement(m: Number, detail: Mapping[str, Any]) -> Measurement:
    return Measurement(
        intern(m.metric), m.value, unit=intern(m.unit), better=m.better, n=m.n, detail=detail
    )


def slim_measurement(m: Measurement) -> Measurement:
    """Without its interval, and with its samples as what says enough of them."""
    return replace(m, detail=slim_detail(m.detail), low=None, high=None)


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
) -> SlimRun:
    """A run directory, a lone records.jsonl or an accepted baseline, for `compare`.

    `metrics` are the quality metrics to keep; `today` decides which acceptances "until" a
    date still hold. Raises StoreError for what cannot be read: no records, a line that is no
    record, a newer schema. A last line that a kill cut short is left out, as `store.load` does.
    """
    return _load(Path(path), Shared(frozenset(metrics)), today)


def load_both(
    baseline: str | Path,
    candidate: str | Path,
    metrics: tuple[str, ...] = ("accuracy",),
    share: Share | None = None,
) -> tuple[SlimRun, SlimRun]:
    """`load` of both sides of a comparison, or of a `share` of their models: what they have in
    common is kept once."""
    shared = Shared(frozenset(metrics))
    with no_collection():
        if share is None:
            return _load(Path(baseline), shared), _load(Path(candidate), shared)
        sides = ((baseline, share.baseline), (candidate, share.candidate))
        one, other = (_load(Path(p), shared, None, spans, share.models) for p, spans in sides)
        return one, other


def _load(
    path: Path,
    shared: Shared,
    today: date | None = None,
    spans: Sequence[Span] = WHOLE,
    models: Container[str] | None = None,
) -> SlimRun:
    folder, file = located(path)
    records = read_records(file, shared, spans)
    if not (folder / BASELINE).exists():
        return SlimRun(folder, records, read_suite(folder))
    superseded = folder / SUPERSEDED
    older = read_records(superseded, shared) if superseded.exists() else ()
    if models is not None:
        older = tuple(r for r in older if short(r.cell.model) in models)
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


def read_records(file: Path, shared: Shared, spans: Sequence[Span] = WHOLE) -> tuple[Slim, ...]:
    """The newest record of each key, with only the wanted metrics. Raises StoreError."""
    return read_lines(file, partial(_quick, shared=shared), partial(_slow, shared=shared), spans)


def _quick(bodies: Iterable[Line], shared: Shared) -> Iterator[tuple[str, Slim]]:
    """(key, record) of decoded lines."""
    metrics = shared.metrics
    wanted = metrics | COSTS
    for body in bodies:
        cell = shared.cell(body.cell)
        kept = [m for m in body.measurements if m.metric in wanted]
        error = bytes(body.error)
        record = Slim(
            cell,
            intern(body.status),
            shared.quality([m for m in kept if m.metric in metrics]),
            shared.costs(cell.model, [m for m in kept if m.metric in COSTS]),
            body.predictions,
            shared.table(body.environment),
            shared.entries(body.provenance),
            intern(body.started),
            decoded_table(error) if error and error != b"null" else None,
        )
        yield body.key or record.key, record


def whole_record(line: bytes) -> tuple[str, Record]:
    """(key, record) of a line of any schema that is not newer than this zoobench, NaN and all."""
    body = upgrade(from_json(line))
    record = record_from_json(body)
    return body.get("key", "") or record.key, record


def _slow(line: bytes, shared: Shared) -> tuple[str, Slim]:
    key, record = whole_record(line)
    return key, slimmed(record, shared.metrics)


def slimmed(record: Record, metrics: Container[str]) -> Slim:
    """What a comparison looks at."""
    measured = record.measurements
    return Slim(
        record.cell,
        record.status,
        tuple(replace(m, detail={}, low=None, high=None) for m in measured if m.metric in metrics),
        tuple(slim_measurement(m) for m in measured if m.metric in COSTS),
        record.predictions,
        record.environment,
        {name: entry for name, entry in record.provenance.items() if name in READ},
        record.started,
        record.error,
    )


def finite(value: Any) -> bool:
    """Whether a measured value is a number."""
    return isinstance(value, (int, float)) and math.isfinite(value)
