"""Calibration, classes, finiteness, and the transferability scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.covariance import LedoitWolf

from zoobench.solvers import transferability as tr
from zoobench.solvers.basis import eigenbasis
from zoobench.solvers.calibration import temperature
from zoobench.solvers.classes import LOG_FLOOR, relabel, spread

Array = NDArray[np.float64]


def test_temperature_is_the_minimum_of_the_nll() -> None:
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 5, 300))
    for factor in (0.05, 1.0, 40.0):
        logits = rng.standard_normal((300, 5)) + 2.0 * np.eye(5)[labels.numpy()]
        scores = torch.from_numpy(factor * logits)

        def nll(log_t: float, scores: torch.Tensor = scores) -> float:
            return float(torch.nn.functional.cross_entropy(scores / math.exp(log_t), labels))

        best = minimize_scalar(nll, bounds=(-9, 9), method="bounded", options={"xatol": 1e-9})
        found = temperature(scores.float(), labels)
        assert found == pytest.approx(math.exp(best.x), rel=1e-4)
        assert temperature(torch.log_softmax(scores, 1), labels) == pytest.approx(found, rel=1e-4)


def test_temperature_without_an_optimum_ends_at_the_range() -> None:
    scores = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    right, wrong = torch.tensor([0, 1]), torch.tensor([1, 0])
    cold = temperature(scores, right)
    assert 1e-4 <= cold < 0.05
    assert float(torch.nn.functional.cross_entropy(scores / cold, right)) == 0.0
    assert temperature(scores, wrong) == pytest.approx(1e4, rel=1e-2)


def test_classes_that_train_lacks_get_the_floor() -> None:
    present = torch.tensor([1, 3])
    assert relabel(torch.tensor([1, 3, 0, 4]), present, 5).tolist() == [0, 1, -1, -1]
    scores = torch.tensor([[-0.1, -2.4], [-200.0, 0.0]])
    full = spread(scores, present, 5)
    assert full[:, present].equal(scores)
    assert full[0, [0, 2, 4]].tolist() == [LOG_FLOOR] * 3
    assert full[1, [0, 2, 4]].tolist() == [-200.0] * 3


def made(n: int, d: int, classes: int) -> tuple[Array, NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    labels = np.arange(n) % classes
    x = 0.7 * rng.standard_normal((classes, d))[labels] + rng.standard_normal((n, d)) + 0.5
    return x, labels


def spectrum(x: Array, labels: NDArray[np.int64]) -> tr.Spectrum:
    return tr.spectrum(torch.from_numpy(x), torch.from_numpy(labels))


@pytest.mark.parametrize(("n", "d", "shift"), [(60, 8, 0.0), (60, 8, 5.0), (20, 35, 1.0)])
def test_logme_is_the_evidence_at_its_maximum(n: int, d: int, shift: float) -> None:
    x, labels = made(n, d, 3)
    x = x + shift * np.linspace(-1.0, 1.0, d)
    total = 0.0
    for c in range(3):
        y = (labels == c).astype(float)

        def negative(logs: Array, y: Array = y) -> float:
            """-log N(y; 0, F F^T / alpha + I / beta), straight from the definition."""
            cov = x @ x.T * math.exp(-logs[0]) + np.eye(n) * math.exp(-logs[1])
            _, log_det = np.linalg.slogdet(cov)
            fit = y @ np.linalg.solve(cov, y)
            return float(0.5 * (log_det + fit + n * math.log(2 * math.pi)))

        from scipy.optimize import minimize

        starts = [minimize(negative, [a, b], method="Nelder-Mead",
                           options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000})
                  for a in (0.0, 4.0) for b in (0.0, 2.0)]  # fmt: skip
        total -= min(found.fun for found in starts) / n
    found = tr.logme(spectrum(x, labels))
    assert found == pytest.approx(total / 3, rel=1e-4)


@pytest.mark.parametrize("offset", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1e-6, 1e6, 1e8])
def test_logme_hardly_depends_on_the_unit(scale: float, offset: float) -> None:
    """alpha takes the unit up; a rounding of the mean that is left outside the basis would trap
    the fixed point where features are large."""
    x, labels = made(2000, 64, 5)
    rows = x + 0.5 * np.random.default_rng(1).standard_normal((5, 64))[labels] + offset
    expected = tr.logme(spectrum(rows.astype(np.float32).astype(np.float64), labels))
    scaled = (scale * rows).astype(np.float32)
    assert tr.logme(spectrum(scaled.astype(np.float64), labels)) == pytest.approx(
        expected, rel=1e-3
    )


@pytest.mark.parametrize(("n", "d"), [(60, 8), (20, 35)])
def test_h_score_from_the_matrices_themselves(n: int, d: int) -> None:
    x, labels = made(n, d, 3)
    estimate = LedoitWolf().fit(x)
    centred = x - x.mean(axis=0)
    means = np.stack([centred[labels == c].mean(axis=0) for c in labels])
    between = means.T @ means / n
    expected = (1 - estimate.shrinkage_) * np.trace(np.linalg.solve(estimate.covariance_, between))
    got = tr.h_score(spectrum(x, labels))
    assert got == pytest.approx(expected, rel=1e-8)
    assert tr.h_score(spectrum(1e6 * x, labels)) == pytest.approx(got)


def test_trans_rate_from_the_determinants() -> None:
    x, labels = made(30, 5, 3)
    z = x - x.mean(axis=0)
    z = z / math.sqrt((z**2).sum())

    def rate(rows: Array) -> float:
        return 0.5 * math.log(np.linalg.det(np.eye(5) + rows.T @ rows / (len(rows) * 1e-4)))

    expected = rate(z) - np.mean([rate(z[labels == c]) for c in range(3)])
    got = tr.trans_rate(spectrum(x, labels))
    assert got == pytest.approx(expected, rel=1e-9)


def test_leep_and_nce_from_counts() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), 50)
    labels = rng.integers(0, 3, 50)
    expected = 0.0
    joint = np.zeros((3, 4))
    for p, y in zip(probs, labels, strict=True):
        joint[y] += p / 50
    for p, y in zip(probs, labels, strict=True):
        expected += math.log(sum(p[z] * joint[y, z] / joint[:, z].sum() for z in range(4))) / 50
    got = tr.leep(torch.from_numpy(probs), torch.from_numpy(labels))
    assert got == pytest.approx(expected, rel=1e-9)

    source = probs.argmax(axis=1)
    entropy = 0.0
    for z in range(4):
        for y in range(3):
            both = ((source == z) & (labels == y)).mean()
            if both > 0:
                entropy -= both * math.log(both / (source == z).mean())
    got = tr.nce(torch.from_numpy(source), torch.from_numpy(labels))
    assert got == pytest.approx(-entropy, rel=1e-9)


def test_every_score_prefers_features_that_separate() -> None:
    x, labels = made(90, 6, 3)
    good = spectrum(x + 4.0 * np.eye(6)[labels], labels)
    bad = spectrum(x[np.random.default_rng(0).permutation(90)], labels)
    for score in (tr.logme, tr.h_score, tr.trans_rate):
        assert score(good) > score(bad)


def test_a_basis_of_mostly_dead_features_is_found() -> None:
    # Some LAPACKs' float32 eigensolver gives up on such a Gram matrix.
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(3600, 1280, generator=draw) * torch.linspace(1, 1e-3, 1280)
    dead = torch.randperm(1280, generator=draw)[:1000]
    rows[:, dead] = 0.0
    centred = rows - rows.mean(dim=0)
    found = eigenbasis(centred)
    turned = centred.double() @ found.basis.double()
    assert torch.allclose(turned.square().mean(dim=0), found.eigenvalues, atol=1e-5)
    assert int((found.eigenvalues > 1e-9).sum()) == 280
