"""PROTOCOL section 1: derived splits, duplicates, subsets, few-shot draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoobench.datasets import splits as sp
from zoobench.datasets.ids import text_id
from zoobench.datasets.readers import Texts
from zoobench.errors import BadData
from zoobench.interfaces import Split
from zoobench.schema import Ref
from zoobench.tasks.classification import Labels, labels_of

REF = Ref("table", "t", "1")


def make(rows: Sequence[tuple[str, int]], name: str = "train") -> Split:
    texts = tuple(text for text, _ in rows)
    labels = np.asarray([label for _, label in rows], dtype=np.int64)
    return Split(name, tuple(map(text_id, texts)), Labels(labels), Texts(texts))


def numbered(sizes: Sequence[int], start: str = "") -> list[tuple[str, int]]:
    return [(f"{start}{label}-{i}", label) for label, n in enumerate(sizes) for i in range(n)]


def found(
    train: Sequence[tuple[str, int]],
    valid: Sequence[tuple[str, int]] | None = None,
    test: Sequence[tuple[str, int]] | None = None,
) -> sp.Found:
    many = 1 + max(label for _, label in train)
    return sp.Found(
        make(train),
        None if valid is None else make(valid, "valid"),
        None if test is None else make(test, "test"),
        tuple(f"class {i}" for i in range(many)),
        "text",
    )


class_sizes = st.lists(st.integers(3, 40), min_size=2, max_size=5)


@given(class_sizes, st.randoms(use_true_random=False))
def test_membership_does_not_depend_on_the_order_of_files(sizes: list[int], random: object) -> None:
    rows = numbered(sizes)
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = sp.assemble(found(rows), REF), sp.assemble(found(shuffled), REF)
    assert first.fingerprints == second.fingerprints
    assert [first.test.read(i) for i in range(len(first.test))] == [
        second.test.read(i) for i in range(len(second.test))
    ]


@given(class_sizes)
def test_shares_are_a_stratified_fifth_and_a_tenth_of_the_rest(sizes: list[int]) -> None:
    made = sp.assemble(found(numbered(sizes)), REF)
    assert {"derived-test", "derived-valid"} <= set(made.flags)
    for label, n in enumerate(sizes):
        test = int((labels_of(made.test) == label).sum())
        valid = int((labels_of(made.valid) == label).sum())
        train = int((labels_of(made.train) == label).sum())
        assert train + valid + test == n
        assert test == max(1, int(n * 0.2 + 0.5))
        assert valid == max(1, int((n - test) * 0.1 + 0.5))
        assert train >= 1


@given(class_sizes, st.data())
def test_identical_examples_land_in_one_split_and_count_once(
    sizes: list[int], data: st.DataObject
) -> None:
    rows = numbered(sizes)
    twins = data.draw(st.lists(st.sampled_from(rows), max_size=20))
    made = sp.assemble(found([*rows, *twins]), REF)
    ids = [one for split in (made.train, made.valid, made.test) for one in split.ids]
    assert len(ids) == len(set(ids)) == len(rows)
    assert made.notes.get("duplicates", 0) == len(twins)
    assert made.fingerprints == sp.assemble(found(rows), REF).fingerprints


def test_adding_examples_moves_few_of_the_old_ones() -> None:
    before = sp.assemble(found(numbered([500, 500])), REF)
    after = sp.assemble(found(numbered([510, 510])), REF)
    old = set(before.test.ids)
    assert len(old & set(after.test.ids)) > 0.95 * len(old)


def test_valid_and_test_are_chosen_independently_of_each_other() -> None:
    made = sp.assemble(found(numbered([2000, 2000]), test=numbered([5, 5], "t")), REF)
    both = sp.assemble(found(numbered([2000, 2000])), REF)
    overlap = len(set(made.valid.ids) & set(both.test.ids)) / len(made.valid)
    assert 0.14 < overlap < 0.26  # a fifth, were they drawn apart


def test_twins_across_official_splits_leave_train_then_valid_and_never_test() -> None:
    train, valid, test = numbered([6, 6]), numbered([3, 3], "v"), numbered([4, 4], "t")
    made = sp.assemble(found([*train, test[0], valid[0]], [*valid, test[1]], [*test, test[2]]), REF)
    assert len(made.test) == 9
    assert made.valid.ids == make(valid).ids
    assert made.train.ids == make(train).ids
    assert made.notes["duplicates_across_splits"] == 3
    assert made.flags == ()


def test_contradicting_twins_are_counted_and_left_out_of_a_derived_pool() -> None:
    rows = [*numbered([10, 10]), ("both", 0), ("both", 1)]
    made = sp.assemble(found(rows), REF)
    assert made.notes["conflicting_labels"] == 1
    everywhere = (*made.train.ids, *made.valid.ids, *made.test.ids)
    assert text_id("both") not in everywhere
    assert len(everywhere) == 20


def test_a_family_is_never_parted() -> None:
    rows = numbered([200, 200])
    split = make(rows)
    families = {one: f"family {i % 40}" for i, one in enumerate(split.ids)}
    plain = found(rows)
    made = sp.assemble(
        sp.Found(plain.train, None, None, plain.classes, "text", groups=families), REF
    )
    sets = [{families[one] for one in s.ids} for s in (made.train, made.valid, made.test)]
    assert sets[0].isdisjoint(sets[1] | sets[2])
    assert sets[1].isdisjoint(sets[2])
    assert len(made.test) == 80
    assert 20 <= len(made.valid) <= 32


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (numbered([9]), "only one class"),
        (numbered([9, 2]), "class 'class 1' has fewer than 3 different examples"),
        ([*numbered([9, 0]), ("x", 1), ("x", 1), ("x", 1)], "fewer than 3 different examples"),
    ],
)
def test_what_cannot_be_split_is_refused(rows: list[tuple[str, int]], message: str) -> None:
    with pytest.raises(BadData, match=message):
        sp.assemble(found(rows), REF)


def test_a_test_label_that_train_never_saw_is_refused() -> None:
    train = [(text, label) for text, label in numbered([5, 5, 5]) if label != 1]
    with pytest.raises(BadData, match="class 'class 1' has examples in test but none in train"):
        sp.assemble(found(train, test=numbered([2, 2, 2], "t")), REF)


def test_imbalance_is_flagged_above_ten_times() -> None:
    assert "class-imbalance" not in sp.assemble(found(numbered([50, 50])), REF).flags
    assert "class-imbalance" in sp.assemble(found(numbered([600, 5])), REF).flags


def test_the_common_options_bound_the_splits() -> None:
    rows = found(numbered([100, 100, 100]))
    ref = REF.with_options(max_train=31, max_valid=4, max_test=10, classes=2)
    made = sp.assemble(rows, ref)
    assert (len(made.train), len(made.valid), len(made.test)) == (31, 4, 10)
    assert made.classes == ("class 0", "class 1")
    assert sorted(Counter(labels_of(made.train).tolist()).values()) == [15, 16]
    whole = sp.assemble(rows, REF)
    assert set(made.test.ids) <= set(whole.test.ids)
    with pytest.raises(BadData, match="has 3 classes, not 4"):
        sp.assemble(rows, REF.with_options(classes=4))
    with pytest.raises(BadData, match="max_train = 2 is fewer than the 3 classes"):
        sp.assemble(rows, REF.with_options(max_train=2))


def test_a_larger_bound_keeps_what_the_smaller_one_took() -> None:
    split = make(numbered([300, 300]))
    small, large = sp.limit(split, 50), sp.limit(split, 100)
    assert set(small.ids) <= set(large.ids)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=8), st.data())
def test_seats_add_up_and_stay_within_bounds(sizes: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(len(sizes), sum(sizes)))
    array = np.asarray(sizes, dtype=np.intp)
    seats = sp.apportion(array, total, least=1)
    assert seats.sum() == total
    assert (seats >= 1).all()
    assert (seats <= array).all()
    free = sp.apportion(array, total)
    assert free.sum() == total
    assert (np.abs(free - array * total / array.sum()) < 1).all()


def test_few_shot_is_balanced_and_decided_by_dataset_k_and_draw_alone() -> None:
    rows = numbered([30, 20, 10])
    one = sp.few_shot(make(rows), 4, 0, "a")
    assert Counter(labels_of(one).tolist()) == {0: 4, 1: 4, 2: 4}
    assert len(set(one.ids)) == 12
    np.random.default_rng(3).random(7)  # no global state is read
    assert sp.few_shot(make(rows[::-1]), 4, 0, "a").fingerprint == one.fingerprint
    others = {
        sp.few_shot(make(rows), 4, 1, "a").fingerprint,
        sp.few_shot(make(rows), 4, 0, "b").fingerprint,
        one.fingerprint,
    }
    assert len(others) == 3
    assert one.read(0) in {text for text, label in rows if label == 0}


def test_few_shot_says_which_class_is_too_small() -> None:
    with pytest.raises(BadData, match="class 1 has 3 examples in train, fewer than the 4 shots"):
        sp.few_shot(make(numbered([9, 3])), 4, 0, "a")


def test_every_example_can_be_drawn() -> None:
    split = make(numbered([6, 6]))
    seen = {one for draw in range(40) for one in sp.few_shot(split, 2, draw, "a").ids}
    assert seen == set(split.ids)
