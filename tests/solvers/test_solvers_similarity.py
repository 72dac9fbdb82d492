"""Distances between sets of features against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from zoobench.solvers import similarity


def draws(n: int, mean: list[float], scale: list[float], seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, len(mean))) * scale + mean)


def test_frechet_is_the_textbook_formula() -> None:
    x = draws(50, [0.0, 1.0, 2.0], [1.0, 2.0, 0.5], 0)
    y = draws(40, [1.0, 1.0, 0.0], [2.0, 1.0, 1.0], 1) @ torch.tensor(
        [[1.0, 0.3, 0.0], [0.0, 1.0, -0.4], [0.2, 0.0, 1.0]], dtype=torch.float64
    )
    a, b = np.cov(x.numpy().T), np.cov(y.numpy().T)
    gap = x.numpy().mean(0) - y.numpy().mean(0)
    expected = gap @ gap + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert similarity.frechet(x, y) == pytest.approx(expected, rel=1e-9)
    assert similarity.frechet(y, x) == pytest.approx(expected, rel=1e-9)


def test_frechet_with_fewer_examples_than_features() -> None:
    x = draws(6, [0.0] * 20, [1.0] * 20, 0)
    assert similarity.frechet(x, x) == pytest.approx(0.0, abs=1e-9)
    moved = x + 3.0
    assert similarity.frechet(x, moved) == pytest.approx(20 * 9.0, rel=1e-9)
    # Scaling about the mean by c changes every standard deviation s by |c - 1| s.
    scaled = (x - x.mean(0)) * 2 + x.mean(0)
    assert similarity.frechet(x, scaled) == pytest.approx(float(x.var(dim=0).sum()), rel=1e-9)


def test_mmd_is_what_gaussians_give() -> None:
    # E exp(-|u|^2 / 2s^2) for u ~ N(m, v I_D) is (s^2 / (s^2 + v))^(D/2) exp(-m^2 / 2(s^2 + v)).
    s, shift, dims = 1.5, 1.0, 2
    x, y = draws(2500, [0.0, 0.0], [1.0, 1.0], 0), draws(2500, [shift, 0.0], [1.0, 1.0], 1)
    base = (s**2 / (s**2 + 2)) ** (dims / 2)
    expected = 2 * base * (1 - np.exp(-(shift**2) / (2 * (s**2 + 2))))
    value, p = similarity.mmd(x, y, s, 20)
    assert value == pytest.approx(expected, rel=0.05)
    assert p == pytest.approx(1 / 21)


def test_mmd_by_hand() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [4.0]])

    def k(a: float, b: float) -> float:
        return float(np.exp(-((a - b) ** 2) / 2))

    expected = k(0, 1) + k(2, 4) - (k(0, 2) + k(0, 4) + k(1, 2) + k(1, 4)) / 2
    assert similarity.mmd(x, y, 1.0)[0] == pytest.approx(expected)
    assert similarity.mmd(x, y, 1.0)[1] == 1.0


def test_the_permutation_test_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        x, y = torch.from_numpy(rng.standard_normal((2, 20, 3)))
        found += similarity.mmd(x, y, 2.0, 99)[1] <= 0.05
    assert 0 <= found <= 12  # Binomial(100, 0.05): above 12 in 1 of 700
