"""Labels and class scores: classes that a train split lacks, and floors that stay finite."""

from __future__ import annotations

import torch
from torch import Tensor

LOG_FLOOR = -87.0
"""About the log of the least normal float32. Classes never seen in training get this
log-probability, or the row's own least one where that is lower."""


def relabel(labels: Tensor, present: Tensor, classes: int) -> Tensor:
    """`labels` as positions in `present`, and -1 where a label is not there."""
    where = torch.full((classes,), -1, dtype=torch.int64, device=labels.device)
    where[present] = torch.arange(len(present), device=labels.device)
    return where[labels]


def spread(log_probs: Tensor, present: Tensor, classes: int) -> Tensor:
    """(N, P) log-probabilities of `present` classes -> (N, classes), the others at the floor."""
    if len(present) == classes:
        return log_probs
    floor = log_probs.amin(dim=1, keepdim=True).clamp_max(LOG_FLOOR)
    full = floor.repeat(1, classes)
    full[:, present] = log_probs
    return full
