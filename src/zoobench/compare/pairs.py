"""What two runs' kept outcomes say of one cell: differences, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoobench.compare.match import Pair
from zoobench.errors import StoreError
from zoobench.metrics import sign
from zoobench.schema import Outcomes, Record, digest
from zoobench.statistics.bootstrap import Floats, resampled
from zoobench.statistics.paired import (
    Estimate,
    from_draws,
    hierarchical_bootstrap,
    paired_bootstrap,
    student,
)
from zoobench.store import Run
from zoobench.tasks import Statistics, Task, task_of

RESAMPLES = 9_999
CURVED_RESAMPLES = 1_999
"""For metrics that are no mean over units: each resample is evaluated as a test set."""
ROUNDING = 2e-3
"""Real numbers this near, with no integer changed, are one function computed on two processors: a
baseline keeps them in float16 (0.0005), other kernels move them by less."""


@dataclass(frozen=True)
class PairedOutcomes:
    """The metrics of both runs' outcomes for one cell, a pair of `Statistics` a seed; None where
    the outcomes are identical, or nothing but rounding keeps them apart.

    `n` test units of `task`; `problem` says why there is nothing to compare, and `apart`
    that the test sets are not the same, which makes the cell incomparable.
    """

    task: Task
    n: int
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
    n = 0
    for pair in pairs:
        one, other = pair.baseline, pair.candidate
        if one.predictions and one.predictions == other.predictions:
            rows.append(None)
            n = n or test_size(one)
            continue
        old, new = baseline.outcomes(one), candidate.outcomes(other)
        absent = [side for side, kept in (("baseline", old), ("candidate", new)) if kept is None]
        if old is None or new is None:
            why = f"no predictions of the {' and the '.join(absent)}, so no paired test"
            return PairedOutcomes(task, test_size(one), problem=why)
        if old.arrays.keys() != new.arrays.keys():
            raise StoreError(f"{one.cell.label}: the two runs keep different arrays")
        if not all(np.array_equal(old.arrays[name], new.arrays[name]) for name in task.truth):
            return PairedOutcomes(task, old.n, apart="the test labels differ")
        for side, kept in (("baseline", old), ("candidate", new)):
            if not kept.n or not all(map(_finite, kept.arrays.values())):
                raise StoreError(f"{one.cell.label}: damaged predictions of the {side}")
        n = old.n
        alike = _alike(old, new, task.rounded)
        rows.append(None if alike else (task.statistics(old), task.statistics(new)))
    return PairedOutcomes(task, n, tuple(rows))


def _finite(array: NDArray[np.generic]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _alike(old: Outcomes, new: Outcomes, rounded: Sequence[str]) -> bool:
    """Whether every array is the same, the `rounded` ones up to `ROUNDING`."""
    for name, array in old.arrays.items():
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


def right_or_wrong(pairs: PairedOutcomes, metric: str) -> bool:
    """Whether each unit's part of the metric is 0 or 1, so that exact tests apply."""
    for pair in pairs.seeds:
        for of in pair or ():
            values = of.mean_of(metric)
            if values is None or not np.isin(values, (0.0, 1.0)).all():
                return False
    return True


def estimate(pairs: PairedOutcomes, metric: str, pair: Pair) -> Estimate:
    """The change of `metric`, positive where better, by the bootstrap that fits its kind.

    One seed: paired over units. Several: over seeds and units (see statistics).
    """
    seed = int(digest([list(pair.identity), metric], 8), 16)
    table = differences(pairs, metric)
    if table is None:
        return _curved(pairs, metric, seed)
    if len(table) > 1:
        return hierarchical_bootstrap(table)
    return paired_bootstrap(table[0], RESAMPLES, seed)


def _curved(pairs: PairedOutcomes, metric: str, seed: int) -> Estimate:
    """A metric that is no mean: macro averages, balanced accuracy, calibration errors."""
    n = pairs.n
    whole = np.ones((1, n))
    values, draws = [], []
    for pair in pairs.seeds:
        if pair is None:
            values.append(0.0)
            draws.append(np.zeros(CURVED_RESAMPLES))
            continue
        weights = resampled(n, seed, CURVED_RESAMPLES)
        values.append(float(_change(pair, metric, whole)[0]))
        draws.append(np.concatenate([_change(pair, metric, w) for w in weights]))
    if len(values) == 1:
        return from_draws(values[0], draws[0], n - 1)
    seeds = len(values)
    of_seeds = float(np.var(values, ddof=1)) / seeds
    of_units = float(np.mean(draws, axis=0).var(ddof=1))
    total = of_seeds + of_units
    share = of_seeds / total if total > 0 else 0.0
    return student(float(np.mean(values)), total**0.5, n - 1, seeds - 1, share)


def _change(pair: tuple[Statistics, Statistics], metric: str, weights: Floats) -> Floats:
    """(B,) candidate minus baseline under each of the (B, n) weights, positive where better."""
    old, new = (of(weights, [metric])[metric] for of in pair)
    return sign(metric) * (new - old)
