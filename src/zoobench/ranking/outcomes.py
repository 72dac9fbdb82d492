"""From records and kept predictions to arrays: what each model did on each example."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np

from zoobench import metrics
from zoobench.datasets.shift import is_shifted
from zoobench.ranking.comparability import asked_params, comparability, cost_key, is_control
from zoobench.ranking.nouns import COSTS, SEVERAL
from zoobench.schema import Cell, Measurement, Outcomes, Record, Ref, canonical
from zoobench.statistics import bootstrap, many
from zoobench.statistics.bootstrap import resampled
from zoobench.statistics.intervals import Luck, pooled, student_quantile
from zoobench.store import Run
from zoobench.tasks import Statistics, task_of
from zoobench.tasks.evaluate import bounds_of, statistics_of, units_of

TRAINED = ("fine-tune", "lora", "from-scratch")
"""Methods whose every step feeds the next: rounding alone changes their answers. Measured, 20 steps
of fine-tuning by SSE kernels against AVX ones: 61 of 200 answers, 8 points of accuracy."""


@dataclass(frozen=True)
class Book:
    """The newest record of each key over several runs, and where its predictions lie."""

    records: tuple[Record, ...]
    homes: Mapping[str, Run]

    @cached_property
    def luck(self) -> Mapping[Trained, Luck]:
        """The variance between the seeds of each method that trains, over models and datasets."""
        return luck_of(self.records)

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


def contender(cell: Cell) -> Ref:
    """What is ranked: the model, of a variant with the head that it was given."""
    head = cell.params.get("head") if cell.model.option("variant") is not None else None
    return cell.model if head is None else cell.model.with_options(head=str(head))


def model_of(who: Ref) -> Ref:
    """The model that a `contender` is, without the head that a variant was given."""
    return who if who.option("variant") is None else who.without("head")


def by_model(records: Iterable[Record]) -> dict[Ref, list[Record]]:
    """`contender` -> its records (one a seed), in order of seed."""
    found: dict[Ref, list[Record]] = {}
    for record in records:
        found.setdefault(contender(record.cell), []).append(record)
    for same in found.values():
        same.sort(key=lambda r: r.cell.seed)
    return found


@dataclass(frozen=True)
class Kept:
    """What was kept of a model's seeds on one test set, `units` (n,), as far as `metric` needs it.

    `rows` (S, n) are the examples' values where the metric is a mean; else None, and `statistics`
    evaluate it. Units are `named` but for records that kept none.
    """

    metric: str
    units: bootstrap.Units
    named: bool
    rows: bootstrap.Floats | None
    statistics: tuple[Statistics, ...]

    def draws(self) -> bootstrap.Floats:
        """(B,) the metric's mean over the seeds, under the weights of its units."""
        return np.concatenate([self._under(weights) for weights in resampled(self.units)])

    def _under(self, weights: bootstrap.Floats) -> bootstrap.Floats:
        if self.rows is not None:
            return np.asarray(weights @ self.rows.mean(axis=0) / weights.sum(axis=1))
        each = [of(weights, [self.metric])[self.metric] for of in self.statistics]
        return np.asarray(np.mean(each, axis=0))

    def values(self) -> bootstrap.Floats:
        """(S,) the metric of each seed."""
        if self.rows is not None:
            return np.asarray(self.rows.mean(axis=1))
        whole = np.ones((1, len(self.units)))
        return np.array([of(whole, [self.metric])[self.metric][0] for of in self.statistics])


def kept_of(book: Book, records: Sequence[Record], metric: str) -> Kept | None:
    """None where a record has no outcomes, they are of other units than each other's, or
    their task has no such metric. Raises StoreError for damaged ones."""
    if any(metric not in task_of(record.cell).metrics for record in records):
        return None
    found, named = [], []
    for record in records:
        outcomes = book.outcomes(record)
        if outcomes is None:
            return None
        statistics = statistics_of(record, outcomes, str(book.homes[record.key].path))
        named.append("unit" in outcomes.arrays)
        found.append((units_of(record, outcomes), statistics))
    units = found[0][0]
    if not all(np.array_equal(units, other) for other, _ in found):
        return None
    every = tuple(statistics for _, statistics in found)
    means = [of.mean_of(metric) for of in every]
    if any(row is None for row in means):
        return Kept(metric, units, all(named), None, every)
    return Kept(metric, units, all(named), np.stack([row for row in means if row is not None]), ())


def sample_of(
    book: Book, models: Sequence[Sequence[Record]], metric: str
) -> tuple[many.Sample, bool]:
    """The `Sample` of models[m] = its records, larger better, and whether it is paired.

    Where one model's outcomes are missing all fall back on their intervals.
    """
    first = models[0][0]
    every = [kept_of(book, records, metric) for records in models]
    kept = _of_one_test_set([one for one in every if one is not None])
    luck = book.luck.get(trained(first, metric), Luck()) if trains(first) else None
    if first.cell.shots is not None and all(len(records) == 1 for records in models):
        luck = Luck()  # of one draw of the examples nothing is known either
    if len(kept) < len(models) or not all(np.array_equal(one.units, kept[0].units) for one in kept):
        return _unpaired(models, metric, luck), False
    sign = metrics.sign(metric)
    options: dict[str, Any] = {
        "luck": luck,
        "shared_seeds": first.cell.shots is not None,
        "bounds": signed_bounds(metric),
    }
    if all(one.rows is not None for one in kept):
        rows = [sign * one.rows for one in kept if one.rows is not None]
        return many.sample(rows, kept[0].units, **options), True
    draws = sign * np.stack([one.draws() for one in kept], axis=1)
    each = [sign * one.values() for one in kept]
    return many.with_seeds(each, draws, kept[0].units, **options), True


def _of_one_test_set(kept: list[Kept]) -> list[Kept]:
    """Records of one section are of one test set in one order: those that kept no units, since an
    older version wrote them, are of the others' units."""
    units = next((one.units for one in kept if one.named), None)
    if units is None:
        return kept
    return [
        dataclasses.replace(one, units=units)
        if not one.named and len(one.units) == len(units)
        else one
        for one in kept
    ]


def _unpaired(models: Sequence[Sequence[Record]], metric: str, luck: Luck | None) -> many.Sample:
    value = np.array([mean_of(records, metric) for records in models])
    error = np.array([_error_of(records, metric) for records in models])
    sizes = [m.n or 0 for records in models for r in records if (m := r.get(metric))]
    seed = bootstrap.seed_of(models[0][0].cell.dataset.located, metric)
    one = many.sample_from_intervals(value, error, max(sizes, default=0), seed)
    if luck is None:
        low, high = np.clip([one.low, one.high], *signed_bounds(metric))
        return dataclasses.replace(one, low=low, high=high)
    own = luck.variance / np.array([len(records) for records in models])
    half = student_quantile(luck.dof or np.inf) * np.sqrt(error**2 + own)
    low, high = np.clip([value - half, value + half], *signed_bounds(metric))
    return dataclasses.replace(
        one, luck=own, dof=luck.dof or np.inf, low=low, high=high, lone=luck.lone
    )


def signed_bounds(metric: str) -> tuple[float, float]:
    """What a metric, its sign turned where lower is better, lies within."""
    low, high = sorted(metrics.sign(metric) * end for end in bounds_of(metric))
    return low, high


Trained = tuple[str, str, str, str]
"""What training runs have in common whose seeds' variance is one: method, parameters, metric, and
the dataset of an error in the target's own unit, which no other shares."""


def trains(record: Record) -> bool:
    """Whether the cell's method trains in steps, so that its seed's luck is in the result: what
    chose a learning rate did."""
    stepped = record.get("train_seconds") is not None or "rate" in record.chosen
    return record.cell.method in TRAINED or stepped


def trained(record: Record, metric: str) -> Trained:
    cell = record.cell
    own = cell.dataset.located.text if metrics.metric(metric).unit == "target" else ""
    return cell.method, canonical(asked_params(cell)), metric, own


def _fitted(cell: Cell) -> Ref:
    """Whose training a cell's result is of: where a head was carried over, the original's."""
    carried = cell.model.option("variant") is not None and cell.params.get("head") == "carried"
    return cell.model.without("variant") if carried else contender(cell)


def luck_of(records: Iterable[Record]) -> dict[Trained, Luck]:
    """The variance between seeds of what was trained alike. An original and the variants that it
    was carried over to are the same training runs, which are counted once."""
    runs: dict[Trained, dict[tuple[Ref, str], dict[Ref, list[float]]]] = {}
    for record in records:
        control = is_control(record) or is_shifted(record.cell.dataset)
        if record.status != "ok" or not trains(record) or control:
            continue
        cell = record.cell
        same, who = (_fitted(cell), canonical(comparability(record))), contender(cell)
        for metric in task_of(cell).metrics:
            value = record.value(metric)
            if value is not None:
                groups = runs.setdefault(trained(record, metric), {}).setdefault(same, {})
                groups.setdefault(who, []).append(value)
    return {
        key: pooled([np.array(_most(fitted, of)) for (fitted, _), of in groups.items()])
        for key, groups in runs.items()
    }


def _most(fitted: Ref, groups: Mapping[Ref, list[float]]) -> list[float]:
    """The seeds of the one of a training's models that has most, of equals the trained one's."""
    return groups[max(groups, key=lambda who: (len(groups[who]), who == fitted))]


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
    """Standard error of the mean over seeds, for its units' sake, from the intervals."""
    found = [m for r in records if (m := r.get(metric))]
    within = _mean([_standard_error(m) ** 2 for m in found])
    if trains(records[0]):
        return float(np.sqrt(within))
    between = float(np.var([m.value for m in found], ddof=1)) / len(found) if found[1:] else 0.0
    return float(np.sqrt(within + between))


def _standard_error(m: Measurement) -> float:
    if m.low is not None and m.high is not None and m.high > m.low:
        return (m.high - m.low) / 3.92
    if not metrics.bounded(m.metric):
        return abs(m.value)  # nothing is known of it
    if m.n:
        return float(np.sqrt(max(m.value * (1 - m.value), 1 / m.n) / m.n))
    return 1.0  # nothing is known of a share


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
