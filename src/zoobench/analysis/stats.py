"""Is the difference real? Pure array maths (PROTOCOL sections 3 and 6).

N test examples, M models, B bootstrap resamples. A `Sample` holds what M models
did on the same N examples; every function here is deterministic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from zoobench.analysis.statistics import holm, mcnemar

Floats = NDArray[np.float64]
Matrix = tuple[tuple[float, ...], ...]
RESAMPLES = 2000
ALPHA = 0.05
MATRIX_LIMIT = 200
"""Above this many models no matrix of pairs is kept: nobody reads it."""
_CHUNK = 2**24
"""Most resampling weights held at once (64 MB of float32)."""


@dataclass(frozen=True)
class Sample:
    """M models on the same N examples; larger is better.

    `value` (M,) mean scores; `draws` (B, M) bootstrap means, paired over the examples
    (and over seeds where there are several); `seed_variance` (M,) the part of a mean's
    variance that comes from seeds, `seeds` (M,) how many; `right` (N, M) 0/1 for the
    models in `exact` (M,) bool: one seed, each example right or wrong; n = N.
    """

    value: Floats
    draws: Floats
    seed_variance: Floats
    seeds: NDArray[np.int64]
    exact: NDArray[np.bool_]
    right: NDArray[np.float32]
    n: int


def seed_of(*parts: object) -> int:
    """A 64-bit seed that depends on the parts' text alone."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


@lru_cache(maxsize=4)
def _counts(n: int, resamples: int, seed: int) -> NDArray[np.uint8]:
    """(B, N): how often each example is drawn; rows sum to N."""
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, n), dtype=np.uint8)
    for row in counts:
        row[:] = np.bincount(rng.integers(0, n, n, dtype=np.int32), minlength=n)
    return counts


def resampled_means(scores: NDArray[np.float32], seed: int, resamples: int = RESAMPLES) -> Floats:
    """(B, M) means of `scores` (N, M) over examples drawn with replacement, paired over models."""
    n = len(scores)
    counts = _counts(n, resamples, seed)
    step = max(1, _CHUNK // n)
    sums = [
        counts[start : start + step].astype(np.float32) @ scores
        for start in range(0, resamples, step)
    ]
    return np.concatenate(sums).astype(np.float64) / n


def sample(
    outcomes: Sequence[NDArray[np.float32]],
    seed: int,
    *,
    shared_seeds: bool = False,
    resamples: int = RESAMPLES,
) -> Sample:
    """The sample of M models; outcomes[m] is (S_m, N), one row a seed.

    Seeds add their own variance to the draws (bootstrap over seeds, corrected for
    their small number). With `shared_seeds` (few-shot draws) all models keep the
    same resample of seeds, so that what the draws share cancels in a difference.
    """
    means = np.stack([rows.mean(axis=0) for rows in outcomes], axis=1).astype(np.float32)
    seeds = np.array([len(rows) for rows in outcomes], dtype=np.int64)
    draws = resampled_means(means, seed, resamples)
    variance = np.zeros(len(outcomes))
    rng = np.random.default_rng([seed, 1])
    common = shared_seeds and len(set(seeds.tolist())) == 1
    picks = rng.random((resamples, int(seeds.max()))) if common else None
    for m, rows in enumerate(outcomes):
        count = len(rows)
        if count < 2:
            continue
        each = rows.mean(axis=1, dtype=np.float64)
        variance[m] = each.var(ddof=1) / count
        u = picks if picks is not None else rng.random((resamples, count))
        drawn = each[(u * count).astype(np.intp)].mean(axis=1)
        draws[:, m] += (drawn - each.mean()) * np.sqrt(count / (count - 1))
    binary = [bool(np.isin(rows, (0.0, 1.0)).all()) for rows in outcomes]
    exact = (seeds == 1) & np.array(binary)
    return Sample(
        means.mean(axis=0, dtype=np.float64), draws, variance, seeds, exact, means, len(means)
    )


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
    rng = np.random.default_rng(seed)
    draws = value + error * rng.standard_normal((RESAMPLES, len(value)))
    nothing = np.zeros((0, len(value)), dtype=np.float32)
    ones = np.ones(len(value), dtype=np.int64)
    return Sample(value, draws, np.zeros(len(value)), ones, np.zeros(len(value), bool), nothing, n)


def interval(draws: Floats, level: float = 1 - ALPHA) -> tuple[Floats, Floats]:
    """Percentile interval over the first axis."""
    tail = 50 * (1 - level)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return low, high


def difference_error(draws: Floats) -> Floats:
    """(M, M) bootstrap standard errors of the paired differences."""
    cov = np.atleast_2d(np.cov(draws, rowvar=False))
    spread = np.diag(cov)
    return np.sqrt(np.maximum(spread[:, None] + spread[None, :] - 2 * cov, 0.0))


def error_against(draws: Floats, model: int) -> Floats:
    """(M,) bootstrap standard errors of every model's difference from one of them."""
    return np.asarray((draws - draws[:, model, None]).std(axis=0, ddof=1))


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

    error = difference_error(one.draws)
    gap = np.abs(one.value[:, None] - one.value[None, :])
    share = one.seed_variance**2 / np.maximum(one.seeds - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.maximum(error**4 / (share[:, None] + share[None, :]), 1.0)
        score = np.where(gap > 1e-12, gap / error, 0.0)
    if one.seed_variance.any():
        p = np.asarray(2 * stdtr(np.minimum(freedom, 1e6), -score))
    else:
        p = np.asarray(2 * ndtr(-score))
    if one.exact.any():
        rows = np.flatnonzero(one.exact)
        p[np.ix_(rows, rows)] = mcnemar_pairs(one.right[:, rows])
    np.fill_diagonal(p, 1.0)
    return p


def holm_rows(p: Floats) -> Floats:
    """Each row of (M, M) adjusted over its M-1 comparisons with the others; diagonal 1."""
    count = len(p)
    if count < 2:
        return np.ones_like(p)
    off = ~np.eye(count, dtype=bool)
    adjusted = np.ones_like(p)
    adjusted[off] = holm(p[off].reshape(count, count - 1)).ravel()
    return adjusted


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
    adjusted = holm_rows(p)
    ahead = value[None, :] > value[:, None]
    sure = adjusted <= ALPHA
    low = 1 + (sure & ahead).sum(axis=1)
    high = len(value) - (sure & ~ahead & (value[None, :] < value[:, None])).sum(axis=1)
    return low, high


def shrinkage(value: Floats, draws: Floats) -> float:
    """K in (0, 1]: how much of the spread between models is more than noise.

    Empirical Bayes with a normal prior: observed variance = true + noise, and
    K = true / observed, from the contenders (those within reach of the top) alone.
    """
    best = int(np.argmax(value))
    near = (value[best] - value) <= 4 * np.maximum(error_against(draws, best), 1e-12)
    if near.sum() < 3:
        return 1.0
    pairs = difference_error(draws[:, near])
    noise = float((pairs**2).sum() / (2 * near.sum() * (near.sum() - 1)))
    seen = float(value[near].var(ddof=1))
    return float(np.clip(1 - noise / seen, 0.05, 1.0)) if seen > 0 else 0.05


def posterior(value: Floats, draws: Floats, shrink: float | None = None) -> Floats:
    """(B, M) plausible true scores: `value` shrunk to its mean by K, noise by sqrt(K).

    A plain bootstrap is centred on what was observed, and the observed best was
    partly lucky; `shrinkage` estimates by how much.
    """
    k = shrinkage(value, draws) if shrink is None else shrink
    centre = value.mean()
    return np.asarray(centre + k * (value - centre) + np.sqrt(k) * (draws - value))


def probability_first(value: Floats, draws: Floats, shrink: float | None = None) -> Floats:
    """(M,) probability of being the true best, summing to 1; exact ties share."""
    tops = np.round(posterior(value, draws, shrink), 9)
    first = tops == tops.max(axis=1, keepdims=True)
    return np.asarray((first / first.sum(axis=1, keepdims=True)).mean(axis=0))


def resolvable_gap(one: Sample) -> float:
    """The smallest lead of the best that this test set can tell from noise.

    Median over the rivals of z * (error of the difference), z at Holm's strictest
    step; at least the discordant examples that an exact test needs.
    """
    from scipy.stats import norm

    count = len(one.value)
    if count < 2:
        return 0.0
    best = int(np.argmax(one.value))
    rivals = np.arange(count) != best
    z = float(norm.isf(ALPHA / (2 * (count - 1))))
    gap = z * float(np.median(error_against(one.draws, best)[rivals]))
    if one.exact.all() and one.n:
        gap = max(gap, np.ceil(np.log2(2 * (count - 1) / ALPHA)) / one.n)
    return gap
