"""From records and kept predictions to arrays: what each model did on each example."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from zoobench import metrics
from zoobench.ranking.comparability import cost_key
from zoobench.ranking.nouns import COSTS, SEVERAL
from zoobench.schema import Measurement, Outcomes, Record, Ref
from zoobench.statistics import bootstrap, many
from zoobench.statistics.bootstrap import resampled
from zoobench.store import Run
from zoobench.tasks import Statistics, task_of
from zoobench.tasks.evaluate import seed_for


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


def by_model(records: Iterable[Record]) -> dict[Ref, list[Record]]:
    """model -> its records (one a seed), in order of seed."""
    found: dict[Ref, list[Record]] = {}
    for record in records:
        found.setdefault(record.cell.model, []).append(record)
    for same in found.values():
        same.sort(key=lambda r: r.cell.seed)
    return found


@dataclass(frozen=True)
class Kept:
    """What was kept of a model's seeds on one test set of `n` units, as far as `metric` needs it.

    `rows` (S, n) are the units' values where the metric is a mean; else None, and `statistics`
    evaluate it.
    """

    metric: str
    n: int
    rows: bootstrap.Floats | None
    statistics: tuple[Statistics, ...]

    def draws(self, seed: int) -> bootstrap.Floats:
        """(B,) the metric's mean over the seeds, under the weights that `seed` gives to all."""
        return np.concatenate([self._under(weights) for weights in resampled(self.n, seed)])

    def _under(self, weights: bootstrap.Floats) -> bootstrap.Floats:
        if self.rows is not None:
            return np.asarray(weights @ self.rows.mean(axis=0) / weights.sum(axis=1))
        each = [of(weights, [self.metric])[self.metric] for of in self.statistics]
        return np.asarray(np.mean(each, axis=0))

    def values(self) -> bootstrap.Floats:
        """(S,) the metric of each seed."""
        if self.rows is not None:
            return np.asarray(self.rows.mean(axis=1))
        whole = np.ones((1, self.n))
        return np.array([of(whole, [self.metric])[self.metric][0] for of in self.statistics])


def kept_of(book: Book, records: Sequence[Record], metric: str) -> Kept | None:
    """None where a record has no outcomes, they are of other test sets than each other's, or
    their task has no such metric."""
    if any(metric not in task_of(record.cell).metrics for record in records):
        return None
    every = [book.outcomes(record) for record in records]
    sizes = {outcomes.n for outcomes in every if outcomes is not None}
    if None in every or len(sizes) != 1:
        return None
    statistics = tuple(
        task_of(record.cell).statistics(outcomes)
        for record, outcomes in zip(records, every, strict=True)
        if outcomes is not None
    )
    means = [of.mean_of(metric) for of in statistics]
    n = sizes.pop()
    if any(row is None for row in means):
        return Kept(metric, n, None, statistics)
    return Kept(metric, n, np.stack([row for row in means if row is not None]), ())


def sample_of(
    book: Book, models: Sequence[Sequence[Record]], metric: str, shared_seeds: bool
) -> tuple[many.Sample, bool]:
    """The `Sample` of models[m] = its records, larger better, and whether it is paired.

    Where one model's outcomes are missing all fall back on their intervals.
    """
    cell = models[0][0].cell
    seed = seed_for(cell.dataset, task_of(cell))
    every = [kept_of(book, records, metric) for records in models]
    kept = [one for one in every if one is not None]
    if len(kept) < len(models) or len({one.n for one in kept}) != 1:
        return _unpaired(models, metric, seed), False
    sign = metrics.sign(metric)
    if all(one.rows is not None for one in kept):
        rows = [sign * one.rows for one in kept if one.rows is not None]
        return many.sample(rows, seed, shared_seeds=shared_seeds), True
    draws = sign * np.stack([one.draws(seed) for one in kept], axis=1)
    each = [sign * one.values() for one in kept]
    return many.with_seeds(each, draws, seed, kept[0].n, shared_seeds=shared_seeds), True


def _unpaired(models: Sequence[Sequence[Record]], metric: str, seed: int) -> many.Sample:
    value = np.array([mean_of(records, metric) for records in models])
    error = np.array([_error_of(records, metric) for records in models])
    sizes = [m.n or 0 for records in models for r in records if (m := r.get(metric))]
    return many.sample_from_intervals(value, error, max(sizes, default=0), seed)


def primary_of(record: Record) -> str:
    """The primary metric of the record's task."""
    return task_of(record.cell).metrics[0]


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
    if not metrics.bounded(m.metric):
        return abs(m.value)  # nothing is known of it
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
    name = records[0].cell.model.name
    return name.rstrip("0123456789.").rstrip("-_") or name


def _model_fact(records: Sequence[Record], name: str) -> object:
    for record in records:
        model = record.provenance.get("model") or {}
        if model.get(name):
            return model[name]
    return None
