"""Hub sets of texts that ask for more than a class: columns as a table's, read by its readers.

    hf/USER/NAME?task=token-classification&words=tokens&tags=ner_tags

A column's numbers of a ClassLabel become its names, lists and tables become JSON, as a table of
one's own would hold them; what reads the rows of a task is the same for both (`table_.ROWS`).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from zoobench.datasets import catalog, options
from zoobench.datasets.rows import check_apart
from zoobench.datasets.splits import Found
from zoobench.datasets.table_ import ROWS
from zoobench.errors import BadData, UserError, unknown
from zoobench.schema import Ref

TASKS = tuple(ROWS)


def reader(task: str) -> Any:
    """The module that reads the rows of `task`: see `table_.ROWS`."""
    return importlib.import_module(ROWS[task])


def options_of(task: str) -> tuple[str, ...]:
    """The options that sets and tables of `task` have for themselves."""
    reads = reader(task)
    return (*reads.NEEDED, *reads.OPTIONAL, *reads.SETTINGS)


def columns_of(ref: Ref, task: str, known: Mapping[str, str], where: str = "") -> dict[str, str]:
    """The option that names a column -> the column: what the catalogue knows, and what `ref` says.

    Raises UserError where one that is needed is not said.
    """
    reads = reader(task)
    said = {name: options.text(ref, name) for name in (*reads.NEEDED, *reads.OPTIONAL)}
    named = {**known, **{name: column for name, column in said.items() if column}}
    if absent := [name for name in reads.NEEDED if name not in named]:
        given = "&".join(f"{one}=COLUMN" for one in reads.NEEDED)
        raise UserError(
            f"{options.prefix(where)}{ref.id}: give the option {absent[0]}, the name of a column: "
            f"{task} is read by hf/USER/NAME?task={task}&{given}"
        )
    check_apart(named, reads.NEEDED, f"{options.prefix(where)}{ref.id}")
    return named


def found(named: Mapping[str, Any], row: catalog.Hub, ref: Ref) -> Found:
    """train, valid and test (tables of the library `datasets`) as the splits of a text task.

    Raises BadData for a column that is not there, and for rows that cannot be used.
    """
    reads = reader(row.card.task)
    columns: dict[str, list[str]] = {option: [] for option in row.columns}
    splits: list[str] = []
    for name, table in named.items():
        for option, column in row.columns.items():
            if column not in table.column_names:
                raise BadData(str(unknown(ref.id, "column", column, table.column_names)))
            written = _writer(table.features[column])
            columns[option].extend(written(value) for value in _values(table, column))
        splits += [name] * len(table)
    place = f"{ref.id} ({', '.join(named)}, one after another)"
    made: Found = reads.of_rows(columns, splits, place, ref)
    return made


def _values(table: Any, column: str) -> Any:
    """Batch by batch: a column of `datasets` converts cell by cell, 80 times slower."""
    for batch in table.select_columns([column]).iter(batch_size=1000):
        yield from batch[column]


def _writer(feature: Any) -> Callable[[Any], str]:
    """What writes a column's cell as a table's: names of a ClassLabel in place of its numbers, JSON
    in place of lists and tables; nothing is the empty text."""
    labels = tuple(getattr(getattr(feature, "feature", feature), "names", None) or ())

    def name(value: Any) -> Any:
        known = isinstance(value, int) and 0 <= value < len(labels)
        return labels[value] if known else value

    def write(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, list):
            return json.dumps([name(one) for one in value], ensure_ascii=False)
        if isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False)
        return str(name(value))

    return write
