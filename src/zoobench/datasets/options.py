"""The options of a dataset's name: what every dataset has, and how they are checked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from zoobench.errors import UserError, opening, unknown
from zoobench.files import expanded
from zoobench.schema import DatasetCard, Ref

BOUNDS = ("max_train", "max_valid", "max_test")
"""Options that take a part of a dataset's splits."""
COMMON = (*BOUNDS, "classes")
"""Options of every dataset: bounds on the splits, and "keep the first K classes"."""

SPLIT_NAMES = {
    "train": "train", "training": "train", "trainval": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What a split may be called, in a folder's name or a table's column, and which it is."""


def check(ref: Ref, own: Iterable[str], where: str) -> None:
    """Raises UserError for an option that is neither common nor in `own`, or a bad count."""
    known = {*COMMON, *own}
    for name, value in ref.options:
        if name not in known:
            raise unknown(where, "option", name, known, f"for {ref.id}")
        if name == "path" and value == "":  # as an unset variable of a script gives: no folder here
            raise UserError(f"{opening(where)}path of {ref.id} is empty")
        if (name, value) == ("classes", "all") and "splits" in known:
            continue  # of a folder: each of its folders is a class
        if name in COMMON and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UserError(
                f"{opening(where)}{name} of {ref.id} must be a whole number above 0, not {value!r}"
            )
    if ref.option("classes") == 1:
        raise UserError(f"{opening(where)}classes of {ref.id} must be at least 2")


def check_against(ref: Ref, card: DatasetCard, where: str) -> None:
    """Raises UserError where the card already shows that an option cannot be met."""
    kept = first_classes(ref) or card.classes
    if card.classes and kept > card.classes:
        raise UserError(f"{opening(where)}{ref.id} has {card.classes} classes, not {kept}")
    most = ref.option("max_train")
    if kept and most is not None and most < kept:
        raise UserError(
            f"{opening(where)}max_train = {most} of {ref.id} is fewer than its {kept} classes: "
            "every class needs at least one training example"
        )


def first_classes(ref: Ref) -> int:
    """How many classes are kept, the first ones; 0 for all."""
    many = ref.option("classes", 0)
    return many if isinstance(many, int) else 0


def allow_unused(ref: Ref, where: str = "") -> bool:
    """Whether more may be left out than a tenth. Raises UserError for what is neither."""
    value = ref.option("allow_unused", False)
    if not isinstance(value, bool):
        raise UserError(f"{opening(where)}allow_unused of {ref.id} must be true or false")
    return value


def separated(path: Path) -> str:
    """What to say beside a path that is not there and may be written as on Windows; "" else."""
    return "" if os.sep == "\\" or "\\" not in str(path) else "; folders are parted by / here"


def text(ref: Ref, name: str) -> str:
    """Option `name` as text ("" where absent): a column may be called 2020, which reads as int."""
    value = ref.option(name, "")
    return value if isinstance(value, str) else str(value)


def path_of(ref: Ref) -> Path:
    """The file or folder that `ref` is of: its option `path`, else its own name. Raises UserError
    for a home folder of nobody's."""
    return expanded(text(ref, "path") or ref.name)


def pin(ref: Ref, here: str, where: str) -> Ref:
    """`ref` at revision `here`; UserError where it is pinned to another one already."""
    if ref.revision not in ("", here):
        raise UserError(
            f"{opening(where)}{ref.id} is pinned to {ref.revision}, but what is here is {here}. "
            "Leave the revision out to take what is here"
        )
    return ref.at(here)
