"""Which of several models may be the best: P(rank 1), and whom nobody can tell from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoobench.statistics.bootstrap import Floats, error_against

EQUAL = 0.3
"""Prior probability that the contenders are all alike. Of the weights tried, the one whose
worst error of P(rank 1) is the least over worlds of 2 to 8 models (docs/report.md)."""


def contenders(value: Floats, draws: Floats) -> NDArray[np.bool_]:
    """(M,) the models within reach of the top: four standard errors of the difference."""
    best = int(np.argmax(value))
    reach = 4 * np.maximum(error_against(draws, best), 1e-12)
    return np.asarray(value[best] - value <= reach)


def shrinkage(value: Floats, draws: Floats) -> Floats:
    """(B,) plausible shares K in [0, 1] of the spread between M contenders that is no noise.

    True scores are taken as normal about a common mean; K = tau^2 / (tau^2 + noise) is 0
    with probability EQUAL and else uniform (Daniels 1999, Canadian Journal of Statistics
    27). Scores with sum of squares S about their mean have the likelihood
    (1 - K)^((M - 1) / 2) exp(-(1 - K) S / (2 noise)). A whole distribution and no
    estimate: from the spread of three models no K can be estimated.
    """
    from scipy.special import expit

    count = len(value)
    apart = draws - draws.mean(axis=1, keepdims=True)
    noise = float(apart.var(axis=0, ddof=1).sum()) / max(count - 1, 1)
    if noise <= 0:
        return np.ones(len(draws))
    rate = float(((value - value.mean()) ** 2).sum()) / (2 * noise)
    rest = (np.arange(2048) + 0.5) / 2048  # 1 - K
    log = (count - 1) / 2 * np.log(rest) - rate * rest
    weight = np.exp(log - log.max())
    evidence = float(np.log(weight.mean()) + log.max())
    equal = float(expit(np.log(EQUAL / (1 - EQUAL)) - rate - evidence))
    at = even_shares(len(draws))
    inside = np.interp((at - equal) / (1 - equal), np.cumsum(weight) / weight.sum(), rest)
    return np.where(at < equal, 0.0, 1 - inside)


def even_shares(count: int) -> Floats:
    """(count,) shares in [0, 1) to take quantiles at, one a draw: the golden ratio's multiples
    are even in every stretch of the draws, where random ones would need luck."""
    return np.asarray(np.modf((np.arange(count) + 1) * 0.6180339887498949)[0])


def posterior(value: Floats, draws: Floats) -> Floats:
    """(B, M) plausible true scores: contenders shrunk to their mean by K, noise by sqrt(K).

    A plain bootstrap is centred on what was observed, and the observed best was
    partly lucky; `shrinkage` says by how much, with a K of its own for each draw. Models
    out of reach keep their distance.
    """
    near = contenders(value, draws)
    plausible = draws.copy()
    plausible[:, near] = _shrunk(value[near], draws[:, near])
    return plausible


def _shrunk(value: Floats, draws: Floats) -> Floats:
    """(B, M) plausible true scores of M contenders."""
    if len(value) < 2:
        return draws
    k = shrinkage(value, draws)[:, None]
    centre = value.mean()
    return np.asarray(centre + k * (value - centre) + np.sqrt(k) * (draws - value))


def probability_first(value: Floats, draws: Floats) -> Floats:
    """(M,) probability of being the true best, summing to 1; exact ties share."""
    near = contenders(value, draws)
    shrunk = _shrunk(value[near], draws[:, near])
    # Of a thousand models a few are ever first; the others need no look at each draw.
    able = near | (draws.max(axis=0) >= shrunk.max(axis=1).min() - 1e-9)
    plausible = draws[:, able]
    plausible[:, near[able]] = shrunk
    tops = np.round(plausible, 9)
    first = tops == tops.max(axis=1, keepdims=True)
    chance = np.zeros(len(value))
    chance[able] = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    return chance
