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
        scores = plausible.posterior(one.value, one.with_unseen())
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


@pytest.mark.parametrize(("examples", "fewest"), [(10, 0), (100, 40)])
def test_near_copies_are_good_enough_where_the_examples_are_many_enough(
    examples: int, fewest: int
) -> None:
    """Three near-copies, right nearly always, so that most worlds hold no disagreement: what is
    said of them must come true as often as in other worlds, and ten examples say nothing."""
    rng = np.random.default_rng(examples)
    kept = []
    for run in range(120):
        z = 2.0 + (0.05, 0.15, 0.3, 0.6)[run % 4] * rng.standard_normal(3)
        true = norm.cdf(z)
        easy, own = rng.standard_normal(examples), rng.standard_normal((3, examples))
        right = np.sqrt(0.9) * easy + np.sqrt(0.1) * own < z[:, None]
        one = many.sample([row[None].astype(float) for row in right], numbered(examples, run),
                          resamples=400)  # fmt: skip
        scores = plausible.posterior(one.value, one.with_unseen())
        found = choose(scores, rng.random(3), 0.01)
        if found.cheapest is not None:
            kept.append(true[found.cheapest] >= true.max() - 0.01)
    assert len(kept) >= fewest
    assert len(kept) <= 0.9 * 120
    assert np.mean(kept or [1.0]) >= SURE - 0.02


def test_two_models_right_on_the_same_examples_may_differ_by_one_in_so_many() -> None:
    """Half an example each: a difference's standard deviation is one example in n, against none."""
    for examples in (10, 1000):
        same = np.ones((1, examples))
        one = many.sample([same, same], numbered(examples))
        drawn = one.with_unseen()
        assert (drawn[:, 0] - drawn[:, 1]).std() == pytest.approx(1 / examples, rel=0.05)
        assert one.with_luck().std() == 0
