"""The nested parts that rungs are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cells import GABOR, STRIPES, cell, settings
from zoobench import datasets, models
from zoobench.advise.worker import AdviceWorker, Answer, Look, nested
from zoobench.datasets.splits import bounded
from zoobench.schema import Ref
from zoobench.tasks.classification import labels_of


def test_the_parts_of_nested_rungs_hold_each_example_once() -> None:
    ref = datasets.resolve("synthetic/stripes?train=300")
    whole = datasets.load(ref)
    rungs = [bounded(whole, ref.with_options(max_train=n)).train for n in (40, 100)]
    rungs.append(whole.train)
    parts = nested(rungs)
    assert sum(map(len, parts)) == len(whole.train)
    assert set().union(*(part.ids for part in parts)) == set(whole.train.ids)
    assert parts[0].ids == rungs[0].ids
    label = dict(zip(whole.train.ids, labels_of(whole.train).tolist(), strict=True))
    for part in parts:
        assert [label[one] for one in part.ids] == labels_of(part).tolist()
    assert nested(rungs[:1] * 2)[1:] == [], "what is held already is no part"


def test_a_bounded_dataset_is_what_loading_it_gives() -> None:
    ref = datasets.resolve("packaged/digits?max_train=200&max_test=100&max_valid=40")
    loaded = datasets.load(ref)
    whole = datasets.load(ref.without("max_train", "max_test", "max_valid"))
    again = bounded(whole, ref)
    assert again.fingerprints == loaded.fingerprints
    assert again.flags == loaded.flags
    assert np.array_equal(labels_of(again.test), labels_of(loaded.test))


def test_a_pace_is_never_that_of_reading_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, own = Look(cell()), settings(tmp_path / "features")
    first = AdviceWorker(own, Ref.parse(STRIPES))(asked)
    assert isinstance(first, Answer)
    assert (first.status, first.new) == ("ok", 32)
    seen: list[int] = []
    kind = type(models.load(models.resolve(GABOR), seed=0))
    embed = kind.embed

    def watched(self: Any, batch: Any) -> torch.Tensor:
        seen.append(len(batch))
        return embed(self, batch)

    monkeypatch.setattr(kind, "embed", watched)
    again = AdviceWorker(own, Ref.parse(STRIPES))(asked)
    assert isinstance(again, Answer)
    assert again.status == "ok"
    assert sum(seen) >= 32
