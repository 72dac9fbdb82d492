"""What two runs' kept outcomes say of one cell: differences, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoobench.compare.match import Pair
from zoobench.errors import StoreError
from zoobench.metrics import metric as metric_row
from zoobench.metrics import sign
from zoobench.schema import Measurement, Outcomes, Record
from zoobench.statistics.bootstrap import Floats, Units, resampled, unit_count, unit_sums
from zoobench.statistics.intervals import Z
from zoobench.statistics.paired import (
    Estimate,
    from_draws,
    hierarchical_bootstrap,
    left_out,
    paired_bootstrap,
    sign_flip,
    student,
)
from zoobench.store import Run
from zoobench.tasks import Statistics, Task, task_of
from zoobench.tasks.evaluate import APART, statistics_of, units_of

RESAMPLES = 9_999
CURVED_RESAMPLES = 1_999
"""For metrics that are no mean over units: each resample is evaluated as a test set."""
LEFT_OUT = 2_000
"""Most units that are left out one by one."""
ROUNDING = 2e-3
"""Real numbers this near, with no integer changed, are one function computed on two processors: a
baseline keeps them in float16 (0.0005), other kernels move them by less."""


@dataclass(frozen=True)
class PairedOutcomes:
    """The metrics of both runs' outcomes for one cell, a pair of `Statistics` a seed; None where
    the outcomes are identical, or nothing but rounding keeps them apart.

    `n` test examples of `task`, `units` (n,) which of them belong together, known where outcomes
    were read; `problem` says why there is nothing to pair, and `apart` that the test sets are not
    the same, which makes the cell incomparable.
    """

    task: Task
    n: int
    units: Units | None = None
    seeds: tuple[tuple[Statistics, Statistics] | None, ...] = ()
    problem: str = ""
    apart: str = ""

    @property
    def identical(self) -> bool:
        return not self.problem and not self.apart and all(pair is None for pair in self.seeds)


def read_outcomes(pairs: Sequence[Pair], baseline: Run, candidate: Run) -> PairedOutcomes:
    """Read what differs; outcomes of equal digest are equal and stay unread.

    Raises StoreError for damaged arrays of either side.
    """
    task = task_of(pairs[0].candidate.cell)
    rows: list[tuple[Statistics, Statistics] | None] = []
    n, units = 0, None
    for pair in pairs:
        one, other = pair.baseline, pair.candidate
        if one.predictions and one.predictions == other.predictions:
            _agree(one, other, task.metrics[0])
            rows.append(None)
            n = n or test_size(one)
            continue
        old, new = baseline.outcomes(one), candidate.outcomes(other)
        absent = [side for side, kept in (("baseline", old), ("candidate", new)) if kept is None]
        if old is None or new is None:
            why = f"no predictions of the {' and the '.join(absent)}"
            return PairedOutcomes(task, test_size(one), problem=why)
        before = statistics_of(one, old, f"{baseline.path} (baseline)")
        after = statistics_of(other, new, f"{candidate.path} (candidate)")
        if old.arrays.keys() - {"unit"} != new.arrays.keys() - {"unit"}:
            raise StoreError(f"{one.cell.label}: the two runs keep different arrays")
        if not all(np.array_equal(old.arrays[name], new.arrays[name]) for name in task.truth):
            return PairedOutcomes(task, old.n, apart="the test labels differ")
        if n and n != old.n:
            return PairedOutcomes(task, old.n, apart="the seeds have other test sets")
        named = (one, old) if "unit" in old.arrays else (other, new)
        n, units = old.n, units_of(*named)
        rows.append(None if _alike(old, new, task.rounded) else (before, after))
    return PairedOutcomes(task, n, units, tuple(rows))


def _agree(one: Record, other: Record, metric: str) -> None:
    """Raises StoreError where two records of the same predictions say other values."""
    old, new = one.value(metric), other.value(metric)
    if old is not None and new is not None and abs(old - new) > APART * max(abs(old), 1e-9):
        raise StoreError(
            f"{other.cell.label}: the same predictions, but {metric} is {old:.6g} in the baseline "
            f"and {new:.6g} in the candidate"
        )


def _alike(old: Outcomes, new: Outcomes, rounded: Sequence[str]) -> bool:
    """Whether every array is the same, the `rounded` ones up to `ROUNDING`."""
    for name, array in old.arrays.items():
        if name == "unit":
            continue
        other = new.arrays[name]
        if array.shape != other.shape:
            return False
        if name in rounded:
            if not np.allclose(other, array, rtol=ROUNDING, atol=ROUNDING):
                return False
        elif not np.array_equal(array, other):
            return False
    return True


def test_size(record: Record) -> int:
    """Test units of a record: what a quality was measured on, or the split's size; 0 unknown."""
    known = task_of(record.cell).metrics
    measured = [m for m in record.measurements if m.metric in known]
    sizes = [m.n for m in measured if m is not None and m.n]
    if sizes:
        return sizes[0]
    return int((record.provenance.get("sizes") or {}).get("test", 0))


def differences(pairs: PairedOutcomes, metric: str) -> Floats | None:
    """(S, n) candidate minus baseline, positive where better, of a metric that is a mean over
    units; zeros where the outcomes are identical. None for a ratio or a curve."""
    table = np.zeros((len(pairs.seeds), pairs.n))
    for row, pair in zip(table, pairs.seeds, strict=True):
        if pair is None:
            continue
        old, new = (of.mean_of(metric) for of in pair)
        if old is None or new is None:
            return None
        row[:] = sign(metric) * (new - old)
    return table


def by_unit(table: Floats, units: Units) -> Floats:
    """(S, G) from (S, n): one value a unit, whose mean is still the mean over the examples."""
    groups = unit_count(units)
    return table if groups == len(units) else unit_sums(table, units) * groups / len(units)


def right_or_wrong(pairs: PairedOutcomes, metric: str) -> bool:
    """Whether each unit's part of the metric is 0 or 1, so that exact tests apply."""
    for pair in pairs.seeds:
        for of in pair or ():
            values = of.mean_of(metric)
            if values is None or not np.isin(values, (0.0, 1.0)).all():
                return False
    return True


def estimate(pairs: PairedOutcomes, metric: str, group: Sequence[Pair]) -> Estimate | None:
    """The change of `metric`, positive where better, by the bootstrap that fits its kind.

    One seed: paired over units, right or wrong ones by exact flips of their net changes' signs.
    Several: over seeds and units (see statistics). Without outcomes to pair, or statistics of
    fewer than two units, `unpaired`.
    """
    units = pairs.units
    if pairs.problem or units is None or unit_count(units) < 2:
        return unpaired(group, metric)
    table = differences(pairs, metric)
    if table is None:
        return _curved(pairs, metric, units)
    values = by_unit(table, units)
    if len(table) > 1:
        return hierarchical_bootstrap(values)
    found = paired_bootstrap(values[0], RESAMPLES)
    if right_or_wrong(pairs, metric):
        less, greater = sign_flip(np.rint(values[0] * pairs.n / values.shape[1]))
        found = replace(found, less=less, greater=greater)
    return found


def unpaired(group: Sequence[Pair], metric: str) -> Estimate | None:
    """The change from what was recorded, as if the two had judged different examples: surer is
    nothing without their predictions. None where a value has neither interval nor size."""
    changes, variance, size = [], 0.0, 2
    for pair in group:
        old, new = pair.baseline.get(metric), pair.candidate.get(metric)
        if old is None or new is None:
            return None
        changes.append(sign(metric) * (new.value - old.value))
        for m in (old, new):
            error = standard_error(m)
            if error is None:
                return None
            variance += error**2
            size = max(size, m.n or 0)
    seeds = len(changes)
    of_units = variance / seeds  # seeds share their examples
    of_seeds = float(np.var(changes, ddof=1)) / seeds if seeds > 1 else 0.0
    return student(float(np.mean(changes)), (of_units, size - 1.0), (of_seeds, seeds - 1.0))


def standard_error(m: Measurement) -> float | None:
    """From its interval, or of a share from its examples; None where neither is known."""
    if m.low is not None and m.high is not None and m.high > m.low:
        return (m.high - m.low) / (2 * Z)
    if m.n and metric_row(m.metric).unit == "fraction":
        share = (m.value * m.n + 1) / (m.n + 2)
        return float(np.sqrt(max(share * (1 - share), 0.0) / m.n))
    return None


def _curved(pairs: PairedOutcomes, metric: str, units: Units) -> Estimate:
    """A metric that is no mean: macro averages, balanced accuracy, calibration errors."""
    whole, free = np.ones((1, pairs.n)), unit_count(units) - 1.0
    values, draws = [], []
    for pair in pairs.seeds:
        if pair is None:
            values.append(0.0)
            draws.append(np.zeros(CURVED_RESAMPLES))
            continue
        weights = resampled(units, CURVED_RESAMPLES)
        values.append(float(_change(pair, metric, whole)[0]))
        draws.append(np.concatenate([_change(pair, metric, w) for w in weights]))
    if len(values) == 1:
        (pair,) = pairs.seeds
        known = (0.0, np.inf) if pair is None else _without_each(pair, metric, units)
        return from_draws(values[0], draws[0], free, known)
    seeds = len(values)
    of_seeds = float(np.var(values, ddof=1)) / seeds
    of_units = float(np.mean(draws, axis=0).var(ddof=1))
    return student(float(np.mean(values)), (of_units, free), (of_seeds, seeds - 1.0))


def _without_each(
    pair: tuple[Statistics, Statistics], metric: str, units: Units
) -> tuple[float, float]:
    """The standard error of the change by the jackknife, and its degrees of freedom; no bound where
    there are many units, and the bootstrap's own is as good."""
    distinct, owner = np.unique(units, return_inverse=True)
    if len(distinct) > LEFT_OUT:
        return 0.0, np.inf
    without = [
        _change(pair, metric, (owner != part[:, None]).astype(np.float64))
        for part in np.array_split(np.arange(len(distinct)), -(-len(distinct) // 100))
    ]
    return left_out(np.concatenate(without))


def _change(pair: tuple[Statistics, Statistics], metric: str, weights: Floats) -> Floats:
    """(B,) candidate minus baseline under each of the (B, n) weights, positive where better."""
    old, new = (of(weights, [metric])[metric] for of in pair)
    return sign(metric) * (new - old)
