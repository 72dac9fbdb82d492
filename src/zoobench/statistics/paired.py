"""Paired statistics, the ones that every decision of zoobench rests on (PROTOCOL section 6).

A difference is always "candidate minus baseline" on the same N examples. For
right/wrong answers all of it is in two counts: `losses`, the examples that only
the baseline has right, and `gains`, those that only the candidate has right.

Random draws come from a generator made here from an explicit `seed`, so that the
same records always give the same decision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.statistics.bootstrap import Floats, numbered, percentile, resampled, unit_count

Alternative = Literal["less", "greater", "two-sided"]


@dataclass(frozen=True)
class Estimate:
    """A difference with its 95% interval and its one-sided p-values.

    `less` is the p-value for "the true difference is below 0", `greater` for above;
    `se` is the standard error.
    """

    value: float
    low: float
    high: float
    less: float
    greater: float
    se: float


def mcnemar(losses: ArrayLike, gains: ArrayLike, alternative: Alternative = "two-sided") -> Floats:
    """Exact McNemar p-values (McNemar 1947), element by element.

    Given losses + gains = n, losses ~ Binomial(n, 1/2) under no difference.
    "less" is the p-value for a true loss (candidate below baseline), "greater" for a
    gain. With no discordant pair it is 1. Arrays of counts in, float64 of the
    broadcast shape out. Agrees with scipy.stats.binomtest and statsmodels' mcnemar.
    """
    from scipy.special import bdtrc

    whole = (np.asarray(counts).astype(np.int64) for counts in (losses, gains))
    lost, won = np.broadcast_arrays(*whole)
    total = lost + won
    if alternative == "less":
        p = bdtrc(lost - 1, total, 0.5)
    elif alternative == "greater":
        p = bdtrc(won - 1, total, 0.5)
    else:
        p = 2 * bdtrc(np.maximum(lost, won) - 1, total, 0.5)
    return np.minimum(np.asarray(p, dtype=np.float64), 1.0)


def mcnemar_pairs(right: NDArray[np.float32]) -> Floats:
    """(M, M) two-sided p of McNemar's exact test between the columns of 0/1 outcomes (N, M)."""
    only = (right.T @ (1.0 - right)).round().astype(np.int64)
    rows, columns = np.triu_indices(len(only), 1)
    p = np.ones(only.shape)
    p[rows, columns] = p[columns, rows] = mcnemar(only[rows, columns], only[columns, rows])
    return p


def sign_flip(values: ArrayLike) -> tuple[float, float]:
    """One-sided p-values (less, greater) of a sum of whole numbers, by exact sign flips.

    Under no difference the two runs may be swapped at each example, which flips the sign
    of its value (Fisher's randomisation test). The sum's distribution is a convolution of
    binomials, one for each magnitude; with values of -1, 0 and 1 this is McNemar's
    test. Above 200,000 steps of the sum, the normal limit with continuity correction.
    """
    from scipy.special import gammaln, ndtr  # scipy.stats takes half a second to import

    whole = np.asarray(values, dtype=np.int64)
    sizes, counts = np.unique(np.abs(whole[whole != 0]), return_counts=True)
    reach, total = int((sizes * counts).sum()), int(whole.sum())
    if reach == 0:
        return 1.0, 1.0
    if reach > 100_000:
        sd = float(np.sqrt((sizes**2 * counts).sum()))
        return float(ndtr((total + 1) / sd)), float(ndtr((1 - total) / sd))
    mass = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        step = np.zeros(2 * size * count + 1)
        heads = np.arange(count + 1)
        ways = gammaln(count + 1) - gammaln(heads + 1) - gammaln(count - heads + 1)
        step[:: 2 * size] = np.exp(ways - count * np.log(2))
        mass = np.convolve(mass, step)
    less, greater = mass[: total + reach + 1].sum(), mass[total + reach :].sum()
    return min(float(less), 1.0), min(float(greater), 1.0)


def score_interval(losses: ArrayLike, gains: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """95% interval of the paired difference of two proportions, (gains - losses) / n.

    Tango's score interval (Statistics in Medicine 17, 1998, 891-908): it inverts the
    score test, so that no discordant pair among 20 examples does not read as
    certainty, which the percentile bootstrap would say. Returns (low, high) arrays.
    """
    from scipy.special import ndtri

    lost, won, size = (
        np.asarray(a, dtype=np.float64) for a in np.broadcast_arrays(losses, gains, n)
    )
    z = float(ndtri(0.975))
    return _score_bound(lost, won, size, z), -_score_bound(won, lost, size, z)


def _score_bound(lost: Floats, won: Floats, n: Floats, z: float) -> Floats:
    """The difference below (won - lost) / n at which the score statistic is z, by bisection."""
    low, high = np.full_like(n, -1.0), (won - lost) / n
    for _ in range(52):  # doubles have 53 bits
        middle = (low + high) / 2
        a, b = 2 * n, (2 * n - won + lost) * middle - won - lost
        c = -lost * middle * (1 - middle)
        only_base = (np.sqrt(np.maximum(b * b - 4 * a * c, 0)) - b) / (2 * a)
        variance = n * (2 * only_base + middle * (1 - middle))
        far = won - lost - n * middle > z * np.sqrt(np.maximum(variance, 0))
        low, high = np.where(far, middle, low), np.where(far, high, middle)
    return low


def holm(p: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values (Holm 1979) over the last axis, in the order given."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, axis=-1, kind="stable")
    stepped = np.take_along_axis(values, order, axis=-1) * np.arange(values.shape[-1], 0, -1)
    climbed = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    adjusted = np.empty_like(climbed)
    np.put_along_axis(adjusted, order, climbed, axis=-1)
    return adjusted


def left_out(without: Floats) -> tuple[float, float]:
    """(standard error, its degrees of freedom) of a statistic from its values `without` (G,) each
    unit: Tukey's jackknife (Efron and Stein 1981).

    Of a mean of ratios the bootstrap's error is too small by a twentieth or so: a class that few
    units hold is drawn with its ratio nearly unchanged. Where few units count, so that the terms
    have kurtosis k, the error is known as well as of 2 G / (k - 1) normal terms.
    """
    units = len(without)
    terms = without - without.mean()
    squares = float((terms**2).sum())
    if squares == 0.0:
        return 0.0, units - 1.0
    kurtosis = units * float((terms**4).sum()) / squares**2
    free = max(1.0, min(units - 1.0, 2 * units / max(kurtosis - 1, 1e-9)))
    return (squares * (units - 1) / units) ** 0.5, free


def from_draws(
    value: float, draws: ArrayLike, dof: float, known: tuple[float, float] = (0.0, np.inf)
) -> Estimate:
    """The estimate of a bootstrapped difference: percentile interval, one-sided p-values.

    p = (1 + number of draws on the other side of 0) / (1 + R) (Davison and Hinkley 1997,
    section 4.2), and never below the tail of Student's t with `dof` and the draws' standard
    error, corrected for their dof + 1 units: of few units the draws know too few. Both are as of
    `known`, a standard error and its degrees of freedom, where those are surer. Fewer than ten
    such draws can't place a p-value, and R draws can't go below 1/R, which a large Holm family
    needs: there the t tail alone stands. The interval is the wider of the two likewise. Where no
    draw differs the p-value is that of dof + 1 signs which happen to agree.
    """
    from scipy.special import stdtr, stdtrit

    array = np.asarray(draws, dtype=np.float64)
    low, high = percentile(array)
    se = max(float(array.std(ddof=1)) * ((dof + 1) / dof) ** 0.5, known[0])
    if se == 0.0:
        agree = 0.5 ** (dof + 1)
        sides = (1.0 if value >= 0 else agree, 1.0 if value <= 0 else agree)
        return Estimate(value, float(low), float(high), *sides, se=0.0)
    dof = min(dof, known[1])
    half = float(stdtrit(dof, 0.975)) * se
    low, high = min(low, value - half), max(high, value + half)

    def p(crossed: int, tail: float) -> float:
        return max(tail, (crossed + 1) / (array.size + 1)) if crossed >= 10 else tail

    less = p(int((array >= 0).sum()), float(stdtr(dof, value / se)))
    greater = p(int((array <= 0).sum()), float(stdtr(dof, -value / se)))
    return Estimate(value, float(low), float(high), less, greater, se)


def paired_bootstrap(difference: ArrayLike, resamples: int = 9_999, seed: int = 0) -> Estimate:
    """Mean of the per-example differences (N,), by the paired percentile bootstrap.

    Raises ValueError for fewer than two examples or a value that is not finite.
    """
    values = np.asarray(difference, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError("a paired bootstrap needs two or more finite differences")
    units = numbered(len(values), seed)
    blocks = [(w @ values) / w.sum(axis=1) for w in resampled(units, resamples)]
    draws = np.concatenate(blocks)
    return from_draws(float(values.mean()), draws, max(unit_count(units) - 1, 1))


def hierarchical_bootstrap(differences: ArrayLike) -> Estimate:
    """Mean of (S seeds, N examples) of differences: seeds and examples are both resampled.

    The seeds share their test examples, so the two are crossed, not nested: a draw picks
    S seeds and N examples independently (Owen 2007, "The pigeonhole bootstrap"). The
    variance of such draws has a closed form, which is taken instead of a number of
    them: the answer of infinitely many. Drawing S from S understates the seeds' share by
    (S - 1) / S, which is given back; and percentiles of 3 seeds can't reach a tail, so
    the critical values are Student's, weighted between S - 1 and N - 1 degrees of
    freedom by the two shares of the variance (Cochran and Cox 1957, section 4.14).
    Measured: at or below the nominal level at 0.05, 0.01 and 0.001 from 3 seeds on; up to
    4 times it, deep in the tail, for 2 seeds that differ more than the examples do.
    Raises ValueError for S < 2 or N < 2 and for values that are not finite.
    """
    table = np.asarray(differences, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise ValueError("a hierarchical bootstrap needs finite (2+ seeds, 2+ examples)")
    seeds, n = table.shape
    of_seeds, of_examples = table.mean(axis=1), table.mean(axis=0)
    # Sum of squares of what neither the seed nor the example explains.
    rest = float((table**2).mean() - table.mean() ** 2 - of_seeds.var() - of_examples.var())
    drawn = of_seeds.var() / seeds + of_examples.var() / n + max(rest, 0.0) / (seeds * n)
    between_seeds = float(of_seeds.var(ddof=1)) / seeds
    between_examples = float(of_examples.var(ddof=1)) / n
    se = float(drawn + between_seeds / seeds) ** 0.5
    return student(
        float(table.mean()), (between_examples, n - 1.0), (between_seeds, seeds - 1.0), se
    )


def student(
    value: float, units: tuple[float, float], seeds: tuple[float, float], se: float | None = None
) -> Estimate:
    """The estimate of a difference by Student's t, from the two parts of its variance: that of
    units and that of seeds, each with its degrees of freedom.

    Critical values are averaged, weighted by the parts (Cochran and Cox). `se` is the standard
    error where it is not the root of their sum.
    """
    from scipy.special import stdtrit

    total, dof, few = units[0] + seeds[0], units[1], max(seeds[1], 1.0)
    share = seeds[0] / total if total > 0 else 0.0
    se = total**0.5 if se is None else se
    if se == 0.0:
        return Estimate(value, value, value, float(value >= 0), float(value <= 0), 0.0)

    def quantile(p: float) -> float:
        return float(share * stdtrit(few, p) + (1 - share) * stdtrit(dof, p))

    half = quantile(0.975) * se
    low, high = -745.0, np.log(0.5)  # the logarithm of the smallest double, and of 1/2
    for _ in range(60):
        middle = (low + high) / 2
        beyond = quantile(float(np.exp(middle))) < -abs(value) / se
        low, high = (middle, high) if beyond else (low, middle)
    tail = float(np.exp(high))
    less, greater = (tail, 1 - tail) if value < 0 else (1 - tail, tail)
    return Estimate(value, value - half, value + half, less, greater, se)


def detectable_drop(
    n: ArrayLike, discordant: ArrayLike, alpha: float = 0.05, power: float = 0.8
) -> Floats:
    """The smallest drop of a proportion that the one-sided McNemar test finds with `power`.

    `discordant` is the share of examples on which the two differ, as observed. Connor's
    formula (Biometrics 43, 1987, 207-211), solved for the drop, with the exact test's
    continuity step 1/n, and never below the fewest losses that can reach `alpha`
    when nothing was gained. In the proportion's unit; 1 where no drop can be seen.
    """
    from scipy.special import ndtri

    size, psi = (np.asarray(a, dtype=np.float64) for a in np.broadcast_arrays(n, discordant))
    za, zb = float(ndtri(1 - alpha)), float(ndtri(power))
    low, high = np.zeros_like(size), np.ones_like(size)
    for _ in range(52):
        drop = (low + high) / 2
        share = np.maximum(psi, drop)
        need = za * np.sqrt(share) + zb * np.sqrt(np.maximum(share - drop**2, 0))
        seen = np.sqrt(size) * drop > need
        low, high = np.where(seen, low, drop), np.where(seen, drop, high)
    fewest = np.ceil(-np.log2(alpha)) / size
    return np.asarray(np.minimum(np.maximum(high + 1 / size, fewest), 1.0), dtype=np.float64)


def wilson(share: float, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The 95% score interval of a share of n (Wilson 1927)."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
