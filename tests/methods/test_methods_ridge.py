"""The method `Ridge`: the contract of interfaces.Method, and its own choices."""

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
from zoobench.methods.ridge import Ridge


def adapt(source: Table, splits: Splits, **params: Any) -> Adapted:
    torch.set_num_threads(1)
    return Ridge(**params).adapt(source, splits.sealed(), seed=0)


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
    code = "import sys, zoobench.methods.ridge; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_valid_has_no_say() -> None:
    source, splits = world()
    first = adapt(source, splits).predict(splits.test)
    source.values["valid"] = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first, adapt(source, splits).predict(splits.test))


def test_the_temperature_makes_scores_honest() -> None:
    source, splits = world(train=300, test=300)
    scores = adapt(source, splits).predict(splits.test)
    loss = torch.nn.functional.nll_loss(scores, torch.from_numpy(splits.test.labels))
    assert float(loss) < 0.6
