"""Scores that guess a model's transfer from one pass over the train set (PROTOCOL section 6).

Higher means a better guess at transfer, for each of them. They rank models; none is an
accuracy. All are computed in float64 from `features` (N, D) or `source_probs` (N, S), with
`labels` (N,) int64 in [0, C), and return a float. Classes without an example take no part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zoobench.solvers.basis import blocks, eigenbasis
from zoobench.solvers.classes import present_classes, relabel

TINY = 1e-30


@dataclass(frozen=True)
class Spectrum:
    """One eigendecomposition that LogME, the H-score and TransRate share.

    `values` (r,) are the squared singular values of the rows F (N, D), descending; with
    F = U S V^T, `targets` (r, C) is U^T Y for one-hot Y. `energy` (C,) is ||y||^2.
    """

    n: int
    dims: int
    values: Tensor
    targets: Tensor
    energy: Tensor


def _hot(labels: Tensor) -> Tensor:
    classes = int(labels.max()) + 1
    present = present_classes(labels, classes)
    return torch.nn.functional.one_hot(relabel(labels, present, classes), len(present)).double()


def spectrum(features: Tensor, labels: Tensor, centre: bool) -> Spectrum:
    """The spectrum of the features, minus their mean where `centre`. Exact in any units."""
    n, dims = features.shape
    rows = features.double()
    if centre:
        rows = rows - rows.mean(dim=0)
    largest = float(rows.abs().max())
    unit = largest if largest > 0.0 else 1.0
    rows = rows / unit  # so that squares of huge or tiny features stay in range
    basis = eigenbasis(rows, torch.float64)
    values = basis.eigenvalues * n
    hot = _hot(labels)
    cross = torch.zeros(len(values), hot.shape[1], dtype=torch.float64, device=rows.device)
    for part in blocks(n, 8 * dims, rows.device):
        cross += (rows[part] @ basis.basis).t() @ hot[part]
    # Directions without features: eigenvalue rounding, and no targets to explain.
    alive = values > values[0] * n * 1e-15
    root = torch.where(alive, values, torch.ones_like(values)).sqrt()
    targets = torch.where(alive[:, None], cross / root[:, None], 0.0)
    values = torch.where(alive, values, torch.zeros_like(values)) * unit**2
    return Spectrum(n, dims, values, targets, hot.sum(dim=0))


def logme(features: Tensor, labels: Tensor, limit: int = 500) -> float:
    """Log maximum evidence a sample and class (You et al. 2021, arXiv:2102.11005).

    Each one-vs-rest target y is N(F w, 1/beta) with w ~ N(0, 1/alpha); alpha and beta
    maximise the evidence by the paper's fixed point (algorithm 3, all classes at once).
    Features are taken as they are, neither centred nor scaled.
    """
    s = spectrum(features, labels, centre=False)
    n, d = s.n, s.dims
    explained = s.targets.square()  # (r, C)
    outside = (s.energy - explained.sum(dim=0)).clamp_min(0.0)  # no feature reaches it
    values = s.values[:, None]
    alpha = torch.ones_like(s.energy)
    beta = torch.ones_like(s.energy)
    for _ in range(limit):
        ratio = alpha / beta
        gamma = (values / (values + ratio)).sum(dim=0)
        weight = (values * explained / (values + ratio).square()).sum(dim=0)
        residual = (ratio.square() * explained / (values + ratio).square()).sum(dim=0) + outside
        alpha = gamma / weight.clamp_min(TINY)
        beta = (n - gamma).clamp_min(TINY) / residual.clamp_min(TINY)
        moved = (alpha / beta / ratio - 1.0).abs().max()
        if float(moved) < 1e-10:
            break
    ratio = alpha / beta
    weight = (values * explained / (values + ratio).square()).sum(dim=0)
    residual = (ratio.square() * explained / (values + ratio).square()).sum(dim=0) + outside
    log_det = torch.log(alpha + beta * values).sum(dim=0) + (d - len(s.values)) * torch.log(alpha)
    evidence = 0.5 * (
        n * torch.log(beta)
        + d * torch.log(alpha)
        - n * math.log(2.0 * math.pi)
        - beta * residual
        - alpha * weight
        - log_det
    )
    return float((evidence / n).mean())


def h_score(features: Tensor, labels: Tensor) -> float:
    """The regularised H-score (Ibrahim et al. 2021, arXiv:2110.06893).

    trace(Sigma^-1 Sigma_between), Sigma shrunk by Ledoit and Wolf's estimate towards its mean
    eigenvalue, and Sigma_between scaled by 1 minus the shrinkage.
    """
    n, d = features.shape
    s = spectrum(features, labels, centre=True)
    shrinkage = _shrinkage(features, s)
    mean = float(s.values.sum()) / (n * d)
    if mean <= 0.0:
        return 0.0
    shrunk = (1.0 - shrinkage) * s.values / n + shrinkage * mean
    # The class means' covariance: sum_c (n_c / n) m_c m_c^T, m_c = V S U^T y_c / n_c.
    between = (s.values[:, None] * s.targets.square() / s.energy).sum(dim=1) / n
    usable = shrunk > shrunk.max() * 1e-14
    ratio = torch.where(usable, between / shrunk.clamp_min(TINY), 0.0)
    return (1.0 - shrinkage) * float(ratio.sum())


def _shrinkage(features: Tensor, spectrum: Spectrum) -> float:
    """The shrinkage in [0, 1] of Ledoit and Wolf (2004), of centred features (N, D), from
    their spectrum: the eigenvalues hold ||Sigma||^2, and no second Gram matrix is formed."""
    n, d = features.shape
    rows = features.double()
    rows = rows - rows.mean(dim=0)
    largest = float(rows.abs().max())
    if largest == 0.0:
        return 0.0
    values = spectrum.values / largest**2
    total = float(values.square().sum()) / n**2
    mean = float(values.sum()) / (n * d)
    # sum_i ||x_i||^4 = sum over entries of (x^2)^T (x^2).
    fourth = float((rows / largest).square().sum(dim=1).square().sum()) / n
    spread = (fourth - total) / (n * d)
    distance = total / d - mean**2
    return 0.0 if distance <= 0.0 else min(1.0, max(0.0, min(spread, distance) / distance))


def trans_rate(features: Tensor, labels: Tensor, epsilon: float = 1e-4) -> float:
    """TransRate in nats (Huang et al. 2022, arXiv:2106.09362): R(Z) - R(Z | Y).

    R(Z) = 1/2 log det(I + Z Z^T / (N epsilon)) of centred Z, divided by sqrt(trace(Z Z^T))
    as in the authors' code; the second term is the mean over classes of the same.
    """
    rows = features.double()
    rows = rows - rows.mean(dim=0)
    norm = float(rows.abs().max())
    if norm == 0.0:
        return 0.0
    rows = rows / norm
    rows = rows / rows.square().sum().sqrt()
    present = present_classes(labels, int(labels.max()) + 1).tolist()
    inside = [_coding_rate(rows[labels == c], epsilon) for c in present]
    return _coding_rate(rows, epsilon) - sum(inside) / len(inside)


def _coding_rate(rows: Tensor, epsilon: float) -> float:
    n, d = rows.shape
    gram = rows @ rows.t() if n < d else rows.t() @ rows
    eye = torch.eye(len(gram), dtype=torch.float64, device=rows.device)
    return 0.5 * float(torch.linalg.slogdet(eye + gram / (n * epsilon)).logabsdet)


def leep(source_probs: Tensor, labels: Tensor) -> float:
    """Log expected empirical prediction (Nguyen et al. 2020, arXiv:2002.12462), in nats, <= 0.

    `source_probs` (N, S) are the model's own class probabilities for the target examples.
    """
    probs = source_probs.double()
    hot = _hot(labels)
    joint = hot.t() @ probs / len(labels)  # (C, S)
    conditional = joint / joint.sum(dim=0, keepdim=True).clamp_min(TINY)
    expected = (probs @ conditional.t() * hot).sum(dim=1)
    return float(expected.clamp_min(TINY).log().mean())


def nce(source_labels: Tensor, labels: Tensor) -> float:
    """Negative conditional entropy -H(Y | Z) in nats (Tran et al. 2019, arXiv:1908.08142).

    `source_labels` (N,) int64 are the model's own predicted classes.
    """
    joint = _hot(labels).t() @ _hot(source_labels) / len(labels)
    given = joint.sum(dim=0)
    return float(torch.special.xlogy(joint, joint).sum() - torch.special.xlogy(given, given).sum())
