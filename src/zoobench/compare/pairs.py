"""What two runs' per-example predictions say of one cell: differences, seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoobench.compare.gates import better_sign
from zoobench.compare.match import Pair
from zoobench.compare.record import Slim, SlimRun
from zoobench.errors import StoreError
from zoobench.schema import Predictions, digest
from zoobench.statistics.bootstrap import resample_counts
from zoobench.statistics.paired import (
    Estimate,
    from_draws,
    hierarchical_bootstrap,
    paired_bootstrap,
    student,
)
from zoobench.tasks.classification import Statistics

Floats = NDArray[np.float64]
RIGHT_OR_WRONG = ("accuracy", "top5_accuracy")
RESAMPLES = 9_999
CURVED_RESAMPLES = 1_999
"""For metrics that are no mean over examples: each resample is evaluated as a test set."""
ROUNDING = 2e-3
"""Probabilities this near, with no answer changed, are one function computed on two processors: a
baseline keeps them in float16 (0.0005), other kernels move them by less."""


@dataclass(frozen=True)
class Answers:
    """The two sides of one cell, a `Predictions` pair a seed; None where they are identical,
    or nothing but rounding keeps them apart.

    `n` test examples; `problem` says why there is nothing to compare, and `apart` that
    the test sets are not the same, which makes the cell incomparable.
    """

    n: int
    seeds: tuple[tuple[Predictions, Predictions] | None, ...] = ()
    problem: str = ""
    apart: str = ""

    @property
    def identical(self) -> bool:
        return not self.problem and not self.apart and all(pair is None for pair in self.seeds)


def read_answers(pairs: Sequence[Pair], baseline: SlimRun, candidate: SlimRun) -> Answers:
    """Read what differs; predictions of equal digest are equal and stay unread.

    Raises StoreError for damaged arrays of either side.
    """
    found: list[tuple[Predictions, Predictions] | None] = []
    n = 0
    for pair in pairs:
        one, other = pair.baseline, pair.candidate
        if one.predictions and one.predictions == other.predictions:
            found.append(None)
            n = n or test_size(one)
            continue
        old, new = baseline.predictions(one), candidate.predictions(other)
        absent = [side for side, p in (("baseline", old), ("candidate", new)) if p is None]
        if old is None or new is None:
            why = f"no predictions of the {' and the '.join(absent)}, so no paired test"
            return Answers(test_size(one), problem=why)
        if not np.array_equal(old.label, new.label):
            return Answers(len(old.label), apart="the test labels differ")
        for side, p in (("baseline", old), ("candidate", new)):
            if not np.isfinite(p.nll).all() or not len(p.label):
                raise StoreError(f"{one.cell.label}: damaged predictions of the {side}")
        n = len(old.label)
        found.append(None if _alike(old, new) else (old, new))
    return Answers(n, tuple(found))


def _alike(old: Predictions, new: Predictions) -> bool:
    """Whether every answer is the same, and every probability up to `ROUNDING`."""
    floats = [(getattr(old, n), getattr(new, n)) for n in ("nll", "confidence", "calibrated")]
    return (
        np.array_equal(old.predicted, new.predicted)
        and np.array_equal(old.rank, new.rank)
        and all(np.allclose(b, a, rtol=ROUNDING, atol=ROUNDING) for a, b in floats)
    )


def test_size(record: Slim) -> int:
    """Test examples of a record: what accuracy was measured on, or the split's size; 0 unknown."""
    measured = record.get("accuracy") or next(iter(record.quality), None)
    if measured is not None and measured.n:
        return measured.n
    return int((record.provenance.get("sizes") or {}).get("test", 0))


def right(p: Predictions, metric: str) -> NDArray[np.bool_]:
    """(N,) whether each example counts as right."""
    return p.rank < 5 if metric == "top5_accuracy" else p.predicted == p.label


def differences(answers: Answers, value: Callable[[Predictions], NDArray[np.generic]]) -> Floats:
    """(S, N) candidate minus baseline of a per-example value; zeros where identical."""
    table = np.zeros((len(answers.seeds), answers.n))
    for row, pair in zip(table, answers.seeds, strict=True):
        if pair is not None:
            row[:] = np.asarray(value(pair[1]), float) - np.asarray(value(pair[0]), float)
    return table


def estimate(answers: Answers, metric: str, pair: Pair) -> Estimate:
    """The change of `metric`, positive where better, by the bootstrap that fits its kind.

    One seed: paired over examples. Several: over seeds and examples (see statistics).
    """
    seed = int(digest([list(pair.identity), metric], 8), 16)
    if metric == "nll":
        table = -differences(answers, lambda p: p.nll)
    elif metric in RIGHT_OR_WRONG:
        table = differences(answers, lambda p: right(p, metric))
    else:
        return _curved(answers, metric, seed)
    if len(table) > 1:
        return hierarchical_bootstrap(table)
    return paired_bootstrap(table[0], RESAMPLES, seed)


def _curved(answers: Answers, metric: str, seed: int) -> Estimate:
    """A metric that is no mean: macro averages, balanced accuracy, calibration errors."""
    sign, n = better_sign(metric), answers.n
    whole = np.ones((1, n))
    rng = np.random.default_rng(seed)
    weights = list(resample_counts(n, CURVED_RESAMPLES, rng))
    values, draws = [], []
    for pair in answers.seeds:
        if pair is None:
            values.append(0.0)
            draws.append(np.zeros(CURVED_RESAMPLES))
            continue
        classes = 1 + max(int(max(p.label.max(), p.predicted.max())) for p in pair)
        old, new = (Statistics(p, classes) for p in pair)
        values.append(sign * float((new(whole)[metric] - old(whole)[metric])[0]))
        draws.append(np.concatenate([sign * (new(w)[metric] - old(w)[metric]) for w in weights]))
    if len(values) == 1:
        return from_draws(values[0], draws[0], n - 1)
    seeds = len(values)
    of_seeds = float(np.var(values, ddof=1)) / seeds
    of_examples = float(np.mean(draws, axis=0).var(ddof=1))
    total = of_seeds + of_examples
    share = of_seeds / total if total > 0 else 0.0
    return student(float(np.mean(values)), total**0.5, n - 1, seeds - 1, share)
