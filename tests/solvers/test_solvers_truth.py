"""Masses of classes against the rows that they stand for, one label each: the same problem."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from zoobench.solvers import logistic
from zoobench.solvers.basis import scaling
from zoobench.solvers.logistic import TARGET, PathOptions, logistic_path
from zoobench.solvers.softmax import LOSS_FLOOR, SoftmaxProblem, certify
from zoobench.solvers.truth import HardLabels, Masses, truth_of


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def cells(n: int, d: int, classes: int, pixels: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(n, d) float32 features and (n, classes) numbers of pixels: mostly one class a cell, some
    cells at a border, some partly ignored."""
    rng = np.random.default_rng(seed)
    main, other = np.arange(n) % classes, rng.integers(0, classes, n)
    share = np.where(rng.random(n) < 0.4, rng.integers(0, pixels, n), 0)
    valid = np.where(rng.random(n) < 0.2, pixels // 2, 0)
    mass = np.zeros((n, classes))
    np.add.at(mass, (np.arange(n), main), np.maximum(pixels - share - valid, 0))
    np.add.at(mass, (np.arange(n), other), share)
    centres = rng.standard_normal((classes, d))
    x = centres[main] + 0.7 * centres[other] * (share / pixels)[:, None]
    x += rng.standard_normal((n, d))
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(mass)


def pixels_of(x: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel as a row of its own, with its cell's features and one label."""
    rows, labels = [], []
    for i, row in enumerate(mass.long().tolist()):
        for label, many in enumerate(row):
            rows += [i] * many
            labels += [label] * many
    return x[torch.tensor(rows)], torch.tensor(labels)


def per_pixel(w: np.ndarray, b: np.ndarray, x: Tensor, mass: Tensor, lam: float) -> float:
    """The objective of PROTOCOL section 2 over pixels, in numpy, pixel by pixel."""
    flat, labels = (part.numpy() for part in pixels_of(x.double(), mass))
    flat = (flat - flat.mean(axis=0)) / math.sqrt(flat.var(axis=0).mean())
    total = 0.0
    for row, label in zip(flat, labels, strict=True):
        scores = w @ row + b
        total += float(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[label])
    return total / len(labels) + lam / 2 * float((w**2).sum())


@pytest.mark.parametrize(("n", "d", "classes"), [(120, 8, 3), (90, 40, 5)])
def test_the_objective_over_cells_is_the_one_over_pixels(n: int, d: int, classes: int) -> None:
    x, mass = cells(n, d, classes)
    rng = np.random.default_rng(1)
    flat, labels = pixels_of(x, mass)
    for size in (0.0, 0.3, 3.0):
        w = torch.from_numpy(size * rng.standard_normal((classes, d)))
        b = torch.from_numpy(rng.standard_normal(classes))
        known, bias = certify(x, mass, scaling(x, Masses(mass).weights), w, b, 1e-2)
        plain, same = certify(flat, labels, scaling(flat), w, b, 1e-2)
        assert bias.numpy() == pytest.approx(same.numpy(), abs=1e-6)
        assert known.objective == pytest.approx(plain.objective, rel=1e-6)
        assert known.relative_gap == pytest.approx(plain.relative_gap, rel=1e-4, abs=1e-9)
        assert known.relative_gradient_norm == pytest.approx(plain.relative_gradient_norm, rel=1e-4)
        assert known.objective == pytest.approx(
            per_pixel(w.numpy(), bias.numpy(), x, mass, 1e-2), rel=1e-6
        )


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_the_path_is_that_of_the_pixels_and_scikit_learns_optimum(
    single: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if single:
        monkeypatch.setattr(logistic, "SMALL", 0)
    x, mass = cells(260, 12, 4)
    train, valid = slice(200), slice(200, None)
    found = logistic_path(x[train], mass[train], x[valid], mass[valid], 4)
    flat, held = pixels_of(x[train], mass[train]), pixels_of(x[valid], mass[valid])
    plain = logistic_path(*flat, *held, 4)
    assert found.fit.lam == plain.fit.lam
    assert found.fit.converged
    assert found.refit.converged
    for ours, theirs in ((found.fit, plain.fit), (found.refit, plain.refit)):
        assert ours.certificate.objective == pytest.approx(theirs.certificate.objective, rel=1e-4)
    point = found.points[found.chosen]
    other = plain.points[plain.chosen]
    assert point.valid_nll == pytest.approx(other.valid_nll, abs=1e-3)
    assert point.valid_accuracy == pytest.approx(other.valid_accuracy, abs=5e-3)

    lam = found.fit.lam
    data = flat[0].double().numpy()
    data = (data - data.mean(axis=0)) / math.sqrt(data.var(axis=0).mean())
    theirs = LogisticRegression(C=1.0 / (lam * len(data)), tol=1e-14, max_iter=20_000)
    theirs.fit(data, flat[1].numpy())
    best = per_pixel(theirs.coef_, theirs.intercept_, x[train], mass[train], lam)
    assert found.fit.certificate.objective - best <= TARGET * max(best, LOSS_FLOOR) + 1e-9
    # And as weights of samples, which is what scikit-learn has for such rows.
    rows, labels = np.nonzero(mass[train].numpy())
    again = LogisticRegression(C=1.0 / (lam * len(data)), tol=1e-14, max_iter=20_000)
    cell = x[train].double().numpy()
    own = scaling(x[train], Masses(mass[train]).weights)
    cell = (cell - own.mean.numpy()) / own.scale
    again.fit(cell[rows], labels, sample_weight=mass[train].numpy()[rows, labels])
    known, _ = certify(
        x[train], mass[train], own, torch.from_numpy(again.coef_),
        torch.from_numpy(again.intercept_), lam,
    )  # fmt: skip
    assert known.objective == pytest.approx(best, rel=1e-7)
    assert known.relative_gap < 1e-6


def test_the_certificate_is_a_true_bound_at_any_point() -> None:
    x, mass = cells(80, 5, 3)
    own = scaling(x, Masses(mass).weights)
    best = logistic_path(x, mass, x[:0], mass[:0], 3, PathOptions(lambdas=1)).fit
    for size in (1e-4, 1e-2, 1.0, 100.0):
        drawn = torch.Generator().manual_seed(0)
        moved = best.head.weight + size * torch.randn(3, 5, generator=drawn, dtype=torch.float64)
        known, _ = certify(x, mass, own, moved, best.head.bias, best.lam)
        gap = (known.objective - best.certificate.objective) / best.certificate.objective
        assert gap <= known.relative_gap + 1e-9


def test_rows_without_mass_are_nothing_and_the_unit_of_mass_does_not_matter() -> None:
    x, mass = cells(150, 6, 3)
    empty = mass.clone()
    empty[140:] = 0
    padded = torch.cat([x[:140], 1e3 * torch.ones(10, 6)])
    plain = logistic_path(x[:100], mass[:100], x[100:140], mass[100:140], 3)
    for rows, masses in ((padded, empty), (x[:140], mass[:140] / 256)):
        found = logistic_path(rows[:100], masses[:100], rows[100:], masses[100:], 3)
        assert found.fit.lam == plain.fit.lam
        assert found.refit.certificate.objective == pytest.approx(
            plain.refit.certificate.objective, rel=1e-6
        )


def test_a_judge_chooses_and_the_path_does_not_end_before_it_has_seen_a_change() -> None:
    x, mass = cells(260, 12, 4)
    train, valid = slice(200), slice(200, None)
    asked: list[tuple[int, ...]] = []

    def flat(scores: Tensor) -> float:
        asked.append(tuple(scores.shape))
        return 0.5

    constant = logistic_path(x[train], mass[train], x[valid], mass[valid], 4, judge=flat)
    likely = logistic_path(x[train], mass[train], x[valid], mass[valid], 4)
    assert set(asked) == {(60, 4)}
    assert constant.fit.lam == likely.fit.lam, "where the judge sees no difference the NLL decides"

    def spread(scores: Tensor) -> float:
        return -float(scores.max())

    sure = logistic_path(x[train], mass[train], x[valid], mass[valid], 4, judge=spread)
    assert sure.fit.lam < likely.fit.lam
    least = min(p.valid_loss for p in sure.points)
    assert sure.points[sure.chosen].valid_loss <= least + logistic.LEVEL


@settings(max_examples=20)
@given(n=st.integers(1, 30), classes=st.integers(1, 4), seed=st.integers(0, 99))
def test_one_label_a_row_is_a_mass_of_one(n: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, classes, n))
    hard, soft = truth_of(labels), truth_of(torch.eye(classes, dtype=torch.float64)[labels])
    assert isinstance(hard, HardLabels)
    assert isinstance(soft, Masses)
    rows = torch.from_numpy(rng.standard_normal((n, 1 + 3)))
    rows[:, 0] = 1
    at = torch.from_numpy(rng.standard_normal((classes, 4)))
    at -= at.mean(dim=0)
    values = [
        SoftmaxProblem(rows, truth, classes, 0.1, torch.ones(4)).value_and_gradient(at)
        for truth in (hard, soft)
    ]
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-12)
    assert values[0][1].numpy() == pytest.approx(values[1][1].numpy(), abs=1e-12)
    part, scores = slice(0, n // 2), rows @ at.t()
    assert hard.hits(scores[part], part) == soft.hits(scores[part], part)
    assert torch.equal(hard.counts(classes), soft.counts(classes))
