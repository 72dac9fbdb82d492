"""Our paired statistics against scipy, statsmodels, brute force and their own definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, permutation_test, t

from zoobench.statistics import bootstrap
from zoobench.statistics import paired as zs

COUNTS = [(0, 0), (1, 0), (0, 3), (7, 2), (30, 50), (50, 30), (12, 12), (400, 371)]


@pytest.mark.parametrize(("losses", "gains"), COUNTS)
def test_mcnemar_agrees_with_scipy_binomtest(losses: int, gains: int) -> None:
    if losses + gains == 0:
        assert zs.mcnemar(losses, gains, "less") == 1.0
        return
    sides: tuple[tuple[zs.Alternative, zs.Alternative], ...] = (
        ("less", "greater"),
        ("greater", "less"),
        ("two-sided", "two-sided"),
    )
    for ours, theirs in sides:
        expected = binomtest(losses, losses + gains, 0.5, alternative=theirs).pvalue
        assert zs.mcnemar(losses, gains, ours) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("losses", "gains"), COUNTS)
def test_sign_flip_of_single_steps_is_mcnemar(losses: int, gains: int) -> None:
    values = np.repeat([-1, 0, 1], [losses, 7, gains])
    less, greater = zs.sign_flip(values)
    assert less == pytest.approx(float(zs.mcnemar(losses, gains, "less")), rel=1e-9)
    assert greater == pytest.approx(float(zs.mcnemar(losses, gains, "greater")), rel=1e-9)


@settings(max_examples=30)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=10))
def test_sign_flip_agrees_with_scipy_permutation_test(values: list[int]) -> None:
    def total(x: Any, axis: int) -> Any:
        return x.sum(axis=axis)

    sides: tuple[zs.Alternative, zs.Alternative] = ("less", "greater")
    for found, alternative in zip(zs.sign_flip(values), sides, strict=True):
        exact = permutation_test(
            (np.array(values, float),), total, permutation_type="samples", vectorized=True,
            n_resamples=10_000, alternative=alternative,
        )  # fmt: skip
        assert found == pytest.approx(exact.pvalue, abs=1e-9)


def test_sign_flip_of_many_is_the_normal_limit() -> None:
    values = np.repeat([-2, 2], [25_000, 25_400])
    exact = zs.sign_flip(values // 2)  # the same signs, few enough steps for the exact sum
    assert zs.sign_flip(values)[1] == pytest.approx(exact[1], rel=0.01)


@pytest.mark.parametrize(("losses", "gains"), COUNTS[1:])
def test_mcnemar_agrees_with_statsmodels(losses: int, gains: int) -> None:
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    table = [[5, losses], [gains, 9]]
    expected = contingency.mcnemar(table, exact=True).pvalue
    assert zs.mcnemar(losses, gains) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_holm_agrees_with_statsmodels(p: list[float]) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    expected = multitest.multipletests(p, method="holm")[1]
    assert zs.holm(p) == pytest.approx(expected, abs=1e-12)


def test_holm_of_nothing_is_nothing() -> None:
    assert zs.holm([]).shape == (0,)


def _score_statistic(delta: float, losses: int, gains: int, n: int) -> float:
    """Tango's statistic with the constrained likelihood maximised numerically: the definition."""
    same = n - losses - gains

    def negative(p: float) -> float:
        cells = ((gains, p + delta), (losses, p), (same, 1 - 2 * p - delta))
        return -float(sum(k * np.log(max(v, 1e-300)) for k, v in cells if k))

    low, high = max(0.0, -delta), (1 - delta) / 2
    p = minimize_scalar(negative, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    variance = n * (2 * p + delta - delta**2)
    return float((gains - losses - n * delta) / np.sqrt(variance))


@pytest.mark.parametrize(("losses", "gains", "n"), [(3, 9, 60), (50, 30, 1000), (1, 0, 20)])
def test_score_interval_inverts_the_score_test(losses: int, gains: int, n: int) -> None:
    low, high = zs.score_interval(losses, gains, n)
    assert _score_statistic(float(low), losses, gains, n) == pytest.approx(1.95996, abs=2e-3)
    assert _score_statistic(float(high), losses, gains, n) == pytest.approx(-1.95996, abs=2e-3)


def test_score_interval_without_discordant_pairs_is_not_certain() -> None:
    """Tango's closed form for no discordance: z^2 / (n + z^2) on each side."""
    low, high = zs.score_interval(0, 0, [20, 1000])
    z2 = 1.959964**2
    assert high == pytest.approx([z2 / (20 + z2), z2 / (1000 + z2)], rel=1e-5)
    assert low == pytest.approx(-high)


def test_score_interval_covers() -> None:
    rng = np.random.default_rng(1)
    won, lost, _ = rng.multinomial(300, [0.05, 0.08, 0.87], size=4000).T
    low, high = zs.score_interval(lost, won, 300)
    covered = np.mean((low <= -0.03) & (high >= -0.03))
    assert 0.94 <= covered <= 0.965


@settings(max_examples=40)
@given(st.integers(1, 200), st.data())
def test_score_interval_holds_the_estimate(n: int, data: st.DataObject) -> None:
    losses = data.draw(st.integers(0, n))
    gains = data.draw(st.integers(0, n - losses))
    low, high = zs.score_interval(losses, gains, n)
    assert -1 <= low <= (gains - losses) / n + 1e-12
    assert (gains - losses) / n - 1e-12 <= high <= 1


def test_weights_are_draws_with_replacement() -> None:
    weights = np.concatenate(list(bootstrap.resampled(bootstrap.numbered(37), 5_000)))
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx(1, abs=0.02)
    means = weights @ np.arange(37) / weights.sum(axis=1)
    assert means.mean() == pytest.approx(18, abs=0.15)
    assert means.std() == pytest.approx(np.arange(37).std() / np.sqrt(37), rel=0.05)


@pytest.mark.parametrize("limit", ["CHUNK", "KEPT"])
def test_neither_blocks_nor_a_cache_change_the_weights(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    units = bootstrap.numbered(50)
    whole = np.concatenate(list(bootstrap.resampled(units, 100)))
    monkeypatch.setattr(bootstrap, limit, 50 * 7)
    assert (np.concatenate(list(bootstrap.resampled(units, 100))) == whole).all()


def test_a_unit_is_drawn_alike_wherever_it_stands() -> None:
    """Two sets that share ten examples; in one of them the rows of a unit belong together."""
    first = bootstrap.units_of([f"a{i}" for i in range(40)])
    second = bootstrap.units_of([f"a{i}" for i in range(30, 40)] + ["b", "b", "c"])
    one, other = (np.concatenate(list(bootstrap.resampled(u, 200))) for u in (first, second))
    assert (one[:, 30:] == other[:, :10]).all()
    assert (other[:, 10] == other[:, 11]).all()
    assert (other[:, 11] != other[:, 12]).any()
    assert np.abs(np.corrcoef(one.T) - np.eye(40)).max() < 0.3


def test_paired_bootstrap_agrees_with_scipy() -> None:
    difference = np.random.default_rng(2).gamma(2.0, 0.1, size=400) - 0.22
    ours = zs.paired_bootstrap(difference, 9_999)
    theirs = stats.bootstrap(
        (difference,), np.mean, n_resamples=9_999, method="percentile", rng=np.random.default_rng(0)
    )
    interval = theirs.confidence_interval
    assert ours.low == pytest.approx(interval.low, abs=0.05 * ours.se)
    assert ours.high == pytest.approx(interval.high, abs=0.05 * ours.se)
    assert ours.se == pytest.approx(theirs.standard_error, rel=0.03)
    assert ours.less == pytest.approx(np.mean(theirs.bootstrap_distribution >= 0), abs=0.01)
    assert ours.less + ours.greater == pytest.approx(1, abs=0.001)


def test_paired_bootstrap_reaches_small_p_values() -> None:
    difference = np.random.default_rng(2).normal(-1, 1, size=100)
    found = zs.paired_bootstrap(difference, 999)
    assert found.less < 1e-12
    assert found.greater > 0.999


def test_paired_bootstrap_of_equal_arrays() -> None:
    found = zs.paired_bootstrap(np.zeros(10), 99)
    assert (found.low, found.high, found.less, found.greater) == (0, 0, 1, 1)


@pytest.mark.parametrize("bad", [[1.0], [1.0, np.nan], [[1.0, 2.0], [3.0, 4.0]]])
def test_paired_bootstrap_refuses(bad: object) -> None:
    with pytest.raises(ValueError, match="finite"):
        zs.paired_bootstrap(bad)  # type: ignore[arg-type]


def _seeded(rng: np.random.Generator, seeds: int, n: int, spread: float) -> np.ndarray:
    """(S, N) differences without any true one: a seed's own shift, an example's, and noise."""
    shift = rng.normal(0, spread, size=(seeds, 1))
    return shift + rng.normal(0, 0.1, size=(1, n)) + rng.normal(0, 0.3, size=(seeds, n))


@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.05), (3, 0.05), (5, 0.0), (5, 0.02)])
def test_hierarchical_bootstrap_keeps_its_level(seeds: int, spread: float) -> None:
    """Without a true difference, p < 0.05 in at most about 5% of 600 draws."""
    rng = np.random.default_rng(11)
    found = [zs.hierarchical_bootstrap(_seeded(rng, seeds, 200, spread)) for _ in range(600)]
    assert np.mean([e.less < 0.05 for e in found]) <= 0.07
    assert np.mean([e.less < 0.005 for e in found]) <= 0.012
    assert np.mean([e.low <= 0 <= e.high for e in found]) >= 0.93


def test_student_agrees_with_scipy() -> None:
    found = zs.student(-0.3, (0.01, 7), (0, 0))
    assert found.less == pytest.approx(t.cdf(-3, 7), rel=1e-9)
    assert found.greater == pytest.approx(t.sf(-3, 7), rel=1e-9)
    assert (found.low, found.high) == pytest.approx(t.interval(0.95, 7, -0.3, 0.1), rel=1e-9)
    cautious = zs.student(-0.3, (0.005, 7), (0.005, 2))
    assert found.less < cautious.less < t.cdf(-3, 2)


def test_hierarchical_bootstrap_sees_a_true_loss() -> None:
    table = _seeded(np.random.default_rng(4), 5, 500, 0.01) - 0.1
    found = zs.hierarchical_bootstrap(table)
    assert found.less < 1e-3
    assert found.high < 0


def test_hierarchical_bootstrap_is_what_resampling_both_gives() -> None:
    """20,000 draws of seeds and of examples, one index at a time, against the closed form."""
    rng = np.random.default_rng(8)
    table = _seeded(rng, 6, 100, 0.05)
    draws = [
        table[rng.integers(6, size=6)][:, rng.integers(100, size=100)].mean() for _ in range(20_000)
    ]
    given_back = table.mean(axis=1).var(ddof=1) / 6**2
    found = zs.hierarchical_bootstrap(table)
    assert found.se**2 == pytest.approx(np.var(draws) + given_back, rel=0.04)
    assert found.value == pytest.approx(np.mean(draws), abs=0.002)


def test_hierarchical_bootstrap_refuses_one_seed() -> None:
    with pytest.raises(ValueError, match="2\\+ seeds"):
        zs.hierarchical_bootstrap(np.zeros((1, 10)))


@pytest.mark.parametrize(("n", "psi", "alpha"), [(1000, 0.08, 0.05), (500, 0.1, 0.001)])
def test_a_detectable_drop_is_detected_four_times_in_five(n: int, psi: float, alpha: float) -> None:
    drop = float(zs.detectable_drop(n, psi, alpha))
    rng = np.random.default_rng(6)
    shares = [(psi - drop) / 2, (psi + drop) / 2, 1 - psi]
    won, lost, _ = rng.multinomial(n, shares, size=4000).T
    power = np.mean(zs.mcnemar(lost, won, "less") < alpha)
    assert 0.76 <= power <= 0.88


def test_detectable_drop_without_discordance_is_the_fewest_losses_that_count() -> None:
    drop = zs.detectable_drop([100, 2], 0.0)
    assert drop[0] >= 5 / 100
    assert drop[1] == 1.0
    assert zs.mcnemar(5, 0, "less") < 0.05 < zs.mcnemar(4, 0, "less")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_mcnemar_takes_counts_of_any_type(dtype: Any) -> None:
    lost, won = np.array([9, 200, 0]), np.array([2, 180, 0])
    np.testing.assert_array_equal(
        zs.mcnemar(lost.astype(dtype), won.astype(dtype)), zs.mcnemar(lost, won)
    )


@pytest.mark.parametrize("draws", [1, 2, 41, 2000])
def test_percentiles_are_numpys_to_the_bit(draws: int) -> None:
    values = np.random.default_rng(draws).standard_normal((draws, 70))
    for level in (0.1, 0.9, 0.95):
        tails = [50 * (1 - level), 100 - 50 * (1 - level)]
        found = np.stack(bootstrap.percentile(values, level))
        assert np.array_equal(found, np.percentile(values, tails, axis=0))


@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_paired_bootstrap_of_few_units_keeps_its_level(n: int) -> None:
    """Equal by construction: a one-sided test at 5% rejects at most one in twenty, up to luck."""
    rng = np.random.default_rng(n)
    rejected = [zs.paired_bootstrap(rng.normal(size=n), 400, i).less <= 0.05 for i in range(1000)]
    assert np.mean(rejected) <= 0.065


def test_equal_differences_of_few_units_are_no_certainty() -> None:
    found = zs.paired_bootstrap([-1.0, -1.0, -1.0])
    assert found.less == pytest.approx(1 / 8)
    assert found.greater == 1.0
