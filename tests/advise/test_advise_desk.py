"""The nested parts that rungs are made of."""

from __future__ import annotations

import numpy as np

from zoobench import datasets
from zoobench.advise.desk import nested
from zoobench.datasets.splits import bounded


def test_the_parts_of_nested_rungs_hold_each_example_once() -> None:
    ref = datasets.resolve("synthetic/stripes?train=300")
    whole = datasets.load(ref)
    rungs = [bounded(whole, ref.with_options(max_train=n)).train for n in (40, 100)]
    rungs.append(whole.train)
    parts = nested(rungs)
    assert sum(map(len, parts)) == len(whole.train)
    assert set().union(*(part.ids for part in parts)) == set(whole.train.ids)
    assert parts[0].ids == rungs[0].ids
    label = dict(zip(whole.train.ids, whole.train.labels.tolist(), strict=True))
    for part in parts:
        assert [label[one] for one in part.ids] == part.labels.tolist()
    assert nested(rungs[:1] * 2)[1:] == [], "what is held already is no part"


def test_a_bounded_dataset_is_what_loading_it_gives() -> None:
    ref = datasets.resolve("packaged/digits?max_train=200&max_test=100&max_valid=40")
    loaded = datasets.load(ref)
    whole = datasets.load(ref.without("max_train", "max_test", "max_valid"))
    again = bounded(whole, ref)
    assert again.fingerprints == loaded.fingerprints
    assert again.flags == loaded.flags
    assert np.array_equal(again.test.labels, loaded.test.labels)
