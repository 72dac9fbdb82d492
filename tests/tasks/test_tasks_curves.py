"""Curves under weights are the curves of really repeated units."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.curves import RankedDetections, mid_ranks, roc_auc, spearman

N = 30
RNG = np.random.default_rng(0)
COUNTS = RNG.multinomial(N, np.full(N, 1 / N), size=25)
WEIGHTS = COUNTS.astype(np.float64)


def naive_ap(scores: NDArray[np.float64], hits: NDArray[np.bool_], truths: int) -> float:
    """COCO's loop: precision's envelope at 101 levels of recall."""
    if truths == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    precision = (right / np.arange(1, len(order) + 1)).tolist()
    for i in range(len(precision) - 1, 0, -1):
        precision[i - 1] = max(precision[i - 1], precision[i])
    at = np.searchsorted(right / truths, np.linspace(0, 1, 101), side="left")
    return float(np.mean([precision[i] if i < len(precision) else 0.0 for i in at]))


def detections() -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.intp],
                          NDArray[np.intp]]:  # fmt: skip
    """Scores with ties, hits, owners and truths of N pictures, some without either."""
    truths = RNG.integers(0, 4, N)
    truths[::7] = 0
    owner = np.sort(RNG.integers(0, N, 120))
    hits = RNG.random(120) < 0.5
    for unit in range(N):  # no more hits than there are objects
        rows = np.flatnonzero(hits & (owner == unit))
        hits[rows[truths[unit] :]] = False
    return np.round(RNG.random(120), 1), hits, owner, truths


def average_precision(
    scores: ArrayLike,
    hits: ArrayLike,
    owner: ArrayLike,
    truths: ArrayLike,
    weights: Floats,
    ignored: ArrayLike = False,
) -> Floats:
    """(B,) at one strictness."""
    right = np.asarray(hits, dtype=bool)[None]
    out = np.broadcast_to(np.asarray(ignored, dtype=bool), right.shape)
    units = np.asarray(owner, dtype=np.intp)
    ranked = RankedDetections(
        np.asarray(scores, float), units, right, out, np.asarray(truths, float)
    )
    return np.asarray(ranked.average_precision(weights)[0])


def test_average_precision_of_weights_is_that_of_repeated_pictures() -> None:
    scores, hits, owner, truths = detections()
    found = average_precision(scores, hits, owner, truths, WEIGHTS)
    for value, counts in zip(found, COUNTS, strict=True):
        rows = np.repeat(np.arange(len(owner)), counts[owner])
        expected = naive_ap(scores[rows], hits[rows], int(counts @ truths))
        assert value == pytest.approx(expected, abs=1e-9)


def test_what_is_ignored_is_as_if_it_had_not_been_said() -> None:
    scores, hits, owner, truths = detections()
    gone = RNG.random(len(owner)) < 0.3
    found = average_precision(scores, hits, owner, truths, WEIGHTS, gone)
    without = average_precision(scores[~gone], hits[~gone], owner[~gone], truths, WEIGHTS)
    assert found == pytest.approx(without, abs=1e-12)


def test_strictnesses_are_judged_as_each_alone() -> None:
    scores, hits, owner, truths = detections()
    both = np.stack([hits, hits & (RNG.random(len(hits)) < 0.5)])
    gone: NDArray[np.bool_] = np.asarray(RNG.random(both.shape) < 0.2)
    ranked = RankedDetections(scores, owner, both, gone, truths.astype(float))
    alone = [
        average_precision(scores, h, owner, truths, WEIGHTS, g)
        for h, g in zip(both, gone, strict=True)
    ]
    assert ranked.average_precision(WEIGHTS) == pytest.approx(np.stack(alone), abs=1e-12)


def test_average_precision_at_its_edges() -> None:
    one, none = np.ones((1, 2)), np.zeros(2)
    truths = np.array([1, 1])
    perfect = average_precision([0.9, 0.8], [True, True], [0, 1], truths, one)
    assert perfect == pytest.approx([1.0])
    assert np.isnan(average_precision([0.9], [False], [0], none, one)).all()
    assert average_precision([], [], [], truths, one) == pytest.approx([0.0])
    half = average_precision([0.9], [True], [0], truths, one)
    assert half == pytest.approx([51 / 101]), "recall up to one half, with both ends"


def test_roc_and_rank_correlation_of_weights_are_those_of_repeated_units() -> None:
    from scipy.stats import rankdata, spearmanr
    from sklearn.metrics import roc_auc_score

    scores, other = np.round(RNG.normal(size=N), 1), np.round(RNG.normal(size=N), 1)
    positive = RNG.random(N) < 0.4
    areas, ranks = roc_auc(scores, positive, WEIGHTS), mid_ranks(scores, WEIGHTS)
    correlations = spearman(scores, other, WEIGHTS)
    for b, counts in enumerate(COUNTS):
        rows = np.repeat(np.arange(N), counts)
        assert areas[b] == pytest.approx(roc_auc_score(positive[rows], scores[rows]))
        assert ranks[b][rows] == pytest.approx(rankdata(scores[rows]))
        expected = spearmanr(scores[rows], other[rows]).statistic
        assert correlations[b] == pytest.approx(expected)
    assert np.isnan(roc_auc(scores, np.ones(N, bool), WEIGHTS)).all()
