"""Hub sets of texts that ask for more than a class: columns as a table's, read by its readers.

    hf/USER/NAME?task=token-classification&words=tokens&tags=ner_tags

A column's numbers of a ClassLabel become its names, lists and tables become JSON, as a table of
one's own would hold them; what reads the rows of a task is the same for both (`rows.ROWS`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from zoobench.datasets import catalog, rows
from zoobench.datasets.hub_rows import cells_of
from zoobench.datasets.splits import Found
from zoobench.errors import BadData, unknown
from zoobench.schema import Ref


def found(named: Mapping[str, Any], row: catalog.Hub, ref: Ref) -> Found:
    """train, valid and test (tables of the library `datasets`) as the splits of a text task.

    Raises BadData for a column that is not there, and for rows that cannot be used.
    """
    reads = rows.reader(row.card.task)
    columns: dict[str, list[str]] = {option: [] for option in row.columns}
    splits: list[str] = []
    for name, table in named.items():
        for option, column in row.columns.items():
            if column not in table.column_names:
                raise BadData(str(unknown(ref.id, "column", column, table.column_names)))
            written = _writer(table.features[column])
            columns[option].extend(written(cell) for cell in cells_of(table, column))
        splits += [name] * len(table)
    place = f"{ref.id} ({', '.join(named)}, one after another)"
    made: Found = reads.of_rows(columns, splits, place, ref)
    return made


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
