"""Read a run for a comparison: fast, and only what a comparison looks at.

`store.load` keeps all of a record; two runs of 100,000 records would not fit in the
gigabyte that a CI machine can spare. Here equal parts are kept once (all cells of a
model share its provenance and costs), samples of times become a median and a spread,
and what no gate reads is dropped.
"""

from __future__ import annotations

import gc
import math
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from zoobench.analysis.compare_packed import BASELINE, SUPERSEDED, packed_run
from zoobench.errors import StoreError
from zoobench.schema import SCHEMA, Cell, Measurement, Record
from zoobench.store import RECORDS, SUITE, Run, upgrade

EXACT = ("params", "macs", "weights_bytes", "feature_dim")
TIMED = ("latency_ms_p50", "throughput", "peak_memory_bytes")
_SETTING = ("device", "dtype", "layout", "threads", "batch", "counter", "how", "over")
"""Entries of a measurement's detail that decide whether two of them may be compared."""
SAMPLES = ("samples_ms", "samples")


@dataclass
class _Shared:
    """Equal values, kept once."""

    kept: dict[Any, Any] = field(default_factory=dict)

    def table(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        seen = self.kept.get(id(value)) is value
        if seen:
            return value
        held: Mapping[str, Any] = self.kept.setdefault(repr(value), value)
        return held

    def text(self, value: str) -> str:
        return self.kept.setdefault(("text", value), value)  # type: ignore[no-any-return]

    def measurement(self, body: Mapping[str, Any]) -> Measurement:
        detail = body.get("detail")
        slim = self.table(slim_detail(detail)) if detail else {}
        value, n = body["value"], body.get("n")
        key = (body["metric"], value, n, id(slim) if slim else 0)
        found = self.kept.get(key)
        if found is None:
            found = Measurement(
                self.text(body["metric"]), value, unit=body.get("unit", ""),
                better=body.get("better", "none"), n=n, detail=slim,
            )  # fmt: skip
            self.kept[key] = found
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
                body = _pieces(line, wanted, shared) or whole(line)
                record = _slim(body, wanted, shared)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise StoreError(f"{file}:{number}: not a record: {error}") from error
            newest[body.get("key") or record.key] = record
    return tuple(newest.values())


def whole(line: bytes) -> dict[str, Any]:
    """A line as JSON, of any schema that is not newer than this zoobench."""
    return upgrade(from_json(line, cache_strings="keys"))


_FIRST, _NEXT = ', "measurements": [{"metric": "', '}, {"metric": "'
_SHARED, _AFTER = ', "environment": {', '}, "started": "'


def _pieces(line: bytes, wanted: frozenset[str], shared: _Shared) -> dict[str, Any] | None:
    """The same as `whole` for what is wanted, three times as fast, or None: read it whole.

    A run repeats itself: a model's costs and provenance stand in each of its cells. So a
    line as `store.encode` writes it is cut where its fixed parts meet, and a text that
    was seen before is not read again. No cut can fall inside a string, since a quote in
    one is escaped; a cut inside a nested table leaves unequal brackets, and is given up.
    """
    head, _, rest = line.decode().partition(_FIRST)
    inner, end, tail = rest.partition('}], "')
    small, seam, rest = tail.partition(_SHARED)
    common, started, last = rest.partition(_AFTER)
    if not (end and seam and started):
        return None
    found = []
    for piece in inner.split(_NEXT):
        if piece.count("{") != piece.count("}") or piece.count("[") != piece.count("]"):
            return None
        if piece[: piece.find('"')] in wanted:
            held = shared.kept.get(piece)
            if held is None:
                body = from_json('{"metric": "' + piece + "}")
                held = shared.kept[piece] = shared.measurement(body)
            found.append(held)
    body = from_json(f'{head}, "{small}, "started": "{last}')
    if body.get("schema") != SCHEMA:
        return None
    tables = shared.kept.get(common)
    if tables is None:
        tables = shared.kept[common] = from_json('{"environment": {' + common + "}}")
        for value in tables.values():
            shared.kept[id(value)] = value  # known by its place: no text of it is needed again
    return {**body, **tables, "measurements": found}


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


def _slim(body: dict[str, Any], wanted: frozenset[str], shared: _Shared) -> Record:
    cell = body["cell"]
    found = body.get("measurements", ())
    return Record(
        Cell(
            shared.text(cell["model"]),
            shared.text(cell["dataset"]),
            shared.text(cell["method"]),
            shared.table(cell.get("params") or {}),
            cell.get("seed", 0),
            cell.get("shots"),
            shared.table(cell.get("versions") or {}),
        ),
        shared.text(body["status"]),
        tuple(
            m if isinstance(m, Measurement) else shared.measurement(m)
            for m in found
            if isinstance(m, Measurement) or m["metric"] in wanted
        ),
        predictions=body.get("predictions", ""),
        environment=shared.table(body.get("environment") or {}),
        provenance=shared.table(body.get("provenance") or {}),
        started=shared.text(body.get("started", "")),
        error=body.get("error"),
    )


def finite(value: Any) -> bool:
    """Whether a measured value is a number."""
    return isinstance(value, (int, float)) and math.isfinite(value)
