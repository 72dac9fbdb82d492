"""Preconditioned L-BFGS for a path of ridge-penalised convex problems.

All problems of a path are g(T) + sum(penalty * T^2) / 2 with the same g, so a
pair (step, change of g's gradient) measured at one penalty is curvature at any
other: the pairs are kept along the path, and the penalty's share is added when
they are used. On the text benchmark that saved 40% of the evaluations of warm starts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

MEMORY = 20
"""Pairs kept. On the text benchmark 10 took a tenth more evaluations, and 40 saved none."""


class Problem(Protocol):
    """f(T) = g(T) + sum(penalty * T^2) / 2, for T (C, P) and penalty (P,)."""

    penalty: Tensor

    def value_and_gradient(self, at: Tensor) -> tuple[float, Tensor]:
        """f and its gradient (C, P)."""

    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """About the inverse Hessian where `value_and_gradient` was last called."""

    def gap(self, value: float, gradient: Tensor, step: Tensor) -> float:
        """How far `value` may be above the optimum, relative; `step` = preconditioned gradient."""

    def bound(self, value: float, gradient: Tensor, step: Tensor) -> float:
        """The same, and surely."""


@dataclass
class Solution:
    """Where the solver stopped: `at` (C, P), f there, its gradient, and the work it took."""

    at: Tensor
    value: float
    gradient: Tensor
    evaluations: int
    bound: float


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


class Pairs:
    """The last MEMORY (step, change of g's gradient) pairs."""

    def __init__(self) -> None:
        self.kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=MEMORY)

    def add(self, step: Tensor, change: Tensor) -> None:
        self.kept.append((step, change))

    def clear(self) -> None:
        self.kept.clear()

    def copy(self, dtype: torch.dtype) -> Pairs:
        """The same pairs in `dtype`; the tensors may be shared, they are never changed."""
        other = Pairs()
        other.kept.extend((step.to(dtype), change.to(dtype)) for step, change in self.kept)
        return other

    def direction(
        self, gradient: Tensor, penalty: Tensor, precondition: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """The two-loop recursion (Nocedal & Wright, algorithm 7.4) around the preconditioner."""
        used = []
        for step, change in self.kept:
            full = change + step * penalty
            curvature = _dot(step, full)
            if curvature > 1e-10 * (_dot(step, step) * _dot(full, full)) ** 0.5:
                used.append((step, full, curvature))
        q = gradient.clone()
        weights = []
        for step, full, curvature in reversed(used):
            weight = _dot(step, q) / curvature
            weights.append(weight)
            q.add_(full, alpha=-weight)
        q = precondition(q)
        if used:
            _, full, curvature = used[-1]
            # The preconditioner assumes that doubt and feature values are independent; the
            # newest pair says by which factor that is wrong. Without it every second step
            # is rejected.
            q.mul_(curvature / _dot(full, precondition(full)))
        for (step, full, curvature), weight in zip(used, reversed(weights), strict=True):
            q.add_(step, alpha=weight - _dot(full, q) / curvature)
        return q.neg_()


def minimise(
    problem: Problem, start: Tensor, pairs: Pairs, tolerance: float, limit: int
) -> Solution:
    """Iterate from `start` until `problem.gap` is at most `tolerance` or `limit` evaluations."""
    at = start
    value, gradient = problem.value_and_gradient(at)
    precondition = problem.preconditioner()
    evaluations = 1
    gap = problem.gap(value, gradient, precondition(gradient))
    while gap > tolerance and evaluations < limit:
        direction = pairs.direction(gradient, problem.penalty, precondition)
        slope = _dot(gradient, direction)
        if not slope < 0.0:
            pairs.clear()
            direction = precondition(gradient).neg_()
            slope = _dot(gradient, direction)
            if not slope < 0.0:
                break  # the gradient is rounding noise
        length, new_value, new_gradient, used = _search(
            problem, at, direction, value, slope, limit - evaluations
        )
        evaluations += used
        if length == 0.0:
            if not pairs.kept:
                break  # nothing decreases along the preconditioned gradient: rounding
            pairs.clear()
            continue
        step = direction.mul_(length)
        pairs.add(step, new_gradient - gradient - step * problem.penalty)
        at = at + step
        value, gradient = new_value, new_gradient
        gap = problem.gap(value, gradient, precondition(gradient))
    bound = problem.bound(value, gradient, precondition(gradient))
    return Solution(at, value, gradient, evaluations, bound)


def _search(
    problem: Problem, at: Tensor, direction: Tensor, value: float, slope: float, limit: int
) -> tuple[float, float, Tensor, int]:
    """(length, f, gradient, evaluations) of an acceptable step, length 0 if there is none.

    It looks at slopes, not at values: f is convex, so a slope that is still downhill, or
    uphill but less steep than the start was, bounds the step from both sides; differences of
    float32 losses cannot tell that much near the optimum.
    """
    length = 1.0
    gradient = direction
    for used in range(1, max(2, min(12, limit + 1))):
        new_value, gradient = problem.value_and_gradient(at + direction * length)
        new_slope = _dot(gradient, direction)
        if new_slope <= -0.5 * slope and new_value <= value + 1e-6 * abs(value):
            return length, new_value, gradient, used
        # The zero of the secant; a uphill slope of any size makes it shorter.
        ratio = slope / (slope - new_slope) if new_slope > 0.0 else 0.25
        length *= min(max(ratio, 0.05), 0.7)
    return 0.0, value, gradient, used
