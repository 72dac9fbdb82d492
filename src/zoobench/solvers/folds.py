"""Predictions for every example by linear probes that were not fitted on it (K folds).

A held-out split of a fifth judges by a fifth of what was paid for; K-fold cross-validation
(Stone 1974) judges by all of it. So is the penalty chosen: one for all folds, by the NLL of
what was held out. A few dozen validation examples choose one that costs a model more points
than lie between it and the next.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoobench.solvers.basis import eigenbasis, scaling
from zoobench.solvers.lbfgs import Pairs, minimise
from zoobench.solvers.softmax import SoftmaxProblem

FOLDS = 5
LIMIT = 200
TARGET = 1e-3
"""Largest estimated gap: of 600 examples about one in a hundred is said otherwise at a tenth of
it, and the accuracy moves by less than half a point either way."""
STRONGER = 10.0
"""The walk over penalties begins at so many times the given one, or at 1: probes that are solved
in a hurry must come from strong penalties,"""
STEP = 10**-0.5
"""goes on by this factor,"""
PATIENCE = 2
"""and ends when so many in a row were worse than the best."""
LEAST, MOST = 1e-6, 1e3


def fold_of(labels: Tensor, folds: int = FOLDS) -> Tensor:
    """(N,) int64 fold of each example: each class is dealt out in turn, in the order given."""
    order = torch.argsort(labels, stable=True)
    fold = torch.empty_like(labels)
    # Dealt on across classes, so that small classes do not all begin with the first fold.
    fold[order] = torch.arange(len(labels), device=labels.device) % folds
    return fold


def out_of_fold(
    features: Tensor, labels: Tensor, classes: int, lam: float, folds: int = FOLDS
) -> tuple[Tensor, float]:
    """((N,) int64 class of each example as a probe says that never saw it, the probes' penalty).

    `features` (N, D), `labels` (N,) int64 in [0, classes); `lam` is about the penalty. Minimises
    the objective of logistic.py on the other folds, in the scale and eigenbasis of all N rows (no
    labels enter either). A class that only one fold holds is never predicted there.

    Each fold starts from its own class frequencies, then from its own last penalty: another
    fold's solution is near, but knows the examples that are held out.
    """
    centred = scaling(features).apply(features)
    basis = eigenbasis(centred)
    rows = centred.new_ones(len(features), 1 + basis.basis.shape[1])
    torch.mm(centred, basis.basis, out=rows[:, 1:])
    fold = fold_of(labels, folds)
    probes = [
        _Fold(rows, labels, classes, fold == k, basis.eigenvalues)
        for k in range(folds)
        if bool((fold == k).any())
    ]
    best, chosen, worse = torch.inf, lam, 0
    said = torch.empty_like(labels)
    strongest = penalty = max(STRONGER * lam, 1.0)
    while worse < PATIENCE and penalty >= LEAST:
        loss = 0.0
        now = torch.empty_like(labels)
        for probe in probes:
            scores = probe.scores(penalty)
            now[probe.out] = scores.argmax(dim=1)
            # A class that the other folds lack has no probability: the same loss at any penalty.
            own = scores.log_softmax(dim=1).gather(1, probe.held[:, None])
            loss -= float(own[torch.isfinite(own)].sum(dtype=torch.float64))
        if loss < best:
            best, chosen, said, worse = loss, penalty, now, 0
        else:
            worse += 1
        penalty *= STEP
    if chosen == strongest < MOST:  # it began where it should have ended
        return out_of_fold(features, labels, classes, STRONGER * strongest, folds)
    return said, chosen


class _Fold:
    """The probe of all rows but those of `out` (N,) bool, walked from strong to weak."""

    def __init__(
        self, rows: Tensor, labels: Tensor, classes: int, out: Tensor, eigenvalues: Tensor
    ) -> None:
        known = labels[~out]
        counts = torch.bincount(known, minlength=classes).double()
        self.out = out
        self.held = labels[out]
        self.unseen = counts == 0
        self.rows = rows[out]
        self.at = rows.new_zeros(classes, rows.shape[1])
        self.at[:, 0] = ((counts + 0.5) / (counts + 0.5).sum()).log()
        one = torch.ones(1, dtype=torch.float64, device=rows.device)
        curvature = torch.cat([one, eigenvalues])
        self.problem = SoftmaxProblem(rows[~out], known, classes, 1.0, curvature)
        self.pairs = Pairs()

    def scores(self, penalty: float) -> Tensor:
        """(held, C) at `penalty`; -inf for a class that was not seen."""
        self.problem = self.problem.with_ridge(penalty)
        self.at = minimise(self.problem, self.at, self.pairs, TARGET, LIMIT).at
        scores = self.rows @ self.at.t()
        scores[:, self.unseen] = -torch.inf
        return scores
