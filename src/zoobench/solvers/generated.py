"""How far generated pictures are from real ones, in a model's features: KID, FID, precision,
recall, nearest neighbours.

X is (N, D) and Y (M, D); everything is computed in float64, in blocks of rows, so that no N x M
matrix is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zoobench.errors import Unsupported
from zoobench.solvers.basis import blocks
from zoobench.solvers.similarity import frechet
from zoobench.statistics.intervals import satterthwaite, student_quantile

NEIGHBOURS = 3
"""k of precision and recall, as their paper has it."""
FID_ROWS = 10
"""Rows a dimension that FID needs (PROTOCOL section 2): its bias falls with them."""
COPY = 1 / 3
"""A row is a copy of the nearest one where the second nearest is more than three times as far (Yoon
et al. 2023, "Diffusion probabilistic models generalize when they fail to memorize")."""
ROUNDING = 1e-12
"""Share of the largest squared norm by which squared distances may be wrong."""


@dataclass(frozen=True)
class KernelDistance:
    """A KID with the ends of its 95% interval; in no unit, and below 0 as well as above."""

    value: float
    low: float
    high: float


def kid(x: Tensor, y: Tensor) -> KernelDistance:
    """The kernel distance of Binkowski et al. 2018 (arXiv:1801.01401), of all rows at once.

    The unbiased estimate of the squared maximum mean discrepancy with the kernel
    (x . y / D + 1)^3: it is 0 on average where X and Y are of one distribution, whatever N and M.

    The interval is Student's t with the jackknife's variance: each row of each set is left out
    once. A bootstrap draws rows twice, and k(x, x) of a row and its copy is no distance between
    two pictures; the spread over subsets, which the field prints, is that of other, smaller
    sets. The jackknife's variance is on average too large rather than too small (Efron and
    Stein 1981), most where X and Y are of one distribution. Raises ValueError for fewer than 3
    rows in either.
    """
    if min(len(x), len(y)) < 3:
        raise ValueError(f"KID needs 3 rows of each set, got {len(x)} and {len(y)}")
    a, b = x.double(), y.double()
    n, m = len(a), len(b)
    own_x, own_y = _kernel_sums(a, a)[0], _kernel_sums(b, b)[0]
    cross_x, cross_y = _kernel_sums(a, b)
    within_x, within_y = own_x.sum() / (n * (n - 1)), own_y.sum() / (m * (m - 1))
    between = cross_x.sum() / (n * m)
    value = float(within_x + within_y - 2 * between)
    # What is left without row i, less what does not depend on i.
    parts = (
        _jackknife((own_x.sum() - 2 * own_x) / ((n - 1) * (n - 2))
                   - 2 * (cross_x.sum() - cross_x) / ((n - 1) * m)),
        _jackknife((own_y.sum() - 2 * own_y) / ((m - 1) * (m - 2))
                   - 2 * (cross_y.sum() - cross_y) / ((m - 1) * n)),
    )  # fmt: skip
    dof = satterthwaite((parts[0], n - 1.0), (parts[1], m - 1.0))
    half = student_quantile(dof) * sum(parts) ** 0.5
    return KernelDistance(value, value - half, value + half)


def _kernel_sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) and (M,) sums of the kernel over the other set's rows; of X with itself, over the other
    rows."""
    rows, columns = x.new_zeros(len(x)), x.new_zeros(len(y))
    for part in _wide(len(x), len(y), x.device):
        kernel = (x[part] @ y.t()).div_(x.shape[1]).add_(1.0).pow_(3)
        if x is y:
            kernel[torch.arange(len(kernel)), torch.arange(part.start, part.stop)] = 0.0
        rows[part] = kernel.sum(dim=1)
        columns += kernel.sum(dim=0)
    return rows, columns


def _jackknife(left: Tensor) -> float:
    """The variance of a statistic from its values (N,) without each row."""
    return float((left - left.mean()).square().sum() * (len(left) - 1) / len(left))


def fid(x: Tensor, y: Tensor) -> float:
    """The Frechet distance of Heusel et al. 2017 (arXiv:1706.08500).

    Raises Unsupported, in words, for fewer than 10 rows a dimension: it is then mostly the
    samples' size, and smaller for the larger set.
    """
    if why := fid_refused(len(x), len(y), x.shape[1]):
        raise Unsupported(why)
    return frechet(x, y)


def fid_refused(n: int, m: int, dims: int) -> str:
    """Why there is no FID of N and M rows of so many dimensions; "" where there is one."""
    needed = FID_ROWS * dims
    if min(n, m) >= needed:
        return ""
    return (
        f"FID needs {needed:,} pictures of each set ({FID_ROWS} for each of {dims:,} features), "
        f"got {n:,} and {m:,}"
    )


def inside(x: Tensor, y: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """(N,) bool: whether a row of X lies within the k-th nearest distance of any row of Y.

    Of samples in real rows the share is the precision, of real rows in samples the recall
    (Kynkaanniemi et al. 2019, arXiv:1904.06991). Distances that differ by rounding are equal.
    Raises ValueError for k rows of Y or fewer.
    """
    rows, bank = _centred(x, y)
    radii = nearest(y, y, k, own=True)[0][:, -1].square()
    radii = radii + ROUNDING * _largest(rows, bank)
    out = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    lengths = bank.square().sum(dim=1)
    for part in _wide(len(x), len(y), x.device):
        out[part] = (_squared(rows[part], bank, lengths) <= radii).any(dim=1)
    return out


def nearest(x: Tensor, y: Tensor, k: int = 1, own: bool = False) -> tuple[Tensor, Tensor]:
    """(N, k) Euclidean distances, ascending, and rows of Y: the nearest of each row of X.

    With `own` X is Y, and no row is its own neighbour. Raises ValueError for too few rows of Y.
    """
    if len(y) < k + own:
        raise ValueError(f"{len(y)} rows have no {k} neighbours")
    rows, bank = _centred(x, y)
    distances = torch.empty(len(x), k, dtype=torch.float64, device=x.device)
    found = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    lengths = bank.square().sum(dim=1)
    for part in _wide(len(x), len(y) + k * x.shape[1], x.device):
        squared = _squared(rows[part], bank, lengths)
        if own:
            squared[torch.arange(len(squared)), torch.arange(part.start, part.stop)] = torch.inf
        chosen = squared.topk(k, dim=1, largest=False).indices
        # Once more by differences: those of equal rows are then 0, and no rounding.
        exact = (rows[part][:, None] - bank[chosen]).square().sum(dim=2).sqrt()
        distances[part], order = exact.sort(dim=1, stable=True)
        found[part] = chosen.gather(1, order)
    return distances, found


def copied(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) ratios of the distances to the nearest and the second nearest row of Y, 1 at most, and
    (N,) the nearest: below COPY a row is a copy of it.

    So what is a copy depends on how densely real pictures lie there, and on no unit. Y holds no
    twins, which would hide their copies. Raises ValueError for fewer than 2 rows of Y.
    """
    distances, rows = nearest(x, y, 2)
    first, second = distances.unbind(dim=1)
    return torch.where(first > 0, first / second, 0.0), rows[:, 0]


def _centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 around Y's mean, so that an offset of all does not eat their distances."""
    mean = y.double().mean(dim=0)
    return x.double() - mean, y.double() - mean


def _squared(x: Tensor, y: Tensor, lengths: Tensor) -> Tensor:
    """(N, M) squared distances, but for rounding; `lengths` (M,) are the squared ones of Y."""
    return (x.square().sum(dim=1)[:, None] + lengths).addmm_(x, y.t(), alpha=-2)


def _wide(n: int, columns: int, device: torch.device) -> Iterator[slice]:
    """Blocks of rows of so many columns, eight times as large as a cache: a product of few rows
    with all of the others is slow."""
    return blocks(n, columns, device)


def _largest(x: Tensor, y: Tensor) -> float:
    return float(max(x.square().sum(dim=1).max(), y.square().sum(dim=1).max()))
