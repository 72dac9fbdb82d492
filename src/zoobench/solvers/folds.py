"""Predictions for every example by linear probes that were not fitted on it (K folds).

A held-out split of a fifth judges by a fifth of what was paid for; K-fold cross-validation
(Stone 1974) judges by all of it. The penalty is given, the same in all folds: chosen on the
examples themselves it would be optimistic, but alike for all models.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoobench.solvers.basis import eigenbasis, scaling
from zoobench.solvers.lbfgs import Pairs, minimise
from zoobench.solvers.logistic import SMALL, TARGET
from zoobench.solvers.softmax import SoftmaxProblem

FOLDS = 5
LIMIT = 200


def fold_of(labels: Tensor, folds: int = FOLDS) -> Tensor:
    """(N,) int64 fold of each example: each class is dealt out in turn, in the order given."""
    order = torch.argsort(labels, stable=True)
    fold = torch.empty_like(labels)
    # Dealt on across classes, so that small classes do not all begin with the first fold.
    fold[order] = torch.arange(len(labels), device=labels.device) % folds
    return fold


def out_of_fold(
    features: Tensor, labels: Tensor, classes: int, lam: float, folds: int = FOLDS
) -> Tensor:
    """(N,) int64 class of each example as a probe of penalty `lam` says that never saw it.

    `features` (N, D), `labels` (N,) int64 in [0, classes). Minimises the objective of
    logistic.py on the other folds, in the scale and eigenbasis of all N rows (no labels
    enter either). A class that only one fold holds is never predicted there.
    """
    small = features.numel() * classes <= SMALL
    centred = scaling(features).apply(features, torch.float64 if small else torch.float32)
    basis = eigenbasis(centred, centred.dtype)
    rows = centred.new_ones(len(features), 1 + basis.basis.shape[1])
    torch.mm(centred, basis.basis, out=rows[:, 1:])
    one = torch.ones(1, dtype=torch.float64, device=features.device)
    curvature = torch.cat([one, basis.eigenvalues])
    fold = fold_of(labels, folds)
    said = torch.empty_like(labels)
    for k in range(folds):
        out = fold == k
        if not bool(out.any()):
            continue
        known = labels[~out]
        counts = torch.bincount(known, minlength=classes).double()
        start = rows.new_zeros(classes, rows.shape[1])
        start[:, 0] = ((counts + 0.5) / (counts + 0.5).sum()).log()
        problem = SoftmaxProblem(rows[~out], known, classes, lam, curvature)
        found = minimise(problem, start, Pairs(), TARGET, LIMIT).at
        scores = rows[out] @ found.t()
        scores[:, counts == 0] = -torch.inf
        said[out] = scores.argmax(dim=1)
    return said
