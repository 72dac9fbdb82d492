from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, rankdata

from zoobench.statistics import bootstrap, intervals, many, plausible
from zoobench.statistics.bootstrap import numbered, percentile
from zoobench.statistics.paired import holm, mcnemar_pairs


def outcomes(
    z: NDArray[np.float64], n: int, rng: np.random.Generator, correlation: float = 0.6
) -> list[NDArray[np.float32]]:
    """M models, right where a latent normal with a part shared over models is below z."""
    shared = np.sqrt(correlation) * rng.standard_normal(n)
    own = np.sqrt(1 - correlation) * rng.standard_normal((len(z), n))
    return [row[None] for row in (shared + own < z[:, None]).astype(np.float32)]


Claims = NDArray[np.float64]
WORLDS = ("same", "near", "middle", "wide", "tail")


def simulate(truths: str, models: int, runs: int) -> tuple[float, Claims]:
    """Share of runs whose tie group holds the true best, and (claimed, is best) pairs."""
    rng = np.random.default_rng(3)
    kept, claims = 0, []
    for run in range(runs):
        spread = {
            "same": rng.normal(0, 0.001, models),
            "near": rng.normal(0, 0.01, models),
            "middle": rng.normal(0, 0.04, models),
            "wide": rng.normal(0, 0.1, models),
            "tail": -rng.exponential(0.15, models),
        }[truths]
        z = 0.8416 + np.array(spread)  # near 80% right
        one = many.sample(outcomes(z, 300, rng), numbered(300, run), resamples=300)
        low, _ = many.rank_ranges(one.value, many.pairwise(one))
        best = int(np.argmax(z))
        kept += int(low[best] == 1)
        first = plausible.probability_first(one.value, one.draws)
        claims.append(np.stack([first, np.arange(models) == best], axis=1))
    return kept / runs, np.concatenate(claims)


def unreliable(claims: Claims) -> float:
    """Mean distance of claimed and true frequency over ten bins, by their weight."""
    claimed, best = claims.T
    bins = np.minimum((claimed * 10).astype(int), 9)
    return sum(abs(float((claimed - best)[bins == b].sum())) for b in range(10)) / len(claims)


@pytest.mark.parametrize("truths", ["near", "wide", "tail"])
def test_the_tie_group_holds_the_true_best_and_its_probability_is_calibrated(truths: str) -> None:
    kept, claims = simulate(truths, models=8, runs=300)
    assert kept >= 0.95
    assert unreliable(claims) < 0.05


@pytest.mark.parametrize(
    ("models", "runs"), [pytest.param(2, 300, marks=pytest.mark.rare), (5, 150)]
)
def test_few_models_are_calibrated_over_worlds_and_never_far_off_in_one(
    models: int, runs: int
) -> None:
    # Two or three scores do not tell which world they come from: see docs/report.md.
    found = [simulate(truths, models, runs) for truths in WORLDS]
    assert min(kept for kept, _ in found) >= 0.95
    assert unreliable(np.concatenate([claims for _, claims in found])) < 0.05
    assert max(unreliable(claims) for _, claims in found) < (0.17 if models == 2 else 0.12)


def test_a_clear_best_stands_alone() -> None:
    rng = np.random.default_rng(0)
    one = many.sample(outcomes(np.asarray(norm.ppf([0.95, 0.7, 0.5])), 500, rng), numbered(500))
    low, high = many.rank_ranges(one.value, many.pairwise(one))
    assert low.tolist() == high.tolist() == [1, 2, 3]
    assert plausible.probability_first(one.value, one.draws)[0] > 0.99


def test_mcnemar_agrees_with_the_binomial_test() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random((60, 3)) < [0.9, 0.8, 0.6]).astype(np.float32)
    p = mcnemar_pairs(right)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        only_i = int((right[:, i] > right[:, j]).sum())
        only_j = int((right[:, j] > right[:, i]).sum())
        assert p[i, j] == p[j, i] == pytest.approx(binomtest(only_i, only_i + only_j).pvalue)


def test_identical_models_share_the_first_place() -> None:
    column = (np.arange(100) % 3 > 0).astype(np.float32)[None]
    one = many.sample([column, column], numbered(100))
    assert many.pairwise(one)[0, 1] == 1.0
    assert plausible.probability_first(one.value, one.draws) == pytest.approx([0.5, 0.5])


def test_the_limits_of_holm_are_its_own_rejections() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 3, 9, 40):
        p = rng.random((count, count)) ** 6
        p[:, 0] = p[:, -1]  # ties
        limits = many.holm_limits(p)
        for row in range(count):
            others = np.delete(p[row], row)
            assert ((others <= limits[row]) == (holm(others) <= 0.05)).all()
    assert many.holm_limits(np.ones((1, 1))).tolist() == [-1.0]


def test_holm_against_worked_values() -> None:
    # Holm 1979 by hand: 4 x .005, 3 x .01, then 2 x .03 and max with it, 1 x .04.
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_bootstrap_error_is_the_analytic_one() -> None:
    rng = np.random.default_rng(0)
    rows = [(rng.random((1, 800)) < p).astype(np.float32) for p in (0.8, 0.7)]
    one = many.sample(rows, numbered(800))
    difference = rows[0][0] - rows[1][0]
    assert many.difference_error(one.draws)[0, 1] == pytest.approx(
        difference.std() / np.sqrt(800), rel=0.06
    )
    assert (one.low < one.value).all()
    assert (one.value < one.high).all()


def test_seeds_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    same = np.repeat((rng.random((1, 400)) < 0.8).astype(np.float32), 3, axis=0)
    apart = np.stack([(rng.random(400) < p).astype(np.float32) for p in (0.9, 0.8, 0.7)])
    narrow, wide = (many.sample([rows], numbered(400)) for rows in (same, apart))
    assert wide.with_luck().std() > 2 * narrow.with_luck().std()
    assert wide.high[0] - wide.low[0] > 2 * (narrow.high[0] - narrow.low[0])
    assert narrow.luck[0] == 0 < wide.luck[0]
    assert not wide.exact[0]


def test_shared_draws_cancel_in_a_difference() -> None:
    rng = np.random.default_rng(0)
    levels = (0.9, 0.8, 0.7, 0.6, 0.5)
    base = np.stack([(rng.random(400) < p).astype(np.float32) for p in levels])
    other = np.where(rng.random(base.shape) < 0.02, 1 - base, base).astype(np.float32)
    own, _ = many.errors(many.sample([base, other], numbered(400)))
    shared, _ = many.errors(many.sample([base, other], numbered(400), shared_seeds=True))
    assert shared[0, 1] < 0.2 * own[0, 1]


def test_the_same_input_gives_the_same_draws() -> None:
    rows = [np.ones((1, 50), np.float32), np.zeros((1, 50), np.float32)]
    same = (many.sample(rows, numbered(50)).draws for _ in range(2))
    assert (next(same) == next(same)).all()


def test_a_gap_just_above_the_resolvable_one_is_found_and_half_of_it_is_not() -> None:
    n = 2000
    base = np.zeros(n, dtype=np.float32)
    base[:1600] = 1
    flips = np.arange(n) % 20 == 0  # a twentieth of the examples differ, both ways alike

    def rival(extra: int) -> NDArray[np.float32]:
        other = np.where(flips, 1 - base, base)
        wrong = np.flatnonzero((other == 1) & ~flips)
        right = np.flatnonzero((other == 1) & flips)
        other[wrong[:extra]] = 0
        assert len(right)
        return other.astype(np.float32)

    def p_and_gap(extra: int) -> tuple[float, float, float]:
        one = many.sample([base[None], rival(extra)[None]], numbered(n))
        lead, gap = float(one.value[0] - one.value[1]), many.resolvable_gap(one)
        assert gap is not None
        return float(many.pairwise(one)[0, 1]), lead, gap

    for extra in range(0, 60, 5):
        p, lead, gap = p_and_gap(extra)
        if lead > 1.2 * gap:
            assert p < 0.05
        if lead < 0.5 * gap:
            assert p > 0.05


def test_many_models_in_blocks_are_as_few_at_once() -> None:
    rng = np.random.default_rng(7)
    value = rng.random(150)
    one = many.sample_from_intervals(value, rng.uniform(0.01, 0.1, 150), 500, seed=3)
    p = many.pairwise(one)
    error = np.sqrt(np.add.outer(one.draws.var(axis=0, ddof=1), one.draws.var(axis=0, ddof=1)))
    expected = 2 * norm.sf(np.abs(np.subtract.outer(value, value)) / error)
    assert np.abs(p - expected)[~np.eye(150, dtype=bool)].max() < 1e-8
    assert (p == p.T).all()
    assert (np.diag(p) == 1).all()

    limits = many.holm_limits(p)
    for j in (0, 63, 64, 128, 149):
        rejected = holm(np.delete(p[j], j)) <= bootstrap.ALPHA
        assert rejected.any()
        assert limits[j] == np.delete(p[j], j)[rejected].max()
    low, high = percentile(one.draws)
    assert np.allclose([low, high], np.percentile(one.draws, [2.5, 97.5], axis=0), rtol=1e-12)
    against = (one.draws - one.draws[:, [70]]).std(axis=0, ddof=1)
    assert np.array_equal(bootstrap.error_against(one.draws, 70), against)


def test_ranks_agree_with_scipy() -> None:
    values = np.random.default_rng(5).integers(0, 6, (7, 11)).astype(np.float64)
    np.testing.assert_array_equal(many.ranks(values), rankdata(values, axis=1))
    np.testing.assert_array_equal(many.ranks(values, "min"), rankdata(values, method="min", axis=1))


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e6])
def test_a_metrics_unit_changes_no_probability(unit: float) -> None:
    errors = np.abs(np.random.default_rng(0).normal(size=(3, 400))) * [[1], [1.1], [1.3]]
    one, other = (
        many.sample([-u * row[None] for row in errors], numbered(400)) for u in (1.0, unit)
    )
    assert many.pairwise(other) == pytest.approx(many.pairwise(one))
    first = plausible.probability_first(one.value, one.draws)
    assert plausible.probability_first(other.value, other.draws) == pytest.approx(first)
    assert 0.8 < first[0] < 0.97


def test_a_perfect_model_has_its_records_interval_beside_others_that_are_not() -> None:
    units = numbered(40, "u")
    perfect, middling = np.ones((1, 40)), np.linspace(0, 1, 40)[None]
    alone = many.sample([perfect], units, bounds=(0.0, 1.0))
    both = many.sample([perfect, middling], units, bounds=(0.0, 1.0))
    assert both.low[0] == alone.low[0] == intervals.of_share(perfect[0], units)[0] < 0.95
    assert not both.exact.any(), "exact tests are of outcomes that are right or wrong for all"


def test_draws_that_are_equal_but_for_rounding_are_ties() -> None:
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 7, 2000) / 6
    ends = intervals.of_draws(0.5, draws, 50)
    for rounding in (1e-16, -1e-16):
        assert intervals.of_draws(0.5, draws + rounding, 50) == pytest.approx(ends, abs=1e-12)
        assert intervals.of_draws(0.5 + rounding, draws, 50) == pytest.approx(ends, abs=1e-12)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0)])
def test_what_is_perfect_on_few_units_need_not_be_on_others(bounds: tuple[float, float]) -> None:
    """As a share of right answers: twelve of twelve leave 26 points open (0.025 ** (1 / 12))."""
    open_ = 1 - 0.025 ** (1 / 12)
    width = bounds[1] - bounds[0]
    for end, low, high in ((1, 1 - open_, 1.0), (0, 0.0, open_)):
        value = bounds[0] + width * end
        found = intervals.of_draws(value, np.full(2000, value), 12, bounds=bounds)
        expected = (bounds[0] + width * low, bounds[0] + width * high)
        assert found == pytest.approx(expected)
        assert intervals.of_draws(value, np.full(2000, value), 12) == (value, value), "no bounds"
    once = intervals.of_draws(1.0, np.ones(2000), 12, bounds=(0.0, 1.0))
    lucky = intervals.of_draws(1.0, np.ones(2000), 12, 1e-6, 4.0, (0.0, 1.0))
    assert lucky[0] < once[0] < 0.74, "training's luck makes nothing surer"
    inside = intervals.of_draws(0.25, np.full(2000, 0.25), 12, bounds=bounds)
    assert inside == (0.25, 0.25), "a constant that is no end of the range says nothing of others"
