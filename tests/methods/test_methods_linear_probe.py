"""The method `LinearProbe`: the contract of interfaces.Method, and its own choices."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from probes import Table, world
from zoobench.errors import NotFinite
from zoobench.interfaces import Adapted, Splits
from zoobench.methods.linear_probe import LinearProbe


def adapt(source: Table, splits: Splits, **params: Any) -> Adapted:
    torch.set_num_threads(1)
    return LinearProbe(**params).adapt(source, splits.sealed(), seed=0)


def accuracy(scores: torch.Tensor, labels: np.ndarray) -> float:
    return float((scores.argmax(dim=1).numpy() == labels).mean())


def test_scores_are_log_probabilities_and_right() -> None:
    source, splits = world()
    adapted = adapt(source, splits)
    assert set(source.read) == {"train", "valid"}
    scores = adapted.predict(splits.test)
    assert scores.shape == (60, 4)
    assert scores.dtype == torch.float32
    assert torch.allclose(scores.exp().sum(dim=1), torch.ones(60), atol=1e-4)
    assert accuracy(scores, splits.test.labels) > 0.9
    assert adapted.valid_scores.shape == (40, 4)
    assert accuracy(adapted.valid_scores, splits.valid.labels) > 0.9
    assert all(np.isfinite(value) for value in adapted.facts.values())


def test_the_same_call_gives_the_same_scores() -> None:
    source, splits = world()
    first, second = adapt(source, splits), adapt(source, splits)
    assert first.chosen == second.chosen
    assert torch.equal(first.predict(splits.test), second.predict(splits.test))


def test_features_without_information_stay_at_chance() -> None:
    source, splits = world(train=200, valid=80, test=200, informative=False)
    scores = adapt(source, splits).predict(splits.test)
    assert abs(accuracy(scores, splits.test.labels) - 0.25) < 0.12


def test_a_class_that_train_lacks_is_finite_and_last() -> None:
    source, splits = world(missing=2)
    adapted = adapt(source, splits)
    for scores in (adapted.predict(splits.test), adapted.valid_scores):
        assert bool(torch.isfinite(scores).all())
        assert bool((scores[:, 2] <= scores.amin(dim=1)).all())


def test_nan_in_any_split_is_not_finite() -> None:
    for name in ("train", "test"):
        source, splits = world()
        source.values[name][3, 1] = float("nan")
        with pytest.raises(NotFinite, match=name):
            adapt(source, splits).predict(splits.test)


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, zoobench.methods.linear_probe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_facts_say_how_well_it_was_solved() -> None:
    source, splits = world()
    adapted = adapt(source, splits)
    assert adapted.facts["relative_gap"] <= 1e-4
    assert 0.0 < adapted.facts["relative_gradient_norm"] < 1.0
    assert adapted.facts["train_accuracy"] > 0.9
    assert adapted.facts["iterations"] >= adapted.facts["path_points"]
    assert "not-converged" not in adapted.flags


def test_valid_scores_come_from_a_fit_without_valid() -> None:
    """The refit has seen valid, so valid is likelier under it."""
    source, splits = world(train=40, valid=60)
    adapted = adapt(source, splits)
    truth = torch.from_numpy(splits.valid.labels)
    honest = torch.nn.functional.nll_loss(adapted.valid_scores, truth)
    seen = torch.nn.functional.nll_loss(adapted.predict(splits.valid), truth)
    assert float(seen) < float(honest)
    assert adapted.facts["valid_nll"] == pytest.approx(float(honest), rel=1e-4)


def test_an_unfinished_fit_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoobench.solvers import logistic

    source, splits = world()
    monkeypatch.setattr(logistic, "Options", partial(logistic.Options, limit=2))
    assert "not-converged" in adapt(source, splits, lambdas=1).flags


def test_labels_at_random_land_on_the_strong_edge() -> None:
    source, splits = world(train=60, valid=60, informative=False)
    adapted = adapt(source, splits, lambdas=5, decades=1.0)
    assert "grid-extended" in adapted.flags
