"""The multinomial logistic objective in whitening-friendly coordinates, and its certificate.

For N rows z (features centred, scaled and rotated, after a leading 1 for the bias), labels y
and parameters T = [b, V] of shape (C, 1 + r):

    f(T) = (1/N) sum_i CE(T z_i, y_i) + (ridge/2) ||V||^2

Where a row has masses of classes (see truth.py), y_i is their distribution, and its term counts
as often as they sum to, in f as in all that follows; N is then the sum of all masses.

The certificate is a duality gap. Any class distributions a_i whose mean is the mean of the
one-hot labels give a lower bound of the optimum,

    D(a) = (1/N) sum_i H(a_i) - ||(1/N) sum_i (a_i - y_i) z_i^T||^2 / (2 ridge),

with H the entropy. At a = softmax(T z), with the bias optimal, f - D is ||grad_V f||^2 /
(2 ridge), the bound that strong convexity gives. The bias is not penalised and never exactly
optimal, so a is mixed with the constant distribution q that restores the mean:
a = (1 - t) p + t q. H is concave, hence H(a) >= (1 - t) H(p) + t H(q), and the bound holds
without any assumption on how well the bias was solved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoobench.solvers.basis import WORKSPACE_BYTES, Scaling, blocks, near
from zoobench.solvers.truth import Truth, truth_of

LOSS_FLOOR = 1e-3
"""nats. A gap is relative to the optimum, or to this where the optimum is less: on separable
data the optimum goes to 0 with lambda, and a hundredth of a per cent of nothing says nothing."""

SAMPLE_ROWS = 4096
"""Rows that the preconditioner's class covariance is estimated from, when there are more."""


@dataclass(frozen=True)
class _Loss:
    """The mean loss at `at`, its gradient, and the covariance of the class probabilities."""

    at: Tensor
    value: float
    gradient: Tensor
    covariance: Tensor


class SoftmaxProblem:
    """f for L-BFGS. `rows` (N, 1 + r), first column 1; N, C >= 1.

    `at` must have weights V that sum to 0 over the classes, as the optimum's do, and as W = 0
    and every step from it does. It computes in the type of `rows`, float32 or float64; losses
    add up in float64.

    `curvature` (1 + r,): mean square of each column of `rows`, about, where all is computed.
    Besides `rows`, which may lie in the host's memory, it holds blocks of at most WORKSPACE_BYTES.
    """

    def __init__(
        self, rows: Tensor, labels: Tensor | Truth, classes: int, ridge: float, curvature: Tensor
    ) -> None:
        self.rows = rows
        self.truth = labels if isinstance(labels, Truth) else truth_of(labels)
        self.classes = classes
        self.ridge = ridge
        self.curvature = curvature
        self.strict = False
        self.penalty = curvature.new_full((rows.shape[1],), ridge, dtype=rows.dtype)
        self.penalty[0] = 0.0
        self._last: _Loss | None = None

    def with_ridge(self, ridge: float) -> SoftmaxProblem:
        """The same rows at another lambda; what was last evaluated is known there, too."""
        other = SoftmaxProblem(self.rows, self.truth, self.classes, ridge, self.curvature)
        other._last = self._last
        return other

    def value_and_gradient(self, at: Tensor) -> tuple[float, Tensor]:
        """Free where `at` is the tensor of the last evaluation, here or before `with_ridge`."""
        if self._last is None or self._last.at is not at:
            self._last = self._loss(at)
        penalty = 0.5 * self.ridge * at[:, 1:].double().square().sum()
        return self._last.value + float(penalty), self._last.gradient + at * self.penalty

    def _loss(self, at: Tensor) -> _Loss:
        n, total = len(self.rows), self.truth.total
        # Classes lead: C x N products of the rows as they lie are the fast ones, and a block of
        # rows is still in the cache when the second product reads it.
        row_bytes = self.rows.element_size() * (self.rows.shape[1] + 4 * self.classes)
        stride = -(-n // SAMPLE_ROWS)
        gradient = torch.zeros_like(at)
        covariance = at.new_zeros(self.classes, self.classes)
        loss = torch.zeros((), dtype=torch.float64, device=at.device)
        for part in blocks(n, row_bytes, at.device):
            rows = near(self.rows, part, at.device)
            scores = torch.log_softmax(at @ rows.t(), dim=0)
            loss += self.truth.loss(scores, part, dim=0)
            probs = scores.exp_()
            seen = probs[:, ::stride]
            weighed = self.truth.weighed(seen, slice(part.start, part.stop, stride), dim=0)
            covariance.addmm_(weighed, seen.t(), alpha=-stride / total)
            covariance.diagonal().add_(weighed.sum(dim=1), alpha=stride / total)
            gradient.addmm_(self.truth.residual_(probs, part, dim=0), rows, alpha=1.0 / total)
        # Probabilities sum to 1 but for rounding, so weights that sum to 0 over the classes have
        # a gradient that does. What rounding leaves, the preconditioner would divide by `ridge`.
        gradient -= gradient.mean(dim=0)
        return _Loss(at, float(loss / total), gradient, covariance)

    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """(A kron diag(curvature) + penalty)^-1, A = mean(diag(p) - p p^T).

        It would be exact if a row's class doubt said nothing of its features, and it sees
        which classes are confused with each other. Its one null direction, all biases
        moved together, has no gradient and is given none.
        """
        assert self._last is not None
        values, vectors = torch.linalg.eigh(self._last.covariance.double())
        values, vectors = values.clamp_min(0.0), vectors.to(self.rows.dtype)
        full = values[:, None] * self.curvature.double() + self.penalty.double()
        bias = full[:, 0]
        inverse = 1.0 / full
        inverse[:, 0] = torch.where(bias > 1e-7 * bias.max(), inverse[:, 0], 0.0)
        inverse = inverse.to(self.rows.dtype)
        return lambda g: vectors @ ((vectors.t() @ g) * inverse)

    def bound(self, value: float, gradient: Tensor, step: Tensor) -> float:
        """The certificate's upper bound of the relative gap, in float32 and to first order in
        the bias's residual; `step` is the preconditioned gradient."""
        bias = 0.5 * abs(float((gradient[:, 0].double() * step[:, 0]).sum()))
        weights = float(gradient[:, 1:].double().square().sum()) / (2.0 * self.ridge)
        gap = bias + weights
        return gap / max(value - gap, LOSS_FLOOR)

    def gap(self, value: float, gradient: Tensor, step: Tensor) -> float:
        """`bound`; or, unless `strict`, thrice the Newton decrement where that is less.

        The decrement is an estimate, far below the bound where lambda is weak: enough for a
        point that is only compared with its neighbours.
        """
        bound = self.bound(value, gradient, step)
        if self.strict:
            return bound
        decrement = 0.5 * abs(float((gradient.double() * step).sum()))
        return min(bound, 3.0 * decrement / max(value, LOSS_FLOOR))


@dataclass(frozen=True)
class Certificate:
    """How good a solution is, computed in float64 from the features as they were given.

    `objective` f in nats; `relative_gap` an upper bound of (f - optimum) / max(optimum,
    LOSS_FLOOR); `relative_gradient_norm` = ||grad f|| / ||grad f at W = 0, b at
    the class frequencies||.
    """

    objective: float
    relative_gap: float
    relative_gradient_norm: float


def certify(
    features: Tensor,
    labels: Tensor | Truth,
    scaling: Scaling,
    weight: Tensor,
    bias: Tensor,
    ridge: float,
) -> tuple[Certificate, Tensor]:
    """The certificate of (`weight` (C, D), `bias` (C,)) and the bias it holds for.

    The bias is first solved by Newton's method in float64 at fixed weights, since that
    makes the bound tight. Every class must occur in `labels` (N,), or have a mass there (N, C).
    """
    truth = labels if isinstance(labels, Truth) else truth_of(labels)
    n, classes, total = len(features), len(bias), truth.total
    at, b = weight.double(), bias.double()
    frequencies = truth.counts(classes) / total
    parts = list(blocks(n, 8 * (2 * features.shape[1] + 4 * classes), b.device))

    def rows(part: slice) -> Tensor:
        return (near(features, part, b.device).double() - scaling.mean).div_(scaling.scale)

    keep = 8 * n * classes <= WORKSPACE_BYTES
    kept = [rows(part) @ at.t() for part in parts] if keep else None

    def scores(i: int) -> Tensor:
        return kept[i] if kept is not None else rows(parts[i]) @ at.t()

    b, residual = _solve_bias(scores, parts, truth, b, frequencies)

    # q = frequencies - (1 - t)/t residual must be a distribution; t as small as that allows.
    t = float((residual / frequencies).clamp_min(0.0).max())
    t = t / (1.0 + t)
    q = (frequencies - (1.0 - t) / t * residual if t > 0.0 else frequencies).clamp_min(0.0)
    loss = torch.zeros((), dtype=torch.float64, device=b.device)
    entropy = torch.zeros_like(loss)
    pull = torch.zeros_like(at)  # mean of (a - y) z^T
    own = torch.zeros_like(at)  # mean of y z^T
    middle = torch.zeros_like(at[0])  # mean of z
    for i, part in enumerate(parts):
        z = rows(part)
        logs = torch.log_softmax(scores(i) + b, dim=1)
        probs = logs.exp()
        loss += truth.loss(logs, part, dim=1) / total
        entropy -= truth.weighed(probs * logs, part, dim=1).sum() / total
        mixed = probs.mul_(1.0 - t).add_(q, alpha=t)
        pull.addmm_(truth.residual_(mixed, part, dim=1).t(), z, alpha=1.0 / total)
        truth.means(own, z, part)
        middle += truth.weighed(z, part, dim=1).sum(dim=0) / total
    value = float(loss + 0.5 * ridge * at.square().sum())
    lower = (1.0 - t) * float(entropy) - t * float(torch.special.xlogy(q, q).sum())
    lower -= float(pull.square().sum()) / (2.0 * ridge)
    gap = max(0.0, value - lower)
    relative = gap / max(lower, LOSS_FLOOR)
    # `pull` is of the mixed distributions: the gradient's, but for t.
    gradient = float((pull + ridge * at).square().sum() + residual.square().sum()) ** 0.5
    first = float((torch.outer(frequencies, middle) - own).norm())
    return Certificate(value, relative, gradient / first if first > 0.0 else 0.0), b


def _solve_bias(
    scores: Callable[[int], Tensor],
    parts: Sequence[slice],
    truth: Truth,
    b: Tensor,
    frequencies: Tensor,
) -> tuple[Tensor, Tensor]:
    """The optimal bias at fixed weights, and what is left of its gradient; both (C,)."""
    residual = torch.zeros_like(b)
    for attempt in range(12):
        total = torch.zeros_like(b)
        hessian = torch.zeros(len(b), len(b), dtype=torch.float64, device=b.device)
        for i, part in enumerate(parts):
            probs = torch.softmax(scores(i) + b, dim=1)
            weighed = truth.weighed(probs, part, dim=1)
            total += weighed.sum(dim=0)
            hessian.addmm_(probs.t(), weighed, alpha=-1.0)
        residual = total / truth.total - frequencies
        if attempt == 11 or float((residual.abs() / frequencies).max()) < 1e-10:
            break
        hessian.diagonal().add_(total)
        step = torch.linalg.pinv(hessian / truth.total, rtol=1e-12, hermitian=True) @ residual
        b = b - step.clamp(-2.0, 2.0)
    return b, residual
