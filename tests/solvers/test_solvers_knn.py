"""kNN against a plain float64 loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoobench.solvers import basis
from zoobench.solvers.knn import knn_log_probs, normalised


def plain(
    train: np.ndarray, labels: np.ndarray, queries: np.ndarray, classes: int, k: int, heat: float
) -> np.ndarray:
    """One query at a time, one vote at a time."""
    bank = train / np.linalg.norm(train, axis=1, keepdims=True)
    out = np.empty((len(queries), classes))
    for i, query in enumerate(queries):
        similarity = bank @ (query / np.linalg.norm(query))
        nearest = np.argsort(-similarity, kind="stable")[:k]
        votes = np.zeros(classes)
        for j in nearest:
            votes[labels[j]] += np.exp(similarity[j] / heat)
        out[i] = (len(nearest) * votes / votes.sum() + 1 / classes) / (len(nearest) + 1)
    return np.log(out)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_agrees_with_the_plain_loop(scale: float) -> None:
    rng = np.random.default_rng(0)
    train, queries = rng.standard_normal((80, 7)), rng.standard_normal((30, 7))
    labels = rng.integers(0, 4, 80)
    ks = [1, 5, 20, 80, 500]
    got = knn_log_probs(
        torch.from_numpy(train * scale).float(),
        torch.from_numpy(labels),
        torch.from_numpy(queries * scale).float(),
        5,
        ks,
    )
    assert got.shape == (5, 30, 5)
    for found, k in zip(got, ks, strict=True):
        assert np.abs(found.numpy() - plain(train, labels, queries, 5, k, 0.07)).max() < 1e-4
        assert torch.allclose(found.exp().sum(dim=1), torch.ones(30), atol=1e-5)


def test_equal_rows_are_taken_in_the_order_of_the_train_set() -> None:
    train = torch.ones(40, 3)
    labels = torch.arange(40) % 4
    got = knn_log_probs(train, labels, torch.ones(2, 3), 4, [1, 2])
    assert got[0].argmax(dim=1).tolist() == [0, 0]
    assert got[1, 0, 0] == got[1, 0, 1]
    assert got[1, 0, 1] > got[1, 0, 2]


def test_the_size_of_a_block_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    train, queries = torch.randn(50, 6), torch.randn(23, 6)
    labels = torch.arange(50) % 3
    whole = knn_log_probs(train, labels, queries, 3, [10])
    monkeypatch.setattr(basis, "CACHE_BYTES", 2000)
    assert torch.allclose(whole, knn_log_probs(train, labels, queries, 3, [10]), atol=1e-6)


def test_a_zero_row_stays_zero() -> None:
    rows = normalised(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    assert rows.tolist() == [[0.0, 0.0], [pytest.approx(0.6), pytest.approx(0.8)]]
