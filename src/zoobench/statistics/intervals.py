"""95% intervals of one metric (PROTOCOL section 3): of a share, and of anything that can be drawn.

n rows of G independent units, B draws. The spread between training runs, where it is known, is a
variance with degrees of freedom of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from zoobench.statistics.bootstrap import Floats, Units, resampled, unit_count, unit_sums

NORMAL = NormalDist()
Z = 1.959963984540054
BIASED = 1.0
"""Deviations of the draws by which a value may lie beside their median and be corrected for."""
LEVEL = 0.95


@dataclass(frozen=True)
class Luck:
    """The variance of one training run's result, for its seed's sake, with its degrees of freedom.

    Without any (`dof` 0) nothing is known of it, and with less than one too little to call a model
    better than another.
    """

    variance: float = 0.0
    dof: float = 0.0

    @property
    def lone(self) -> bool:
        """Whether too little is known of it to call a model better."""
        return self.dof < 1


def pooled(runs: list[Floats]) -> Luck:
    """Of groups of runs that differ in their seed alone, each (S,): one variance for all.

    Results are not normal from seed to seed (an accuracy near 1 falls further than it rises), so
    that the variance is known less well than of so many normal ones: one degree of freedom is
    taken off, a half where there is one.
    """
    free = sum(len(group) - 1 for group in runs)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in runs)
    return Luck(squares / free, max(free - 1.0, 0.5)) if free else Luck()


SAME = 1e-9
"""Draws apart from a value by less than this share of it are equal to it."""


def of_share(
    values: Floats, units: Units, luck: float = 0.0, dof: float = np.inf
) -> tuple[float, float]:
    """The interval of a share, the mean of `values` (n,) in [0, 1].

    Clopper and Pearson's (1934) for n independent rows that are right or wrong; with groups or
    training runs the same at the effective number of rows (Korn and Graubard 1998): that of
    independent rows whose share would vary as much. It never closes at 0 or 1. `luck` is the
    part of the mean's variance that comes from training, with `dof` degrees of freedom.
    """
    share, n = float(values.mean()), len(values)
    variance, groups, free = clustered(values, units)
    binomial = (share * n + 1) / (n + 2) * (1 - (share * n + 1) / (n + 2))
    effective, freedom = float(n), np.inf
    exact = bool(np.isin(values, (0, 1)).all())
    if groups < n or not exact:  # rows that belong together, or a mean over several runs
        inside = 0 < share < 1 and variance > 0
        most = n if exact else np.inf
        effective = min(share * (1 - share) / variance, most) if inside else float(groups)
        effective = max(effective, 1.0)
        freedom = free
    if luck > 0:
        own = binomial / effective
        total = own + luck
        freedom = satterthwaite((own, freedom), (luck, dof))
        effective = binomial / total
    return clopper_pearson(share, effective * (Z / student_quantile(freedom)) ** 2)


def of_mean_share(share: float, variance: float, n: float, dof: float) -> tuple[float, float]:
    """The interval of a mean of shares with that variance, at its effective number of rows; n
    rows where nothing varies."""
    smooth = (share * n + 1) / (n + 2)
    effective = smooth * (1 - smooth) / variance if variance > 0 else n
    return clopper_pearson(share, effective * (Z / student_quantile(dof)) ** 2)


def of_draws(
    value: float,
    draws: Floats,
    units: int,
    luck: float = 0.0,
    dof: float = np.inf,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[float, float]:
    """The interval of a metric with bootstrap `draws` (B,) over so many units.

    Bias-corrected percentiles (Efron 1981): AP, mIoU and calibration errors of a resample lie to
    one side of those of the set, as those of a set do of the truth. They are moved apart for few
    units (by Student's t) and for the variance `luck` that comes from training, and extended to
    hold `value`. The metric lies within `bounds`; where every draw is one of them, all units were
    perfect or none was, and Clopper and Pearson's interval says how many others need not be. It
    takes all units; a metric that rests on few of them (a rare class) has a wider one.
    """
    if units == 1:
        # Of one unit nothing is known; of a metric without bounds there is no way to say so.
        return bounds if np.isfinite(bounds).all() else (value, value)
    low, middle, high = corrected(value, draws)
    own = float(draws.var(ddof=1)) * units / max(units - 1, 1)
    freedom = satterthwaite((own, max(units - 1.0, 1.0)), (luck, dof))
    spread = np.sqrt((own + luck) / draws.var(ddof=1)) if own > 0 else 1.0
    apart = student_quantile(freedom) / Z * spread
    low, high = middle + apart * (low - middle), middle + apart * (high - middle)
    if float(np.ptp(draws)) <= SAME:
        low, high = _of_equal(value, units, bounds)
        half = student_quantile(dof) * luck**0.5 if luck > 0 else 0.0
        low, high = value - np.hypot(value - low, half), value + np.hypot(high - value, half)
    return max(min(low, value), bounds[0]), min(max(high, value), bounds[1])


def _of_equal(value: float, units: int, bounds: tuple[float, float]) -> tuple[float, float]:
    """The ends where no draw differs from `value`: at an end of finite bounds Clopper and Pearson's
    of so many units, elsewhere the value itself."""
    width = bounds[1] - bounds[0]
    at = (value - bounds[0]) / width if np.isfinite(bounds).all() else 0.5
    if min(at, 1 - at) > SAME:
        return value, value
    low, high = clopper_pearson(float(round(at)), units)
    return bounds[0] + width * low, bounds[0] + width * high


def of_ratio(
    over: Floats,
    below: Floats,
    units: Units,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[float, float]:
    """The interval of the ratio of two sums over rows (n,), which is a mean where `below` is 1, by
    the bootstrap over units: see `of_draws`."""
    draws = np.concatenate([w @ over / (w @ below) for w in resampled(units)])
    value = float(over.sum() / below.sum())
    return of_draws(value, draws, unit_count(units), bounds=bounds)


def corrected(value: float, draws: Floats) -> tuple[float, float, float]:
    """The ends and the middle of the bias-corrected percentiles of `draws` (B,) of a metric whose
    value is `value`: where it is the k-th of them and not the median, all levels move by twice the
    distance. More than BIASED deviations are not believed."""
    # Draws that are the value but for rounding are ties, in whatever order they were summed.
    equal = np.abs(draws - value) <= SAME * max(abs(value), float(draws.std()))
    below = float(((draws < value) & ~equal).mean() + equal.mean() / 2)
    most = NORMAL.cdf(BIASED)
    bias = NORMAL.inv_cdf(min(max(below, 1 - most), most))
    levels = [NORMAL.cdf(2 * bias + z) for z in (-Z, 0.0, Z)]
    low, middle, high = np.quantile(draws, levels)
    return float(low), float(middle), float(high)


def clustered(values: Floats, units: Units) -> tuple[float, int, float]:
    """(variance of the mean of `values` (n,), number of units, the variance's degrees of freedom),
    rows of one unit taken together.

    Rare mistakes make few units count: a variance whose terms have kurtosis k is as well known as
    one of 2 G / (k - 1) normal terms.
    """
    (totals,) = unit_sums([values - values.mean()], units)
    groups, squares = len(totals), float((totals**2).sum())
    if groups < 2:
        return float("inf"), groups, 1.0
    variance = squares / len(values) ** 2 * groups / (groups - 1)
    if squares == 0:
        return variance, groups, groups - 1.0
    kurtosis = groups * float((totals**4).sum()) / squares**2
    return variance, groups, max(1.0, min(groups - 1.0, 2 * groups / max(kurtosis - 1, 1e-9)))


def clopper_pearson(share: float, n: float) -> tuple[float, float]:
    """The exact interval of `share` of n rows; n need not be whole."""
    from scipy.special import betaincinv

    n = max(n, 1.0)
    right, tail = share * n, (1 - LEVEL) / 2
    low = float(betaincinv(right, n - right + 1, tail)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, n - right, 1 - tail)) if right < n else 1.0
    return low, high


def satterthwaite(*parts: tuple[float, float]) -> float:
    """Degrees of freedom of a sum of variances, each with its own (Satterthwaite 1946)."""
    total = sum(variance for variance, _ in parts)
    share = sum(variance**2 / dof for variance, dof in parts if variance > 0)
    return total**2 / share if share > 0 else np.inf


def student_quantile(dof: float) -> float:
    """The two-sided 95% quantile of Student's t."""
    from scipy.special import stdtrit

    return Z if np.isinf(dof) else float(stdtrit(max(dof, 1.0), 0.5 + LEVEL / 2))
