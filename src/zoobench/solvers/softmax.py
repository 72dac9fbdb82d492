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

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoobench.solvers.basis import WORKSPACE_BYTES, Scaling, block_rows, blocks

SAMPLE_ROWS = 4096
"""Rows that the preconditioner's class covariance is estimated from, when there are more."""


class SoftmaxProblem:
    """f for L-BFGS (lbfgs.Problem). `rows` (N, 1 + r) float32, first column 1; N, C >= 1.

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
        self.penalty = torch.full((rows.shape[1],), ridge, device=rows.device)
        self.penalty[0] = 0.0
        self._covariance = torch.zeros(classes, classes, device=rows.device)

    def value_and_gradient(self, at: Tensor) -> tuple[float, Tensor]:
        n = len(self.rows)
        step = block_rows(8 * self.classes, WORKSPACE_BYTES)
        stride = -(-n // SAMPLE_ROWS)
        gradient = at * self.penalty
        covariance = torch.zeros_like(self._covariance)
        loss = torch.zeros((), dtype=torch.float64, device=at.device)
        for start in range(0, n, step):
            rows, labels = self.rows[start : start + step], self.labels[start : start + step]
            scores = torch.log_softmax(rows @ at.t(), dim=1)
            loss -= scores.gather(1, labels[:, None]).sum(dtype=torch.float64)
            probs = scores.exp_()
            seen = probs[::stride]
            covariance.addmm_(seen.t(), seen, alpha=-stride / n)
            covariance.diagonal().add_(seen.sum(dim=0), alpha=stride / n)
            probs.scatter_add_(1, labels[:, None], probs.new_full((len(labels), 1), -1.0))
            gradient.addmm_(probs.t(), rows, alpha=1.0 / n)
        self._covariance = covariance
        value = loss / n + 0.5 * self.ridge * at[:, 1:].double().square().sum()
        return float(value), gradient

    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """(A kron diag(curvature) + penalty)^-1, A = mean(diag(p) - p p^T).

        It would be exact if a row's class doubt said nothing of its features, and it sees
        which classes are confused with each other. Its one null direction, all biases
        moved together, has no gradient and is given none.
        """
        values, vectors = torch.linalg.eigh(self._covariance.double())
        values, vectors = values.clamp_min(0.0), vectors.float()
        full = values[:, None] * self.curvature.double() + self.penalty.double()
        bias = full[:, 0]
        inverse = 1.0 / full
        inverse[:, 0] = torch.where(bias > 1e-7 * bias.max(), inverse[:, 0], 0.0)
        inverse = inverse.float()
        return lambda g: vectors @ ((vectors.t() @ g) * inverse)

    def gap(self, value: float, gradient: Tensor, step: Tensor) -> float:
        """The certificate's bound over f; unless `strict`, or thrice the Newton decrement.

        The decrement is an estimate, and far below the bound where lambda is weak: enough
        for a point that is only compared with its neighbours.
        """
        bias = 0.5 * float((gradient[:, 0].double() * step[:, 0]).sum())
        weights = float(gradient[:, 1:].double().square().sum()) / (2.0 * self.ridge)
        decrement = 1.5 * float((gradient.double() * step).sum())
        bound = abs(bias) + weights
        return (bound if self.strict else min(bound, abs(decrement))) / max(value, 1e-300)


@dataclass(frozen=True)
class Certificate:
    """How good a solution is, computed in float64 from the features as they were given.

    `objective` f; `relative_gap` an upper bound of (f - optimum) / optimum, infinite when
    the bound says nothing; `relative_gradient_norm` = ||grad f|| / ||grad f at W = 0, b at
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
    row_bytes = 8 * (2 * features.shape[1] + 4 * classes)
    keep = 8 * n * classes <= WORKSPACE_BYTES
    parts = list(blocks(n, row_bytes))

    def product(part: slice) -> Tensor:
        z = (features[part].double() - scaling.mean) / scaling.scale
        return z @ at.t()

    kept = [product(part) for part in parts] if keep else None
    for _ in range(12):
        total = torch.zeros_like(b)
        hessian = torch.zeros(classes, classes, dtype=torch.float64, device=b.device)
        for i, part in enumerate(parts):
            scores = kept[i] if kept is not None else product(part)
            probs = torch.softmax(scores + b, dim=1)
            total += probs.sum(dim=0)
            hessian -= probs.t() @ probs
        hessian.diagonal().add_(total)
        residual = total / n - frequencies
        if float((residual.abs() / frequencies).max()) < 1e-10:
            break
        step = torch.linalg.pinv(hessian / n, rtol=1e-12, hermitian=True) @ residual
        b = b - step.clamp(-2.0, 2.0)
    return _certificate(features, labels, scaling, at, b, ridge, parts), b


def _certificate(
    features: Tensor,
    labels: Tensor,
    scaling: Scaling,
    at: Tensor,
    b: Tensor,
    ridge: float,
    parts: list[slice],
) -> Certificate:
    n, classes = len(labels), len(b)
    frequencies = torch.bincount(labels, minlength=classes).double() / n
    loss = entropy = torch.zeros((), dtype=torch.float64, device=b.device)
    pull = torch.zeros_like(at)  # mean of (p - y) z^T
    own = torch.zeros_like(at)  # mean of y z^T
    middle = torch.zeros_like(at[0])  # mean of z
    residual = -frequencies
    for part in parts:
        z = (features[part].double() - scaling.mean) / scaling.scale
        hot = torch.nn.functional.one_hot(labels[part], classes).double()
        scores = torch.log_softmax(z @ at.t() + b, dim=1)
        probs = scores.exp()
        loss = loss - (scores * hot).sum() / n
        entropy = entropy - (probs * scores).sum() / n
        pull += (probs - hot).t() @ z / n
        own += hot.t() @ z / n
        middle += z.sum(dim=0) / n
        residual = residual + probs.sum(dim=0) / n
    value = float(loss + 0.5 * ridge * at.square().sum())

    # q = y_mean - (1 - t)/t residual must be a distribution.
    t = float((residual / frequencies).clamp_min(0.0).max())
    t = t / (1.0 + t)
    q = frequencies - (1.0 - t) / t * residual if t > 0.0 else frequencies
    q = q.clamp_min(0.0)
    mixed = (1.0 - t) * pull + t * (torch.outer(q, middle) - own)
    lower = (1.0 - t) * float(entropy) - t * float(torch.special.xlogy(q, q).sum())
    lower -= float(mixed.square().sum()) / (2.0 * ridge)
    gap = max(0.0, value - lower)
    gradient = math.sqrt(float((pull + ridge * at).square().sum() + residual.square().sum()))
    # At W = 0 the gradient is (frequencies) (mean z)^T - own.
    first = float((torch.outer(frequencies, middle) - own).square().sum()) ** 0.5
    relative = gap / lower if lower > 0.0 else (0.0 if gap == 0.0 else math.inf)
    return Certificate(value, relative, gradient / first if first > 0.0 else 0.0)
