"""What a user's own data is checked for, before and after it is read.

Examples that cannot be used are counted, named and left out up to a tenth, an error above.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from zoobench.errors import BadData, UserError, opening

WARNED = 0.01
"""Share of what may be examples: more than this unused is a warning, ..."""
REFUSED = 0.10
"""... and more than this an error, unless the option `allow_unused` lets it be."""
ALLOW = "To go on without: allow_unused = true"

NAMED = 20
"""How many damaged examples a record names."""
LONGEST = 300
"""Characters of what is said of one: it may hold a cell of any length."""


@contextmanager
def raised_as(kind: type[UserError] | type[BadData], where: str = "") -> Iterator[None]:
    """What is wrong with a user's data as an error of `kind`, after `where`: before a run it is
    a UserError, in a cell BadData."""
    try:
        yield
    except (UserError, BadData) as error:
        exact = type(error) if isinstance(error, kind) else kind
        raise exact(f"{opening(where)}{error}") from error


def check_faults(
    faults: Sequence[str], total: int, place: str, noun: str, allowed: bool | None = False
) -> dict[str, Any]:
    """Notes for the record: `corrupt` (a count) and `corrupt_files` (names with reasons).

    Raises BadData where all of `total` are faulty, or more than 10% and that is not `allowed`;
    more than 1% where `allowed` is None: the set is not the user's, and its download damaged.
    """
    if not faults:
        return {}
    faults = [one if len(one) <= LONGEST else f"{one[:LONGEST]}..." for one in faults]
    bound = WARNED if allowed is None else REFUSED
    if len(faults) == total or (len(faults) > bound * total and not allowed):
        shown = "; ".join(faults[:3]) + ("; ..." if len(faults) > 3 else "")
        way = "" if allowed is None or len(faults) == total else f". {ALLOW}"
        raise BadData(
            f"{place}: {len(faults)} of {total} {noun}s cannot be used, and {bound:.0%} is the "
            f"bound: {shown}{way}"
        )
    return {"corrupt": len(faults), "corrupt_files": list(faults[:NAMED])}


_LABELS = {
    "merged_labels": "read as one class (labels=words keeps them apart)",
    "labels_alike": "classes that look alike",
    "repaired_tags": "entities that do not begin or end as their way of writing has it, in",
    "split_column": "a column of splits that is not used, for want of split=",
}


_COUNTS = {
    "conflicting_labels": "the same example under several labels",
    "duplicates_across_splits": "of train or valid not used, for they stand in a later split too",
    "answers_moved": "answers that stand elsewhere than is said",
    "silent": "silent recordings",
    "groups_across_splits": "groups that stand in more than one split",
    "answers_not_in_text": "answers that stand nowhere in their texts, and are not used",
}


def about(notes: object) -> str:
    """What the notes of a dataset say of examples that are not used, and of classes that are not
    as they are spelt, in one line; often "".

    Notes may come from a record of anybody's: what is no note of ours is passed over.
    """
    if not isinstance(notes, Mapping):
        return ""
    unused, empty, damaged = map(notes.get, ("unused", "empty_classes", "corrupt"))
    told = []
    if isinstance(unused, Mapping) and unused:
        told.append("not used: " + ", ".join(f"{kind} ({many})" for kind, many in unused.items()))
    if isinstance(empty, (list, tuple)) and empty:
        told.append("empty classes: " + ", ".join(map(repr, empty)))
    if isinstance(damaged, int) and damaged:
        told.append(f"damaged: {damaged}")
    for name, what in _COUNTS.items():
        if isinstance(many := notes.get(name), int) and many:
            told.append(f"{what}: {many}")
    for name, what in _LABELS.items():
        if isinstance(texts := notes.get(name), (list, tuple)) and texts:
            told.append(f"{what}: " + ", ".join(map(str, texts)))
    return "; ".join(told)


def contradicts(notes: Mapping[str, Any]) -> bool:
    """Whether the data contradict themselves, which is said whatever the share of it."""
    return bool(notes.get("conflicting_labels") or notes.get("duplicates_across_splits"))


def check_classes(examples: Iterable[tuple[str, str]], place: str, noun: str) -> None:
    """Raises BadData for what (split, class) pairs alone show to be wrong.

    One class only; a class too small to give each derived split an example; a class
    in valid or test that train has not. The split is "" where there is none.
    """
    pairs = list(examples)
    splits = {split for split, _ in pairs}
    sizes = Counter(name for split, name in pairs if split in ("", "train"))
    if len(sizes) < 2:
        one = next(iter(sizes), None)
        what = "no class" if one is None else f"only one class ({one!r})"
        raise BadData(f"{place}: {what} has training {noun}; at least two are needed")
    needed = 1 + ("valid" not in splits) + ("test" not in splits)
    few = sorted(name for name, many in sizes.items() if many < needed)
    if few:
        more = f" (and so have {len(few) - 1} more classes)" if len(few) > 1 else ""
        raise BadData(
            f"{place}: class {few[0]!r} has {sizes[few[0]]} {noun}, fewer than the {needed} "
            f"that splitting into train, valid and test needs{more}"
        )
    for held_out in ("valid", "test"):
        strange = sorted({name for split, name in pairs if split == held_out} - set(sizes))
        if strange:
            known = ", ".join(sorted(sizes)[:12])
            raise BadData(
                f"{place}: class {strange[0]!r} has {noun} in {held_out} but none in train. "
                f"Classes in train: {known}"
            )
