"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import math

from torch import Tensor

from zoobench.solvers.basis import blocks

LOG_RANGE = math.log(1e4)
"""The temperature is sought within [1e-4, 1e4]."""


def temperature(scores: Tensor, labels: Tensor, steps: int = 200) -> float:
    """The T that minimises the NLL of softmax(scores / T) on `labels` (N,); float64.

    `scores` (N, C) are logits or log-probabilities. The NLL is convex in 1/T, so a
    safeguarded Newton iteration on 1/T ends at the optimum. Where there is none it ends with
    an NLL of 0 (every example right) or at T = 1e4 (worse than uniform).
    """
    parts = []
    for rows in blocks(len(labels), 4 * 8 * scores.shape[1], scores.device):
        logits = scores[rows].double()
        logits = logits - logits.amax(dim=1, keepdim=True)
        parts.append((logits, logits.gather(1, labels[rows, None]).squeeze(1)))
    low, high = math.exp(-LOG_RANGE), math.exp(LOG_RANGE)
    inverse = 1.0
    for _ in range(steps):
        slope, curvature = _derivatives(parts, inverse)
        if slope > 0.0:
            high = inverse
        else:
            low = inverse
        newton = inverse - slope / curvature if curvature > 0.0 else math.inf
        if abs(newton - inverse) <= 1e-9 * inverse:
            # Below this, rounding decides on which side the optimum is, and a bracket that
            # missed it would send the next step away.
            break
        middle = math.sqrt(low * high)
        following = newton if low < newton < high else middle
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
    return 1.0 / inverse


def _derivatives(parts: list[tuple[Tensor, Tensor]], inverse: float) -> tuple[float, float]:
    """First and second derivative of the mean NLL in 1/T at `inverse`, one block at a time:
    whole-array temporaries cost more than the exponentials."""
    slope = curvature = 0.0
    for logits, own in parts:
        weights = (logits * inverse).exp_()
        total = weights.sum(dim=1)
        expected = weights.mul_(logits).sum(dim=1) / total
        square = weights.mul_(logits).sum(dim=1) / total
        slope += float((expected - own).sum())
        curvature += float((square - expected.square()).sum())
    n = sum(len(own) for _, own in parts)
    return slope / n, curvature / n
