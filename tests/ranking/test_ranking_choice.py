"""The two picks: the most accurate, and the cheapest good enough."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from zoobench.ranking.choice import SURE, choose
from zoobench.statistics import many, plausible
from zoobench.statistics.bootstrap import numbered


def test_the_cheapest_is_within_the_tolerance_and_the_best_loses_least() -> None:
    rng = np.random.default_rng(0)
    true = np.array([0.90, 0.895, 0.80])
    scores = true + 0.002 * rng.standard_normal((2000, 3))
    found = choose(scores, np.array([100.0, 10.0, 1.0]), 0.01)
    assert (found.accurate, found.cheapest) == (0, 1)
    assert found.loss[1] == pytest.approx(0.005, abs=0.001)
    assert choose(scores, np.array([100.0, 10.0, 1.0]), 0.2).cheapest == 2
    assert choose(scores, np.array([1.0, 10.0, 5.0]), 0.01).cheapest == 0
    assert choose(scores, np.array([np.nan, np.nan, 1.0]), 0.01).cheapest is None


def test_where_nobody_is_surely_good_enough_nobody_is_cheap() -> None:
    rng = np.random.default_rng(0)
    scores = 0.8 + 0.05 * rng.standard_normal((2000, 4))
    assert choose(scores, np.arange(4.0), 0.01).cheapest is None


@pytest.mark.parametrize("models", [3, 10, 30])
def test_good_enough_is_true_as_often_as_said(models: int) -> None:
    """Over worlds from near-copies to models far apart, with 500 test examples: the cheapest pick
    is within a point of the true best at least 88 times in 100, and the most accurate pick
    loses less than the smallest of those tied with the observed best."""
    rng = np.random.default_rng(models)
    kept, loss, tied = [], [], []
    for run in range(160 if models == 30 else 300):
        z = 0.84 + (0.01, 0.04, 0.1, 0.3)[run % 4] * rng.standard_normal(models)
        true = norm.cdf(z)
        easy = rng.standard_normal(500)
        own = rng.standard_normal((models, 500))
        right = np.sqrt(0.7) * easy + np.sqrt(0.3) * own < z[:, None]
        one = many.sample([row[None].astype(float) for row in right], numbered(500, run),
                          resamples=400)  # fmt: skip
        scores = plausible.posterior(one.value, one.with_luck())
        cost = rng.random(models)
        found = choose(scores, cost, 0.01)
        if found.cheapest is not None:
            kept.append(true[found.cheapest] >= true.max() - 0.01)
        loss.append(true.max() - true[found.accurate])
        low, _ = many.rank_ranges(one.value, many.pairwise(one))
        small = min(np.flatnonzero(low == 1), key=lambda m: cost[m])
        tied.append(true.max() - true[small])
    print(f"{models} models: good enough {np.mean(kept):.3f} of {len(kept)}, ", end="")
    print(f"loss {np.mean(loss):.4f}, of the smallest tied {np.mean(tied):.4f}")
    assert len(kept) > 30
    assert np.mean(kept) >= SURE - 0.02
    assert np.mean(loss) < np.mean(tied)
