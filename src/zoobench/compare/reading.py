"""Read a run for a comparison, and keep what comparisons and baselines look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from zoobench.compare.baseline import BASELINE, SUPERSEDED, packed_run
from zoobench.compare.gates import COSTS, gated
from zoobench.schema import Measurement, Record, Ref
from zoobench.store import Run, located, read_records, read_suite, warn_of_absence
from zoobench.tasks import every

T = TypeVar("T")

TRAINING = "train_seconds"
"""Says that the cell's method trains the network (see ranking.outcomes.trains)."""
_SETTING = (
    "device", "dtype", "layout", "threads", "batch", "counter", "how", "over", "compiled",
)  # fmt: skip
"""Entries of a measurement's detail that decide whether two of them may be compared."""
_SUMMARY = ("median", "mad", "samples_n")


def load(path: str | Path, metrics: Iterable[str] = (), today: date | None = None) -> Run:
    """A run directory, a lone records.jsonl or an accepted baseline (a `PackedRun`).

    Of each record's measurements only `metrics` (the quality metrics of every task by default) and
    the costs are kept, without samples; `today` decides which acceptances "until" a
    date still hold. Raises StoreError.
    """
    folder, file = located(Path(path))
    shortened = Shortener(metrics)
    records = tuple(read_records(file, shortened).values())
    if not (folder / BASELINE).exists():
        run = Run(folder, records, read_suite(folder))
        warn_of_absence(run)
        return run
    superseded = folder / SUPERSEDED
    older = tuple(read_records(superseded, shortened).values()) if superseded.exists() else ()
    return packed_run(folder, records, older, today or date.today())


class Shortener:
    """Records with only what comparisons and baselines look at.

    A model's records repeat its costs, provenance and environment: what equals those of the
    model's previous record becomes the same object. A sixth of the memory is left.
    """

    def __init__(self, metrics: Iterable[str] = ()) -> None:
        self._metrics = frozenset(metrics) or frozenset(gated())
        self._primary = frozenset(task.metrics[0] for _, task in every())
        self._costs: dict[tuple[Ref, str], tuple[Measurement, Measurement]] = {}
        self._parts: dict[tuple[Ref, str], Any] = {}

    def __call__(self, record: Record) -> Record:
        model = record.cell.model
        kept = []
        for m in record.measurements:
            if m.metric in COSTS:
                kept.append(self._cost(model, m))
            elif m.metric in self._metrics:
                # Where predictions are absent, the primary metric is tested by its interval.
                ends = (m.low, m.high) if m.metric in self._primary else (None, None)
                kept.append(Measurement(m.metric, m.value, m.unit, m.better, *ends, m.n))
            elif m.metric == TRAINING:
                kept.append(Measurement(m.metric, m.value, m.unit, m.better))
        return replace(
            record,
            measurements=tuple(kept),
            chosen={},
            flags=(),
            environment=self._shared(model, "", record.environment),
            provenance={k: self._shared(model, k, v) for k, v in record.provenance.items()},
        )

    def _cost(self, model: Ref, m: Measurement) -> Measurement:
        known = self._costs.get((model, m.metric))
        if known is None or known[0] != m:
            short = replace(m, low=None, high=None, detail=summarized(m.detail))
            known = self._costs[model, m.metric] = (m, short)
        return known[1]

    def _shared(self, model: Ref, name: str, value: T) -> T:
        known: T | None = self._parts.get((model, name))
        if known is None or known != value:
            known = self._parts[model, name] = value
        return known


def summarized(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The setting of a measurement, and its samples as their median and spread.

    `mad` is 1.4826 x the median absolute deviation: a normal sample's standard
    deviation, unmoved by outliers. `samples_n` is how many there were.
    """
    kept = {name: detail[name] for name in _SETTING if name in detail}
    if all(_number(detail.get(name)) for name in _SUMMARY):  # of a baseline
        return kept | {name: detail[name] for name in _SUMMARY}
    samples = detail.get("samples_ms") or detail.get("samples")
    if not (samples and isinstance(samples, list) and all(map(_number, samples))):
        return kept
    middle = median(samples)
    mad = 1.4826 * median([abs(s - middle) for s in samples])
    return kept | {"median": middle, "mad": mad, "samples_n": len(samples)}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float))
