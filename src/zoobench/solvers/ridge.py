"""Closed-form ridge: every lambda from one eigendecomposition, with its leave-one-out
error (big_vision's few-shot evaluator, the lambda chosen instead of fixed).

Minimise (1/n) sum ||y_i - W x_i - b||^2 + lambda * s * ||W||^2 over W (C, D) and an
unpenalised b, y numbers or one-hot; s as in PROTOCOL section 2, so lambda has no unit.

With the centred, scaled rows z in the eigenbasis of Z^T Z / n = diag(e), coordinate j of W is
(Z^T Y / n)_j / (e_j + lambda), and example i's own weight in its fit is
h_i = 1/n + sum_j z_ij^2 / (n (e_j + lambda)). Its residual when left out is r_i / (1 - h_i).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoobench.solvers.basis import LinearHead, blocks, eigenbasis, scaling

GROUP_COLUMNS = 2048
"""As many lambdas share one matrix product as make about this many columns of scores."""

SMALL = 2**28
"""Up to this N x D x C x L all of it is float64; above, decompositions, leverages and
coefficients are, and the products with the features float32."""


@dataclass(frozen=True)
class RidgePath:
    """Leave-one-out mean squared error (L,) float64 of each lambda; `best` is its argmin.

    `loo_accuracy` (L,) is the share whose largest target has the largest score: of one-hot
    targets the accuracy, of a single number nothing.
    `loo_scores` (N, C) float32 are the scores of each train example from the fit without
    it, at the best lambda.
    """

    lambdas: tuple[float, ...]
    loo_error: Tensor
    loo_accuracy: Tensor
    best: int
    head: LinearHead
    loo_scores: Tensor


def ridge_path(features: Tensor, targets: Tensor, lambdas: Sequence[float]) -> RidgePath:
    """All of `lambdas` on `features` (N, D) and `targets` (N, C): numbers, or one-hot labels.

    The best has the least leave-one-out squared error, the stronger one at a tie. N >= 2.
    Work beyond the features: their rotated copy, and blocks of WORKSPACE_BYTES.
    """
    n = len(features)
    small = features.numel() * targets.shape[1] * len(lambdas) <= SMALL
    work = torch.float64 if small else torch.float32
    scaled = scaling(features)
    centred = scaled.apply(features, work)
    basis = eigenbasis(centred, torch.float64)
    rotated = centred @ basis.basis.to(work)
    del centred
    targets = targets.to(work)
    mean = targets.double().mean(dim=0)
    cross = rotated.t() @ (targets - mean.to(work)) / n
    strengths = torch.tensor(lambdas, dtype=torch.float64, device=features.device)
    shrunk = 1.0 / (basis.eigenvalues[:, None] + strengths)  # (r, L)

    error, accuracy = _leave_one_out(rotated, targets, mean, cross, shrunk)
    best = int(error.argmin())
    weight = cross.double() * shrunk[:, best : best + 1]
    leverage = _leverage(rotated, shrunk[:, best : best + 1])
    fitted = (rotated @ weight.to(work)).double() + mean
    left_out = targets - (targets - fitted) / (1.0 - leverage)
    head = LinearHead(scaled, (basis.basis @ weight).t().float(), mean.float())
    return RidgePath(tuple(lambdas), error, accuracy, best, head, left_out.float())


def _leverage(rotated: Tensor, shrunk: Tensor) -> Tensor:
    """(N, L) float64: the weight of each example in its own fitted value, below 1."""
    n = len(rotated)
    out = torch.empty(n, shrunk.shape[1], dtype=torch.float64, device=rotated.device)
    for part in blocks(n, 8 * rotated.shape[1], rotated.device):
        out[part] = rotated[part].double().square() @ shrunk / n + 1.0 / n
    return out.clamp_max_(1.0 - 1e-9)


def _leave_one_out(
    rotated: Tensor, targets: Tensor, mean: Tensor, cross: Tensor, shrunk: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean squared error and accuracy (L,) float64, over examples left out one at a time."""
    n, classes = targets.shape
    labels = targets.argmax(dim=1)
    count = shrunk.shape[1]
    leverage = _leverage(rotated, shrunk)
    error = torch.zeros(count, dtype=torch.float64, device=rotated.device)
    hits = torch.zeros_like(error)
    group = max(1, GROUP_COLUMNS // classes)
    for first in range(0, count, group):
        chosen = range(count)[first : first + group]
        stacked = torch.cat([cross * shrunk[:, i : i + 1].to(cross.dtype) for i in chosen], dim=1)
        at = slice(chosen.start, chosen.stop)
        for part in blocks(n, 16 * stacked.shape[1], rotated.device):
            truth = targets[part][:, None, :]
            fitted = (rotated[part] @ stacked).view(-1, len(chosen), classes) + mean.to(cross.dtype)
            keep = (1.0 / (1.0 - leverage[part, at])).to(cross.dtype)[:, :, None]
            residual = (truth - fitted).mul_(keep)
            error[at] += residual.square().sum(dim=(0, 2), dtype=torch.float64) / (n * classes)
            right = (truth - residual).argmax(dim=2) == labels[part][:, None]
            hits[at] += right.double().sum(dim=0) / n
    return error, hits
