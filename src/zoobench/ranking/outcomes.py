"""From records and kept predictions to arrays: what each model did on each example."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from zoobench.metrics import METRICS
from zoobench.ranking.comparability import cost_key
from zoobench.ranking.nouns import COSTS, SEVERAL
from zoobench.schema import Measurement, Outcomes, Record, Ref
from zoobench.statistics import bootstrap, many
from zoobench.store import Run
from zoobench.tasks import task_of


@dataclass(frozen=True)
class Book:
    """The newest record of each key over several runs, and where its predictions lie."""

    records: tuple[Record, ...]
    homes: Mapping[str, Run]

    def outcomes(self, record: Record) -> Outcomes | None:
        return self.homes[record.key].outcomes(record) if record.predictions else None


def open_book(runs: Iterable[Run]) -> Book:
    """A later run's record replaces an earlier one's, but never an ok one by a failed one."""
    newest: dict[str, Record] = {}
    homes: dict[str, Run] = {}
    for run in runs:
        for record in run.records:
            key = record.key
            if key in newest and newest[key].status == "ok" and record.status != "ok":
                continue
            newest[key] = record
            homes[key] = run
    return Book(tuple(newest.values()), homes)


def unit_scores(outcomes: Outcomes, record: Record, metric: str) -> NDArray[np.float32] | None:
    """(n,) scores whose mean is `metric`, larger better; None where it is no such mean."""
    try:
        values = task_of(record.cell).statistics(outcomes).mean_of(metric)
    except KeyError:
        return None
    if values is None:
        return None
    return np.asarray(-values if METRICS[metric].better == "lower" else values, dtype=np.float32)


def by_model(records: Iterable[Record]) -> dict[str, list[Record]]:
    """model -> its records (one a seed), in order of seed."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.cell.model, []).append(record)
    for same in found.values():
        same.sort(key=lambda r: r.cell.seed)
    return found


def outcome_rows(book: Book, records: Sequence[Record], metric: str) -> NDArray[np.float32] | None:
    """(S, N) per-example scores, one row a record; None where any was not kept."""
    rows: list[NDArray[np.float32]] = []
    for record in records:
        outcomes = book.outcomes(record)
        scores = None if outcomes is None else unit_scores(outcomes, record, metric)
        if scores is None or (rows and len(scores) != len(rows[0])):
            return None
        rows.append(scores)
    return np.stack(rows) if rows else None


def sample_of(
    book: Book, models: Sequence[Sequence[Record]], metric: str, shared_seeds: bool
) -> tuple[many.Sample, bool]:
    """The `Sample` of models[m] = its records, and whether it is paired.

    Where one model's predictions are missing all fall back on their intervals.
    """
    outcomes = [outcome_rows(book, records, metric) for records in models]
    kept = [rows for rows in outcomes if rows is not None]
    cell = models[0][0].cell
    seed = bootstrap.seed_of(cell.dataset, metric)
    if len(kept) == len(models) and len({rows.shape[1] for rows in kept}) == 1:
        return many.sample(kept, seed, shared_seeds=shared_seeds), True
    value = np.array([mean_of(records, metric) for records in models])
    error = np.array([_error_of(records, metric) for records in models])
    sizes = [m.n or 0 for records in models for r in records if (m := r.get(metric))]
    return many.sample_from_intervals(value, error, max(sizes, default=0), seed), False


def mean_of(records: Iterable[Record], metric: str) -> float:
    """Mean of `metric` over seeds, signed so that larger is better."""
    found = [m for r in records if (m := r.get(metric))]
    return _mean([-m.value if m.better == "lower" else m.value for m in found])


def _mean(values: Sequence[float]) -> float:
    """np.mean takes 5 us, and nearly all means here are of one seed."""
    return float(values[0] if len(values) == 1 else np.mean(values))


def _error_of(records: Sequence[Record], metric: str) -> float:
    """Standard error of the mean over seeds: from the intervals, and between the seeds."""
    found = [m for r in records if (m := r.get(metric))]
    within = _mean([_standard_error(m) ** 2 for m in found])
    between = float(np.var([m.value for m in found], ddof=1)) / len(found) if found[1:] else 0.0
    return float(np.sqrt(within + between))


def _standard_error(m: Measurement) -> float:
    if m.low is not None and m.high is not None:
        return (m.high - m.low) / 3.92
    if m.n:
        return float(np.sqrt(max(m.value * (1 - m.value), 1 / m.n) / m.n))
    return 0.0


def costs_of(records: Sequence[Record]) -> dict[str, float]:
    """Median of each measured cost over one model's `records`."""
    found: dict[str, list[float]] = {}
    for record in records:
        for m in record.measurements:
            if m.metric in COSTS:
                found.setdefault(m.metric, []).append(m.value)
    return {name: float(median(found[name])) for name in COSTS if name in found}


def device_of(records: Sequence[Record]) -> str:
    """What the timed costs were measured on; "several: ..." where they may not be mixed."""
    keys = list(dict.fromkeys(", ".join(cost_key(r)) for r in records))
    return keys[0] if len(keys) == 1 else SEVERAL + " | ".join(keys)


def license_of(records: Sequence[Record]) -> str:
    return str(_model_fact(records, "license") or "unknown")


def family_of(records: Sequence[Record]) -> str:
    """The card's family; else the name up to its first digit-bearing part's digits."""
    given = _model_fact(records, "family")
    if given:
        return str(given)
    name = Ref.parse(records[0].cell.model).name
    return name.rstrip("0123456789.").rstrip("-_") or name


def _model_fact(records: Sequence[Record], name: str) -> object:
    for record in records:
        model = record.provenance.get("model") or {}
        if model.get(name):
            return model[name]
    return None
