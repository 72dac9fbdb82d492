"""The multinomial logistic objective in whitening-friendly coordinates, and its certificate.

For N rows z (features centred, scaled and rotated, after a leading 1 for the bias), labels y
and parameters T = [b, V] of shape (C, 1 + r):

    f(T) = (1/N) sum_i CE(T z_i, y_i) + (ridge/2) ||V||^2

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

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoobench.solvers.basis import WORKSPACE_BYTES, Scaling, blocks

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

    `curvature` (1 + r,): mean square of each column of `rows`, about. Besides `rows` it
    holds blocks of at most WORKSPACE_BYTES.
    """

    def __init__(
        self, rows: Tensor, labels: Tensor, classes: int, ridge: float, curvature: Tensor
    ) -> None:
        self.rows = rows
        self.labels = labels
        self.classes = classes
        self.ridge = ridge
        self.curvature = curvature
        self.strict = False
        self.penalty = rows.new_full((rows.shape[1],), ridge)
        self.penalty[0] = 0.0
        self._last: _Loss | None = None

    def with_ridge(self, ridge: float) -> SoftmaxProblem:
        """The same rows at another lambda; what was last evaluated is known there, too."""
        other = SoftmaxProblem(self.rows, self.labels, self.classes, ridge, self.curvature)
        other._last = self._last
        return other

    def value_and_gradient(self, at: Tensor) -> tuple[float, Tensor]:
        """Free where `at` is the tensor of the last evaluation, here or before `with_ridge`."""
        if self._last is None or self._last.at is not at:
            self._last = self._loss(at)
        penalty = 0.5 * self.ridge * at[:, 1:].double().square().sum()
        return self._last.value + float(penalty), self._last.gradient + at * self.penalty

    def _loss(self, at: Tensor) -> _Loss:
        n = len(self.rows)
        # Classes lead: C x N products of the rows as they lie are the fast ones, and a block of
        # rows is still in the cache when the second product reads it.
        row_bytes = self.rows.element_size() * (self.rows.shape[1] + 4 * self.classes)
        stride = -(-n // SAMPLE_ROWS)
        gradient = torch.zeros_like(at)
        covariance = at.new_zeros(self.classes, self.classes)
        loss = torch.zeros((), dtype=torch.float64, device=at.device)
        for part in blocks(n, row_bytes, at.device):
            rows, labels = self.rows[part], self.labels[None, part]
            scores = torch.log_softmax(at @ rows.t(), dim=0)
            loss -= scores.gather(0, labels).sum(dtype=torch.float64)
            probs = scores.exp_()
            seen = probs[:, ::stride]
            covariance.addmm_(seen, seen.t(), alpha=-stride / n)
            covariance.diagonal().add_(seen.sum(dim=1), alpha=stride / n)
            probs.scatter_add_(0, labels, probs.new_full(labels.shape, -1.0))
            gradient.addmm_(probs, rows, alpha=1.0 / n)
        # Probabilities sum to 1 but for rounding, so weights that sum to 0 over the classes have
        # a gradient that does. What rounding leaves, the preconditioner would divide by `ridge`.
        gradient -= gradient.mean(dim=0)
        return _Loss(at, float(loss / n), gradient, covariance)

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
    features: Tensor, labels: Tensor, scaling: Scaling, weight: Tensor, bias: Tensor, ridge: float
) -> tuple[Certificate, Tensor]:
    """The certificate of (`weight` (C, D), `bias` (C,)) and the bias it holds for.

    The bias is first solved by Newton's method in float64 at fixed weights, since that
    makes the bound tight. Every class must occur in `labels` (N,).
    """
    n, classes = len(labels), len(bias)
    at, b = weight.double(), bias.double()
    frequencies = torch.bincount(labels, minlength=classes).double() / n
    parts = list(blocks(n, 8 * (2 * features.shape[1] + 4 * classes), b.device))

    def rows(part: slice) -> Tensor:
        return features[part].double().sub_(scaling.mean).div_(scaling.scale)

    keep = 8 * n * classes <= WORKSPACE_BYTES
    kept = [rows(part) @ at.t() for part in parts] if keep else None

    def scores(i: int) -> Tensor:
        return kept[i] if kept is not None else rows(parts[i]) @ at.t()

    b, residual = _solve_bias(scores, len(parts), n, b, frequencies)

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
        z, truth = rows(part), labels[part][:, None]
        logs = torch.log_softmax(scores(i) + b, dim=1)
        probs = logs.exp()
        loss -= logs.gather(1, truth).sum() / n
        entropy -= (probs * logs).sum() / n
        mixed = probs.mul_(1.0 - t).add_(q, alpha=t)
        mixed.scatter_add_(1, truth, mixed.new_full(truth.shape, -1.0))
        pull.addmm_(mixed.t(), z, alpha=1.0 / n)
        own.index_add_(0, truth[:, 0], z, alpha=1.0 / n)
        middle += z.sum(dim=0) / n
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
    scores: Callable[[int], Tensor], parts: int, n: int, b: Tensor, frequencies: Tensor
) -> tuple[Tensor, Tensor]:
    """The optimal bias at fixed weights, and what is left of its gradient; both (C,)."""
    residual = torch.zeros_like(b)
    for attempt in range(12):
        total = torch.zeros_like(b)
        hessian = torch.zeros(len(b), len(b), dtype=torch.float64, device=b.device)
        for i in range(parts):
            probs = torch.softmax(scores(i) + b, dim=1)
            total += probs.sum(dim=0)
            hessian.addmm_(probs.t(), probs, alpha=-1.0)
        residual = total / n - frequencies
        if attempt == 11 or float((residual.abs() / frequencies).max()) < 1e-10:
            break
        hessian.diagonal().add_(total)
        step = torch.linalg.pinv(hessian / n, rtol=1e-12, hermitian=True) @ residual
        b = b - step.clamp(-2.0, 2.0)
    return b, residual
