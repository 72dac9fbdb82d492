"""From evidence to outcomes: non-inferiority with a margin, Holm over the family (PROTOCOL 6).

Everything here is arrays of m tests, so that the error rates can be simulated as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.statistics.bootstrap import Floats
from zoobench.statistics.paired import holm, mcnemar, score_interval


@dataclass(frozen=True)
class Tests:
    """m tests; each array is (m,). Differences are fractions, positive where better.

    `less` and `greater` are one-sided p-values of a loss and of a gain; `testable` is
    False where no example tells the two apart.
    """

    __test__ = False  # not a pytest class, whatever its name begins with

    change: Floats
    low: Floats
    high: Floats
    less: Floats
    greater: Floats
    testable: NDArray[np.bool_]


@dataclass(frozen=True)
class Decision:
    """Outcomes (m,) of str, Holm-adjusted p-values (m,), and the family that Holm covered."""

    outcome: NDArray[Any]
    less: Floats
    greater: Floats
    family: int


def right_or_wrong(losses: ArrayLike, gains: ArrayLike, n: ArrayLike) -> Tests:
    """Tests of accuracies: exact McNemar, and Tango's score interval."""
    lost, won, size = np.broadcast_arrays(
        np.asarray(losses), np.asarray(gains), np.asarray(n, dtype=np.float64)
    )
    low, high = score_interval(lost, won, size)
    return Tests(
        np.asarray((won - lost) / size, dtype=np.float64),
        low, high, mcnemar(lost, won, "less"), mcnemar(lost, won, "greater"), lost + won > 0,
    )  # fmt: skip


def decide(tests: Tests, margin: ArrayLike, min_drop: ArrayLike, alpha: float = 0.05) -> Decision:
    """Regressed: adjusted p < alpha and a drop of `min_drop` or more. Improved: the mirror image.
    Same: the lower end of the 95% interval above -margin. Otherwise inconclusive.

    The family is every test with at least one example that tells the two runs apart. Given
    the discordant counts, the others can't reject, so leaving them out keeps Holm's
    guarantee (Tarone 1990) and spares a gate of 50 unchanged cells and a changed one
    a fiftyfold correction.
    """
    less, greater = np.ones_like(tests.less), np.ones_like(tests.greater)
    less[tests.testable] = holm(tests.less[tests.testable])
    greater[tests.testable] = holm(tests.greater[tests.testable])
    # A drop of exactly 0.2 points is 0.0019999999999999 in doubles.
    floor = np.asarray(min_drop) - 1e-12
    outcome = np.select(
        [
            (less < alpha) & (tests.change <= -floor),
            (greater < alpha) & (tests.change >= floor),
            tests.low > -np.asarray(margin),
        ],
        ["regressed", "improved", "same"],
        "inconclusive",
    )
    return Decision(outcome, less, greater, int(tests.testable.sum()))


def concatenated(parts: list[Tests]) -> Tests:
    """All tests of one family in one table."""
    empty = right_or_wrong(np.zeros(0), np.zeros(0), np.ones(0))

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(t, name) for t in (empty, *parts)])

    return Tests(
        joined("change"), joined("low"), joined("high"), joined("less"), joined("greater"),
        joined("testable").astype(bool),
    )  # fmt: skip
