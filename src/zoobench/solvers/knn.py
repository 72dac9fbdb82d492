"""Cosine k-nearest-neighbour vote (Wu et al. 2018, arXiv:1805.01978; PROTOCOL section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoobench.solvers.basis import blocks

TIE_DECIMALS = 2.0**22
"""Similarities are compared in steps of 2^-22: finer differences are float32 rounding."""


def normalised(features: Tensor) -> Tensor:
    """Rows of length 1, float32; a zero row stays zero (similarity 0 to everything)."""
    rows = features.float()
    # First by the largest entry, so that squares of huge or tiny features stay in range.
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    length = rows.double().square().sum(dim=1, keepdim=True).sqrt()
    return (rows / length.clamp_min(1e-30)).float()


def knn_log_probs(
    train: Tensor,
    labels: Tensor,
    queries: Tensor,
    classes: int,
    ks: Sequence[int],
    temperature: float = 0.07,
) -> Tensor:
    """Log-probabilities (len(ks), M, C) float32 of `queries` (M, D), for every k at once.

    `train` (N, D), `labels` (N,) int64 in [0, classes), or (N, C) shares of classes. Each of the k
    most similar train rows votes exp(s / temperature) for its class or classes; a k above N
    means N. With v the votes'
    shares, p = (k v + 1/C) / (k + 1): one more neighbour of no class, so that a class
    without votes has a finite log-probability. It changes no order of classes.

    The products are float32, in blocks. Neighbours are ordered by similarity, rounded to
    2^-22, and then by train row: rows that are equal are taken in the same order everywhere.
    """
    n = len(train)
    depth = min(max(ks), n)
    bank, asked = normalised(train), normalised(queries)
    out = torch.empty(len(ks), len(queries), classes, device=queries.device)
    for part in blocks(len(queries), 16 * n + 8 * classes, train.device):
        similarity, rows = _nearest(asked[part], bank, depth)
        weight = ((similarity - similarity[:, :1]) / temperature).exp_()  # the best votes 1
        voters = labels[rows]
        for i, k in enumerate(ks):
            used = min(k, n)
            if labels.ndim == 2:
                votes = torch.einsum("mk,mkc->mc", weight[:, :used], voters[:, :used].double())
            else:
                votes = torch.zeros(len(rows), classes, dtype=torch.float64, device=rows.device)
                votes.scatter_add_(1, voters[:, :used], weight[:, :used])
            share = votes / votes.sum(dim=1, keepdim=True)
            out[i, part] = ((used * share + 1.0 / classes) / (used + 1.0)).log().float()
    return out


def _nearest(queries: Tensor, bank: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """(M, depth) similarities float64, descending, and train rows; ties to the lower row."""
    n = len(bank)
    steps = (queries @ bank.t()).double().mul_(TIE_DECIMALS).round_()
    # One exact integer key a pair: similarity first, then the lower row. Below 2^53.
    key = steps.mul_(n).sub_(torch.arange(n, dtype=torch.float64, device=bank.device))
    best = key.topk(depth, dim=1).values
    quantised = torch.ceil(best / n)
    rows = (quantised * n - best).long()
    return quantised / TIE_DECIMALS, rows
