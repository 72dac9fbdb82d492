"""Worlds with a known truth: do the intervals hold it, is luck called a lead, is a lead found?

z is a latent normal score: an example is right where it lies below. The bounds leave room for the
luck of so many repetitions, three standard errors of a share of 5% or less; `pytest -rP` prints
what was found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, norm

from zoobench.ranking.overall import GENERAL, _independent, _mean
from zoobench.statistics import intervals, many
from zoobench.statistics.bootstrap import Floats, Units, numbered, units_of
from zoobench.statistics.intervals import Luck, pooled

Rng = np.random.Generator


def answers(z: Floats, n: int, rng: Rng, group: int = 1, design: float = 1.0) -> Floats:
    """(M, n) right or wrong: models share what is easy, and the examples of a group share more,
    so that a mean varies `design` times as much as over independent examples."""
    share = (design - 1) / (group - 1) if group > 1 else 0.0
    common = np.repeat(rng.random((1, -(-n // group))) < share, group, axis=1)[:, :n]
    easy = rng.standard_normal((1, n))
    grouped = np.repeat(rng.standard_normal((1, -(-n // group))), group, axis=1)[:, :n]
    own = np.sqrt(0.4) * rng.standard_normal((len(z), n))
    latent = np.sqrt(0.6) * easy + own
    together = np.sqrt(0.6) * grouped + own if group == 1 else grouped
    return (np.where(common, together, latent) < z[:, None]).astype(float)


def named(n: int, group: int, *parts: object) -> Units:
    return units_of([f"{parts} {i // group}" for i in range(n)])


@pytest.mark.parametrize("n", [50, 90, 200, 500, 1000, 2000, 5000, 10_000])
def test_a_share_is_covered_whatever_it_is(n: int) -> None:
    """Exactly, over all counts. Below five expected errors no interval keeps both bounds: one
    count more or less is several points of coverage."""
    counts = np.arange(n + 1)
    ends = np.array([intervals.clopper_pearson(k / n, n) for k in counts])
    for p in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999):
        held = binom.pmf(counts, n, p)[(ends[:, 0] <= p) & (p <= ends[:, 1])].sum()
        assert 0.945 <= held <= (0.98 if n * (1 - p) > 5.5 else 1.0), p


@pytest.mark.parametrize("n", [200, 1000])
@pytest.mark.parametrize(("p", "alike"), [(0.5, 0.5), (0.8, 0.55), (0.95, 0.67)])
def test_a_share_of_groups_is_covered(p: float, alike: float, n: int) -> None:
    """Groups of ten, each harder or easier than the next: the latent scores of two of a group
    correlate by `alike`, which makes the design effect 4."""
    rng = np.random.default_rng(int(100 * p) + n)
    units, held = named(n, 10), []
    for _ in range(600):
        group = np.repeat(rng.standard_normal(n // 10), 10)
        latent = np.sqrt(alike) * group + np.sqrt(1 - alike) * rng.standard_normal(n)
        low, high = intervals.of_share((latent < norm.ppf(p)).astype(float), units)
        held.append(low <= p <= high)
    print(f"held {np.mean(held):.3f}")
    assert 0.92 <= np.mean(held) <= 0.985


@pytest.mark.parametrize("count", [2, 4, 5, 20])
def test_a_mean_over_datasets_is_covered(count: int) -> None:
    """Of these datasets where they are few, of all datasets like these from five on."""
    rng = np.random.default_rng(count)
    held = []
    for run in range(800 if count < 5 else 400 if count < 20 else 200):
        truth = norm.cdf(1 + 0.4 * rng.standard_normal(count))
        samples = []
        for d in range(count):
            rows = (rng.random((1, 300)) < truth[d]).astype(float)
            samples.append(many.sample([rows], numbered(300, run, d), resamples=200))
        general = count >= GENERAL
        one = _mean(samples, _independent(samples, range(len(samples))) if general else ())
        wanted = norm.cdf(1 / np.sqrt(1 + 0.4**2)) if general else truth.mean()
        held.append(one.low[0] <= wanted <= one.high[0])
    print(f"held {np.mean(held):.3f}")
    assert (0.927 if count < 20 else 0.92) <= np.mean(held) <= 0.985


def trained(
    z: Sequence[float], seeds: Sequence[int], spread: float, n: int, rng: Rng, *parts: object
) -> many.Sample:
    """Models trained with seeds[m] seeds each, each seed a model a little better or worse."""
    rows = []
    for model, many_seeds in zip(z, seeds, strict=True):
        scores = model + spread * rng.standard_normal(many_seeds)
        rows.append(answers(scores, n, rng))
    luck = pooled([r.mean(axis=1) for r in rows])
    return many.sample(rows, numbered(n, *parts), luck=luck, resamples=200)


@pytest.mark.parametrize(
    ("seeds", "spread"),
    [
        ((2,) * 5, 0.1), ((3,) * 5, 0.0), ((3,) * 5, 0.3), ((5,) * 5, 0.1),
        ((2, 2), 0.3), ((2, 2, 1), 0.3), ((3, 3), 0.3), ((5, 5), 0.06),
    ],
)  # fmt: skip
def test_luck_of_training_is_no_lead(seeds: tuple[int, ...], spread: float) -> None:
    """Equal models: their intervals hold the truth, and whoever calls one better errs."""
    rng = np.random.default_rng([*seeds, int(100 * spread)])
    wrong, sure, held = [], [], []
    truth = norm.cdf(0.84 / np.sqrt(1 + spread**2))
    for run in range(250):
        one = trained([0.84] * len(seeds), seeds, spread, 300, rng, run)
        p = many.pairwise(one)
        low, _ = many.rank_ranges(one.value, p)
        wrong.append(bool((np.array(many.holm_matrix(p, range(len(seeds)))) < 0.05).any()))
        sure.append((low == 1).sum() == 1)
        held += ((one.low <= truth) & (truth <= one.high)).tolist()
    print(f"wrong {np.mean(wrong):.3f}, sure {np.mean(sure):.3f}, held {np.mean(held):.3f}")
    assert np.mean(wrong) <= 0.09
    assert np.mean(sure) <= 0.08
    assert 0.92 <= np.mean(held) <= 0.99


def test_of_one_spare_seed_too_little_is_known() -> None:
    """Of three models one has a second seed: a variance with one degree of freedom."""
    rng = np.random.default_rng(0)
    one = trained([2.0, 0.0, -1.0], (2, 1, 1), 0.3, 500, rng)
    assert one.lone
    assert one.luck.all()
    assert many.rank_ranges(one.value, many.pairwise(one))[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("models", [2, 3, 5])
def test_the_best_of_trained_models_is_as_probable_as_said(models: int) -> None:
    """Over worlds from equal models to those that no luck mixes up (see docs/report.md)."""
    rng = np.random.default_rng(models)
    said: list[float] = []
    best: list[float] = []
    for run in range(600):
        z = 0.84 + (0.0, 0.05, 0.15, 0.4)[run % 4] * rng.standard_normal(models)
        one = trained(z.tolist(), (3,) * models, 0.1, 300, rng, run)
        said += many.probability_first(one).tolist()
        best += (z == z.max()).astype(float).tolist() if run % 4 else [1 / models] * models
    bins = np.minimum((np.array(said) * 10).astype(int), 9)
    off = np.bincount(bins, np.array(said) - np.array(best), minlength=10)
    print(f"P(best) is off by {abs(off).sum() / len(said):.3f}")
    assert abs(off).sum() / len(said) < 0.08


def test_one_run_of_each_model_wins_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = [answers(np.array([z]), 500, rng) for z in (2.0, 0.0, -1.0)]
    one = many.sample(rows, numbered(500), luck=Luck())
    assert one.lone
    low, high = many.rank_ranges(one.value, many.pairwise(one))
    assert (low.tolist(), high.tolist()) == ([1, 1, 1], [3, 3, 3])
    assert many.resolvable_gap(one) is None
    assert many.probability_first(one) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("copies", [2, 4])
def test_datasets_with_one_test_part_are_one(copies: int) -> None:
    """The same test examples after training on more and more: their means hardly average out."""
    rng = np.random.default_rng(copies)
    wrong = []
    for run in range(300):
        first = answers(np.full(3, 0.84), 300, rng)
        sets = [np.where(rng.random(first.shape) < 0.02, 1 - first, first) for _ in range(copies)]
        units = numbered(300, run)
        samples = [many.sample([row[None] for row in rows], units, resamples=300) for rows in sets]
        assert len(_independent(samples, range(len(samples)))) == 1
        p = many.pairwise(_mean(samples, ()))
        wrong.append(bool((np.array(many.holm_matrix(p, range(3))) < 0.05).any()))
    print(f"wrong {np.mean(wrong):.3f}")
    assert np.mean(wrong) <= 0.085


def test_families_of_words_are_no_independent_words() -> None:
    rng = np.random.default_rng(5)
    units, wrong = named(400, 10), []
    for _ in range(400):
        rows = [row[None] for row in answers(np.full(2, 0.84), 400, rng, 10, 4.0)]
        apart = np.repeat(rng.random((2, 40)) < 0.1, 10, axis=1)  # families that one model misses
        rows = [np.where(miss, 0.0, row) for miss, row in zip(apart, rows, strict=True)]
        wrong.append(many.pairwise(many.sample(rows, units, resamples=50))[0, 1] < 0.05)
    print(f"wrong {np.mean(wrong):.3f}")
    assert np.mean(wrong) <= 0.08


@pytest.mark.parametrize("models", [2, 5])
def test_a_lead_of_the_size_said_is_found_four_times_in_five(models: int) -> None:
    rng = np.random.default_rng(models)
    z = np.full(models, norm.ppf(0.8))

    def made(z: NDArray[np.float64], run: object) -> many.Sample:
        rows = [row[None] for row in answers(z, 1000, rng)]
        return many.sample(rows, numbered(1000, run), resamples=400)

    gap = float(np.median([many.resolvable_gap(made(z, run)) or 0.0 for run in range(15)]))
    z[0] = norm.ppf(0.8 + gap)
    found = []
    for run in range(400):
        one = made(z, (run,))
        _, high = many.rank_ranges(one.value, many.pairwise(one))
        found.append(high[0] == 1)
    print(f"a lead of {gap:.3f} was found in {np.mean(found):.3f}")
    assert 0.72 <= np.mean(found) <= 0.88
