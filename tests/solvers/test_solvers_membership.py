"""The attacks' formulas, against the papers' written out example by example."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from zoobench.solvers.membership import lira, rmia


def test_lira_is_the_ratio_of_normal_densities() -> None:
    rng = np.random.default_rng(0)
    margins, target = rng.standard_normal((8, 5)), rng.standard_normal(5)
    first = rng.random((4, 5)) < 0.5
    parts = np.concatenate([first, ~first])
    scores = lira(*map(torch.from_numpy, (target, margins, parts))).numpy()
    inside = [margins[parts[:, i], i] for i in range(5)]
    outside = [margins[~parts[:, i], i] for i in range(5)]
    deviations = [np.sqrt(np.mean([x.var(ddof=1) for x in side])) for side in (inside, outside)]
    for i in range(5):
        expected = norm.logpdf(target[i], inside[i].mean(), deviations[0]) - norm.logpdf(
            target[i], outside[i].mean(), deviations[1]
        )
        assert scores[i] == pytest.approx(expected)


def test_certainty_is_finite() -> None:
    margins = torch.tensor([[torch.inf, -torch.inf]] * 2 + [[3.0, 4.0]] * 2).double()
    parts = torch.tensor([[True, False], [False, True]] * 2)
    assert torch.isfinite(lira(torch.tensor([torch.inf, 1.0]).double(), margins, parts)).all()


def test_rmia_counts_whom_an_example_exceeds_twice() -> None:
    rng = np.random.default_rng(1)
    target, references = rng.random(12), rng.random((2, 12))
    others = np.arange(12) >= 7
    own, theirs = (torch.from_numpy(np.log(x)) for x in (target, references))
    scores = rmia(own, theirs, torch.from_numpy(others)).numpy()
    ratio = target / references.mean(axis=0)
    expected = [np.mean([ratio[i] >= 2 * ratio[z] for z in range(7, 12)]) for i in range(7)]
    assert scores == pytest.approx(expected)
