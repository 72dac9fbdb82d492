"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_RANGE = math.log(1e4)
"""The temperature is sought within [1e-4, 1e4]."""


def temperature(scores: Tensor, labels: Tensor, steps: int = 200) -> float:
    """The T that minimises the NLL of softmax(scores / T) on `labels` (N,); float64.

    `scores` (N, C) are logits or log-probabilities. The NLL is convex in 1/T, so a
    safeguarded Newton iteration on 1/T ends at the optimum. Where there is none it ends with
    an NLL of 0 (every example right) or at T = 1e4 (worse than uniform).
    """
    logits = scores.double()
    logits = logits - logits.amax(dim=1, keepdim=True)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    low, high = math.exp(-LOG_RANGE), math.exp(LOG_RANGE)
    inverse = 1.0
    for _ in range(steps):
        probs = torch.softmax(logits * inverse, dim=1)
        expected = (probs * logits).sum(dim=1)
        slope = float((expected - own).mean())
        curvature = float(((probs * logits.square()).sum(dim=1) - expected.square()).mean())
        if slope > 0.0:
            high = inverse
        else:
            low = inverse
        newton = inverse - slope / curvature if curvature > 0.0 else math.inf
        middle = math.sqrt(low * high)
        following = newton if low < newton < high else middle
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
    return 1.0 / inverse
