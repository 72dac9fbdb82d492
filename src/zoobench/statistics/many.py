"""Is the difference real? Pure array maths (PROTOCOL sections 3 and 6).

N test examples, M models, B bootstrap resamples. A `Sample` holds what M models
did on the same N examples; every function here is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoobench.statistics.bootstrap import (
    ALPHA,
    RESAMPLES,
    Floats,
    Matrix,
    error_against,
    resampled,
)
from zoobench.statistics.paired import holm, mcnemar

MATRIX_LIMIT = 200
"""Above this many models no matrix of pairs is kept: nobody reads it."""


@dataclass(frozen=True)
class Sample:
    """M models on the same N examples; larger is better.

    `value` (M,) mean scores; `draws` (B, M) bootstrap means, paired over the examples
    (and over seeds where there are several); `seed_variance` (M,) the part of a mean's
    variance that comes from seeds, `seeds` (M,) how many; `right` (N, M) 0/1 for the
    models in `exact` (M,) bool: one seed, each example right or wrong, and without rows
    where the draws are unpaired; n = N.
    """

    value: Floats
    draws: Floats
    seed_variance: Floats
    seeds: NDArray[np.int64]
    exact: NDArray[np.bool_]
    right: NDArray[np.float32]
    n: int


def ranks(values: Floats, ties: Literal["mean", "min"] = "mean") -> Floats:
    """(D, M) -> each row's ranks from 1 for the least; equal values share their mean or least.

    As `scipy.stats.rankdata`, whose package takes longer to import than most reports to rank.
    """
    out = np.empty(values.shape)
    for row, into in zip(values, out, strict=True):
        ordered = np.sort(row)
        below = np.searchsorted(ordered, row, "left")
        upto = below + 1 if ties == "min" else np.searchsorted(ordered, row, "right")
        into[:] = (below + 1 + upto) / 2
    return out


def sample(
    outcomes: Sequence[NDArray[np.floating[Any]]],
    seed: int,
    *,
    shared_seeds: bool = False,
    resamples: int = RESAMPLES,
) -> Sample:
    """The sample of M models whose metric is a mean over units; outcomes[m] is (S_m, N), the
    units' values, one row a seed. See `with_seeds`."""
    means = np.stack([rows.mean(axis=0, dtype=np.float64) for rows in outcomes], axis=1)
    n = len(means)
    draws = np.concatenate([block @ means for block in resampled(n, seed, resamples)]) / n
    each = [rows.mean(axis=1, dtype=np.float64) for rows in outcomes]
    exact = np.array([len(rows) == 1 and bool(np.isin(rows, (0, 1)).all()) for rows in outcomes])
    return with_seeds(each, draws, seed, n, (means.astype(np.float32), exact), shared_seeds)


def with_seeds(
    each: Sequence[Floats],
    draws: Floats,
    seed: int,
    n: int,
    right: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = None,
    shared_seeds: bool = False,
) -> Sample:
    """The sample of M models, from each[m] (S_m,), the metric of every seed, and `draws` (B, M),
    the metric's mean over a model's seeds under resampled units, which all models share.

    Seeds add their own variance to the draws (bootstrap over seeds, corrected for
    their small number). With `shared_seeds` (few-shot draws) all models keep the
    same resample of seeds, so that what the draws share cancels in a difference. `right`
    are (N, M) values of the units and the models (M,) to which exact tests apply.
    """
    resamples = len(draws)
    seeds = np.array([len(values) for values in each], dtype=np.int64)
    variance = np.zeros(len(each))
    rng = np.random.default_rng([seed, 1])
    common = shared_seeds and len(set(seeds.tolist())) == 1
    picks = rng.random((resamples, int(seeds.max()))) if common else None
    for m, values in enumerate(each):
        count = len(values)
        if count < 2:
            continue
        variance[m] = values.var(ddof=1) / count
        u = picks if picks is not None else rng.random((resamples, count))
        drawn = values[(u * count).astype(np.intp)].mean(axis=1)
        draws[:, m] += (drawn - values.mean()) * np.sqrt(count / (count - 1))
    units, exact = right or (np.zeros((n, len(each)), np.float32), np.zeros(len(each), bool))
    means = np.array([values.mean() for values in each])
    return Sample(means, draws, variance, seeds, exact, units, n)


def pick(one: Sample, models: Sequence[int]) -> Sample:
    """The sample of some of the models, in that order."""
    at = list(models)
    return Sample(
        one.value[at],
        one.draws[:, at],
        one.seed_variance[at],
        one.seeds[at],
        one.exact[at],
        one.right[:, at],
        one.n,
    )


def sample_from_intervals(value: Floats, error: Floats, n: int, seed: int) -> Sample:
    """A sample where no predictions were kept: normal draws of standard error `error` (M,).

    Unpaired, so a difference looks less certain than it is: never the other way.
    """
    drawn = np.random.default_rng(seed).standard_normal((RESAMPLES, len(value)))
    nothing = np.zeros((0, len(value)), dtype=np.float32)
    ones = np.ones(len(value), dtype=np.int64)
    never = np.zeros(len(value), dtype=bool)
    return Sample(value, drawn * error + value, np.zeros(len(value)), ones, never, nothing, n)


def difference_error(draws: Floats) -> Floats:
    """(M, M) bootstrap standard errors of the paired differences."""
    cov = np.atleast_2d(np.cov(draws, rowvar=False))
    spread = np.diag(cov)
    return np.sqrt(np.maximum(spread[:, None] + spread[None, :] - 2 * cov, 0.0))


def scores(value: Floats, error: Floats) -> Floats:
    """(M, M) differences of `value` (M,) over their standard errors, 0 for what is equal."""
    gap = np.abs(value[:, None] - value[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gap > 1e-12 * np.abs(value).max(initial=0.0), gap / error, 0.0)


def mcnemar_pairs(right: NDArray[np.float32]) -> Floats:
    """(M, M) two-sided p of McNemar's exact test between the columns of 0/1 outcomes (N, M)."""
    only = (right.T @ (1.0 - right)).round().astype(np.int64)
    rows, columns = np.triu_indices(len(only), 1)
    p = np.ones(only.shape)
    p[rows, columns] = p[columns, rows] = mcnemar(only[rows, columns], only[columns, rows])
    return p


def pairwise(one: Sample) -> Floats:
    """(M, M) two-sided p that two models differ, uncorrected.

    McNemar's exact test where both have one right-or-wrong outcome an example; else
    the difference over its paired bootstrap error, as Student's t with the degrees
    of freedom (Welch-Satterthwaite) that the seeds allow.
    """
    from scipy.special import ndtr, stdtr

    if len(one.right):
        error = difference_error(one.draws)
    else:  # independent draws: a covariance estimated from them would be noise
        spread = one.draws.var(axis=0, ddof=1)
        error = np.sqrt(spread[:, None] + spread[None, :])
    score = scores(one.value, error)
    if one.seed_variance.any():
        share = one.seed_variance**2 / np.maximum(one.seeds - 1, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.maximum(error**4 / (share[:, None] + share[None, :]), 1.0)
        p = np.asarray(2 * stdtr(np.minimum(freedom, 1e6), -score))
    else:
        p = np.asarray(2 * ndtr(-score))
    if one.exact.any():
        rows = np.flatnonzero(one.exact)
        p[np.ix_(rows, rows)] = mcnemar_pairs(one.right[:, rows])
    np.fill_diagonal(p, 1.0)
    return p


def holm_limits(p: Floats) -> Floats:
    """(M,) the largest p of each row of (M, M) that Holm rejects, of its M-1 comparisons.

    The diagonal takes no part; -1 where nothing is rejected. Equal p-values are rejected
    together, so that a limit says all.
    """
    count = len(p)
    if count < 2:
        return np.full(count, -1.0)
    off = p.copy()
    np.fill_diagonal(off, np.inf)  # sorted to the end, and left out there
    off.sort(axis=1)
    kept = off[:, :-1] * np.arange(count - 1, 0, -1) > ALPHA
    many = np.where(kept.any(axis=1), kept.argmax(axis=1), count - 1)  # before the first kept
    last = off[np.arange(count), np.maximum(many - 1, 0)]
    return np.where(many > 0, last, -1.0)


def holm_matrix(p: Floats, order: Sequence[int]) -> Matrix:
    """Rows and columns in `order`, Holm over all pairs; () above MATRIX_LIMIT models."""
    count = len(order)
    if count > MATRIX_LIMIT:
        return ()
    upper = np.triu_indices(count, 1)
    adjusted = np.ones((count, count))
    if count > 1:
        adjusted[upper] = holm(p[np.ix_(order, order)][upper])
        adjusted.T[upper] = adjusted[upper]
    return tuple(tuple(float(v) for v in row) for row in adjusted)


def rank_ranges(value: Floats, p: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(low, high), (M,) each: a 95% range of every model's true rank.

    Model j's best plausible rank is 1 + the models significantly better than it, its
    worst M - those significantly worse, Holm-corrected over j's own M-1 comparisons
    (Mogstad, Romano, Shaikh and Wilhelm 2023, marginal confidence sets). For the true
    best every rejection would be a false one, so rank 1 stays in its range with
    probability at least 95%, however the observed best was come by.
    """
    sure = p <= holm_limits(p)[:, None]
    above, below = value[None, :] > value[:, None], value[None, :] < value[:, None]
    low = 1 + np.count_nonzero(sure & above, axis=1)
    return low, len(p) - np.count_nonzero(sure & below, axis=1)


def resolvable_gap(one: Sample) -> float:
    """The smallest lead of the best that this test set can tell from noise.

    Median over the rivals of z * (error of the difference), z at Holm's strictest
    step; at least the discordant examples that an exact test needs.
    """
    from scipy.special import ndtri

    count = len(one.value)
    if count < 2:
        return 0.0
    best = int(np.argmax(one.value))
    rivals = np.arange(count) != best
    z = float(-ndtri(ALPHA / (2 * (count - 1))))
    gap = z * float(np.median(error_against(one.draws, best)[rivals]))
    if one.exact.all() and one.n:
        gap = max(gap, np.ceil(np.log2(2 * (count - 1) / ALPHA)) / one.n)
    return gap
