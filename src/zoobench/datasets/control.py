"""The part of a large dataset on which random weights are tried (PROTOCOL section 2).

A control answers a coarse question, whether pretraining helps at all, and 1,000 units answer it.
So the control of a larger dataset runs on `DATASET?control_units=1000`, and so does, once more,
the pretrained probe that it checks: the two are compared there, with each other alone. The option
is no user's: `max_train` and its like take a part of a dataset that is to be ranked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets.splits import hash_order, limit
from zoobench.interfaces import Split, Splits
from zoobench.schema import DatasetCard, Ref

OPTION = "control_units"
UNITS = 1000
"""Most units of `train` and of `test`; `valid`, which only chooses, has a fifth of it."""

Sizes = tuple[int, int, int]
_COUNTED: dict[Ref, Sizes] = {}
_CHARACTERS: dict[Ref, float] = {}
LOOKED_AT = 64
"""Texts whose lengths tell about how long those of a dataset are."""


def on_part(ref: Ref) -> bool:
    """Whether `ref` names the control's part of a dataset, which is compared and never ranked."""
    return ref.option(OPTION) is not None


def part(ref: Ref) -> Ref:
    return ref.with_options(**{OPTION: UNITS})


def whole(ref: Ref) -> Ref:
    """The dataset that `ref` is a part of; `ref` itself where it is none."""
    return ref.without(OPTION)


def bounds(units: int = UNITS) -> Sizes:
    return units, max(1, units // 5), units


def counted(ref: Ref, splits: Splits) -> None:
    """Remember how large `ref` is, whose card can't know it, and how long its texts are: reading it
    once more would take as long as resolving it did."""
    sizes = (len(splits.train), len(splits.valid), len(splits.test))
    _COUNTED[ref.at("")] = sizes
    if splits.modality == "text":
        some = range(0, sizes[0], max(1, sizes[0] // LOOKED_AT))
        lengths = [len(one) for i in some if isinstance(one := splits.train.read(i), str)]
        _CHARACTERS[ref.at("")] = sum(lengths) / len(lengths) if lengths else 0.0


def counted_as(ref: Ref, other: Ref) -> None:
    """`ref` is read as `other` is, which has just been counted."""
    _COUNTED[ref.at("")] = _COUNTED[other.at("")]


def sizes(ref: Ref, card: DatasetCard) -> Sizes | None:
    """Examples of train, valid and test, as far as the card or its resolving can tell."""
    ref = ref.without("judged_on")
    if ref.at("") in _COUNTED:
        return _COUNTED[ref.at("")]
    train, valid, test = (
        int(ref.option(name) or known)
        for name, known in zip(("train", "valid", "test"), card.sizes, strict=True)
    )
    if not train:
        return None
    if not test:
        test = int(train * 0.2)
        train -= test
    if not valid:
        valid = int(train * 0.1)
        train -= valid
    most = (int(ref.option(f"max_{name}", 2**62)) for name in ("train", "valid", "test"))
    found = [min(n, bound) for n, bound in zip((train, valid, test), most, strict=True)]
    return found[0], found[1], found[2]


def characters(ref: Ref) -> float | None:
    """Mean characters of a text of `ref`; None where resolving it could not tell."""
    return _CHARACTERS.get(ref.without("judged_on").at("")) or None


def is_large(ref: Ref, card: DatasetCard) -> bool:
    """Whether a split has more than `UNITS` examples; so it is said where nobody can tell."""
    known = sizes(ref, card)
    return known is None or max(known) > UNITS


def part_of(splits: Splits, ref: Ref) -> Splits:
    """What `ref` asks of `splits`: so many units of train and test, a fifth of it of valid; all of
    them where it names no part.

    By the hash that `max_train` and its like choose by. Whole groups are taken, and of every
    class of train at least one unit, even where that makes more.
    """
    if not on_part(ref):
        return splits
    train, valid, test = bounds(int(ref.option(OPTION)))
    return replace(
        splits,
        train=_first(splits.train, train, every_class=bool(splits.classes)),
        valid=_first(splits.valid, valid),
        test=_first(splits.test, test),
    )


def _first(split: Split, most: int, *, every_class: bool = False) -> Split:
    classes = len(np.unique(split.targets.strata)) if every_class else 0
    if not split.groups:
        return limit(split, max(most, classes), every_class=every_class)
    names, of = np.unique(np.asarray(split.groups), return_inverse=True)
    if len(names) <= most:
        return split
    keys = np.asarray(hash_order(f"max_{split.name}", names.tolist()))
    place = np.empty(len(names), dtype=np.intp)
    place[np.argsort(keys, kind="stable")] = np.arange(len(names))
    chosen = np.zeros(len(names), dtype=np.bool_)
    if every_class:
        chosen[_one_of_each_class(split.targets.strata, of, place)] = True
    room = max(0, most - int(chosen.sum()))
    rest = np.flatnonzero(~chosen)
    chosen[rest[np.argsort(place[rest])][:room]] = True
    return split.subset(np.flatnonzero(chosen[of]))


def _one_of_each_class(
    strata: NDArray[np.int64], of: NDArray[np.intp], place: NDArray[np.intp]
) -> list[int]:
    """For each class its first group by `place`."""
    found = []
    for label in np.unique(strata):
        groups = np.unique(of[strata == label])
        found.append(int(groups[np.argmin(place[groups])]))
    return found
