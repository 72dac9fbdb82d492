"""Rows of a table, or files of a folder, as the splits that they are said to be in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from zoobench.errors import BadData, UserError
from zoobench.interfaces import Split


def parted(
    splits: Sequence[str], sound: Sequence[bool], make: Callable[[str, list[int]], Split],
    place: str,
) -> tuple[Split, Split | None, Split | None]:  # fmt: skip
    """train, valid and test that `make` makes of a name and rows, of those that are `sound`.

    `splits` says in which each row is, "" of train where there are none; valid and test are None
    where no row is said to be in them. Raises BadData where none is in train.
    """

    def rows(*names: str) -> list[int]:
        return [i for i, name in enumerate(splits) if sound[i] and name in names]

    train = rows("", "train")
    if not train:
        raise BadData(f"{place}: nothing is in the train split")
    valid, test = (make(name, rows(name)) if name in splits else None for name in ("valid", "test"))
    return make("train", train), valid, test


def check_apart(columns: Mapping[str, str], needed: Sequence[str], what: str) -> None:
    """Raises UserError where two options that are `needed` name one column, so that the question
    would be its own answer. `columns` are those of the options of `what`."""
    for i, one in enumerate(needed):
        for other in needed[:i]:
            if columns.get(one) is not None and columns.get(one) == columns.get(other):
                raise UserError(f"{what}: {other} and {one} are the same column, {columns[one]!r}")
