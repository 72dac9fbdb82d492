"""Where something begins and ends in a window: a softmax over its rows, for either end.

For W windows of rows x (P of them, R in all), and of each the row y_0 that is the true beginning
and y_1 that is the true end, with parameters T (2, D):

    f(T) = (1/W) sum_w (1/2) sum_e [ log sum_p exp(T_e x_p) - T_e x_{y_e} ] + (ridge/2) ||T||^2

It is convex, and has no bias: what is added to all rows of a window changes nothing. The rows are
scaled as for a linear probe, by the trace of their covariance inside of windows, so that lambda has
no unit, and turned to that covariance's eigenbasis, in which the Hessian at T = 0 is diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from zoobench.solvers.basis import blocks
from zoobench.solvers.grid import grid
from zoobench.solvers.lbfgs import Pairs, minimise
from zoobench.solvers.softmax import LOSS_FLOOR

TARGET = 1e-4
"""Largest bound of the relative gap of a solution that counts as converged."""
COMPARED = 1e-3
"""Largest estimate of it for a point of a path that is only compared with its neighbours."""
PATIENCE = 10.0
"""The path ends where lambda is this factor below the one of the least NLL on valid."""
LIMIT = 400
"""Most evaluations at one lambda."""


@dataclass(frozen=True)
class Windows:
    """`place` (W, P) int64 the number of each row of a window, -1 beyond its last; `truth` (W, 2)
    those of the true beginning and end, counted within the window."""

    place: Tensor
    truth: Tensor

    @classmethod
    def of(
        cls, starts: Sequence[int], truth: Sequence[tuple[int, int]], device: torch.device
    ) -> Windows:
        """Of windows that lie one after the other: w has the rows starts[w] to starts[w + 1]."""
        first = torch.tensor(starts, device=device)
        counts = first[1:] - first[:-1]
        column = torch.arange(int(counts.max()), device=device)
        place = torch.where(column < counts[:, None], first[:-1, None] + column, -1)
        return cls(place, torch.tensor(truth, device=device).reshape(-1, 2))

    def scores(self, of_rows: Tensor) -> Tensor:
        """(W, P, 2) from (R, 2), minus infinity beyond a window's last row."""
        found = of_rows[self.place.clamp_min(0)]
        return found.masked_fill((self.place < 0)[:, :, None], -torch.inf)

    def loss(self, scores: Tensor) -> Tensor:
        """The mean loss of (W, P, 2) scores, without the ridge, as float64."""
        whole = torch.logsumexp(scores.double(), dim=1)
        right = scores.double().gather(1, self.truth[:, None])[:, 0]
        return (whole - right).mean()


class SpanProblem:
    """f for L-BFGS. `rows` (R, D) float32 or float64; `curvature` (D,) the mean square of each
    column inside of windows."""

    def __init__(self, rows: Tensor, windows: Windows, ridge: float, curvature: Tensor) -> None:
        self.rows, self.windows, self.ridge, self.curvature = rows, windows, ridge, curvature
        self.strict = False
        self.penalty = rows.new_full((rows.shape[1],), ridge)
        self._last: tuple[Tensor, float, Tensor] | None = None

    def with_ridge(self, ridge: float) -> SpanProblem:
        """The same rows at another lambda; what was last evaluated is known there, too."""
        other = SpanProblem(self.rows, self.windows, ridge, self.curvature)
        other._last = self._last
        return other

    def value_and_gradient(self, at: Tensor) -> tuple[float, Tensor]:
        """f and its gradient (2, D) at `at`; free where that is the tensor of the last call."""
        if self._last is None or self._last[0] is not at:
            self._last = (at, *self._loss(at))
        _, value, gradient = self._last
        penalty = 0.5 * self.ridge * float(at.double().square().sum())
        return value + penalty, gradient + at * self.penalty

    def _loss(self, at: Tensor) -> tuple[float, Tensor]:
        windows = self.windows
        scores = windows.scores(self.rows @ at.t())
        residual = torch.softmax(scores, dim=1)
        rows = torch.arange(len(residual), device=at.device)
        for end in (0, 1):
            residual[rows, windows.truth[:, end], end] -= 1.0
        # A window's rows follow each other, so what is left of them is in the rows' own order.
        of_rows = residual[windows.place >= 0]
        gradient = of_rows.t() @ self.rows
        return float(windows.loss(scores)), gradient / (2 * len(residual))

    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """The inverse Hessian where all rows of a window are as likely."""
        inverse = 1.0 / (0.5 * self.curvature + self.ridge)
        return lambda gradient: gradient * inverse

    def bound(self, value: float, gradient: Tensor, step: Tensor) -> float:
        """By strong convexity."""
        gap = float(gradient.double().square().sum()) / (2.0 * self.ridge)
        return gap / max(value - gap, LOSS_FLOOR)

    def gap(self, value: float, gradient: Tensor, step: Tensor) -> float:
        """`bound`; or, unless `strict`, thrice the Newton decrement where that is less."""
        bound = self.bound(value, gradient, step)
        decrement = 0.5 * abs(float((gradient.double() * step).sum()))
        return bound if self.strict else min(bound, 3.0 * decrement / max(value, LOSS_FLOOR))


@dataclass(frozen=True)
class SpanPoint:
    """One lambda, `weight` (2, D) for the rows as they were given, and what valid says of it:
    `valid_loss` is what is chosen by, `bound` no less than the relative gap.
    """

    lam: float
    weight: Tensor
    objective: float
    bound: float
    relative_gradient_norm: float
    evaluations: int
    valid_nll: float = 0.0
    valid_loss: float = 0.0

    @property
    def order(self) -> tuple[float, float, float]:
        """Less is better; of equals the stronger lambda, whose optimum is found sooner."""
        return (self.valid_loss, -self.lam, self.valid_nll)


@dataclass(frozen=True)
class SpanData:
    """Rows in the coordinates of the solver, z = x V / scale, and back."""

    rows: Tensor
    windows: Windows
    basis: Tensor
    curvature: Tensor

    @classmethod
    def of(cls, rows: Tensor, windows: Windows, like: SpanData | None = None) -> SpanData:
        """(R, D) float32 rows, which are turned where they lie; in the coordinates of `like`."""
        if like is None:
            covariance = within(rows, windows)
            scale = float(covariance.diagonal().mean()) ** 0.5 or 1.0
            values, vectors = torch.linalg.eigh(covariance / scale**2)
            basis, curvature = (vectors / scale).to(rows.dtype), values.clamp_min(0).to(rows.dtype)
        else:
            basis, curvature = like.basis, like.curvature
        for part in blocks(len(rows), 4 * rows.shape[1], rows.device):
            rows[part] = rows[part] @ basis
        return cls(rows, windows, basis, curvature)

    def inside(self, weight: Tensor) -> Tensor:
        """(2, D) weights for the rows as they were given, in these coordinates."""
        turned: Tensor = torch.linalg.solve(self.basis.double(), weight.t())
        return turned.t().to(self.rows.dtype)

    def solved(
        self, lam: float, start: Tensor | None, pairs: Pairs, strict: bool = False
    ) -> tuple[SpanPoint, Tensor]:
        """The optimum at one lambda, and its parameters in these coordinates; to TARGET where
        `strict`, else to COMPARED."""
        at = self.rows.new_zeros(2, self.rows.shape[1]) if start is None else start
        problem = SpanProblem(self.rows, self.windows, lam, self.curvature)
        problem.strict = strict
        solution = minimise(problem, at, pairs, TARGET if strict else COMPARED, LIMIT)
        _, gradient = problem.value_and_gradient(solution.at)
        _, first = problem.value_and_gradient(torch.zeros_like(at))
        point = SpanPoint(
            lam, solution.at.double() @ self.basis.double().t(), solution.value, solution.bound,
            float(gradient.norm() / first.norm().clamp_min(1e-30)), solution.evaluations,
        )  # fmt: skip
        return point, solution.at


def within(rows: Tensor, windows: Windows) -> Tensor:
    """(D, D) float64: the covariance of a window's rows, the mean over windows."""
    inside = windows.place >= 0
    counts = inside.sum(dim=1)
    d, w = rows.shape[1], len(counts)
    total = torch.zeros(d, d, dtype=torch.float64, device=rows.device)
    ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).tolist()
    for first, last in pairwise(ends):
        centred = rows[first:last] - rows[first:last].mean(dim=0)
        total += (centred.t() @ centred).double() / ((last - first) * w)
    return total


def span_path(
    train: SpanData,
    valid: SpanData,
    judge: Callable[[Tensor], float],
    lambdas: int,
    decades: float,
) -> list[SpanPoint]:
    """Optima from strong to weak lambdas, each begun at the last one's.

    `judge`, of (W, P, 2) scores on valid, gives what is chosen by, less being better. The path ends
    early where valid is overfitted.
    """
    points: list[SpanPoint] = []
    at, pairs = None, Pairs()
    for lam in grid(lambdas, decades):
        point, at = train.solved(lam, at, pairs)
        scores = valid.windows.scores(valid.rows @ at.t())
        nll = float(valid.windows.loss(scores))
        points.append(replace(point, valid_nll=nll, valid_loss=judge(scores)))
        likely = min(points, key=lambda one: one.valid_nll)
        best = min(points, key=lambda one: one.order)
        if lam * PATIENCE < min(likely.lam, best.lam) * (1 + 1e-9):
            break
    return points
