"""From what a source found to three splits (PROTOCOL section 1).

Membership is decided by a hash of the example's own id, never by file order, a
random generator or the machine. N examples, C classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets import dense
from zoobench.datasets.empties import nothing_asked
from zoobench.datasets.options import first_classes
from zoobench.datasets.twins import Looks, near
from zoobench.errors import BadData
from zoobench.interfaces import Split, Splits
from zoobench.schema import Cell, Modality, Ref

SPLIT_VERSION = 1
"""Part of every membership hash: another version is another split."""

TEST_SHARE = 0.2
VALID_SHARE = 0.1
FLAGGED = {
    "merged_labels": "merged-labels",
    "labels_alike": "labels-alike",
    "narrow_range": "narrow-range",
}
"""Notes of a source that a reader of the report must see, and their flags."""
LEARNED = ("regression",)
"""Tasks without classes of which nothing can be learned where train has one target alone."""
JUDGED = ("retrieval",)
"""Tasks of which nothing need be learned: train and valid may be empty."""
IMBALANCE = 10
"""The largest class over the smallest, above which the record is flagged."""

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Found:
    """What a source found: its official splits (None where there is none).

    `classes` are empty where the `task` has none.
    `groups` maps an example's id to a family that a derived split must not part
    (inflections of one word); an id that is absent is a family of its own.
    `looks` find the twins among examples with different ids.
    """

    train: Split
    valid: Split | None
    test: Split | None
    classes: tuple[str, ...]
    modality: Modality
    notes: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict, repr=False)
    task: str = "classification"
    looks: Looks = field(default_factory=Looks, repr=False)

    @property
    def labelled(self) -> bool:
        """Whether each example is of one class, which its stratum is."""
        return _labelled(self)


def _labelled(of: Found | Splits) -> bool:
    return bool(of.classes) and of.task == "classification"


def assemble(found: Found, ref: Ref) -> Splits:
    """Clean, derive the splits that are missing, apply the common options, check.

    Raises BadData where the result could not be learnt from or judged.
    """
    found = _first_classes(found, ref)
    found, counts = _clean(_grouped_by(found))
    _check_sizes(found, ref)
    flags = [flag for note, flag in FLAGGED.items() if note in found.notes]
    train, valid, test = found.train, found.valid, found.test
    if test is None:
        train, test = hold_out(train, "test", TEST_SHARE, found.labelled)
        flags.append("derived-test")
    if valid is None:
        train, valid = hold_out(train, "valid", VALID_SHARE, found.labelled)
        flags.append("derived-valid")
    notes = {**found.notes, **{name: count for name, count in counts.items() if count}}
    whole = Splits(
        train, valid, test, found.classes, found.modality, tuple(flags), notes, found.task
    )
    made = bounded(whole, ref)
    alike = near(made.test.ids, (*made.train.ids, *made.valid.ids), found.looks.outline)
    return replace(made, notes={**notes, "near_duplicates": alike}) if alike else made


def _grouped_by(found: Found) -> Found:
    """`found`, its splits naming the family of each example."""
    if not found.groups:
        return found

    def named(split: Split) -> Split:
        return replace(split, groups=tuple(found.groups.get(i, i) for i in split.ids))

    valid, test = found.valid and named(found.valid), found.test and named(found.test)
    return replace(found, train=named(found.train), valid=valid, test=test)


def bounded(whole: Splits, ref: Ref) -> Splits:
    """`whole` within the options max_train, max_valid and max_test of `ref`, checked.

    Raises BadData where the result could not be learnt from or judged.
    """
    train = limit(whole.train, ref.option("max_train"), every_class=_labelled(whole))
    valid = limit(whole.valid, ref.option("max_valid"))
    test = limit(whole.test, ref.option("max_test"))
    for split in (test,) if whole.task in JUDGED else (train, valid, test):
        if why := nothing_asked(split):
            raise BadData(f"{ref.id}: {why}")
    flags = tuple(flag for flag in whole.flags if flag != "class-imbalance")
    if _labelled(whole):
        _check_labels(train, valid, test, whole.classes, ref)
        sizes = np.bincount(train.targets.strata)
        if sizes.max() > IMBALANCE * sizes[sizes > 0].min():
            flags = (*flags, "class-imbalance")
    return replace(whole, train=train, valid=valid, test=test, flags=flags)


def hash_order(purpose: str, ids: Sequence[str]) -> list[str]:
    """A sort key for each id: sha256 of (purpose, split version, id)."""
    start = f"{purpose}:{SPLIT_VERSION}:"
    return [hashlib.sha256((start + one).encode()).hexdigest() for one in ids]


def hold_out(
    pool: Split,
    name: str,
    share: float,
    every_class: bool = True,
) -> tuple[Split, Split]:
    """(`pool` without the held-out examples, the split `name`), both sorted by id.

    Stratified: round(share * n) of each class's n, at least 1, never all; without
    `every_class` round(share * n) of all n, in proportion to the strata. With
    `groups`, whole groups up to `share` of all examples instead; the smallest where none fits.
    """
    order = np.asarray(sorted(range(len(pool)), key=pool.ids.__getitem__), dtype=np.intp)
    pool = pool.subset(order)
    if pool.groups:
        out = _grouped(pool, name, share)
    else:
        out = _stratified(pool, name, share, every_class)
    return pool.subset(np.flatnonzero(~out)), pool.subset(np.flatnonzero(out), name)


def _stratified(pool: Split, name: str, share: float, every_class: bool) -> NDArray[np.bool_]:
    _, sizes = np.unique(pool.targets.strata, return_counts=True)
    if every_class:
        quota = np.minimum(np.maximum(1, (sizes * share + 0.5).astype(int)), sizes - 1)
    else:
        quota = apportion(sizes, min(max(1, int(len(pool) * share + 0.5)), len(pool) - 1))
    out = np.zeros(len(pool), dtype=np.bool_)
    out[_first_of_each(pool, hash_order(name, pool.ids), quota)] = True
    return out


def _first_of_each(split: Split, keys: Sequence[str], quota: Iterable[int]) -> Rows:
    """The rows of the first examples of each class by `keys`, as many as its quota, in order."""
    of = np.asarray(keys)
    picked = []
    for label, many in zip(np.unique(split.targets.strata), quota, strict=True):
        rows = np.flatnonzero(split.targets.strata == label)
        picked.append(rows[np.argsort(of[rows], kind="stable")[:many]])
    return np.sort(np.concatenate(picked))


def _grouped(pool: Split, name: str, share: float) -> NDArray[np.bool_]:
    size = Counter(pool.groups)
    names = sorted(size)
    chosen: set[str] = set()
    total = 0
    for _, group in sorted(zip(hash_order(name, names), names, strict=True)):
        if total + size[group] <= share * len(pool):
            chosen.add(group)
            total += size[group]
    if not chosen and len(names) > 1:  # few large groups: a split of one is better than none
        chosen.add(min(names, key=lambda one: (size[one], *hash_order(name, [one]))))
    return np.asarray([group in chosen for group in pool.groups], dtype=np.bool_)


def limit(split: Split, most: int | None, *, every_class: bool = False) -> Split:
    """At most `most` examples, stratified and hash-decided, in their old order.

    With `every_class` each class keeps at least one. Raises BadData when `most`
    is fewer than the classes then.
    """
    if most is None or most >= len(split):
        return split
    labels, sizes = np.unique(split.targets.strata, return_counts=True)
    if every_class and most < len(labels):
        raise BadData(f"max_{split.name} = {most} is fewer than the {len(labels)} classes")
    quota = apportion(sizes, most, least=1 if every_class else 0)
    keys = hash_order(f"max_{split.name}", split.ids)
    return split.subset(_first_of_each(split, keys, quota))


def apportion(sizes: NDArray[np.intp], total: int, least: int = 0) -> NDArray[np.intp]:
    """`total` seats over classes in proportion to `sizes` (C,), by largest remainder.

    Nobody gets more than its size, and at least `least` where the size allows.
    """
    exact = sizes * (total / sizes.sum())
    seats: NDArray[np.intp] = np.maximum(np.floor(exact).astype(np.intp), np.minimum(least, sizes))
    while seats.sum() != total:
        short = seats.sum() < total
        room = (seats < sizes) if short else (seats > least)
        want = np.where(room, exact - seats, -np.inf if short else np.inf)
        seats[int(want.argmax() if short else want.argmin())] += 1 if short else -1
    return seats


def _first_classes(found: Found, ref: Ref) -> Found:
    many = first_classes(ref) or len(found.classes)
    if first_classes(ref) and not found.labelled:
        raise BadData(f"{ref.id} asks {found.task}: it has no classes to keep {many} of")
    if many > len(found.classes):
        raise BadData(f"{ref.id} has {len(found.classes)} classes, not {many}")
    if many == len(found.classes):
        return found

    def keep(split: Split) -> Split:
        return split.subset(np.flatnonzero(split.targets.strata < many))

    return replace(
        found,
        train=keep(found.train),
        valid=None if found.valid is None else keep(found.valid),
        test=None if found.test is None else keep(found.test),
        classes=found.classes[:many],
    )


def _clean(found: Found) -> tuple[Found, dict[str, int]]:
    """Twins and contradictions taken out, and how many of each there were.

    Twins are examples of the same content, whatever their ids. A training example with a
    twin in valid or test goes, and a valid one with a twin in test; an official test split is
    never touched. A pool that other splits are derived from holds each example once, and none
    whose twins disagree on the label: it has no true one.
    """
    targets_of: defaultdict[str, set[Hashable]] = defaultdict(set)
    for split in (found.train, found.valid, found.test):
        if split is not None:
            contents = found.looks.contents(split.ids)
            for one, target in zip(contents, split.targets.keys(), strict=True):
                targets_of[one].add(target)
    conflicting = {one for one, targets in targets_of.items() if len(targets) > 1}
    looks = found.looks
    in_test = set(looks.contents(found.test.ids)) if found.test else set()
    in_valid = set(looks.contents(found.valid.ids)) if found.valid else set()
    valid = found.valid and _without(found.valid, in_test, looks)
    train = _without(found.train, in_test | in_valid, looks)
    across = len(found.train) - len(train)
    if found.valid is not None and valid is not None:
        across += len(found.valid) - len(valid)
    twins = 0
    if found.valid is None or found.test is None:
        train = _without(train, conflicting, looks)
        once = _once(train, looks)
        twins = len(train) - len(once)
        train = once
    parts = [split for split in (train, valid, found.test) if split is not None]
    spread = Counter(group for split in parts for group in set(split.groups))
    counts = {
        "groups_across_splits": sum(many > 1 for many in spread.values()),
        "duplicates": twins,
        "duplicates_across_splits": across,
        "conflicting_labels": len(conflicting),
    }
    return replace(found, train=train, valid=valid), counts


def _without(split: Split, contents: set[str], looks: Looks) -> Split:
    own = looks.contents(split.ids)
    return split.subset(np.asarray([i for i, one in enumerate(own) if one not in contents], int))


def _once(split: Split, looks: Looks) -> Split:
    """Of the examples of one content that whose id comes first, whatever the files' order."""
    own = looks.contents(split.ids)
    first: dict[str, int] = {}
    for i in sorted(range(len(own)), key=split.ids.__getitem__):
        first.setdefault(own[i], i)
    return split.subset(np.asarray(sorted(first.values()), dtype=np.intp))


def _check_sizes(found: Found, ref: Ref) -> None:
    """Every class of train must be able to give one example to each derived split."""
    needed = 1 + (found.valid is None) + (found.test is None)
    if found.task in JUDGED:
        return
    if len(found.train) < needed:
        raise BadData(
            f"{ref.id}: train has {len(found.train)} different examples, once twins and "
            f"contradictions are left out, and {needed} are needed"
        )
    if found.task in dense.TASKS:
        dense.check(found.train, found.classes, ref)
        return
    if not found.labelled:
        if found.task in LEARNED and len(set(found.train.targets.keys())) < 2:
            raise BadData(
                f"{ref.id}: train has fewer than two different targets, once twins and "
                "contradictions are left out"
            )
        return
    sizes = np.bincount(found.train.targets.strata, minlength=len(found.classes))
    if (sizes > 0).sum() < 2:
        raise BadData(
            f"{ref.id}: only one class has training examples, once twins and contradictions are "
            "left out; two are needed"
        )
    if needed == 1:
        return
    few = [found.classes[label] for label in np.flatnonzero((sizes > 0) & (sizes < needed))]
    if few:
        raise BadData(
            f"{ref.id}: {_named('class', few)} fewer than {needed} different examples, too few "
            "to split into train, valid and test"
        )


def _check_labels(
    train: Split, valid: Split, test: Split, classes: tuple[str, ...], ref: Ref
) -> None:
    known = set(np.unique(train.targets.strata).tolist())
    for split in (train, valid, test):
        strange = sorted(set(np.unique(split.targets.strata).tolist()) - known)
        if strange:
            names = [classes[label] for label in strange]
            raise BadData(
                f"{ref.id}: {_named('class', names)} examples in {split.name} but none in train"
            )


def _named(noun: str, names: Sequence[str]) -> str:
    """`class 'a' has`, `classes 'a', 'b' have`, or five names and how many more."""
    shown = ", ".join(repr(name) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    plural = len(names) > 1
    return f"{noun}{'es' if plural else ''} {shown}{more} {'have' if plural else 'has'}"


def few_shot(split: Split, k: int, draw: int, dataset: str) -> Split:
    """k examples of each class, drawn by a generator seeded by (dataset, k, draw) alone.

    The candidates are sorted by id first, so that file order does not matter.
    Rows come class by class. Raises BadData when a class has fewer than k.
    """
    seed = hashlib.sha256(f"{dataset}:{k}:{draw}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(seed, "big"))
    keys = np.asarray(split.ids)
    picked = []
    for label in np.unique(split.targets.strata):
        rows = np.flatnonzero(split.targets.strata == label)
        if len(rows) < k:
            raise BadData(
                f"{dataset}: class {int(label)} has {len(rows)} examples in {split.name}, "
                f"fewer than the {k} shots asked for"
            )
        rows = rows[np.argsort(keys[rows], kind="stable")]
        picked.append(generator.choice(rows, size=k, replace=False))
    return split.subset(np.concatenate(picked))


def drawn(splits: Splits, cell: Cell) -> Splits:
    """`splits`, or the few-shot draw that the cell asks for."""
    if cell.shots is None:
        return splits
    name = cell.dataset.id
    few = few_shot(splits.train, cell.shots, cell.seed, name)
    # Choosing on thousands of labels would not be few-shot: valid has k a class at most.
    return replace(splits, train=few, valid=at_most(splits.valid, cell.shots))


def at_most(split: Split, k: int) -> Split:
    """The first `k` examples of each class by id, fewer where a class has fewer."""
    classes = len(np.unique(split.targets.strata))
    return split.subset(_first_of_each(split, split.ids, [k] * classes))
