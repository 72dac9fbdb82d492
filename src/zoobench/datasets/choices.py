"""Questions with options to choose from, of a table or a hub set.

A row has the question, its options as a list, and which is right. Two shapes are common:
["Paris", "Rome"], and {"text": ["Paris", "Rome"], "label": ["A", "B"]}, where the right one is
called by its label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from zoobench.datasets import options
from zoobench.datasets.faults import check_faults
from zoobench.datasets.ids import text_id
from zoobench.datasets.rows import parted
from zoobench.datasets.splits import Found
from zoobench.errors import BadData
from zoobench.files import parse_json
from zoobench.interfaces import Split
from zoobench.schema import Ref
from zoobench.tasks.multiple_choice import Choices, RightOptions

TASK = "multiple-choice"
NEEDED = ("choices", "label")
OPTIONAL = ("question",)
LISTS = ("choices",)
SETTINGS: tuple[str, ...] = ()
MOST = 100
"""Options of a question."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class QuestionsWithOptions:
    """Example i is a question with its options, already in memory."""

    rows: tuple[Choices, ...] = field(repr=False)

    def __call__(self, i: int) -> Choices:
        return self.rows[i]


def of_rows(columns: Mapping[str, list[str]], splits: Sequence[str], place: str, ref: Ref) -> Found:
    """Rows as a table has them: `choices` are JSON; `question` may be a column that is not there,
    where the options are whole sentences."""
    return found(columns, splits, place, options.allow_unused(ref))


def found(
    columns: Mapping[str, list[str]], splits: Sequence[str], place: str, allowed: bool | None
) -> Found:
    """Raises BadData where more rows than `allowed` lack a question, options, or the right one."""
    labels = [label.strip() for label in columns["label"]]
    if not labels:
        raise BadData(f"{place}: the table has no rows")
    asked = columns.get("question")
    read = [_options(text) for text in columns["choices"]]
    right, meant = _right(labels, [(texts, names) for texts, names, _ in read])
    faults = [why for _, _, why in read]
    for i, number in enumerate(right):
        if asked is not None and not asked[i].strip():
            faults[i] = faults[i] or "the question is empty"
        if number is None:
            faults[i] = faults[i] or f"the label {labels[i]!r} is none of its {meant}"
    named = [f"row {i + 1}: {why}" for i, why in enumerate(faults) if why]
    notes = check_faults(named, len(labels), place, "row", allowed)
    rows = [
        Choices(asked[i] if asked is not None else "", texts)
        for i, (texts, _, _) in enumerate(read)
    ]
    ids = [text_id("\0".join((row.question, *row.options))) for row in rows]

    def split(name: str, of: list[int]) -> Split:
        some = tuple(rows[i] for i in of)
        truth = RightOptions.of([right[i] or 0 for i in of], [len(row.options) for row in some])
        return Split(name, tuple(ids[i] for i in of), truth, QuestionsWithOptions(some))

    parts = parted(splits, [not why for why in faults], split, place)
    return Found(*parts, (), "text", notes, task=TASK)


def _options(text: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """(options, their labels where they have any, what is wrong with them)."""
    try:
        held = parse_json(text, parse_int=str, parse_float=str)
    except (ValueError, json.JSONDecodeError):
        return (), (), "the choices are no JSON list"
    table = held if isinstance(held, dict) else {"text": held}
    held, names = table.get("text"), table.get("label", ())
    if not isinstance(held, list) or not all(isinstance(one, str) for one in held):
        return (), (), "the choices are no list of texts"
    if not isinstance(names, (list, tuple)) or len(names) not in (0, len(held)):
        return (), (), "the choices have other labels than texts"
    if not 2 <= len(held) <= MOST:
        return (), (), f"it has {len(held)} choices, 2 to {MOST} are read"
    if not all(one.strip() for one in held):
        return (), (), "a choice is empty"
    return tuple(held), tuple(map(str, names)), ""


def _right(
    labels: Sequence[str], read: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
) -> tuple[list[int | None], str]:
    """The number of the right option of each row, None where there is none, and what the labels
    are: one and the same of all rows, that which fits most of them, the first of equals."""
    ways = {
        "labels": [_place(label, names) for label, (_, names) in zip(labels, read, strict=True)],
        "texts": [
            _place(label, [one.strip() for one in texts])
            for label, (texts, _) in zip(labels, read, strict=True)
        ],
        "numbers from 0": [
            _place(label, [str(i) for i in range(len(texts))])
            for label, (texts, _) in zip(labels, read, strict=True)
        ],
        "letters from A": [
            _place(label.upper(), list(LETTERS[: len(texts)]))
            for label, (texts, _) in zip(labels, read, strict=True)
        ],
    }
    meant = max(ways, key=lambda way: sum(one is not None for one in ways[way]))
    return ways[meant], meant


def _place(label: str, names: Sequence[str]) -> int | None:
    """Where `label` stands in `names`, once; None where it stands nowhere, or twice."""
    return list(names).index(label) if list(names).count(label) == 1 else None
