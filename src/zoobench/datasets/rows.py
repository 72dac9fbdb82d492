"""Rows of tables, hub sets and files: who reads those of a task, and in which split each is."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoobench.datasets import options
from zoobench.errors import BadData, UserError, opening
from zoobench.interfaces import Split
from zoobench.schema import Ref

ROWS = {
    "token-classification": "zoobench.datasets.tagged",
    "question-answering": "zoobench.datasets.questions",
    "language-modelling": "zoobench.datasets.documents",
    "masked-language-modelling": "zoobench.datasets.documents",
    "multiple-choice": "zoobench.datasets.choices",
    "retrieval": "zoobench.datasets.captions",
}
"""Task -> the module that reads its rows, which are no texts or pictures with a label.

It has `NEEDED` and `OPTIONAL`, the options that name its columns, `LISTS`, those of them whose
columns may hold lists, `SETTINGS`, options that name no column, and
`of_rows(columns, splits, place, ref)`, which makes a Found of option -> the column's values, the
split of each row ("" where none is said) and the table's name. It raises BadData for rows that
cannot be used.
"""

OF_FILES = ("retrieval",)
"""Those of ROWS whose rows name files: tables alone have them."""


def reader(task: str) -> Any:
    """The module that reads the rows of `task`, one of ROWS."""
    return importlib.import_module(ROWS[task])


def options_of(task: str) -> tuple[str, ...]:
    """The options that data of `task`, one of ROWS, have for themselves."""
    reads = reader(task)
    return (*reads.NEEDED, *reads.OPTIONAL, *reads.SETTINGS)


def columns_of(
    ref: Ref, task: str, form: str, known: Mapping[str, str] | None = None, where: str = ""
) -> dict[str, str]:
    """The option that names a column -> the column: what is `known`, and what `ref` says beyond it.

    Raises UserError where one that is needed is not said, with the `form` of a whole name, and
    where two of them are one column.
    """
    reads, at = reader(task), f"{opening(where)}{ref.id}"
    said = {name: options.text(ref, name) for name in (*reads.NEEDED, *reads.OPTIONAL)}
    named = {**(known or {}), **{name: column for name, column in said.items() if column}}
    if absent := [name for name in reads.NEEDED if name not in named]:
        given = "&".join(f"{one}=COLUMN" for one in reads.NEEDED)
        mark = "&" if "?" in form else "?"
        raise UserError(
            f"{at}: give the option {absent[0]}, the name of a column: {task} is read by "
            f"{form}{mark}task={task}&{given}"
        )
    check_apart(named, reads.NEEDED, at)
    return named


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


def away(name: str) -> str:
    """What is wrong with the name of a file that is read from the table's folder alone."""
    if not name.strip():
        return "no file is named"
    inside = os.path.normpath(os.path.join("folder", name))
    return "" if inside.startswith(f"folder{os.sep}") else "the file is not in the table's folder"
