"""Shadow probes: solved together, they are what separate fits are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from zoobench.solvers import shadows
from zoobench.solvers.membership import lira
from zoobench.solvers.shadows import margins_of, shadow_probes

K, N, D, C = 64, 120, 6, 3


def data() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % C
    features = 3 * rng.standard_normal((C, D))[labels] + rng.standard_normal((N, D)) + 5.0
    parts = np.zeros((K, N), dtype=bool)
    for part in parts:
        part[rng.choice(N, int(rng.integers(N // 3, N)), replace=False)] = True
    return features, labels, parts


def separate(
    features: NDArray[np.float64], labels: NDArray[np.int64], lam: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(weight, bias) by scikit-learn, whose penalty is of the sum."""
    from sklearn.linear_model import LogisticRegression

    n, d = features.shape
    s = features.var(axis=0).sum() / d
    fit = LogisticRegression(C=1 / (n * lam * s), tol=1e-9, max_iter=5000, solver="newton-cg")
    fit.fit(features, labels)
    return fit.coef_, fit.intercept_


@pytest.mark.parametrize("lam", [1e-1, 1e-4])
@pytest.mark.parametrize("small", [2**23, 0], ids=["float64", "float32"])
def test_shadows_are_separate_fits(lam: float, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "SMALL", small)
    features, labels, parts = data()
    tensors = torch.from_numpy(features), torch.from_numpy(labels)
    found = shadow_probes(*tensors, C, torch.from_numpy(parts), lam)
    assert found.converged.all()
    for k in range(K if small else 4):
        weight, bias = separate(features[parts[k]], labels[parts[k]], lam)
        expected = margins_of(torch.from_numpy(features @ weight.T + bias).t(), tensors[1])
        apart = (found.margins[k] - expected).abs()
        assert (apart < 1e-3 * (1.0 if small else expected.abs().clamp_min(1.0))).all()


def test_scores_of_the_attack_are_those_of_separate_fits() -> None:
    features, labels, parts = data()
    rng = np.random.default_rng(1)
    for first, other in zip(parts[::2], parts[1::2], strict=True):
        order = np.argsort(labels + rng.random(N))  # class by class, at random within
        first[order] = np.arange(N) % 2 == 0
        other[:] = ~first
    tensors = torch.from_numpy(features), torch.from_numpy(labels)
    together = shadow_probes(*tensors, C, torch.from_numpy(parts), 1e-2).margins
    fits = [separate(features[part], labels[part], 1e-2) for part in parts]
    apart = [margins_of(torch.from_numpy(features @ w.T + b).t(), tensors[1]) for w, b in fits]
    masks, target = torch.from_numpy(parts), apart[0]
    scores = [lira(target, margins, masks) for margins in (together, torch.stack(apart))]
    assert (scores[0] - scores[1]).abs().max() < 1e-3


def test_shadows_that_wait_are_solved_as_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, parts = data()
    tensors = torch.from_numpy(features), torch.from_numpy(labels)
    together = shadow_probes(*tensors, C, torch.from_numpy(parts), 1e-3)
    monkeypatch.setattr(shadows, "HELD_BYTES", 1)
    alone = shadow_probes(*tensors, C, torch.from_numpy(parts[:5]), 1e-3)
    assert (together.margins[:5] - alone.margins).abs().max() < 1e-3


def test_a_part_without_a_class_is_refused() -> None:
    features, labels, parts = data()
    parts[3, labels == 1] = False
    with pytest.raises(ValueError, match="every class"):
        shadow_probes(
            torch.from_numpy(features), torch.from_numpy(labels), C, torch.from_numpy(parts), 1e-3
        )


def test_a_search_that_runs_out_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "LIMIT", 2)
    features, labels, parts = data()
    tensors = torch.from_numpy(features), torch.from_numpy(labels)
    assert not shadow_probes(*tensors, C, torch.from_numpy(parts), 1e-4).converged.any()


def test_margins_are_log_odds() -> None:
    logs = torch.log(torch.tensor([[0.2, 0.5], [0.7, 0.25], [0.1, 0.25]]))
    odds = margins_of(logs, torch.tensor([1, 0]))
    assert torch.allclose(odds.exp(), torch.tensor([0.7 / 0.3, 1.0], dtype=torch.float64))
