"""Which of several models may be the best: P(rank 1), and whom nobody can tell from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoobench.statistics.bootstrap import Floats, error_against

EQUAL = 0.1
"""Prior probability that the contenders are all alike. For models seen on unequal parts of the
data (the advisor's) anything up to this has the same Brier and log scores of P(rank 1) in drawn
worlds, and more makes it too shy; for rankings 0.3 would be better by 0.002 of a Brier score and
be off by 0.09 at most where this is by 0.12, with three models (docs/report.md)."""
TWINS = 1e-12
"""A variance is at least this share of the largest, where two models are right on the same
examples."""
SAME = 1e-9
"""Scores are equal within this share of the largest: so much is lost to rounding."""
UNSEEN = 0.5
"""Units that a model alone is right on, and as many that it alone is wrong on, which a test set of
any size leaves open: Jeffreys' prior of a pair's discordant units. Without it two models that are
right on the same ten pictures would be taken for equally good on all others."""
SPREADS = 64
"""Steps of the distribution of the true scores' spread."""


def unseen(units: int) -> float:
    """Variance of each model's share of right answers on `units` test units for the sake of the
    disagreements that they happen not to hold; a difference of two has twice that."""
    return UNSEEN / max(units, 1) ** 2


def contenders(value: Floats, draws: Floats) -> NDArray[np.bool_]:
    """(M,) the models within reach of the top: four standard errors of the difference."""
    best = int(np.argmax(value))
    reach = 4 * np.maximum(error_against(draws, best), 1e-12)
    return np.asarray(value[best] - value <= reach)


def even_shares(count: int) -> Floats:
    """(count,) shares in [0, 1) to take quantiles at, one a draw: the golden ratio's multiples
    are even in every stretch of the draws, where random ones would need luck."""
    return np.asarray(np.modf((np.arange(count) + 1) * 0.6180339887498949)[0])


def probability_first(value: Floats, draws: Floats) -> Floats:
    """(M,) probability of being the true best, summing to 1; exact ties share."""
    return first_of(posterior(value, draws))


def first_of(scores: Floats) -> Floats:
    """(M,) how often each model is the first of the plausible scores (B, M); ties share."""
    first = scores >= scores.max(axis=1, keepdims=True) - SAME * np.abs(scores).max(initial=0.0)
    return np.asarray((first / first.sum(axis=1, keepdims=True)).mean(axis=0))


def posterior(value: Floats, draws: Floats) -> Floats:
    """(B, M) plausible true scores from `value` (M,) and its bootstrap `draws` (B, M).

    The contenders' are normal about a common mean; what else is known of their spread is a
    distribution (`_spreads`), and each draw has a spread of its own.
    """
    near = np.flatnonzero(contenders(value, draws))
    scores = np.asarray(value + draws - draws.mean(axis=0))
    if len(near) < 2:
        return scores
    own, noise = value[near], np.cov(draws[:, near], rowvar=False)
    # A metric's unit must not matter to what is taken for equal below.
    scale = float(max(np.ptp(own), np.sqrt(np.diag(noise).max()))) or 1.0
    own, noise = own / scale, noise / scale**2
    spreads, weights = _spreads(own, noise)
    taken = np.searchsorted(np.cumsum(weights)[:-1], even_shares(len(draws)))
    normal = np.random.default_rng(len(value)).standard_normal((len(draws), len(near)))
    for number in np.unique(taken):
        mean, cov = _given(spreads[number], own, noise)
        values, vectors = np.linalg.eigh(cov)
        # Without spread all are equal: rounding must not part them.
        root = vectors * np.sqrt(np.where(values > 1e-9 * values.max(), values, 0.0))
        rows = np.flatnonzero(taken == number)
        scores[np.ix_(rows, near)] = scale * (mean + normal[rows] @ root.T)
    return scores


def _given(spread: float, value: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """Mean (M,) and covariance (M, M) of true scores with variance `spread` about an unknown
    mean (Morris 1983): each is drawn to it by its share of noise."""
    inverse = np.linalg.inv(max(spread, TWINS) * np.eye(len(value)) + noise)
    sure = float(inverse.sum())
    centre = float((inverse @ value).sum()) / sure
    drawn = np.eye(len(value)) - spread * inverse
    mean = value - drawn @ (value - centre)
    shared = drawn.sum(axis=1)  # how far each follows the mean, which is not known exactly
    return mean, spread * drawn + np.outer(shared, shared) / sure


def _spreads(value: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """Plausible variances of true scores, and their weights, from `value` (M,) and the
    covariance of its noise (M, M).

    The prior is of the kind of Daniels (1999), for scores known unequally well: none with
    probability EQUAL, else such that spread / (spread + noise) is uniform, where noise is the
    harmonic mean over models (Christiansen and Morris 1997). The likelihood is
    that of the distances to the mean (REML), each with its own noise as if the others' had
    nothing to do with it: two models that are right on the same examples are near-copies, no
    proof that all models are alike.
    """
    count = len(value)
    centring = np.eye(count) - 1 / count
    apart = np.maximum(np.diag(centring @ noise @ centring) * count / (count - 1), TWINS)
    share = (np.arange(SPREADS) + 0.5) / SPREADS
    spreads = np.concatenate([[0.0], share / (1 - share) / np.mean(1 / apart)])
    sure = 1 / (spreads[:, None] + apart)
    total = sure.sum(axis=1)
    rest = value - ((sure @ value) / total)[:, None]
    log = 0.5 * (np.log(sure).sum(axis=1) - np.log(total) - (sure * rest**2).sum(axis=1))
    prior = np.concatenate([[EQUAL], np.full(SPREADS, (1 - EQUAL) / SPREADS)])
    weights = prior * np.exp(log - log.max())
    return spreads, weights / weights.sum()
