"""Regression: a number for each example (PROTOCOL section 3). N examples, B resamples.

One worked example: a word, and the mean of ten people's ratings of it, from -4 to 4
(packaged/word-valence). The mean absolute error is the primary metric, in the target's
own unit; R2 and Spearman's correlation have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.curves import spearman
from zoobench.tasks.ratios import Ratio, Ratios, Sums
from zoobench.tasks.targets import Values, targets_of

STRATA = 10
"""Splits and bounds are balanced over this many quantiles of the target ..."""
STRATUM = 5
"""... or fewer, so that each holds at least this many examples."""


class Numbers(Values):
    """Targets of a regression: `values` (N,) float64, finite."""

    stored = "<f8"

    @property
    def strata(self) -> NDArray[np.int64]:
        """(N,) the quantile that each number lies in; equal numbers lie in one."""
        count = max(1, min(STRATA, len(self.values) // STRATUM))
        if count == 1:
            return np.zeros(len(self.values), dtype=np.int64)
        edges = np.quantile(self.values, np.arange(1, count) / count)
        return np.searchsorted(edges, self.values, side="right").astype(np.int64)


def numbers_of(split: Split) -> Floats:
    """(N,) float64 targets of a split that asks for a number. Raises TypeError for another's."""
    return targets_of(split, Numbers).values


@dataclass(frozen=True)
class Regression:
    """A number for each example. Outputs are (N,) numbers in the target's unit.

    R2 is 1 - squared error / squared distance of the test targets to their mean (of a
    resample: to the resample's mean), and 0 where they do not vary. Spearman's correlation is
    0 where targets or predictions do not vary: a constant tells nothing of the order.
    """

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("mae", "rmse", "r2", "spearman")
    truth: ClassVar[tuple[str, ...]] = ("target",)
    rounded: ClassVar[tuple[str, ...]] = ()

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """Arrays `target` and `predicted`, (N,) float64 each; nothing is calibrated."""
        return outcomes_of(output, numbers_of(split))

    def statistics(self, outcomes: Outcomes) -> _Statistics:
        return _Statistics(outcomes)

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        return {name: {} for name in self.metrics}


def outcomes_of(predicted: ArrayLike, target: ArrayLike) -> Outcomes:
    """What is kept of N test examples: `target` and `predicted`, (N,) float64 each.

    Raises NotFinite where a prediction is no number or too large to square, ValueError for
    shapes that differ.
    """
    said, truth = (np.asarray(side, dtype=np.float64) for side in (predicted, target))
    if truth.ndim != 1 or said.shape != truth.shape:
        raise ValueError(f"predictions must be {truth.shape} numbers, not {said.shape}")
    with np.errstate(over="ignore"):
        bad = int((~np.isfinite((said - truth) ** 2 * max(len(said), 1))).sum())
    if bad:
        raise NotFinite(f"{bad} of {len(said)} test examples have predictions that are no number")
    return Outcomes(len(truth), {"target": truth, "predicted": said})


class _Statistics(Ratios):
    """MAE and the ratios, and Spearman's correlation by weighted ranks."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.target, self.predicted = outcomes.arrays["target"], outcomes.arrays["predicted"]
        error = self.predicted - self.target
        # About the mean, or a large offset would swallow the variance.
        about = self.target - (self.target.mean() if outcomes.n else 0.0)
        columns = np.stack([error**2, about, about**2], axis=1)
        super().__init__({"mae": np.abs(error)}, {"squares": lambda: columns}, RATIOS)

    def __call__(self, weights: Floats, names: Sequence[str]) -> dict[str, Floats]:
        """(B, n) weights -> metric -> (B,), for each of `names`."""
        drawn = super().__call__(weights, [name for name in names if name != "spearman"])
        if "spearman" in names:
            drawn["spearman"] = spearman(self.target, self.predicted, weights)
        return {name: drawn[name] for name in names}

    def mean_of(self, name: str) -> Floats | None:
        """(n,) absolute errors for "mae", None for the others."""
        return None if name == "spearman" else super().mean_of(name)


def _rmse(sums: Sums, total: Floats) -> Floats:
    return np.sqrt(sums["squares"][:, 0] / total)


def _r2(sums: Sums, total: Floats) -> Floats:
    error, mean, square = sums["squares"].T
    spread = square - mean**2 / total
    flat = spread <= 1e-12 * square
    return np.where(flat, 0.0, 1 - error / np.where(flat, 1.0, spread))


RATIOS = {"rmse": Ratio(("squares",), _rmse), "r2": Ratio(("squares",), _r2)}
