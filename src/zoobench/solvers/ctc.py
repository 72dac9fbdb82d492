"""Connectionist temporal classification (Graves et al. 2006): labels of frames, not aligned.

A path gives each of F frames one of C classes, of which BLANK says nothing; what it says is its
labels without repeats, and then without blanks. The loss of some labels is -log of the probability
of all paths that say them. B sequences, S labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoobench.machine import sent

if TYPE_CHECKING:
    import torch

BLANK = 0


def collapsed(path: Sequence[int], blank: int = BLANK) -> list[int]:
    """What a path says: "aa-ab-" says "aab"."""
    return [label for label, _ in groupby(path) if label != blank]


def greedy(logits: torch.Tensor, frames: Sequence[int]) -> list[list[int]]:
    """What the likeliest path of each of (B, F, C) says, of which so many frames are its own."""
    best = logits.argmax(dim=2).tolist()
    return [collapsed(path[:many]) for path, many in zip(best, frames, strict=True)]


def least_frames(labels: Sequence[int]) -> int:
    """The frames that some labels need: one each, and a blank between equal ones."""
    return len(labels) + sum(one == other for one, other in pairwise(labels))


def feasible(frames: NDArray[np.int64], labels: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """(B,) whether there is a path at all that says the labels in so many frames."""
    return np.asarray(frames) >= np.asarray([least_frames(one) for one in labels], dtype=np.int64)


def losses(
    logits: torch.Tensor, frames: Sequence[int], labels: Sequence[Sequence[int]]
) -> torch.Tensor:
    """(B,) of (B, F, C), in nats, infinite where no path says the labels. Labels are above 0."""
    return _losses(logits.float().log_softmax(dim=2).transpose(0, 1), frames, labels)


def packed_losses(
    logits: torch.Tensor, frames: Sequence[int], labels: Sequence[Sequence[int]]
) -> torch.Tensor:
    """(B, H) of (R, H, C), which H layers say of the frames of B sequences, one sequence after the
    other; R is the sum of `frames`. All are one call, and nothing is computed of padding."""
    import torch

    heads, device = logits.shape[1], logits.device
    of = torch.repeat_interleave(torch.arange(len(frames)), torch.tensor(frames))
    at = torch.cat([torch.arange(many) for many in frames])
    of, at = sent(of, device), sent(at, device)
    # pad_sequence copies all of its gradient once for each sequence.
    padded = logits.new_zeros(max(frames), len(frames), *logits.shape[1:], dtype=torch.float32)
    padded = padded.index_put((at, of), logits.float().log_softmax(dim=2))  # (F, B, H, C)
    each = [many for many in frames for _ in range(heads)]
    said = [one for one in labels for _ in range(heads)]
    return _losses(padded.flatten(1, 2), each, said).view(len(frames), heads)


def _losses(
    log_probs: torch.Tensor, frames: Sequence[int], labels: Sequence[Sequence[int]]
) -> torch.Tensor:
    """(B,) of (F, B, C)."""
    import torch

    device, many = log_probs.device, [len(one) for one in labels]
    said = [label for one in labels for label in one]
    found: torch.Tensor = torch.nn.functional.ctc_loss(
        log_probs,
        sent(torch.tensor(said, dtype=torch.int64), device),
        torch.as_tensor(frames, dtype=torch.int64),
        torch.tensor(many, dtype=torch.int64),
        blank=BLANK,
        reduction="none",
    )
    return found
