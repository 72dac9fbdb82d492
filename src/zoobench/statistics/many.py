"""Is the difference real? Pure array maths (PROTOCOL sections 3 and 6).

N test examples, M models, B bootstrap resamples. A `Sample` holds what M models
did on the same N examples; every function here is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoobench.statistics import intervals, plausible
from zoobench.statistics.bootstrap import (
    ALPHA,
    RESAMPLES,
    Floats,
    Matrix,
    Units,
    resampled,
    unit_count,
    unit_sums,
)
from zoobench.statistics.intervals import Luck
from zoobench.statistics.paired import holm, mcnemar_pairs, sign_flip

POWER = 0.8
FEW = 100
"""Units below which a normal distribution is another than Student's t."""
MATRIX_LIMIT = 200
"""Above this many models no matrix of pairs is kept: nobody reads it."""


@dataclass(frozen=True)
class Sample:
    """M models on the same N rows of G units; larger is better.

    `value` (M,) metrics, a mean over a model's seeds, with 95% intervals `low` and `high` (M,);
    `draws` (B, M) bootstrap values, paired over the units; `luck` (M,) the variance of each that
    comes from training or drawing again, and `common` that of what a draw does to all of them,
    with `dof` degrees of freedom; `seeds` (M,) how many. `right` (N, M) 0/1 for the models in
    `exact` (M,) bool: one seed, each row right or wrong. `units` (N,) are empty where the draws
    are unpaired. Of the luck of a `lone` sample of training runs too little is known. Of `shares`
    each row is right or wrong; `unseen` is their variance for disagreements that no unit holds.
    """

    value: Floats
    low: Floats
    high: Floats
    draws: Floats
    luck: Floats
    common: float
    dof: float
    seeds: NDArray[np.int64]
    exact: NDArray[np.bool_]
    right: NDArray[np.float32]
    units: Units
    n: int
    lone: bool = False
    shares: bool = False
    unseen: float = 0.0

    @cached_property
    def groups(self) -> int:
        return unit_count(self.units)

    def with_luck(self) -> Floats:
        """(B, M) `draws` by Student's t, where units are few, and with the luck of training."""
        rng = np.random.default_rng([len(self.value), 1])
        dof = max(self.dof, 3.0)  # of fewer the variance is infinite, and nothing can be drawn
        draws, free = self.draws, self.groups - 1.0
        if 0 < free < FEW:
            scale = np.sqrt((free + 1) / rng.chisquare(free, (len(draws), 1)))
            draws = self.value + scale * (draws - draws.mean(axis=0))
        if not self.luck.any() and not self.common:
            return draws
        shape = len(self.draws), 1 + len(self.value)
        noise = rng.standard_normal(shape) * np.sqrt(dof / rng.chisquare(dof, (shape[0], 1)))
        noise = noise * np.sqrt(np.append(self.common, self.luck))
        return np.asarray(draws + noise[:, 1:] + noise[:, :1])

    def with_unseen(self) -> Floats:
        """(B, M) `with_luck`: models that are right on the same units need not be so on others."""
        own = np.random.default_rng([len(self.value), 2]).standard_normal(self.draws.shape)
        return np.asarray(self.with_luck() + own * np.sqrt(self.unseen))


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
    units: Units,
    *,
    luck: Luck | None = None,
    shared_seeds: bool = False,
    bounds: tuple[float, float] | None = None,
    resamples: int = RESAMPLES,
) -> Sample:
    """The sample of M models whose metric is a mean over rows; outcomes[m] is (S_m, N), the
    rows' values, one line a seed. See `with_seeds`."""
    means = np.stack([rows.mean(axis=0, dtype=np.float64) for rows in outcomes], axis=1)
    blocks = [(w @ means) / w.sum(axis=1, keepdims=True) for w in resampled(units, resamples)]
    each = [rows.mean(axis=1, dtype=np.float64) for rows in outcomes]
    draws = np.concatenate(blocks)
    return with_seeds(
        each, draws, units, rows=outcomes, luck=luck, shared_seeds=shared_seeds, bounds=bounds
    )


def with_seeds(
    each: Sequence[Floats],
    draws: Floats,
    units: Units,
    *,
    rows: Sequence[NDArray[np.floating[Any]]] | None = None,
    luck: Luck | None = None,
    shared_seeds: bool = False,
    bounds: tuple[float, float] | None = None,
) -> Sample:
    """The sample of M models, from each[m] (S_m,), the metric of every seed, and `draws` (B, M),
    the metric's mean over a model's seeds under resampled units, which all models share.

    `luck` is the variance of a single run for its seed's sake, pooled over all that ran alike;
    None for methods that have none. With `shared_seeds` (few-shot draws) all models have the
    same draws of the data, so that what a draw does to all of them cancels in a difference; that
    variance is found here. `rows[m]` (S_m, N) are the values of a metric that is a mean; the
    metric lies within `bounds`.
    """
    seeds = np.array([len(values) for values in each], dtype=np.int64)
    value = np.array([values.mean() for values in each])
    alone, common, dof = _luck(each, seeds, luck, shared_seeds)
    groups = unit_count(units)
    own = alone + common
    share = bounds is None or bounds == (0.0, 1.0)
    right_or_wrong = [share and bool(np.isin(r, (0, 1)).all()) for r in rows or ()]
    binary = rows is not None and all(right_or_wrong)
    ends_at = bounds or (-np.inf, np.inf)
    width = ends_at[1] - ends_at[0] if np.isfinite(ends_at).all() else float(binary)
    ends = [
        intervals.of_share(rows[m].mean(axis=0, dtype=np.float64), units, own[m], dof)
        # As a record has it, whatever the other models' values are.
        if rows is not None and right_or_wrong[m]
        else intervals.of_draws(float(value[m]), draws[:, m], groups, own[m], dof, ends_at)
        for m in range(len(each))
    ]
    low, high = np.array(ends).T
    exact = (seeds == 1) & binary & (luck is None)
    right = np.zeros((len(units), len(each)), np.float32)
    if rows is not None and exact.any():
        right = np.stack([r.mean(axis=0, dtype=np.float32) for r in rows], axis=1)
    return Sample(
        value=value,
        low=low,
        high=high,
        draws=draws,
        luck=alone,
        common=common,
        dof=dof,
        seeds=seeds,
        exact=exact,
        right=right,
        units=units,
        n=len(units),
        lone=luck is not None and luck.lone,
        shares=binary,
        unseen=plausible.unseen(groups) * width**2,
    )


def _luck(
    each: Sequence[Floats], seeds: NDArray[np.int64], luck: Luck | None, shared: bool
) -> tuple[Floats, float, float]:
    """((M,) variances of the models' own luck, variance of the luck they share, dof)."""
    if shared and int(seeds.min()) > 1 and len(set(seeds.tolist())) == 1:
        table = np.stack(each)
        models, draws = table.shape
        whole = float(table.var(axis=1, ddof=1).mean()) / draws
        rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
        free = (models - 1) * (draws - 1)
        alone = float((rest**2).sum()) / free / draws if free else 0.0
        return np.full(models, alone), max(whole - alone, 0.0), draws - 1.0
    if luck is not None:
        return luck.variance / seeds, 0.0, luck.dof or np.inf
    found = intervals.pooled(list(each))  # what runs once beside others draws nothing
    return np.where(seeds > 1, found.variance / seeds, 0.0), 0.0, found.dof or np.inf


def pick(one: Sample, models: Sequence[int]) -> Sample:
    """The sample of some of the models, in that order."""
    at = list(models)
    return replace(
        one,
        value=one.value[at],
        low=one.low[at],
        high=one.high[at],
        draws=one.draws[:, at],
        luck=one.luck[at],
        seeds=one.seeds[at],
        exact=one.exact[at],
        right=one.right[:, at],
    )


def sample_from_intervals(value: Floats, error: Floats, n: int, seed: int) -> Sample:
    """A sample where no predictions were kept: normal draws of standard error `error` (M,).

    Unpaired, so a difference looks less certain than it is: never the other way.
    """
    count = len(value)
    drawn = np.random.default_rng(seed).standard_normal((RESAMPLES, count))
    return Sample(
        value=value,
        low=value - intervals.Z * error,
        high=value + intervals.Z * error,
        draws=drawn * error + value,
        luck=np.zeros(count),
        common=0.0,
        dof=np.inf,
        seeds=np.ones(count, dtype=np.int64),
        exact=np.zeros(count, dtype=bool),
        right=np.zeros((0, count), dtype=np.float32),
        units=np.zeros(0, dtype=np.uint64),
        n=n,
    )


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


def errors(one: Sample) -> tuple[Floats, Floats]:
    """((M, M) standard errors of the differences, (M, M) their degrees of freedom)."""
    groups = one.groups
    if groups:
        units = difference_error(one.draws) ** 2 * groups / max(groups - 1, 1)
        free = max(groups - 1.0, 1.0)
    else:  # independent draws: a covariance estimated from them would be noise
        spread = one.draws.var(axis=0, ddof=1)
        units, free = spread[:, None] + spread[None, :], np.inf
    luck = one.luck[:, None] + one.luck[None, :]
    variance = units + luck
    with np.errstate(divide="ignore", invalid="ignore"):
        dof = variance**2 / (units**2 / free + luck**2 / one.dof)
    known = np.isfinite(dof)  # what has no variance has no degrees of freedom either
    return np.sqrt(variance), np.where(known, np.maximum(dof, 0.5), 1e9 if free > 1 else 1.0)


def pairwise(one: Sample) -> Floats:
    """(M, M) two-sided p that two models differ, uncorrected.

    McNemar's exact test where both have one right-or-wrong outcome a row, or exact flips of the
    signs of each unit's net difference where rows belong together; else the difference over its
    error, as Student's t with the degrees of freedom (Satterthwaite) of its parts. Lone training
    runs prove nothing.
    """
    from scipy.special import stdtr

    if one.lone or one.groups == 1:
        return np.ones((len(one.value), len(one.value)))
    error, dof = errors(one)
    p = np.asarray(2 * stdtr(dof, -scores(one.value, error)))
    if one.exact.any():
        rows = np.flatnonzero(one.exact)
        right, together = one.right[:, rows], one.groups < one.n
        exact = flipped_pairs(right, one.units) if together else mcnemar_pairs(right)
        p[np.ix_(rows, rows)] = exact
    np.fill_diagonal(p, 1.0)
    return p


def flipped_pairs(right: NDArray[np.float32], units: Units) -> Floats:
    """(M, M) two-sided p of exact sign flips of the units' net differences (see `sign_flip`)."""
    totals = unit_sums(right.T, units)
    p = np.ones((len(totals), len(totals)))
    for i, j in zip(*np.triu_indices(len(p), 1), strict=True):
        p[i, j] = p[j, i] = min(1.0, 2 * min(sign_flip(np.rint(totals[i] - totals[j]))))
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


def probability_first(one: Sample) -> Floats:
    """(M,) probability of being the true best; lone training runs are all alike, and so is what one
    unit says."""
    if one.lone or one.groups == 1:
        return np.full(len(one.value), 1 / len(one.value))
    return plausible.probability_first(one.value, one.with_unseen())


def resolvable_gap(one: Sample) -> float | None:
    """The lead of the best over all others that would be found four times in five: None where no
    lead would be (lone training runs), or nobody is there to be led."""
    if len(one.value) < 2 or one.lone or one.groups == 1:
        return None
    best = int(np.argmax(one.value))
    rivals = np.flatnonzero(np.arange(len(one.value)) != best)
    error, dof = errors(one)
    found = lead_found(one.with_luck(), best, error[best, rivals], float(dof[best, rivals].min()))
    if one.shares:  # near-copies: so many units must differ before an exact test can reject
        found = max(found, float(np.ceil(np.log2(2 * len(rivals) / ALPHA))) / one.groups)
    return found


def lead_found(draws: Floats, best: int, error: Floats, dof: float = np.inf) -> float:
    """The lead that is found with POWER: how far above all rivals the best must be for Holm's
    procedure to reject every one of the M - 1 comparisons in that share of the draws (B, M).

    `error` (M - 1,) are the standard errors of the differences to the rivals, in their order, with
    `dof` degrees of freedom.
    """
    from scipy.special import stdtrit

    apart = draws[:, [best]] - np.delete(draws, best, axis=1)
    sure = np.maximum(error, 1e-12 * max(float(np.abs(draws).max()), 1e-300))
    noise = (apart - np.median(apart, axis=0)) / sure
    steps = ALPHA / (2 * np.arange(len(error), 0, -1))  # the nearest rival comes last
    needed = -stdtrit(min(dof, 1e9), steps)
    low, high = 0.0, float(sure.max() * (needed.max() + 20))
    for _ in range(50):
        lead = (low + high) / 2
        ordered = -np.sort(-(noise + lead / sure), axis=1)
        enough = (ordered >= needed).all(axis=1).mean() >= POWER
        low, high = (low, lead) if enough else (lead, high)
    return high
