"""Metrics by weighted sort and cumulative sum: average precision, ROC, rank correlation.

n units, B weightings of them, K rows: the units themselves, or what belongs to them (the
detections of a picture), with `owner` (K,) the unit of each. A weight says how often a unit
stands in a resampled test set, so every function here gives of whole weights what it would
give of a test set in which each unit really stood that often.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.statistics.bootstrap import Floats

RECALLS = np.linspace(0.0, 1.0, 101)
"""COCO's levels of recall, at which precision is averaged."""


BLOCK = 2**19
"""Weights of detections that are held at once, of several resamples: they fit a cache."""


@dataclass(frozen=True)
class RankedDetections:
    """K detections of one class, and whether each is a hit at T strictnesses of matching.

    `scores` (K,), `owner` (K,) their units, `hits` (T, K) bool, matched within a unit; `ignored`
    (T, K) are neither hits nor false alarms. `truths` (n,) objects of each unit. Equal scores keep
    their order, as in COCO's evaluator; the copies of one unit then follow each other, where a
    test set that holds it twice might part them.
    """

    scores: Floats
    owner: NDArray[np.intp]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truths: Floats

    def precisions(self, weights: Floats) -> Iterator[tuple[slice, int, Floats, Floats]]:
        """(resamples, t, best (b, H), recall (b, H)) for some of B resamples at a time: at each of
        the H hits the recall, and the best precision that is still to come.

        Between hits precision only falls, so nothing is missed; false alarms are counted once for
        all t. NaN where the weighted test set has no object (Lin et al. 2014, arXiv:1405.0312).
        """
        order = np.argsort(-np.asarray(self.scores, dtype=np.float64), kind="stable")
        order = order[~self.ignored[:, order].all(axis=0)]
        owner, hits = self.owner[order], self.hits[:, order] & ~self.ignored[:, order]
        at = [np.flatnonzero(row) for row in hits]
        out = [np.flatnonzero(row) for row in self.ignored[:, order]]
        step = max(1, BLOCK // max(1, len(order)))
        for start in range(0, len(weights), step):
            rows = slice(start, min(start + step, len(weights)))
            drawn = weights[rows][:, owner]
            positives = (weights[rows] @ self.truths)[:, None]
            taken = np.cumsum(drawn, axis=1)
            for t, (places, gone) in enumerate(zip(at, out, strict=True)):
                right, counted = np.cumsum(drawn[:, places], axis=1), taken[:, places]
                if len(gone):
                    before = np.searchsorted(gone, places)
                    lost = np.cumsum(drawn[:, gone], axis=1)
                    counted = counted - np.where(before > 0, lost[:, before - 1], 0.0)
                with np.errstate(divide="ignore", invalid="ignore"):
                    precision = np.where(counted > 0, right / counted, 0.0)
                    recall = right / positives
                best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
                yield rows, t, best, recall

    def average_precision(self, weights: Floats) -> Floats:
        """(T, B) mean over RECALLS of the best precision at that recall or a higher one; NaN where
        the weighted test set has no object."""
        out = np.zeros((len(self.hits), len(weights)))
        for rows, t, best, recall in self.precisions(weights):
            if best.shape[1]:
                levels = np.searchsorted(RECALLS, recall.ravel(), side="right")
                steps = np.diff(levels.reshape(recall.shape), axis=1, prepend=0)
                out[t, rows] = np.einsum("bh,bh->b", best, steps) / len(RECALLS)
        out[:, weights @ self.truths <= 0] = np.nan
        return out

    def recall(self, weights: Floats) -> Floats:
        """(T, B) share of the objects that any detection hits; NaN where there is none."""
        hits = np.stack([
            np.bincount(self.owner, row, len(self.truths)) for row in self.hits & ~self.ignored
        ])  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (hits @ weights.T) / (weights @ self.truths)
        return np.asarray(share)

    def curve(self) -> Floats:
        """(T, 101) best precision at each of RECALLS or a higher one, of the test set itself: what
        a figure draws, and whose mean is the average precision."""
        out = np.zeros((len(self.hits), len(RECALLS)))
        for _, t, best, recall in self.precisions(np.ones((1, len(self.truths)))):
            reached = np.searchsorted(recall[0], RECALLS, side="left")
            out[t] = np.append(best[0], 0.0)[reached]
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
