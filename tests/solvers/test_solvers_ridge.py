"""Ridge's closed form against brute force and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV
from torch.nn.functional import one_hot

from zoobench.solvers.grid import grid
from zoobench.solvers.ridge import ridge_path

Array = NDArray[np.float64]


def data(n: int, d: int, classes: int, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    x = rng.standard_normal((classes, d))[labels] + rng.standard_normal((n, d)) + 5.0
    return x.astype(np.float32).astype(np.float64), labels.astype(np.int64)


def solve(x: Array, y: Array, alpha: float) -> tuple[Array, Array]:
    """W (D, C) and b (C,) that minimise sum ||y - W x - b||^2 + alpha ||W||^2."""
    mean, target = x.mean(axis=0), y.mean(axis=0)
    gram = (x - mean).T @ (x - mean) + alpha * np.eye(x.shape[1])
    w = np.linalg.solve(gram, (x - mean).T @ (y - target))
    return w, target - mean @ w


@pytest.mark.parametrize(("n", "d"), [(40, 6), (24, 50)])
def test_leave_one_out_is_what_leaving_one_out_gives(n: int, d: int) -> None:
    x, labels = data(n, d, 3)
    targets = np.eye(3)[labels]
    lambdas = grid(9, 8.0)[:7]
    path = ridge_path(torch.from_numpy(x).float(), one_hot(torch.from_numpy(labels), 3), lambdas)
    for i, lam in enumerate(lambdas):
        alpha = lam * n * x.var(axis=0).mean()
        scores = np.empty((n, 3))
        for out in range(n):
            keep = np.arange(n) != out
            w, b = solve(x[keep], targets[keep], alpha)
            scores[out] = x[out] @ w + b
        assert path.loo_error[i].item() == pytest.approx(((scores - targets) ** 2).mean(), rel=1e-3)
        hits = (scores.argmax(axis=1) == labels).mean()
        assert path.loo_accuracy[i].item() == pytest.approx(hits, abs=1.01 / n)
        if i == path.best:
            assert np.abs(path.loo_scores.numpy() - scores).max() < 1e-3


@pytest.mark.parametrize(("n", "d"), [(90, 12), (30, 60)])
def test_chooses_and_predicts_as_scikit_learn_does(n: int, d: int) -> None:
    x, labels = data(n, d, 4)
    lambdas = grid(12, 6.0)
    alphas = [lam * n * x.var(axis=0).mean() for lam in lambdas]
    path = ridge_path(torch.from_numpy(x).float(), one_hot(torch.from_numpy(labels), 4), lambdas)
    theirs = RidgeClassifierCV(alphas=alphas).fit(x, labels)
    assert theirs.alpha_ == pytest.approx(alphas[path.best])
    # They regress on -1 / 1, we on 0 / 1.
    expected = (theirs.decision_function(x) + 1.0) / 2.0
    assert np.abs(path.head.scores(torch.from_numpy(x).float()).numpy() - expected).max() < 1e-4


@settings(max_examples=20)
@given(
    n=st.integers(2, 40),
    d=st.integers(1, 60),
    scale=st.sampled_from([1e-8, 1.0, 1e6]),
    spoil=st.sampled_from(["nothing", "duplicates", "constant"]),
)
def test_awkward_data_gives_finite_scores(n: int, d: int, scale: float, spoil: str) -> None:
    x, labels = data(max(n, 2), d, 2)
    given_x = torch.from_numpy(x).float() * scale
    if spoil == "duplicates":
        given_x = torch.cat([given_x, given_x], dim=1)
    elif spoil == "constant":
        given_x = torch.full_like(given_x, 3.0 * scale)
    path = ridge_path(given_x, one_hot(torch.from_numpy(labels), 2), grid())
    assert bool(torch.isfinite(path.loo_error).all())
    assert bool(torch.isfinite(path.head.scores(given_x)).all())
    if spoil == "constant":
        means = torch.bincount(torch.from_numpy(labels)).float() / len(labels)
        assert torch.allclose(path.head.scores(given_x), means.expand(len(labels), 2), atol=1e-5)


def test_scale_offset_and_rotation_do_not_matter() -> None:
    x, labels = data(60, 10, 3)
    base = torch.from_numpy(x).float()
    y = torch.from_numpy(labels)
    turn = torch.linalg.qr(torch.randn(10, 10, generator=torch.Generator().manual_seed(0))).Q
    plain = ridge_path(base, one_hot(y, 3), grid())
    for changed in (base * 1e5, base - 40.0, base @ turn):
        path = ridge_path(changed, one_hot(y, 3), grid())
        assert path.best == plain.best
        assert torch.allclose(path.loo_error, plain.loo_error, rtol=1e-3)
