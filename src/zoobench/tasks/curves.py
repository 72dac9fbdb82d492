"""Metrics by weighted sort and cumulative sum: average precision, ROC, rank correlation.

n units, B weightings of them, K rows: the units themselves, or what belongs to them (the
detections of a picture), with `owner` (K,) the unit of each. A weight says how often a unit
stands in a resampled test set, so every function here gives of whole weights what it would
give of a test set in which each unit really stood that often.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from zoobench.statistics.bootstrap import Floats

RECALLS = np.linspace(0.0, 1.0, 101)
"""COCO's levels of recall, at which precision is averaged."""


def average_precision(
    scores: ArrayLike, hits: ArrayLike, owner: ArrayLike, truths: ArrayLike, weights: Floats
) -> Floats:
    """(B,) mean over RECALLS of the best precision at that recall or a higher one.

    `scores` (K,) of detections and whether each is a hit (K,), matched within its unit;
    `truths` (n,) objects of each unit. Equal scores keep their order, as in COCO's
    evaluator; the copies of one unit then follow each other, where a test set that holds it
    twice might part them. NaN where the weighted test set has no object (PROTOCOL section 2,
    Detection; Lin et al. 2014, arXiv:1405.0312).
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    drawn = weights[:, np.asarray(owner, dtype=np.intp)[order]]
    hit = np.asarray(hits, dtype=np.float64)[order]
    positives = weights @ np.asarray(truths, dtype=np.float64)
    right, taken = np.cumsum(drawn * hit, axis=1), np.cumsum(drawn, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(taken > 0, right / taken, 0.0)
        recall = right / positives[:, None]
    # From a level of recall on, the best precision that is still to come.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(weights), 1))], axis=1)
    out = np.full(len(weights), np.nan)
    for b in np.flatnonzero(positives > 0):
        out[b] = best[b, np.searchsorted(recall[b], RECALLS, side="left")].mean()
    return out


def roc_auc(scores: ArrayLike, positive: ArrayLike, weights: Floats) -> Floats:
    """(B,) probability that a positive unit scores above a negative one, a tie counting one half.

    `scores` (n,), `positive` (n,) bool. NaN where the weighted test set lacks either kind.
    """
    kind = np.asarray(positive, dtype=bool)
    ranks = mid_ranks(scores, weights)
    ups = weights[:, kind].sum(axis=1)
    downs = weights.sum(axis=1) - ups
    total = (weights[:, kind] * ranks[:, kind]).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((total - ups * (ups + 1) / 2) / (ups * downs))


def mid_ranks(values: ArrayLike, weights: Floats) -> Floats:
    """(B, n) rank of each unit in the weighted test set, from 1; equal values share their mean.

    The rank of a unit that stands there twice or never is what one copy of it would have.
    """
    array = np.asarray(values, dtype=np.float64)
    distinct, group = np.unique(array, return_inverse=True)
    at = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[at], np.arange(len(distinct)))
    sizes = np.add.reduceat(weights[:, at], starts, axis=1)
    below = np.cumsum(sizes, axis=1) - sizes
    return np.asarray((below + (sizes + 1) / 2)[:, group])


def correlation(first: Floats, second: Floats, weights: Floats) -> Floats:
    """(B,) Pearson's correlation of two (n,) or (B, n) variables; 0 where one does not vary."""
    total = weights.sum(axis=1, keepdims=True)

    def centred(values: Floats) -> Floats:
        return np.asarray(values - (weights * values).sum(axis=1, keepdims=True) / total)

    one, other = centred(first), centred(second)
    spread = [(weights * part**2).sum(axis=1) for part in (one, other)]
    root = np.sqrt(spread[0] * spread[1])
    scale = np.abs(first).max(initial=0.0) * np.abs(second).max(initial=0.0) * total[:, 0]
    together = (weights * one * other).sum(axis=1)
    flat = root <= 1e-14 * scale
    return np.where(flat, 0.0, together / np.where(flat, 1.0, root))


def spearman(first: ArrayLike, second: ArrayLike, weights: Floats) -> Floats:
    """(B,) Spearman's rank correlation; 0 where one of the two does not vary."""
    return correlation(mid_ranks(first, weights), mid_ranks(second, weights), weights)
