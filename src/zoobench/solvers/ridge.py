"""Closed-form ridge classification: every lambda from one eigendecomposition, with its
leave-one-out error (big_vision's few-shot evaluator, the lambda chosen instead of fixed).

Minimise (1/n) sum ||y_i - W x_i - b||^2 + lambda * s * ||W||^2 over W (C, D) and an
unpenalised b, y one-hot; s as in PROTOCOL section 2, so lambda has no unit.

With the centred, scaled rows z in the eigenbasis of Z^T Z / n = diag(e), coordinate j of W is
(Z^T Y / n)_j / (e_j + lambda), and example i's own weight in its fit is
h_i = 1/n + sum_j z_ij^2 / (n (e_j + lambda)). Its residual when left out is r_i / (1 - h_i).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoobench.solvers.basis import (
    WORKSPACE_BYTES,
    Scaling,
    block_rows,
    blocks,
    eigenbasis,
    scaling,
)


@dataclass(frozen=True)
class RidgeHead:
    """Scores (N, C) = Z W^T + b of one lambda; W (C, D) in the scaled coordinates."""

    scaling: Scaling
    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, C) float32; near 1 for the class, near 0 elsewhere."""
        out = [
            self.scaling.apply(features[part]) @ self.weight.t() + self.bias
            for part in blocks(len(features), 12 * features.shape[1])
        ]
        return torch.cat(out) if out else features.new_zeros(0, len(self.bias))


@dataclass(frozen=True)
class RidgePath:
    """Leave-one-out mean squared error (L,) float64 of each lambda; `best` is its argmin.

    `loo_scores` (N, C) float32 are the scores of each train example from the fit without
    it, at the best lambda.
    """

    lambdas: tuple[float, ...]
    loo_error: Tensor
    loo_accuracy: Tensor
    best: int
    head: RidgeHead
    loo_scores: Tensor


def ridge_path(
    features: Tensor, labels: Tensor, classes: int, lambdas: Sequence[float]
) -> RidgePath:
    """All of `lambdas` on `features` (N, D), `labels` (N,) int64 in [0, classes).

    The best has the least leave-one-out squared error, the stronger one at a tie. N >= 2.
    Work beyond the features: their rotated copy, and blocks of WORKSPACE_BYTES.
    """
    n = len(features)
    scaled = scaling(features)
    centred = scaled.apply(features)
    basis = eigenbasis(centred, torch.float64)
    rotated = centred @ basis.basis.float()
    del centred
    targets = torch.nn.functional.one_hot(labels, classes).float()
    mean = targets.double().mean(dim=0)
    cross = rotated.t() @ (targets - mean.float()) / n
    strengths = torch.tensor(lambdas, dtype=torch.float64, device=features.device)
    shrunk = 1.0 / (basis.eigenvalues[:, None] + strengths)  # (r, L)

    error, accuracy = _leave_one_out(rotated, labels, targets, mean, cross, shrunk)
    best = int(error.argmin())
    weight = cross.double() * shrunk[:, best : best + 1]
    leverage = _leverage(rotated, shrunk[:, best : best + 1])
    fitted = (rotated @ weight.float()).double() + mean
    left_out = targets - (targets - fitted) / (1.0 - leverage)
    head = RidgeHead(scaled, (basis.basis @ weight).t().float(), mean.float())
    return RidgePath(tuple(lambdas), error, accuracy, best, head, left_out.float())


def _leverage(rotated: Tensor, shrunk: Tensor) -> Tensor:
    """(N, L) float64: the weight of each example in its own fitted value, below 1."""
    n = len(rotated)
    out = torch.empty(n, shrunk.shape[1], dtype=torch.float64, device=rotated.device)
    for part in blocks(n, 8 * rotated.shape[1]):
        out[part] = rotated[part].double().square() @ shrunk / n + 1.0 / n
    return out.clamp_max_(1.0 - 1e-9)


def _leave_one_out(
    rotated: Tensor, labels: Tensor, targets: Tensor, mean: Tensor, cross: Tensor, shrunk: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean squared error and accuracy (L,) float64, over examples left out one at a time."""
    n, classes = targets.shape
    count = shrunk.shape[1]
    leverage = _leverage(rotated, shrunk)
    error = torch.zeros(count, dtype=torch.float64, device=rotated.device)
    hits = torch.zeros_like(error)
    # All lambdas of a few in one product; a group's (N, group * C) scores stay in bounds.
    group = max(1, block_rows(12 * classes * n, WORKSPACE_BYTES))
    for first in range(0, count, group):
        chosen = slice(first, min(first + group, count))
        stacked = torch.cat([cross * shrunk[:, i : i + 1].float() for i in range(count)[chosen]], 1)
        fitted = (rotated @ stacked).view(n, -1, classes) + mean.float()
        keep = (1.0 / (1.0 - leverage[:, chosen])).float()[:, :, None]
        residual = (targets[:, None, :] - fitted) * keep
        error[chosen] = residual.square().sum(dim=(0, 2), dtype=torch.float64) / (n * classes)
        left_out = targets[:, None, :] - residual
        hits[chosen] = (left_out.argmax(dim=2) == labels[:, None]).double().mean(dim=0)
    return error, hits


def ridge_draws(
    features: Tensor, labels: Tensor, draws: Tensor, classes: int, lambdas: Sequence[float]
) -> list[RidgePath]:
    """A path for every few-shot draw: `draws` (R, n) int64 holds rows of `features`."""
    return [ridge_path(features[rows], labels[rows], classes, lambdas) for rows in draws]
