"""Many linear probes of one set of rows at once, each on a part of them: shadow probes.

N rows, D features, C classes, K shadows. Shadow k minimises, over the n_k rows of its part,

    (1/n_k) sum CE(W x + b, y) + (lambda/2) s_k ||W||^2,

which is what the probe of logistic.py minimises, with s_k = trace of the covariance of its own rows
/ D. The parts are weights of rows, so that all shadows share the rotated rows: the scores of K
heads are one matrix product with K x C columns, which runs several times as fast as K products
with C. All start at the fit on all rows, and share its preconditioner; each has an L-BFGS of its
own (Nocedal & Wright, algorithm 7.4), whose steps are taken together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from zoobench.solvers.basis import blocks, eigenbasis, scaling
from zoobench.solvers.lbfgs import Pairs, minimise
from zoobench.solvers.logistic import SMALL
from zoobench.solvers.softmax import SoftmaxProblem

MEMORY = 10
"""Pairs kept of each shadow."""
TARGETS = {torch.float32: 1e-11, torch.float64: 1e-13}
"""nats. A shadow has converged when its objective is estimated to be so close to the optimum: then
log odds are within 1e-3 of exact fits' (tests/solvers/test_solvers_shadows.py). Where all is
float64 the sets are small, and a tighter solution costs next to nothing."""
ROUNDING = 1e-8
"""nats. The same for a shadow that rounding keeps from getting closer."""
LIMIT = 400
"""Evaluations of one shadow."""
TRIES = 12
"""Lengths that are tried along one direction."""
BLOCK = 1024
"""Rows whose scores are computed together, at least: the heads of all shadows do not stay in the
cache between two blocks, so that on MNIST a third as many rows took a sixth more time."""
HELD_BYTES = 2**28
"""Of the pairs of the shadows that are solved together; the others wait."""


@dataclass(frozen=True)
class Shadows:
    """`margins` (K, N) float64 s_y - log sum of exp s_j over the other classes j: the log odds of
    the true class of each row under each shadow. `converged` (K,) bool; `evaluations` of all."""

    margins: Tensor
    converged: Tensor
    evaluations: int


def margins_of(scores: Tensor, labels: Tensor) -> Tensor:
    """(..., N) float64 log odds of the true class, from scores or log-probabilities (..., C, N)."""
    index = labels.expand(*scores.shape[:-2], 1, -1)
    own = scores.gather(-2, index).squeeze(-2)
    others = scores.scatter(-2, index, -torch.inf).logsumexp(dim=-2)
    return own.double() - others.double()


def shadow_probes(
    features: Tensor, labels: Tensor, classes: int, parts: Tensor, lam: float
) -> Shadows:
    """Fit a probe at penalty `lam` on each part of the rows, and score all rows by each.

    `features` (N, D) float, `labels` (N,) int64 in [0, `classes`), at least two classes; `parts`
    (K, N) bool, each with a row of every class. Raises ValueError where one has not.
    """
    counts = parts.double() @ torch.nn.functional.one_hot(labels, classes).double()
    if bool((counts == 0).any()):
        raise ValueError("each part must hold a row of every class")
    small = features.numel() * classes <= SMALL
    dtype = torch.float64 if small else torch.float32
    centred = scaling(features).apply(features, dtype)
    basis = eigenbasis(centred, dtype)
    rows = centred.new_ones(len(centred), 1 + basis.basis.shape[1])
    torch.mm(centred, basis.basis, out=rows[:, 1:])
    ones = torch.ones(1, dtype=torch.float64, device=rows.device)
    pool = SoftmaxProblem(rows, labels, classes, lam, torch.cat([ones, basis.eigenvalues]))
    start = rows.new_zeros(classes, rows.shape[1])
    start[:, 0] = (torch.bincount(labels, minlength=classes) / len(labels)).log()
    solved = minimise(pool, start, Pairs(), 1e-4, LIMIT)
    pool.value_and_gradient(solved.at)
    weights = parts / parts.sum(dim=1, keepdim=True)
    ridges = lam * _spread(rows, weights.double(), features.shape[1])
    each = 2 * MEMORY * solved.at.numel() * rows.element_size()
    margins, converged, used = [], [], solved.evaluations
    for some in torch.split(torch.arange(len(parts)), max(1, HELD_BYTES // each)):
        problem = _PartProblems(rows, labels, weights[some].to(dtype), ridges[some].to(dtype))
        at, done, evaluations = _minimise(problem, solved.at, pool.preconditioner())
        margins.append(problem.margins(at))
        converged.append(done)
        used += evaluations
    return Shadows(torch.cat(margins), torch.cat(converged), used)


def _spread(rows: Tensor, weights: Tensor, dims: int) -> Tensor:
    """(K,) the scale s of each part over that of all rows: rotation leaves it as it is."""
    squares = rows[:, 1:].double().square().sum(dim=1)
    means = weights @ rows[:, 1:].double()
    spread: Tensor = (weights @ squares - means.square().sum(dim=1)) / dims
    return torch.where(spread > 1e-12, spread, torch.ones_like(spread))


@dataclass(frozen=True)
class _PartProblems:
    """The objectives of K parts: `weights` (K, N) sum to 1, `ridges` (K,)."""

    rows: Tensor
    labels: Tensor
    weights: Tensor
    ridges: Tensor

    def take(self, some: Tensor) -> _PartProblems:
        return _PartProblems(self.rows, self.labels, self.weights[some], self.ridges[some])

    def value_and_gradient(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """(K,) float64 and (K, C, P), at (K, C, P)."""
        k, classes, width = at.shape
        gradient = at * self.ridges[:, None, None]
        gradient[:, :, 0] = 0.0
        flat = gradient.view(k * classes, width)
        value = 0.5 * self.ridges.double() * at[:, :, 1:].double().square().sum(dim=(1, 2))
        for part in self._blocks(k * classes):
            rows, weights = self.rows[part], self.weights[:, part]
            logs = (at.view(k * classes, width) @ rows.t()).view(k, classes, -1)
            logs = torch.log_softmax(logs, dim=1)
            index = self.labels[part].expand(k, 1, -1)
            value -= (logs.gather(1, index)[:, 0] * weights).sum(dim=1, dtype=torch.float64)
            residual = logs.exp_().scatter_add_(1, index, logs.new_full(index.shape, -1.0))
            residual.mul_(weights[:, None])
            flat.addmm_(residual.view(k * classes, -1), rows)
        gradient -= gradient.mean(dim=1, keepdim=True)  # see softmax.SoftmaxProblem._loss
        return value, gradient

    def margins(self, at: Tensor) -> Tensor:
        """(K, N) float64."""
        k, classes, width = at.shape
        return torch.cat(
            [
                margins_of(
                    (at.view(k * classes, width) @ self.rows[part].t()).view(k, classes, -1),
                    self.labels[part],
                )
                for part in self._blocks(k * classes)
            ],
            dim=1,
        )

    def _blocks(self, columns: int) -> Any:
        size = self.rows.element_size() * (self.rows.shape[1] + 3 * columns)
        return blocks(len(self.rows), size, self.rows.device, BLOCK)


@dataclass
class _Searches:
    """Where the searches of k shadows stand, shadow first. `number` is each one's own."""

    at: Tensor
    value: Tensor
    gradient: Tensor
    direction: Tensor
    slope: Tensor
    length: Tensor
    tries: Tensor
    number: Tensor

    def take(self, keep: Tensor) -> _Searches:
        return _Searches(*(getattr(self, field.name)[keep] for field in fields(self)))


@dataclass
class _Memory:
    """A ring of MEMORY rounds: (MEMORY, k, C, P) steps and changes of gradients, and (MEMORY, k)
    one over their products, 0 where a shadow took no step in that round. `scale` (k,) is by what
    the preconditioner is multiplied, from each shadow's newest pair (see lbfgs.Pairs)."""

    steps: Tensor
    changes: Tensor
    inverse: Tensor
    scale: Tensor
    newest: int = 0

    @classmethod
    def empty(cls, like: Tensor) -> _Memory:
        none = like.new_zeros(MEMORY, *like.shape)
        ones = like.new_ones(len(like))
        return cls(none, none.clone(), like.new_zeros(MEMORY, len(like)), ones)

    def take(self, keep: Tensor) -> _Memory:
        held = self.steps[:, keep], self.changes[:, keep], self.inverse[:, keep], self.scale[keep]
        return _Memory(*held, self.newest)

    def push(self, taken: Tensor, step: Tensor, change: Tensor, smooth: Tensor) -> None:
        """A round: of the shadows that have `taken` (k,) their step, unless it met no curvature.
        `smooth` is the preconditioned change."""
        product = _dots(step, change)
        curved = taken & (product > 1e-10 * step.norm(dim=(1, 2)) * change.norm(dim=(1, 2)))
        self.newest = (self.newest + 1) % MEMORY
        self.steps[self.newest], self.changes[self.newest] = step, change
        self.inverse[self.newest] = torch.where(curved, 1.0 / product, 0.0)
        self.scale = torch.where(curved, product / _dots(change, smooth), self.scale)

    def forget(self, which: Tensor) -> None:
        self.inverse[:, which] = 0.0
        self.scale[which] = 1.0

    def direction(self, gradient: Tensor, precondition: Callable[[Tensor], Tensor]) -> Tensor:
        """Minus the inverse Hessians that the pairs describe, times `gradient` (k, C, P)."""
        q = gradient.clone()
        shares = torch.zeros_like(self.inverse)
        order = [(self.newest - age) % MEMORY for age in range(MEMORY)]
        for i in order:
            shares[i] = self.inverse[i] * _dots(self.steps[i], q)
            q.addcmul_(self.changes[i], shares[i][:, None, None], value=-1.0)
        q = precondition(q).mul_(self.scale[:, None, None])
        for i in reversed(order):
            again = self.inverse[i] * _dots(self.changes[i], q)
            q.addcmul_(self.steps[i], (shares[i] - again)[:, None, None])
        return q.neg_()


def _minimise(
    problem: _PartProblems, start: Tensor, precondition: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, int]:
    """((K, C, P) where each part's search ended, (K,) whether it converged, evaluations).

    Every round evaluates one point for each shadow that is not done: the first along a new
    direction, or a shorter step along the last (the search is that of lbfgs.minimise).
    """
    k = len(problem.ridges)
    ends, done = start.repeat(k, 1, 1), torch.zeros(k, dtype=torch.bool, device=start.device)
    now, memory, used = _begun(problem, ends, precondition), _Memory.empty(ends), k
    for _ in range(LIMIT):
        there = now.at + now.length[:, None, None] * now.direction
        value, gradient = problem.value_and_gradient(there)
        used += len(there)
        slope = _dots(gradient, now.direction)
        taken = (slope <= -0.5 * now.slope) & (value <= now.value + 1e-6 * now.value.abs())
        change = gradient - now.gradient
        memory.push(taken, there - now.at, change, precondition(change))
        ratio = torch.where(slope > 0, now.slope / (now.slope - slope), 0.25)
        now.length = torch.where(taken, 1.0, now.length * ratio.clamp(0.05, 0.7))
        now.tries = torch.where(taken, 0, now.tries + 1)
        now.at[taken], now.gradient[taken] = there[taken], gradient[taken]
        now.value[taken] = value[taken]
        lost = now.tries >= TRIES  # begin anew without pairs; rounding, where there were none
        again = lost & (memory.inverse > 0).any(dim=0)
        memory.forget(again)
        _turn(now, taken | again, memory, precondition)
        gaps = _gaps(problem, now)
        ended = (lost & ~again) | (now.slope >= 0)
        over = ended | (taken & (gaps <= TARGETS[start.dtype]))
        if bool(over.any()):
            ends[now.number[over]], done[now.number[over]] = now.at[over], gaps[over] <= ROUNDING
            keep = (~over).nonzero()[:, 0]
            now, memory, problem = now.take(keep), memory.take(keep), problem.take(keep)
            if not len(keep):
                break
    if len(now.at):  # evaluations ran out
        ends[now.number], done[now.number] = now.at, _gaps(problem, now) <= ROUNDING
    return ends, done, used


def _begun(
    problem: _PartProblems, at: Tensor, precondition: Callable[[Tensor], Tensor]
) -> _Searches:
    value, gradient = problem.value_and_gradient(at)
    direction = -precondition(gradient)
    number = torch.arange(len(at), device=at.device)
    return _Searches(
        at.clone(), value, gradient, direction, _dots(gradient, direction),
        at.new_ones(len(at)), torch.zeros_like(number), number,
    )  # fmt: skip


def _turn(
    now: _Searches, turned: Tensor, memory: _Memory, precondition: Callable[[Tensor], Tensor]
) -> None:
    """New directions for the shadows that have `turned` (k,), without their pairs where those point
    uphill."""
    direction = memory.direction(now.gradient, precondition)
    uphill = turned & (_dots(now.gradient, direction) >= 0)
    if bool(uphill.any()):
        memory.forget(uphill)
        direction[uphill] = -precondition(now.gradient[uphill])
    now.direction = torch.where(turned[:, None, None], direction, now.direction)
    now.slope = torch.where(turned, _dots(now.gradient, now.direction), now.slope)
    now.length = torch.where(turned, 1.0, now.length)
    now.tries = torch.where(turned, 0, now.tries)


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """(k,) sums of the products of two (k, C, P)."""
    return torch.einsum("kcp,kcp->k", a, b)


def _gaps(problem: _PartProblems, now: _Searches) -> Tensor:
    """(k,) how far the objectives are from their optimum, in nats: by the bound that strong
    convexity gives, or by the Newton decrement in the Hessian that the pairs describe."""
    bound = now.gradient[:, :, 1:].double().square().sum(dim=(1, 2)) / (2.0 * problem.ridges)
    return torch.minimum(bound, 0.5 * now.slope.abs().double())
