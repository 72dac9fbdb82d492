"""The error rates that issue and protocol promise, simulated at the level of arrays."""

from __future__ import annotations

import numpy as np
import pytest

from zoobench.compare.decide import Tests, concatenated, decide, right_or_wrong

POINT = 0.01


def _counts(rng: np.random.Generator, shape: tuple[int, ...], drop: float) -> np.ndarray:
    """(..., 2) losses and gains of 1,000 examples, 8% of pairs discordant, `drop` true."""
    shares = [(0.08 + drop) / 2, (0.08 - drop) / 2, 0.92]
    return rng.multinomial(1000, shares, size=shape)[..., :2]


def test_false_alarms_of_a_whole_suite_stay_under_5_percent() -> None:
    """1,000 pairs of runs, 10 models on 5 datasets, and each model's pooled test beside them."""
    counts = _counts(np.random.default_rng(0), (1000, 10, 5), 0.0)
    alarms = gains = 0
    for run in counts:
        cells = right_or_wrong(run[..., 0].ravel(), run[..., 1].ravel(), 1000)
        pooled = right_or_wrong(run[..., 0].sum(axis=1), run[..., 1].sum(axis=1), 5000)
        decision = decide(concatenated([cells, pooled]), POINT, 0.2 * POINT)
        assert decision.family == 60
        alarms += "regressed" in decision.outcome
        gains += "improved" in decision.outcome
    assert alarms / 1000 <= 0.05
    assert gains / 1000 <= 0.05


def test_false_alarms_where_most_cells_did_not_change() -> None:
    """47 identical cells leave a family of 3, which still keeps its 5%."""
    rng = np.random.default_rng(1)
    alarms = 0
    for run in _counts(rng, (1000, 3), 0.0):
        lost, won = np.r_[run[:, 0], np.zeros(47, int)], np.r_[run[:, 1], np.zeros(47, int)]
        decision = decide(right_or_wrong(lost, won, 1000), POINT, 0.2 * POINT)
        assert decision.family == 3
        alarms += "regressed" in decision.outcome
    assert alarms / 1000 <= 0.05


def test_a_true_drop_of_2_points_is_found_and_never_called_same() -> None:
    counts = _counts(np.random.default_rng(2), (1000,), 0.02)
    outcomes = [
        str(decide(right_or_wrong([lost], [won], 1000), POINT, 0.2 * POINT).outcome[0])
        for lost, won in counts
    ]
    assert outcomes.count("regressed") / 1000 >= 2 / 3
    assert outcomes.count("same") == 0


@pytest.mark.parametrize(
    ("lost", "won", "n", "outcome"),
    [
        (0, 0, 1000, "same"),
        (50, 24, 1000, "regressed"),
        (24, 50, 1000, "improved"),
        (30, 28, 1000, "inconclusive"),
        (300, 297, 100_000, "same"),
        (0, 0, 20, "inconclusive"),
        (190, 10, 100_000, "same"),  # surely lower, by 0.18 points: under the least drop
        (210, 10, 100_000, "regressed"),  # by 0.20 points exactly
        (5, 0, 100, "regressed"),
        (4, 0, 100, "inconclusive"),
    ],
)
def test_outcomes(lost: int, won: int, n: int, outcome: str) -> None:
    decision = decide(right_or_wrong([lost], [won], [n]), POINT, 0.2 * POINT)
    assert list(decision.outcome) == [outcome]


def test_a_wider_margin_turns_inconclusive_into_same() -> None:
    tests = right_or_wrong([30, 30], [28, 28], 1000)
    assert list(decide(tests, [POINT, 3 * POINT], 0.2 * POINT).outcome) == ["inconclusive", "same"]


def test_holm_is_over_the_cells_that_changed() -> None:
    alone = decide(right_or_wrong([28], [14], 1000), POINT, 0.2 * POINT)
    among = decide(right_or_wrong([28, 20, 20], [14, 20, 20], 1000), POINT, 0.2 * POINT)
    assert alone.outcome[0] == "regressed"
    assert among.outcome[0] != "regressed"
    assert among.less[0] == pytest.approx(3 * alone.less[0])


def test_no_tests_no_verdicts() -> None:
    empty: Tests = concatenated([])
    decision = decide(empty, POINT, POINT)
    assert decision.outcome.shape == (0,)
    assert decision.family == 0
