"""Read a run for a comparison: fast, and only what a comparison looks at.

`store.load` keeps all of a record; two runs of 100,000 records would not fit in the
gigabyte that a CI machine can spare. Here equal parts are kept once (all cells of a
model share its provenance and costs), samples of times become a median and a spread,
and what no gate reads is dropped.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from sys import intern
from typing import Any, Literal

import msgspec
from pydantic_core import from_json

from zoobench.analysis.compare_packed import BASELINE, SUPERSEDED, packed_run
from zoobench.errors import StoreError
from zoobench.schema import SCHEMA, Cell, Measurement, Record, record_from_json
from zoobench.store import RECORDS, SUITE, Run, upgrade

EXACT = ("params", "macs", "weights_bytes", "feature_dim")
TIMED = ("latency_ms_p50", "throughput", "peak_memory_bytes")
_SETTING = ("device", "dtype", "layout", "threads", "batch", "counter", "how", "over")
"""Entries of a measurement's detail that decide whether two of them may be compared."""
SAMPLES = ("samples_ms", "samples")


class _Number(msgspec.Struct, gc=False):
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


class _Line(msgspec.Struct, gc=False):
    """A record as far as a comparison reads it; tables stay text until they are new."""

    schema: int
    status: str
    cell: _Cell
    key: str = ""
    measurements: tuple[_Number, ...] = ()
    predictions: str = ""
    environment: msgspec.Raw = msgspec.Raw()
    provenance: msgspec.Raw = msgspec.Raw()
    started: str = ""
    error: msgspec.Raw = msgspec.Raw()


_DECODE = msgspec.json.Decoder(_Line).decode
_TABLE = msgspec.json.Decoder(dict[str, Any]).decode
_ENTRIES = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_VALUE = msgspec.json.Decoder(Any).decode


@dataclass
class _Shared:
    """Equal values, kept once: all cells of a model repeat its provenance and its costs."""

    kept: dict[Any, Any] = field(default_factory=dict)

    def table(self, raw: msgspec.Raw) -> Mapping[str, Any]:
        text = bytes(raw)
        held: Mapping[str, Any] | None = self.kept.get(text)
        if held is None:
            held = self.kept[text] = _TABLE(text) if text not in (b"", b"null") else {}
        return held

    def entries(self, raw: msgspec.Raw) -> Mapping[str, Any]:
        """As `table`, where tables differ but most of their entries are equal: each few-shot
        draw has a provenance of its own, in which only the train split's fingerprint is new."""
        text = bytes(raw)
        held: Mapping[str, Any] | None = self.kept.get(text)
        if held is None:
            if text in (b"", b"null"):
                return self.table(raw)
            held = {name: self.value(entry) for name, entry in _ENTRIES(text).items()}
        return held

    def value(self, raw: msgspec.Raw) -> Any:
        text = bytes(raw)
        if text not in self.kept:
            self.kept[text] = _VALUE(text)
        return self.kept[text]

    def equal(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        held: Mapping[str, Any] = self.kept.setdefault(repr(value), value)
        return held

    def measurement(self, m: _Number) -> Measurement:
        key = (m.metric, m.value, m.n, bytes(m.detail) if m.detail else b"")
        found = self.kept.get(key)
        if found is None:
            slim = self.equal(slim_detail(self.table(m.detail)))
            found = self.kept[key] = Measurement(
                m.metric, m.value, unit=m.unit, better=m.better, n=m.n, detail=slim
            )
        return found


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
    date still hold. Raises StoreError for what cannot be read:
    no records, a line that is no record, a newer schema. A last line that a kill cut short
    is left out, as `store.load` does.
    """
    path = Path(path)
    folder, file = (path.parent, path) if path.is_file() else (path, path / RECORDS)
    if not file.exists():
        raise StoreError(f"{path}: no {RECORDS} here, so this is no run directory")
    wanted = frozenset((*metrics, *EXACT, *TIMED))
    records = read_records(file, wanted)
    if not (folder / BASELINE).exists():
        return Run(folder, records, read_suite(folder))
    superseded = folder / SUPERSEDED
    older = read_records(superseded, wanted) if superseded.exists() else ()
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


def read_records(file: Path, wanted: frozenset[str]) -> tuple[Record, ...]:
    """The newest record of each key, with only the `wanted` metrics. Raises StoreError."""
    newest: dict[str, Record] = {}
    shared = _Shared()
    with file.open("rb") as lines, no_collection():
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                key, record = _quick(line, wanted, shared) or _slow(line, wanted, shared)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise StoreError(f"{file}:{number}: not a record: {error}") from error
            newest[key or record.key] = record
    return tuple(newest.values())


def _quick(line: bytes, wanted: frozenset[str], shared: _Shared) -> tuple[str, Record] | None:
    """(key, record) of a line of today's schema; None for any other, and for one with NaN."""
    try:
        body = _DECODE(line)
    except msgspec.MsgspecError:
        return None
    if body.schema != SCHEMA:
        return None
    cell = body.cell
    error = bytes(body.error)
    return body.key, Record(
        Cell(
            intern(cell.model),
            intern(cell.dataset),
            intern(cell.method),
            shared.table(cell.params),
            cell.seed,
            cell.shots,
            shared.table(cell.versions),
        ),
        intern(body.status),
        tuple([shared.measurement(m) for m in body.measurements if m.metric in wanted]),
        predictions=body.predictions,
        environment=shared.table(body.environment),
        provenance=shared.entries(body.provenance),
        started=intern(body.started),
        error=_TABLE(error) if error and error != b"null" else None,
    )


def _slow(line: bytes, wanted: frozenset[str], shared: _Shared) -> tuple[str, Record]:
    """The same of any schema that is not newer than this zoobench, NaN and all."""
    body = upgrade(from_json(line))
    record = record_from_json(body)
    kept = [
        dataclasses.replace(m, detail=shared.equal(slim_detail(m.detail)), low=None, high=None)
        for m in record.measurements
        if m.metric in wanted
    ]
    slim = dataclasses.replace(record, measurements=tuple(kept), chosen={}, flags=(), seconds=0.0)
    return body.get("key", ""), slim


@contextmanager
def no_collection() -> Iterator[None]:
    """A million small objects, none of them garbage: the collector would walk them in vain."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def finite(value: Any) -> bool:
    """Whether a measured value is a number."""
    return isinstance(value, (int, float)) and math.isfinite(value)
