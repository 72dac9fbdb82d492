"""The part of a large dataset for a control: whole units by hash, of every class."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zoobench import datasets
from zoobench.datasets import control
from zoobench.errors import UserError
from zoobench.interfaces import Split, Splits
from zoobench.schema import DatasetCard, Ref
from zoobench.tasks.classification import Labels

BIG = Ref("synthetic", "stripes").with_options(train=1200, test=1100)


def split(name: str, labels: list[int], groups: list[str] | None = None) -> Split:
    ids = tuple(f"{name}-{i}" for i in range(len(labels)))
    return Split(name, ids, Labels(np.asarray(labels)), lambda i: i, groups=tuple(groups or ()))


def splits(train: Split) -> Splits:
    valid, test = split("valid", [0, 1] * 40), split("test", [0, 1] * 60)
    classes = tuple(str(c) for c in range(int(train.targets.strata.max()) + 1))
    return Splits(train, valid, test, classes, "text", (), {}, "classification")


def asked(units: int) -> Ref:
    return Ref("synthetic", "stripes").with_options(control_units=units)


def test_a_part_has_so_many_units_and_a_fifth_to_choose_on() -> None:
    whole = splits(split("train", [0, 1] * 100))
    found = control.part_of(whole, asked(50))
    assert [len(s) for s in (found.train, found.valid, found.test)] == [50, 10, 50]
    assert [int((s.targets.strata == 1).sum()) for s in (found.train, found.test)] == [25, 25]
    assert set(found.train.ids) < set(whole.train.ids)
    assert control.part_of(whole, Ref("synthetic", "stripes")) is whole


def test_a_part_of_what_is_smaller_is_all_of_it() -> None:
    whole = splits(split("train", [0, 1] * 10))
    found = control.part_of(whole, asked(1000))
    assert found == whole
    assert found.fingerprints == whole.fingerprints


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=2, max_size=120),
    st.integers(1, 40),
)
def test_groups_are_taken_whole_by_the_hash_of_their_name(
    rows: list[tuple[int, int]], most: int
) -> None:
    groups = [f"g{group}" for _, group in rows]
    train = split("train", [label for label, _ in rows], groups)
    found = control.part_of(splits(train), asked(most)).train
    taken = set(found.groups)
    assert [g for g in groups if g in taken] == list(found.groups), "whole, and in their old order"
    classes = {label for label, _ in rows}
    assert {int(x) for x in found.targets.strata} == classes
    assert min(most, len(set(groups))) <= len(taken) <= max(most, len(classes))

    def order(group: str) -> str:
        return hashlib.sha256(f"max_train:1:{group}".encode()).hexdigest()

    # By brute force: each class's first group, then the first of the others while there is room.
    needed = {min((g for (c, _), g in zip(rows, groups, strict=True) if c == k), key=order)
              for k in classes}  # fmt: skip
    rest = sorted(set(groups) - needed, key=order)
    expected = needed | set(rest[: max(0, most - len(needed))])
    assert taken == (set(groups) if len(set(groups)) <= most else expected)


def test_it_does_not_depend_on_the_order_of_the_files() -> None:
    train = split("train", [0, 1] * 100, [f"g{i // 4}" for i in range(200)])
    turned = train.subset(np.arange(200)[::-1])
    one, other = (control.part_of(splits(s), asked(20)).train for s in (train, turned))
    assert set(one.ids) == set(other.ids)
    assert len(set(one.groups)) == 20


@pytest.mark.parametrize(
    ("sizes", "options", "large"),
    [
        ((1000, 0, 1000), {}, False), ((1001, 100, 10), {}, True), ((900, 1001, 10), {}, True),
        ((900, 100, 1001), {}, True), ((50000, 0, 10000), {"max_train": 1000}, True),
        ((50000, 0, 10000), {"max_train": 1000, "max_valid": 90, "max_test": 1000}, False),
        ((1250, 0, 0), {}, False), ((1797, 0, 0), {}, True), ((0, 0, 0), {}, True),
    ],
)  # fmt: skip
def test_what_is_large(sizes: tuple[int, int, int], options: dict[str, int], large: bool) -> None:
    """Splits that a card lacks are derived: a fifth of all, a tenth of the rest."""
    card = DatasetCard("x", "y", "image", 10, sizes)
    assert control.is_large(Ref("x", "y").with_options(**options), card) is large


def test_a_folder_is_as_large_as_it_was_when_it_was_resolved(tmp_path: Path) -> None:
    for i in range(24):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (9 * i, 0, 99)).save(path)
    ref = datasets.resolve(Ref("folder", "photos").with_options(path=str(tmp_path / "photos")))
    loaded = datasets.load(ref)
    sizes = (len(loaded.train), len(loaded.valid), len(loaded.test))
    assert control.sizes(ref, datasets.card(ref)) == sizes
    assert sum(sizes) == 24
    assert not control.is_large(ref, datasets.card(ref))


def test_the_part_is_loaded_by_its_name() -> None:
    whole = datasets.load("synthetic/stripes?train=80&test=60")
    part = datasets.load("synthetic/stripes?control_units=20&train=80&test=60")
    assert [len(s) for s in (part.train, part.valid, part.test)] == [20, 4, 20]
    assert set(part.test.ids) < set(whole.test.ids)


def test_the_option_is_no_users() -> None:
    with pytest.raises(UserError, match="unknown option 'control_units'"):
        datasets.resolve("synthetic/stripes?control_units=20")
