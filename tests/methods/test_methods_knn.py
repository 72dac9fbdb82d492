"""The method `Knn`: the contract of interfaces.Method, and its own choices."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from probes import Table, world
from zoobench.errors import NotFinite
from zoobench.interfaces import Adapted, Splits
from zoobench.methods.knn import Knn


def adapt(source: Table, splits: Splits, **params: Any) -> Adapted:
    torch.set_num_threads(1)
    return Knn(**params).adapt(source, splits.sealed(), seed=0)


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
    code = "import sys, zoobench.methods.knn; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_k_is_the_one_with_the_best_validation_accuracy() -> None:
    source, splits = world()
    adapted = adapt(source, splits, k=(1, 120))
    alone = {k: adapt(source, splits, k=(k,)).facts["valid_accuracy"] for k in (1, 120)}
    assert adapted.facts["valid_accuracy"] == max(alone.values())


def test_k_above_the_train_size_means_all_of_it() -> None:
    source, splits = world(train=12)
    assert adapt(source, splits, k=(100, 500)).chosen == {"k": 12}


@pytest.mark.parametrize("params", [{"k": ()}, {"k": (0,)}, {"temperature": 0.0}])
def test_senseless_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Knn(**params)
