"""What every solver does to features first: centre, scale, block; and their eigenbasis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

WORKSPACE_BYTES = 256 * 2**20
"""Bound of one temporary block; solvers read the features in blocks of at most this size."""
CACHE_BYTES = 4 * 2**20
"""The block on a CPU: temporaries that stay in its cache and are not handed back to the system
after each operation. Whole-array float64 temporaries cost as much as the solver itself."""


def blocks(n: int, row_bytes: int, device: torch.device, least: int = 1) -> Iterator[slice]:
    """Slices that cover range(n), each one block of rows of `row_bytes`, at least `least`."""
    limit = CACHE_BYTES if device.type == "cpu" else WORKSPACE_BYTES
    step = max(least, limit // max(1, row_bytes))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def near(rows: Tensor, part: slice, device: torch.device) -> Tensor:
    """`rows[part]` on `device`. Rows that are too many for a GPU lie in the host's memory, and each
    block is sent to it as it is read."""
    return rows[part].to(device, non_blocking=True)


def beside(rows: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An empty tensor where `rows` lie, in memory that a GPU reads by itself where theirs is."""
    return torch.empty(shape, dtype=dtype, device=rows.device, pin_memory=rows.is_pinned())


@dataclass(frozen=True)
class Scaling:
    """z = (x - mean) / scale: the coordinates in which lambda has no unit.

    `mean` (D,) float64; `scale` = sqrt(s), s = trace of the population covariance / D
    (PROTOCOL section 2), 1 where all features are constant.
    """

    mean: Tensor
    scale: float

    def apply(self, features: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """(N, D) of any float type -> (N, D) of `dtype`, where the features lie. Subtracts in
        float64: an offset much larger than the spread must not eat the spread."""
        out, device = beside(features, features.shape, dtype), self.mean.device
        for part in blocks(len(features), 8 * features.shape[1], device):
            out[part] = (near(features, part, device).double() - self.mean) / self.scale
        return out


@dataclass(frozen=True)
class LinearHead:
    """W z + b, z = scaling(x): `weight` W (C, D), `bias` b (C,)."""

    scaling: Scaling
    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, C) float32 on the head's device."""
        device = self.bias.device
        out = torch.empty(len(features), len(self.bias), device=device)
        weight, bias = self.weight.float().t(), self.bias.float()
        for part in blocks(len(features), 12 * features.shape[1], device):
            out[part] = self.scaling.apply(near(features, part, device)) @ weight + bias
        return out

    def said(self, features: Tensor) -> Tensor:
        """(N, D) -> (N,) int64 the likeliest class of each, on the head's device."""
        device = self.bias.device
        row_bytes = 12 * (features.shape[1] + len(self.bias))
        sent = (near(features, part, device) for part in blocks(len(features), row_bytes, device))
        return torch.cat([self.scores(rows).argmax(dim=1) for rows in sent])

    def unscaled(self) -> tuple[Tensor, Tensor]:
        """(C, D) and (C,) float64 with which W z + b = weight @ x + bias."""
        weight = self.weight.double() / self.scaling.scale
        return weight, self.bias.double() - weight @ self.scaling.mean

    def log_probs(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, C) float32: the log of softmax(W z + b)."""
        return self.scores(features).log_softmax(dim=1)


def scaling(
    features: Tensor, weights: Tensor | None = None, device: torch.device | None = None
) -> Scaling:
    """Mean and scale of `features` (N, D), accumulated in float64 on `device`, theirs unless said;
    with `weights` (N,) each row counts as often as it weighs."""
    device = device or features.device
    if weights is not None:
        return _weighed(features, weights, device)
    n, d = features.shape
    mean = torch.zeros(d, dtype=torch.float64, device=device)
    largest = torch.zeros((), device=device)
    for part in blocks(n, 8 * d, device):
        block = near(features, part, device)
        mean += block.sum(dim=0, dtype=torch.float64)
        largest = torch.maximum(largest, torch.linalg.vector_norm(block.float(), torch.inf))
    mean /= n
    total = torch.zeros((), dtype=torch.float64, device=device)
    for part in blocks(n, 8 * d, device):
        total += torch.linalg.vector_norm(near(features, part, device).double() - mean) ** 2
    s = float(total) / (n * d)
    # Constant features leave the rounding of their mean behind; it is no signal.
    return Scaling(mean, s**0.5 if s > (1e-14 * float(largest)) ** 2 else 1.0)


def _weighed(features: Tensor, weights: Tensor, device: torch.device) -> Scaling:
    n, d = features.shape
    total, mean = float(weights.sum()), torch.zeros(d, dtype=torch.float64, device=device)
    squares, largest = torch.zeros_like(mean), 0.0
    for part in blocks(n, 16 * d, device):
        block = near(features, part, device)
        largest = max(largest, float(block.abs().max()))
        mean += weights[part] @ block.double()
    mean /= total
    for part in blocks(n, 16 * d, device):
        squares += weights[part] @ (near(features, part, device).double() - mean).square_()
    s = float(squares.sum()) / (total * d)
    return Scaling(mean, s**0.5 if s > (1e-14 * largest) ** 2 else 1.0)


def joint_scale(
    second: Tensor, sizes: tuple[float, float], known: Scaling, weights: Tensor | None = None
) -> float:
    """The scale of two sets of rows together, `known` = scaling of the first; `sizes` are how
    many rows they are, or what they weigh, and `weights` those of the `second`."""
    if len(second) == 0:
        return known.scale
    n, m = sizes
    other = scaling(second, weights, known.mean.device)
    apart = float((other.mean - known.mean).square().mean())
    s = (n * known.scale**2 + m * other.scale**2) / (n + m) + n * m * apart / (n + m) ** 2
    return float(s**0.5)


@dataclass(frozen=True)
class Eigenbasis:
    """An orthonormal `basis` (D, r) that spans every row it was made from.

    `eigenvalues` (r,) float64, descending, of Z^T Z / N in that basis. r = min(N, D).
    """

    basis: Tensor
    eigenvalues: Tensor

    def rows_of(self, centred: Tensor) -> Tensor:
        """(N, 1 + r) a 1, and `centred` (N, D) in these coordinates, where it lies."""
        rows = beside(centred, (len(centred), 1 + self.basis.shape[1]), centred.dtype)
        rows[:, 0] = 1.0
        if centred.device == self.basis.device:
            torch.mm(centred, self.basis, out=rows[:, 1:])
            return rows
        for part in blocks(len(centred), 8 * centred.shape[1], self.basis.device):
            rows[part, 1:] = near(centred, part, self.basis.device) @ self.basis
        return rows


def eigenbasis(
    centred: Tensor, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Eigenbasis:
    """Eigenvectors of the Gram matrix of `centred` (N, D), computed in `dtype` on `device`, theirs
    unless said.

    Where N < D a QR factorisation comes first: the rows lie in N dimensions, and the
    eigenproblem shrinks to N x N without the loss of Z Z^T's small eigenvectors.
    float32 is enough where the basis is a change of coordinates (its error is one of
    orthonormality, 1e-6); a closed form that divides by eigenvalues asks for float64.
    """
    n, d = centred.shape
    device = device or centred.device
    span: Tensor | None = None
    rows = centred
    if n < d:
        span, upper = torch.linalg.qr(centred.to(device, dtype).t())
        rows = upper.t()
    gram = torch.zeros(rows.shape[1], rows.shape[1], dtype=dtype, device=device)
    for part in blocks(n, 8 * gram.element_size() * rows.shape[1], device):
        block = near(rows, part, device).to(dtype)
        gram.addmm_(block.t(), block)
    values, vectors = _eigh(gram.div_(n))
    basis = vectors.flip(1)
    if span is not None:
        basis = span @ basis
    return Eigenbasis(basis.to(dtype), values.flip(0).double().clamp_min(0.0))


def _eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues and eigenvectors in `gram`'s dtype.

    LAPACK's float32 routine gives up where hundreds of eigenvalues are zero (a network with
    dead outputs); float64 does not.
    """
    try:
        values, vectors = torch.linalg.eigh(gram)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        if gram.dtype == torch.float64:
            raise
        values, vectors = torch.linalg.eigh(gram.double())
    return values.to(gram.dtype), vectors.to(gram.dtype)
