"""How alike two sets of features are: Frechet distance and maximum mean discrepancy.

X is (N, D) and Y (M, D); everything is computed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frechet(x: Tensor, y: Tensor) -> float:
    """Squared Frechet distance of the Gaussians with the means and covariances of X and Y.

    |m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)) (Dowson and Landau 1982; as FID, Heusel
    et al. 2017). The trace of the root is the sum of the singular values of A B^T, where
    S_x = A^T A and S_y = B^T B: exact however few examples there are. Needs 2 or more of
    each. In the features' own squared unit; larger in small samples than in the limit.
    """
    a, mean_x = _factor(x)
    b, mean_y = _factor(y)
    root = torch.linalg.svdvals(a @ b.t()).sum()
    between = (mean_x - mean_y).square().sum()
    value = between + a.square().sum() + b.square().sum() - 2 * root
    return max(0.0, float(value))


def _factor(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(A, mean) with A^T A the covariance (N - 1 in its denominator); A has min(N, D) rows."""
    features = rows.double()
    mean = features.mean(dim=0)
    centred = (features - mean) / (len(features) - 1) ** 0.5
    if len(centred) > centred.shape[1]:
        centred = torch.linalg.qr(centred, mode="r").R
    return centred, mean


def mmd(x: Tensor, y: Tensor, bandwidth: float, permutations: int = 0) -> tuple[float, float]:
    """(squared MMD, p): Gretton et al. 2012 (JMLR 13, 723-773), unbiased, kernel exp(-d^2 / 2s^2).

    About 0, below as well, for two samples of one distribution. p is the share of
    `permutations` of the pooled rows that give at least as much (1 with none asked).
    Deterministic. Memory: a float64 (N + M)^2 matrix.
    """
    both = torch.cat([x, y]).double()
    n, total = len(x), len(x) + len(y)
    squared = torch.cdist(both, both).square()
    kernel = torch.exp(-squared / (2 * bandwidth**2)).fill_diagonal_(0.0)
    generator = torch.Generator().manual_seed(0)
    orders = [torch.arange(total)]
    orders += [torch.randperm(total, generator=generator) for _ in range(permutations)]
    first = torch.zeros(total, len(orders), dtype=torch.float64, device=kernel.device)
    for column, order in enumerate(orders):
        first[order[:n].to(kernel.device), column] = 1.0
    second = 1.0 - first
    own = ((kernel @ first) * first).sum(dim=0) / (n * (n - 1))
    other_own = ((kernel @ second) * second).sum(dim=0) / ((total - n) * (total - n - 1))
    cross = ((kernel @ first) * second).sum(dim=0) / (n * (total - n))
    values = own + other_own - 2 * cross
    reached = int((values[1:] >= values[0]).sum())
    return float(values[0]), (reached + 1) / (permutations + 1)
