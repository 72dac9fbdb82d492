"""What every method on frozen features keeps to, over a table of features without a backbone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from probes import Table, world
from zoobench import methods
from zoobench.interfaces import Adapted, Splits
from zoobench.tasks.classification import labels_of

frozen = pytest.mark.parametrize("name", ["knn", "linear-probe", "ridge"])


def adapt(name: str, source: Table, splits: Splits) -> Adapted:
    return methods.build(name, {}).adapt(source, splits.sealed(), seed=0)


def accuracy(scores: torch.Tensor, labels: np.ndarray) -> float:
    return float((scores.argmax(dim=1).numpy() == labels).mean())


@frozen
def test_scores_are_log_probabilities_and_right(name: str) -> None:
    source, splits = world()
    adapted = adapt(name, source, splits)
    assert set(source.read) == {"train", "valid"}
    scores = adapted.predict(splits.test)
    assert scores.shape == (60, 4)
    assert scores.dtype == torch.float32
    assert torch.allclose(scores.exp().sum(dim=1), torch.ones(60), atol=1e-4)
    assert accuracy(scores, labels_of(splits.test)) > 0.9
    assert adapted.valid_scores.shape == (40, 4)
    assert accuracy(adapted.valid_scores, labels_of(splits.valid)) > 0.9
    assert all(np.isfinite(value) for value in adapted.facts.values())


@frozen
def test_the_same_call_gives_the_same_scores(name: str) -> None:
    source, splits = world()
    first, second = adapt(name, source, splits), adapt(name, source, splits)
    assert first.chosen == second.chosen
    assert torch.equal(first.predict(splits.test), second.predict(splits.test))


@frozen
def test_features_without_information_stay_at_chance(name: str) -> None:
    source, splits = world(train=200, valid=80, test=200, informative=False)
    scores = adapt(name, source, splits).predict(splits.test)
    assert abs(accuracy(scores, labels_of(splits.test)) - 0.25) < 0.12


@frozen
def test_a_class_that_train_lacks_is_finite_and_last(name: str) -> None:
    source, splits = world(missing=2)
    adapted = adapt(name, source, splits)
    for scores in (adapted.predict(splits.test), adapted.valid_scores):
        assert bool(torch.isfinite(scores).all())
        assert bool((scores[:, 2] <= scores.amin(dim=1)).all())


@frozen
def test_importing_it_loads_no_torch(name: str) -> None:
    module = methods.METHODS[name].partition(":")[0]
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
