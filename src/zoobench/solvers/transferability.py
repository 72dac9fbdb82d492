"""Scores that guess a model's transfer from one pass over the train set (PROTOCOL section 6).

Higher means a better guess at transfer, for each of them. They rank models; none is an
accuracy. All are computed in float64 from the `spectrum` of features (N, D) or from
`source_probs` (N, S), with `labels` (N,) int64 in [0, C), and return a float. Classes
without an example take no part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zoobench.solvers.basis import eigenbasis

TINY = 1e-30


@dataclass(frozen=True)
class Spectrum:
    """One eigendecomposition that LogME, the H-score and TransRate share.

    `values` (r,) are the squared singular values of the centred rows (N, D), descending;
    with these U S V^T, `targets` (r, C) is U^T Y for one-hot Y, and `mean` (r + 1,) the rows'
    mean in V, with the length of its part outside V last. `counts` (C,) are the examples of
    a class, `fourth` the mean of the centred rows' norms to the fourth power, and `inside`
    TransRate's second term, the mean coding rate of a class.
    """

    n: int
    dims: int
    values: Tensor
    targets: Tensor
    mean: Tensor
    counts: Tensor
    fourth: float
    inside: float


def _hot(labels: Tensor) -> Tensor:
    _, local = torch.unique(labels, return_inverse=True)
    return torch.nn.functional.one_hot(local).double()


def spectrum(features: Tensor, labels: Tensor) -> Spectrum:
    """The spectrum of `features` (N, D) with `labels` (N,). Exact in any units."""
    n, dims = features.shape
    rows = features.double()
    mean = rows.mean(dim=0)
    rows = rows - mean
    largest = float(rows.abs().max())
    unit = largest if largest > 0.0 else 1.0
    rows = rows / unit  # so that squares of huge or tiny features stay in range
    basis = eigenbasis(rows, torch.float64)
    values = basis.eigenvalues * n
    hot = _hot(labels)
    cross = basis.basis.t() @ (rows.t() @ hot)
    # Directions without features: eigenvalue rounding, and no targets to explain.
    alive = values > values[0] * n * 1e-15
    root = torch.where(alive, values, torch.ones_like(values)).sqrt()
    targets = torch.where(alive[:, None], cross / root[:, None], 0.0)
    values = torch.where(alive, values, torch.zeros_like(values)) * unit**2
    within = basis.basis.t() @ mean
    # As a difference of squares it would be rounding, and rounding of large features traps LogME.
    outside = (mean - basis.basis @ within).norm()
    outside = torch.where(outside > 1e-12 * mean.norm(), outside, 0.0)
    squares = rows.square().sum(dim=1)
    total = float(squares.sum())
    inside = _inside(rows / math.sqrt(total), labels) if total > 0.0 else 0.0
    return Spectrum(
        n, dims, values, targets, torch.cat([within, outside[None]]), hot.sum(dim=0),
        float(squares.square().mean()) * unit**4, inside,
    )  # fmt: skip


def logme(spectrum: Spectrum, limit: int = 500) -> float:
    """Log maximum evidence a sample and class (You et al. 2021, arXiv:2102.11005).

    Each one-vs-rest target y is N(F w, 1/beta) with w ~ N(0, 1/alpha); alpha and beta
    maximise the evidence by the paper's fixed point (algorithm 3, all classes at once).
    Features are taken as they are, neither centred nor scaled.

    With F^T F = V (diag(values) + n m m^T) V^T, m the mean in V, every solve is one of a
    diagonal plus a matrix of rank one (Sherman and Morrison), and ||y - F w||^2 is a part
    around the means plus n (mean of y - m^T w)^2.
    """
    s = spectrum
    n, d = s.n, s.dims
    values = torch.cat([s.values, s.values.new_zeros(1)])[:, None]
    # The bound of the classes' targets around their means that no feature reaches.
    outside = s.counts - s.counts.square() / n - s.targets.square().sum(dim=0)
    outside = outside.clamp_min(0.0)
    targets = torch.cat([s.targets, s.targets.new_zeros(1, len(s.counts))])
    mean = s.mean[:, None]
    alpha = torch.ones_like(s.counts)
    beta = torch.ones_like(s.counts)

    def posterior(ratio: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(||w||^2, ||y - F w||^2, effective parameters, n m^T D^-1 m) at alpha / beta."""
        inverse = 1.0 / (values + ratio)  # (r + 1, C)
        own = n * (mean.square() * inverse).sum(dim=0)
        cross = values.sqrt() * targets
        pull = (s.counts - n * (mean * inverse * cross).sum(dim=0)) / (1.0 + own)
        w = inverse * (cross + mean * pull)
        apart = (targets - values.sqrt() * w).square().sum(dim=0) + outside
        residual = apart + n * (s.counts / n - (mean * w).sum(dim=0)).square()
        gamma = (values * inverse).sum(dim=0)
        gamma = gamma + ratio * n * (mean * inverse).square().sum(dim=0) / (1.0 + own)
        return w.square().sum(dim=0), residual, gamma, own

    for _ in range(limit):
        ratio = alpha / beta
        weight, residual, gamma, _ = posterior(ratio)
        alpha = gamma / weight.clamp_min(TINY)
        beta = (n - gamma).clamp_min(TINY) / residual.clamp_min(TINY)
        moved = (alpha / beta / ratio - 1.0).abs().max()
        if float(moved) < 1e-10:
            break
    weight, residual, _, own = posterior(alpha / beta)
    log_det = torch.log(alpha + beta * values).sum(dim=0) + torch.log1p(own)
    log_det = log_det + (d - len(values)) * torch.log(alpha)
    evidence = 0.5 * (
        n * torch.log(beta)
        + d * torch.log(alpha)
        - n * math.log(2.0 * math.pi)
        - beta * residual
        - alpha * weight
        - log_det
    )
    return float((evidence / n).mean())


def h_score(spectrum: Spectrum) -> float:
    """The regularised H-score (Ibrahim et al. 2021, arXiv:2110.06893).

    trace(Sigma^-1 Sigma_between), Sigma shrunk by Ledoit and Wolf's estimate towards its mean
    eigenvalue, and Sigma_between scaled by 1 minus the shrinkage.
    """
    s = spectrum
    shrinkage = _shrinkage(s)
    mean = float(s.values.sum()) / (s.n * s.dims)
    if mean <= 0.0:
        return 0.0
    shrunk = (1.0 - shrinkage) * s.values / s.n + shrinkage * mean
    # The class means' covariance: sum_c (n_c / n) m_c m_c^T, m_c = V S U^T y_c / n_c.
    between = (s.values[:, None] * s.targets.square() / s.counts).sum(dim=1) / s.n
    usable = shrunk > shrunk.max() * 1e-14
    ratio = torch.where(usable, between / shrunk.clamp_min(TINY), 0.0)
    return (1.0 - shrinkage) * float(ratio.sum())


def _shrinkage(s: Spectrum) -> float:
    """The shrinkage in [0, 1] of Ledoit and Wolf (2004): the eigenvalues hold ||Sigma||^2, and
    sum_i ||x_i||^4 is the sum over the entries of (x^2)^T (x^2)."""
    total = float(s.values.square().sum()) / s.n**2
    mean = float(s.values.sum()) / (s.n * s.dims)
    spread = (s.fourth - total) / (s.n * s.dims)
    distance = total / s.dims - mean**2
    return 0.0 if distance <= 0.0 else min(1.0, max(0.0, min(spread, distance) / distance))


EPSILON = 1e-4
"""The distortion of TransRate's coding rates."""


def trans_rate(spectrum: Spectrum) -> float:
    """TransRate in nats (Huang et al. 2022, arXiv:2106.09362): R(Z) - R(Z | Y).

    R(Z) = 1/2 log det(I + Z Z^T / (N epsilon)) of centred Z, divided by sqrt(trace(Z Z^T))
    as in the authors' code; the second term is the mean over classes of the same.
    """
    total = float(spectrum.values.sum())
    if total == 0.0:
        return 0.0
    share = spectrum.values / total
    return 0.5 * float(torch.log1p(share / (spectrum.n * EPSILON)).sum()) - spectrum.inside


def _inside(rows: Tensor, labels: Tensor) -> float:
    present = torch.unique(labels).tolist()
    return sum(_coding_rate(rows[labels == c]) for c in present) / len(present)


def _coding_rate(rows: Tensor) -> float:
    n, d = rows.shape
    gram = rows @ rows.t() if n < d else rows.t() @ rows
    eye = torch.eye(len(gram), dtype=torch.float64, device=rows.device)
    return 0.5 * float(torch.linalg.slogdet(eye + gram / (n * EPSILON)).logabsdet)


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
