"""hf/...: data sets of the Hugging Face hub, by the `datasets` library (extra `hub`).

Catalogued names know their columns; any other `hf/user/name` works when they are
given: `text` or `image`, `label`, and where need be `config`, `train_split`,
`valid_split`, `test_split`. HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are the library's.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zoobench.datasets import catalog, options, twins
from zoobench.datasets.ids import bytes_id, text_id
from zoobench.datasets.readers import Column, stored
from zoobench.datasets.splits import Found, assemble
from zoobench.errors import BadData, UserError, missing_extra, unknown
from zoobench.interfaces import Split, Splits
from zoobench.schema import DatasetCard, Modality, Ref
from zoobench.tasks.classification import Labels

OPTIONS = ("config", "text", "image", "label", "train_split", "valid_split", "test_split")

_USUAL = {"train": ("train",), "valid": ("validation", "valid", "val", "dev"), "test": ("test",)}


def cards() -> tuple[DatasetCard, ...]:
    return tuple(row.card for row in catalog.HUB)


def card(ref: Ref) -> DatasetCard:
    return _row(ref, "").card


def resolve(ref: Ref, where: str) -> Ref:
    """Revision: the one given, else the card's, else main. No network.

    Raises UserError for an unknown option or a name that needs columns,
    MissingExtra where the library is not installed.
    """
    options.check(ref, OPTIONS, where)
    row = _row(ref, where)
    options.check_against(ref, row.card, where)
    if importlib.util.find_spec("datasets") is None:
        raise missing_extra("datasets", "hub", f"{options.prefix(where)}{ref.id}")
    return ref.at(ref.revision or row.card.revision)


def repository(ref: Ref) -> str:
    """The repository on the hub."""
    return _row(ref, "").repo


def available(ref: Ref) -> tuple[bool, str]:
    """Looks for the prepared data in the library's cache; nothing is imported."""
    row = _row(ref, "")
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets")
    wanted = _folded(row.repo.replace("/", "___"))
    if cache.is_dir() and any(_folded(path.name) == wanted for path in cache.iterdir()):
        return True, f"in {cache}"
    return False, f"will be downloaded from the hub ({row.repo})"


def load(ref: Ref) -> Splits:
    """Raises BadData where it cannot be fetched, or lacks the column, split or labels."""
    row = _row(ref, "")
    try:
        library = importlib.import_module("datasets")  # slow: only when data is really wanted
    except ImportError:
        raise missing_extra("datasets", "hub", ref.id) from None
    try:
        tables = library.load_dataset(
            row.repo, row.config or None, revision=ref.revision or row.card.revision
        )
    except MemoryError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise BadData(
            f"{ref.id}: could not be fetched from the hub ({row.repo}): "
            f"{type(error).__name__}: {first}"
        ) from error
    named = {name: tables[inside] for name, inside in _splits(row, list(tables), ref).items()}
    for table in named.values():
        for column in (row.column, row.label):
            if column not in table.column_names:
                raise BadData(str(unknown(ref.id, "column", column, table.column_names)))
    classes, number = _classes(named, row.label, ref)
    found = {name: _split(name, table, row, number, library) for name, table in named.items()}
    return assemble(
        Found(
            found["train"], found.get("valid"), found.get("test"), classes, row.card.modality,
            looks=_looks(found, row),
        ),
        ref,
    )  # fmt: skip


def _folded(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def _row(ref: Ref, where: str) -> catalog.Hub:
    """The catalogue's row with the options of `ref` laid over it, or one from the options."""
    given = {name: options.text(ref, name) for name in OPTIONS if name in dict(ref.options)}
    known = next((row for row in catalog.HUB if row.card.name == ref.name), None)
    if "text" in given and "image" in given:
        raise UserError(f"{options.prefix(where)}{ref.id}: give text or image, not both")
    column = given.get("text") or given.get("image")
    if known is None and not (column and "label" in given):
        if "/" not in ref.name:
            names = [f"hf/{row.card.name}" for row in catalog.HUB]
            raise unknown(where, "dataset", ref.id, names)
        raise UserError(
            f"{options.prefix(where)}{ref.id} is not in the catalogue: say which columns to read, "
            f"such as hf/{ref.name}?text=text&label=label"
        )
    splits = {name: given[f"{name}_split"] for name in _USUAL if f"{name}_split" in given}
    if known is None:
        modality: Modality = "text" if "text" in given else "image"
        card_ = DatasetCard("hf", ref.name, modality, 0, (0, 0, 0), ref.revision or "main")
        known = catalog.Hub(card_, ref.name, column or "")
    return replace(
        known,
        column=column or known.column,
        label=given.get("label", known.label),
        config=given.get("config", known.config),
        splits={**known.splits, **splits},
    )


def _splits(row: catalog.Hub, there: list[str], ref: Ref) -> dict[str, str]:
    """train/valid/test -> the repository's name; BadData where one is not there."""
    named = dict(row.splits)
    if not {"train", "test"} <= set(named):
        for ours, usual in _USUAL.items():
            match = next((name for name in usual if name in there), None)
            if match is not None and match not in named.values():
                named.setdefault(ours, match)
    for ours, inside in named.items():
        if inside not in there:
            raise BadData(str(unknown(ref.id, f"split (for {ours})", inside, there)))
    if "train" not in named:
        raise BadData(f"{ref.id}: no train split among {', '.join(there)}; give train_split")
    return named


def _classes(
    named: Mapping[str, Any], label: str, ref: Ref
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """(class names, label value -> class number), from the ClassLabel or from the values."""
    values = {value for table in named.values() for value in table.unique(label)}
    hidden = [value for value in values if value is None or value == -1]
    if hidden:
        raise BadData(
            f"{ref.id}: column {label!r} holds {hidden[0]}: the labels of some split are hidden. "
            "Name another one with test_split"
        )
    names = getattr(named["train"].features[label], "names", None)
    if names is not None:
        return tuple(names), {i: i for i in range(len(names))}
    ordered = sorted(values, key=lambda value: (isinstance(value, str), value))
    return tuple(str(value) for value in ordered), {value: i for i, value in enumerate(ordered)}


def _split(
    name: str, table: Any, row: catalog.Hub, number: Mapping[Any, int], library: Any
) -> Split:
    if row.card.modality == "image":
        # Not decoded here: the id is that of the picture's own bytes.
        table = table.cast_column(row.column, library.Image(decode=False))
    table = table.select_columns([row.column, row.label])
    labels = np.asarray([number[value] for value in _values(table, row.label)], dtype=np.int64)
    return Split(name, tuple(_ids(table, row.column)), Labels(labels), Column(table, row.column))


def _looks(found: Mapping[str, Split], row: catalog.Hub) -> twins.Looks:
    columns = [split.read for split in found.values() if isinstance(split.read, Column)]
    if row.card.modality == "text":
        return twins.of_texts(
            text for column in columns for text in _values(column.table, column.name)
        )
    cells = [(column, i) for column in columns for i in range(len(column.table))]
    ids = [one for split in found.values() for one in split.ids]

    def source(at: int) -> bytes | str:
        column, i = cells[at]
        return stored(column.table[i][column.name])

    return twins.of_pictures(ids, source)[0]


def _values(table: Any, column: str) -> Iterator[Any]:
    """Batch by batch: a column of `datasets` converts cell by cell, 80 times slower."""
    for batch in table.select_columns([column]).iter(batch_size=1000):
        yield from batch[column]


def _ids(table: Any, column: str) -> Iterator[str]:
    for value in _values(table, column):
        if isinstance(value, str):
            yield text_id(value)
        elif isinstance(value, Mapping):
            content = stored(value)
            yield bytes_id(Path(content).read_bytes() if isinstance(content, str) else content)
        else:
            raise BadData(f"column {column!r} holds {type(value).__name__}, not text or pictures")
