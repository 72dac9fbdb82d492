"""The method `LinearProbe`: the contract of interfaces.Method, and its own choices."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from probes import Table, world
from zoobench.interfaces import Adapted, Splits
from zoobench.methods.linear_probe import LinearProbe
from zoobench.tasks.classification import labels_of


def adapt(source: Table, splits: Splits, **params: Any) -> Adapted:
    torch.set_num_threads(1)
    return LinearProbe(**params).adapt(source, splits.sealed(), seed=0)


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
    truth = torch.from_numpy(labels_of(splits.valid))
    honest = torch.nn.functional.nll_loss(adapted.valid_scores, truth)
    seen = torch.nn.functional.nll_loss(adapted.predict(splits.valid), truth)
    assert float(seen) < float(honest)
    assert adapted.facts["valid_nll"] == pytest.approx(float(honest), rel=1e-4)


def test_an_unfinished_fit_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoobench.solvers import logistic

    source, splits = world()
    monkeypatch.setattr(logistic, "PathOptions", partial(logistic.PathOptions, limit=2))
    assert "not-converged" in adapt(source, splits, lambdas=1).flags


def test_labels_at_random_land_on_the_strong_edge() -> None:
    source, splits = world(train=60, valid=60, informative=False)
    adapted = adapt(source, splits, lambdas=5, decades=1.0)
    assert "grid-extended" in adapted.flags
