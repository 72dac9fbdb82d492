"""The linear probe's path of penalties (PROTOCOL section 2, `linear-probe`).

Minimise (1/n) sum CE(W x + b, y) + (lambda/2) s ||W||^2 for 45 lambdas over 11 decades, b
unpenalised, s = trace of the covariance / D. Where rows have masses of classes (truth.py), each
counts as often as they sum to, in n and in s as well. How it is made cheap:

1. Features are centred, divided by sqrt(s) and rotated into the eigenbasis of their Gram
   matrix, once. The rotation changes coordinates, not the answer, and makes a diagonal a
   good preconditioner.
2. From strong to weak, each point starts from the one before, and L-BFGS keeps the curvature
   pairs of all earlier points (see lbfgs.Pairs): about five evaluations a point.
3. The path ends when the validation NLL has been above its least value for a whole decade.
4. Path points are solved to an estimated gap of 1e-4; only the chosen one, and the refit, are
   polished and certified in float64 (see softmax.certify).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import torch
from torch import Tensor

from zoobench.solvers.basis import (
    LinearHead,
    Scaling,
    beside,
    blocks,
    eigenbasis,
    joint_scale,
    near,
    scaling,
)
from zoobench.solvers.grid import grid
from zoobench.solvers.lbfgs import Pairs, Solution, minimise
from zoobench.solvers.softmax import LOSS_FLOOR, Certificate, SoftmaxProblem, certify
from zoobench.solvers.truth import Truth, labelled, truth_of

COPIES = 4
"""Of the rows in float32, at most, that are held at once where they lie: as given, train and valid
together, scaled, and rotated."""
TARGET = 1e-4
"""Largest relative gap of a solution that counts as converged."""
PATIENCE = 10.0
"""The path ends when lambda is this factor below the best one, with a higher NLL."""
SMALL = 2**23
"""Up to this N x D x C everything is float64: few-shot sets, where it costs nothing."""
FALLBACK_BYTES = 2**30
"""Above it float32 solves, and float64 finishes what float32 could not certify, if the rows
in float64 stay below this."""
LEVEL = 3e-4
"""nats, or of what is chosen by. A polished point keeps its place against an unpolished one that
looks better by less."""
FAR = 3.0
"""The refit goes by way of stronger lambdas where its start is this factor above the fit."""
EASING = (30.0, 5.0)
"""These factors stronger, each to a gap of EASED. On the mixture of docs/performance.md 99
evaluations in place of 152."""
EASED = 1e-2
EXTENSIONS = 2
"""How often the grid grows by two decades when the choice lands on its edge."""


@dataclass(frozen=True)
class PathOptions:
    """`lambdas` points over `decades`; `limit` evaluations of the objective at each."""

    lambdas: int = 45
    decades: float = 11.0
    limit: int = 400
    stop_early: bool = True


@dataclass(frozen=True)
class PathPoint:
    """One lambda, its objective and an upper bound of the relative gap: in float32 for the points
    that were only compared, in float64 (`exact`) for those that were polished. `valid_loss` is
    what the choice is made by: the NLL, or what the caller says."""

    lam: float
    objective: float
    relative_gap: float
    evaluations: int
    valid_nll: float
    valid_accuracy: float
    valid_loss: float
    exact: bool = False

    @property
    def order(self) -> tuple[float, float, float]:
        """Less is better: what is chosen by, then the NLL, then the stronger lambda."""
        return (self.valid_loss, self.valid_nll, -self.lam)


@dataclass(frozen=True)
class Fit:
    """A head with what is known of how well it was solved, and the work it took."""

    head: LinearHead
    lam: float
    certificate: Certificate
    evaluations: int

    @property
    def converged(self) -> bool:
        return self.certificate.relative_gap <= TARGET


@dataclass(frozen=True)
class LogisticPath:
    """`points` strong to weak; `fit` is `points[chosen]` on train, `refit` on train + valid.

    `extended` counts how often the grid had to grow; `on_edge` says that the choice is on
    the edge even so.
    """

    points: tuple[PathPoint, ...]
    chosen: int
    extended: int
    on_edge: bool
    fit: Fit
    refit: Fit


@dataclass
class _Data:
    """Train rows, then valid rows, in the coordinates of the solver."""

    features: Tensor
    truth: Truth
    n_train: int
    classes: int
    scaling: Scaling
    basis: Tensor
    rows: Tensor
    curvature: Tensor
    ridge_factor: float = 1.0
    judge: Callable[[Tensor], float] | None = None
    pairs: Pairs = field(default_factory=Pairs)

    def to_double(self) -> None:
        self.rows = self.rows.double()
        self.pairs = self.pairs.copy(torch.float64)

    def problem(self, lam: float, refit: bool = False) -> SoftmaxProblem:
        end = len(self.rows) if refit else self.n_train
        ridge = lam * (self.ridge_factor if refit else 1.0)
        truth = self.truth.take(slice(end))
        return SoftmaxProblem(self.rows[:end], truth, self.classes, ridge, self.curvature)

    def head(self, at: Tensor) -> LinearHead:
        weight = at[:, 1:].double() @ self.basis.double().t()
        return LinearHead(self.scaling, weight, at[:, 0].double())


def logistic_path(
    train: Tensor,
    labels: Tensor,
    valid: Tensor,
    valid_labels: Tensor,
    classes: int,
    options: PathOptions | None = None,
    judge: Callable[[Tensor], float] | None = None,
) -> LogisticPath:
    """The whole procedure: path, choice by validation NLL, refit on train + valid.

    `train` (N, D) and `valid` (M, D) of any float type, on the device of the labels, or in the
    host's memory, from where they are then read in blocks; `labels` (N,) int64
    holds every class of [0, classes); `valid_labels` (M,) may be -1 for a class that train
    lacks: such rows are ignored. Or both are masses, (N, C) and (M, C) floats: rows without any
    are ignored. `judge`, of (M, C) scores of the valid rows that are not, gives what is chosen
    by in place of the NLL, less being better. Beside the features it holds one more copy of both
    in float32, and blocks of basis.WORKSPACE_BYTES.
    """
    options = options or PathOptions()
    train, labels = labelled(train, labels)
    valid, valid_labels = labelled(valid, valid_labels)
    data = _prepare(train, labels, valid, valid_labels, classes)
    data.judge = judge
    walker = _Walker(data, options)
    lambdas = grid(options.lambdas, options.decades)
    walker.walk(lambdas)
    extended = 0
    while extended < EXTENSIONS and walker.edge(lambdas):
        lambdas = _extended(lambdas, strong=walker.edge(lambdas) == "strong")
        walker.walk(lambdas)
        extended += 1
    fit = walker.settle()
    points = tuple(sorted(walker.points.values(), key=lambda p: -p.lam))
    chosen = next(i for i, p in enumerate(points) if p.lam == fit.lam)
    start, eased = _eased(data, fit, walker.best_at, options.limit)
    refit, _ = _solve(data, fit.lam, start, True, options.limit)
    refit = replace(refit, evaluations=refit.evaluations + eased)
    return LogisticPath(points, chosen, extended, bool(walker.edge(lambdas)), fit, refit)


def least_nll(
    train: Tensor,
    labels: Tensor,
    valid: Tensor,
    valid_labels: Tensor,
    classes: int,
    options: PathOptions,
) -> float:
    """The least validation NLL along the path, as far as its points are solved: nothing is
    polished, certified or refit. Arguments as of `logistic_path`: it compares features."""
    (train, labels), (valid, valid_labels) = (
        labelled(train, labels), labelled(valid, valid_labels)
    )  # fmt: skip
    walker = _Walker(_prepare(train, labels, valid, valid_labels, classes), options)
    walker.walk(grid(options.lambdas, options.decades))
    return min(point.valid_nll for point in walker.points.values())


def _extended(lambdas: Sequence[float], strong: bool) -> list[float]:
    """Two decades more at one end, with the grid's own step."""
    ratio = lambdas[1] / lambdas[0]
    more = next(i for i in count(1) if ratio**i <= 1e-2 * (1.0 + 1e-9))
    if strong:
        return [lambdas[0] / ratio**i for i in range(more, 0, -1)] + list(lambdas)
    return list(lambdas) + [lambdas[-1] * ratio**i for i in range(1, more + 1)]


def _prepare(
    train: Tensor, labels: Tensor, valid: Tensor, valid_labels: Tensor, classes: int
) -> _Data:
    """Rotate train and valid together.

    The basis spans both, so that one rotation serves the path and the refit. It is only a
    choice of coordinates: the fit on train is the same in any orthonormal basis.
    """
    device = labels.device
    features = beside(train, (len(train) + len(valid), train.shape[1]), train.dtype)
    torch.cat([train, valid.to(train)], out=features)
    own, held = truth_of(labels), truth_of(valid_labels)
    scaled = scaling(train, own.weights, device)
    small = features.numel() * classes <= SMALL
    centred = scaled.apply(features, torch.float64 if small else torch.float32)
    basis = eigenbasis(centred, centred.dtype, device)
    rows = basis.rows_of(centred)
    ones = torch.ones(1, dtype=torch.float64, device=device)
    curvature = torch.cat([ones, basis.eigenvalues])
    both = truth_of(torch.cat([labels, valid_labels]))
    # lambda's unit on train + valid is their own s; the coordinates keep train's.
    joint = joint_scale(valid, (own.total, held.total), scaled, held.weights)
    factor = (joint / scaled.scale) ** 2
    return _Data(features, both, len(train), classes, scaled, basis.basis, rows, curvature, factor)


class _Walker:
    """Walks the path and keeps the best point's parameters, and nobody else's."""

    def __init__(self, data: _Data, options: PathOptions) -> None:
        self.data = data
        self.options = options
        self.points: dict[float, PathPoint] = {}
        self.best: PathPoint | None = None
        self.best_at = self._start()
        self.best_pairs = Pairs()

    def _start(self) -> Tensor:
        """W = 0 and the class frequencies: the optimum for lambda -> infinity."""
        data = self.data
        train = data.truth.take(slice(data.n_train))
        start = data.basis.new_zeros(data.classes, data.rows.shape[1], dtype=data.rows.dtype)
        start[:, 0] = (train.counts(data.classes) / train.total).log()
        return start

    def walk(self, lambdas: Sequence[float]) -> None:
        """Visit `lambdas`, strong to weak, that were not visited yet."""
        at = self._start()
        problem = self.data.problem(lambdas[0])
        for lam in lambdas:
            if lam in self.points:
                if self.best is not None and lam == self.best.lam:
                    at = self.best_at
                continue
            problem = problem.with_ridge(lam)
            solution = minimise(problem, at, self.data.pairs, TARGET, self.options.limit)
            at = solution.at
            self._note(lam, solution)
            if self.options.stop_early and lam * PATIENCE < self.seen_best * (1.0 + 1e-9):
                break

    @property
    def seen_best(self) -> float:
        """The weaker of the lambdas that are best by the NLL and by what is chosen by: a judge
        that counts pixels may see no change for decades, while the NLL falls."""
        assert self.best is not None
        likely = min(self.points.values(), key=lambda p: p.valid_nll)
        return min(likely.lam, self.best.lam)

    def _note(self, lam: float, solution: Solution) -> None:
        valid = self._validate(solution.at)
        point = PathPoint(lam, solution.value, solution.bound, solution.evaluations, *valid)
        self.points[lam] = point
        if self.best is None or point.order < self.best.order:
            self.best, self.best_at = point, solution.at
            self.best_pairs = self.data.pairs.copy(solution.at.dtype)

    def _validate(self, at: Tensor) -> tuple[float, float, float]:
        """(NLL, accuracy, what is chosen by) on valid."""
        data = self.data
        valid = data.truth.take(slice(data.n_train, None))
        loss, hits, rows = 0.0, 0.0, data.rows[data.n_train :]
        said = []
        sent = 0 if rows.device == at.device else rows[:1].nbytes
        for part in blocks(len(rows), 8 * data.classes + sent, at.device):
            scores = torch.log_softmax(near(rows, part, at.device) @ at.t(), dim=1)
            loss += float(valid.loss(scores, part, dim=1))
            hits += valid.hits(scores, part)
            if data.judge is not None:
                said.append(scores)
        nll, accuracy = loss / max(1, valid.total), hits / max(1, valid.total)
        judged = nll if data.judge is None else data.judge(torch.cat(said))
        return nll, accuracy, judged

    def edge(self, lambdas: Sequence[float]) -> str:
        """ "strong" or "weak" where the best point is that end of the grid, else ""."""
        assert self.best is not None
        if len(lambdas) < 2:
            return ""
        return {lambdas[0]: "strong", lambdas[-1]: "weak"}.get(self.best.lam, "")

    def settle(self) -> Fit:
        """Polish and certify the best point; where another is then better by LEVEL, that one.

        Polishing moves the NLL by about as much as neighbours differ near the minimum, and
        another polish costs a third of the path: below LEVEL the first stands.
        """
        polished: dict[float, tuple[Fit, Tensor]] = {}
        while True:
            best = min(self.points.values(), key=lambda p: p.order)
            done = [p for p in self.points.values() if p.lam in polished]
            near = min(done, key=lambda p: p.order, default=None)
            if near is not None and near.valid_loss <= best.valid_loss + LEVEL:
                fit, self.best_at = polished[near.lam]
                self.best = near
                return fit
            # Pairs of the best point's own neighbourhood: those of weaker lambdas are stale.
            self.data.pairs = self.best_pairs.copy(self.data.rows.dtype)
            fit, at = _solve(self.data, best.lam, self.best_at, False, self.options.limit)
            valid = self._validate(at)
            used = best.evaluations + fit.evaluations
            known = fit.certificate
            self.points[best.lam] = PathPoint(
                best.lam, known.objective, known.relative_gap, used, *valid, exact=True
            )
            polished[best.lam] = (fit, at)


def _eased(data: _Data, fit: Fit, at: Tensor, limit: int) -> tuple[Tensor, int]:
    """(where the refit starts, evaluations): at the fit, or where stronger lambdas lead from it.

    Of nearly separable data the fit is far from an optimum on train + valid: it has pushed
    the train rows' losses to nothing, and is sure of its errors on the valid rows.
    """
    problem = data.problem(fit.lam, refit=True)
    at = at.to(problem.rows.dtype)  # polishing another point may have turned the rows to float64
    value, _ = problem.value_and_gradient(at)
    used = 1
    if value > FAR * max(fit.certificate.objective, LOSS_FLOOR):
        for factor in EASING:
            eased = minimise(
                problem.with_ridge(problem.ridge * factor), at, data.pairs, EASED, limit
            )
            at, used = eased.at, used + eased.evaluations
    return at, used


def _solve(data: _Data, lam: float, start: Tensor, refit: bool, limit: int) -> tuple[Fit, Tensor]:
    """Minimise until the float64 certificate says TARGET, or the evaluations are used up."""
    # Where all is float64, the sets are small, and a tighter solution costs next to nothing.
    tolerance = (0.8 if data.rows.dtype == torch.float32 else 0.02) * TARGET
    used, at = 0, start
    while True:
        problem = data.problem(lam, refit)
        problem.strict = True
        end = len(problem.rows)
        at = at.to(problem.rows.dtype)
        solution = minimise(problem, at, data.pairs, tolerance, limit - used)
        used += solution.evaluations
        head = data.head(solution.at)
        certificate, bias = certify(
            data.features[:end], problem.truth, data.scaling, head.weight, head.bias,
            problem.ridge,
        )  # fmt: skip
        at = solution.at.clone()
        at[:, 0] = bias
        fit = Fit(replace(head, bias=bias), lam, certificate, used)
        if fit.converged or used >= limit or tolerance < 1e-3 * TARGET:
            return fit, at
        tolerance *= 0.2
        single = data.rows.dtype == torch.float32
        if single and tolerance < 0.05 * TARGET and 2 * data.rows.nbytes <= FALLBACK_BYTES:
            data.to_double()
