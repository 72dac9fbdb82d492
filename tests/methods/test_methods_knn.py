"""The method `Knn`: the contract of interfaces.Method, and its own choices."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from probes import Table, world
from zoobench import methods
from zoobench.errors import UserError
from zoobench.interfaces import Adapted, Splits
from zoobench.methods.knn import Knn


def adapt(source: Table, splits: Splits, **params: Any) -> Adapted:
    torch.set_num_threads(1)
    return Knn(**params).adapt(source, splits.sealed(), seed=0)


def test_k_is_the_one_with_the_best_validation_accuracy() -> None:
    source, splits = world()
    adapted = adapt(source, splits, k=(1, 120))
    alone = {k: adapt(source, splits, k=(k,)).facts["valid_accuracy"] for k in (1, 120)}
    assert adapted.facts["valid_accuracy"] == max(alone.values())


def test_k_above_the_train_size_means_all_of_it() -> None:
    source, splits = world(train=12)
    assert adapt(source, splits, k=(100, 500)).chosen == {"k": 12}


@pytest.mark.parametrize(("k", "told"), [
    (5, r"s: knn\.k: expected a list, such as k = \[5\]$"),
    ("5", r"expected a list, such as k = \[\.\.\.\]$"), ((), "s: knn: k must be one or more"),
])  # fmt: skip
def test_a_number_where_a_list_is_due(k: object, told: str) -> None:
    with pytest.raises(UserError, match=told):
        methods.build("knn", {"k": k}, "s")


@pytest.mark.parametrize("params", [{"k": ()}, {"k": (0,)}, {"temperature": 0.0}])
def test_senseless_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Knn(**params)
