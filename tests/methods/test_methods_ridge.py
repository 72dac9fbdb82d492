"""The method `Ridge`: the contract of interfaces.Method, and its own choices."""

from __future__ import annotations

from typing import Any

import torch

from probes import Table, world
from zoobench.interfaces import Adapted, Splits
from zoobench.methods.ridge import Ridge
from zoobench.tasks.classification import labels_of


def adapt(source: Table, splits: Splits, **params: Any) -> Adapted:
    torch.set_num_threads(1)
    return Ridge(**params).adapt(source, splits.sealed(), seed=0)


def test_valid_has_no_say() -> None:
    source, splits = world()
    first = adapt(source, splits).predict(splits.test)
    source.values["valid"] = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first, adapt(source, splits).predict(splits.test))


def test_the_temperature_makes_scores_honest() -> None:
    source, splits = world(train=300, test=300)
    scores = adapt(source, splits).predict(splits.test)
    loss = torch.nn.functional.nll_loss(scores, torch.from_numpy(labels_of(splits.test)))
    assert float(loss) < 0.6
