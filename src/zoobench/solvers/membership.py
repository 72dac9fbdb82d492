"""Scores of membership inference: the higher, the likelier an example was trained on.

N examples, K reference models, each trained on a part of the examples: `parts` (K, N) bool. All
is float64. Both scores are of examples with their true classes, and of the one model under attack.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST = 50.0
"""Log odds beyond it are those of certainty: a class that was never seen has none at all."""
RATIO = 2.0
"""RMIA's gamma: by how much an example's likelihood ratio must exceed another's."""


def lira(target: Tensor, margins: Tensor, parts: Tensor) -> Tensor:
    """(N,) the online likelihood ratio attack (Carlini et al. 2022, arXiv:2112.03570).

    `target` (N,) are the log odds of the true class under the model, `margins` (K, N) those under
    its shadows. Of each example they are taken as normal, with one mean over the shadows that have
    seen it and one over the others; the two variances are of all examples together, which the paper
    advises where an example has few shadows. The score is the log of the ratio of the densities.
    Every example must be in two parts and out of two.
    """
    seen = parts.double()
    logs = []
    for share in (seen, 1.0 - seen):
        count = share.sum(dim=0)
        bounded = margins.clamp(-LARGEST, LARGEST)
        mean = (share * bounded).sum(dim=0) / count
        squares = (share * (bounded - mean).square()).sum(dim=0) / (count - 1.0)
        variance = squares.mean().clamp_min(1e-12)
        distance = (target.clamp(-LARGEST, LARGEST) - mean).square()
        logs.append(-0.5 * distance / variance - 0.5 * variance.log())
    return logs[0] - logs[1]


def rmia(target: Tensor, references: Tensor, others: Tensor) -> Tensor:
    """(M,) the robust attack (Zarifzadeh et al. 2024, arXiv:2312.03262), with few references.

    `target` (N,) are log-probabilities of the true class under the model, `references` (K, N) those
    under K references of which some have seen the example and some have not. The ratio of an
    example is its probability under the model over the mean of those under the references. The
    score of each of the M examples that are not `others` (N,) bool is the share of the others whose
    ratio its own exceeds RATIO times.
    """
    mean = references.logsumexp(dim=0) - math.log(len(references))
    ratio = target - mean
    population = ratio[others].sort().values
    below = torch.searchsorted(population, ratio[~others] - math.log(RATIO), right=True)
    return below.double() / len(population)
