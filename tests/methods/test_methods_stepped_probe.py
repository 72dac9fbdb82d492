"""Probes that are trained in steps: heads side by side are as each alone, standardised by train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from zoobench.methods.stepped_probe import Standardised, SteppedProbe, fit_heads

RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.standard_normal((12, 3))).float()
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]])


def fitted(rates: list[float]) -> tuple[list[torch.Tensor], list[bool]]:
    heads = [torch.nn.Linear(3, 1, bias=False) for _ in rates]
    for head in heads:
        torch.nn.init.zeros_(head.weight)

    def losses(rows: np.ndarray) -> torch.Tensor:
        return torch.stack([(head(X[rows]) - Y[rows]).square().mean() for head in heads])

    pairs = list(zip(rates, heads, strict=True))
    finite = fit_heads(pairs, losses, 12, SteppedProbe(steps=40, batch_size=4), 0)
    return [head.weight.detach() for head in heads], finite


def test_heads_that_are_trained_side_by_side_are_each_alone() -> None:
    (slow, quick), finite = fitted([1e-3, 1e-1])
    assert finite == [True, True]
    torch.testing.assert_close(slow, fitted([1e-3])[0][0])
    torch.testing.assert_close(quick, fitted([1e-1])[0][0])
    assert float((X @ quick.T - Y).square().mean()) < 0.1 * float(Y.square().mean())
    assert float(slow.abs().max()) < 0.05


def test_one_that_leaves_the_numbers_is_told_and_spoils_no_other() -> None:
    (kept, lost), finite = fitted([1e-1, 1e30])
    assert finite == [True, False]
    torch.testing.assert_close(kept, fitted([1e-1])[0][0])
    assert not bool(torch.isfinite(lost).all())


def test_features_are_standardised_by_all_rows_of_all_blocks() -> None:
    rows = RNG.normal(5, 2, (30, 4)).astype(np.float16)
    rows[:, 3] = 7  # tells nothing
    blocks = [rows[:10].reshape(2, 5, 4), rows[10:]]
    found = Standardised.by(blocks, torch.device("cpu"))(torch.from_numpy(rows).float()).numpy()
    exact = rows[:, :3].astype(np.float64)
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    np.testing.assert_allclose(found[:, :3], expected, rtol=1e-4, atol=1e-5)
    assert not found[:, 3].any()


@pytest.mark.parametrize("params", [{"steps": 0}, {"batch_size": 0}, {"rates": ()}])
def test_a_budget_that_cannot_be_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="steps and batch_size"):
        SteppedProbe(**params)
