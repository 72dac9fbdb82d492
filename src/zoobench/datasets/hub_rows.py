"""The rows of a hub set as splits: what a cell may hold, and which rows cannot be used.

A row holds the bytes of its picture or recording, or the path of a file that the library put on
this disk for that very repository. Any other path would let whoever wrote the set choose a file of
the reader's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zoobench import hub
from zoobench.datasets import (
    catalog,
    dense,
    hub_dense,
    labels,
    options,
    ranges,
    regular,
    table_,
    twins,
)
from zoobench.datasets.faults import check_faults
from zoobench.datasets.ids import bytes_id, text_id
from zoobench.datasets.masks import size_of
from zoobench.datasets.ranges import Grey, may_be_deep
from zoobench.datasets.readers import Column, stored
from zoobench.datasets.splits import Found
from zoobench.errors import BadData, unknown
from zoobench.interfaces import Split, Targets
from zoobench.schema import Ref
from zoobench.tasks import normalisers
from zoobench.tasks.classification import Labels
from zoobench.tasks.speech_recognition import Transcripts

_TEXT = ("string", "large_string", "string_view")
_DENSE = {
    "segmentation": ("masks", ("Image",)),
    "detection": ("boxes", ("dict", "list", "List", "LargeList", "Sequence")),
}
"""Task -> what its column holds, and by which features."""
_STORED = (*_TEXT, "binary", "large_binary", "dict")
_CONTENTS = {
    "text": ("texts", _TEXT), "image": ("pictures", (*_STORED, "Image")),
    "audio": ("recordings", (*_STORED, "Audio")),
}  # fmt: skip
"""Modality -> what its column holds, and by which features."""


def found(named: Mapping[str, Any], row: catalog.Hub, ref: Ref, library: Any) -> Found:
    """train, valid and test (tables of the library `datasets`) without the rows that are unusable.

    Raises BadData for a column that is not there or holds something else, for hidden labels, for
    a row that names a file outside its repository, and where over 10% of the rows cannot be used.
    """
    for table in named.values():
        _check_columns(table, row, ref)
    within = _folders(row.repo, library)
    # Not decoded here: the id is that of the file's own bytes.
    stored_as = {"image": "Image", "audio": "Audio"}.get(row.card.modality)
    files = {
        name: table.cast_column(row.column, getattr(library, stored_as)(decode=False))
        if stored_as
        else table
        for name, table in named.items()
    }
    classes, answers, notes = _answers(files, row, ref, within, library)
    splits: dict[str, Split] = {}
    faults: list[tuple[str, int, str]] = []
    deep: set[str] = set()
    groups: dict[str, str] = {}
    sound = row.card.modality == "audio"
    for name, table in files.items():
        kept = table.select_columns([row.column, row.label])
        read = Column(kept, row.column, within, sound=sound)
        ids, bad, of = _contents(read, row, f"{ref.id}: {name}")
        deep |= of
        targets, wrong = answers[name]
        bad = [why or other for why, other in zip(bad, wrong, strict=True)]
        faults += [(name, i, why) for i, why in enumerate(bad) if why]
        splits[name] = Split(name, tuple(ids), targets, read)
        if row.group:
            of_row = map(str, cells_of(table, row.group))
            groups |= dict(zip(ids, of_row, strict=True))
    usable = [
        (name, i)
        for name, split in splits.items()
        for i in sorted(set(range(len(split))) - {i for of, i, _ in faults if of == name})
    ]
    looks, damaged = _looks(splits, row, usable, deep, ranges.range_of(ref))
    faults += damaged
    notes |= looks.notes
    notes |= check_faults(
        [f"{name}, row {i + 1}: {why}" for name, i, why in faults],
        sum(map(len, splits.values())), ref.id, "row", options.allow_unused(ref),
    )  # fmt: skip
    whole = {
        name: _without(split, [i for of, i, _ in faults if of == name], looks.grey)
        for name, split in splits.items()
    }
    if row.card.task in dense.TASKS:
        others = (split for name, split in whole.items() if name != "train")
        notes |= dense.notes(whole["train"], classes, *others)
    return Found(
        whole["train"], whole.get("valid"), whole.get("test"), classes, row.card.modality, notes,
        groups, looks=looks, task=row.card.task,
    )  # fmt: skip


def _answers(
    named: Mapping[str, Any], row: catalog.Hub, ref: Ref, within: tuple[str, ...], library: Any
) -> tuple[tuple[str, ...], dict[str, tuple[Targets, list[str]]], dict[str, Any]]:
    """(class names, split -> targets and what is wrong with each row's, notes)."""
    if row.card.task == "classification":
        classes, numbers, notes = _labels(named, row.label, ref)
        answers: dict[str, tuple[Targets, list[str]]] = {
            name: (
                Labels(np.asarray(held, dtype=np.int64)),
                ["" if k >= 0 else "the label is empty or none of the classes" for k in held],
            )
            for name, held in numbers.items()
        }
        return classes, answers, notes
    if row.card.task == table_.SPEECH:
        said = {name: list(cells_of(table, row.label)) for name, table in named.items()}
        how = options.text(ref, "normaliser") or normalisers.DEFAULT
        spoken: dict[str, tuple[Targets, list[str]]] = {
            name: (
                Transcripts.of([text or "" for text in held], how),
                ["the transcript is missing" if text is None else "" for text in held],
            )
            for name, held in said.items()
        }
        return (), spoken, {}
    sizes = {
        name: [_size(value, within) for value in cells_of(table, row.column)]
        for name, table in named.items()
    }
    names = _class_names(named["train"].features[row.label], row.names)
    if row.card.task == "detection":
        rows = {name: cells_of(table, row.label) for name, table in named.items()}
        how = str(ref.option("box_format", "xywh"))
        return hub_dense.boxes_in(rows, sizes, names, how)
    columns = {
        name: hub_dense.MaskColumn(
            table.select_columns([row.label]).cast_column(row.label, library.Image(decode=False)),
            row.label, within, int(row.reduce_labels),
        )
        for name, table in named.items()
    }  # fmt: skip
    return *hub_dense.masks_in(columns, sizes, names), {}


def _size(value: Any, within: Sequence[str]) -> tuple[int, int] | None:
    try:
        return size_of(stored(value, within)) if value else None
    except (BadData, OSError, KeyError, TypeError):  # said where the picture is read
        return None


def _class_names(feature: Any, said: str) -> tuple[str, ...]:
    """Those that are `said`, parted by commas, or of a ClassLabel inside of the column."""
    if said:
        return tuple(name.strip() for name in said.split(","))
    inside = getattr(feature, "feature", feature)
    for key in hub_dense.LABELS:
        label = inside.get(key) if isinstance(inside, dict) else None
        if found := getattr(getattr(label, "feature", label), "names", None):
            return tuple(found)
    return ()


def _without(split: Split, bad: Sequence[int], grey: Grey) -> Split:
    """`split` but for the rows `bad`, its pictures in the range `grey`."""
    if isinstance(split.read, Column):
        split = replace(split, read=replace(split.read, grey=grey))
    rows = np.setdiff1d(np.arange(len(split), dtype=np.intp), np.asarray(bad, dtype=np.intp))
    return split.subset(rows) if bad else split


def _folders(repo: str, library: Any) -> tuple[str, ...]:
    """Where the library puts files of `repo`: the hub's cache of it, and what it unpacks."""
    own = hub.cache_folder() / f"datasets--{repo.replace('/', '--')}"
    unpacked = Path(library.config.HF_DATASETS_CACHE) / "downloads" / "extracted"
    return str(own), str(unpacked)


def _check_columns(table: Any, row: catalog.Hub, ref: Ref) -> None:
    contents, wanted = _CONTENTS[row.card.modality]
    nouns = {row.column: contents, row.label: "labels"}
    if row.group:
        nouns[row.group] = "groups"
    for column, noun in nouns.items():
        if column not in table.column_names:
            raise BadData(str(unknown(ref.id, "column", column, table.column_names)))
        feature = table.features[column]
        is_value = type(feature).__name__ == "Value"
        holds = str(feature.dtype) if is_value else type(feature).__name__
        if noun == "groups":
            sound = is_value and "binary" not in holds
        elif row.card.task == table_.SPEECH and noun == "labels":
            noun, sound = "transcripts", holds in _TEXT
        elif row.card.task != "classification" and noun == "labels":
            noun, fitting = _DENSE[row.card.task]
            sound = holds in fitting
        elif noun == "labels":
            sound = holds == "ClassLabel" or (is_value and "binary" not in holds)
        else:
            sound = holds in wanted
        if not sound:
            raise BadData(f"{ref.id}: column {column!r} holds {holds}, which are no {noun}")


def _labels(
    named: Mapping[str, Any], label: str, ref: Ref
) -> tuple[tuple[str, ...], dict[str, list[int]], dict[str, Any]]:
    """(class names, split -> class number of each row or -1, notes), from the ClassLabel or from
    the values."""
    values = {name: list(cells_of(table, label)) for name, table in named.items()}
    names = getattr(named["train"].features[label], "names", None)
    for split, held in values.items():
        hidden = {value for value in held if value is None or value == -1}
        if hidden and (-1 in hidden if names is not None else hidden >= set(held)):
            raise BadData(
                f"{ref.id}: column {label!r} holds {hidden.pop()}: the labels of {split} are "
                "hidden. Name another one with test_split"
            )
    if names is not None:
        known = set(range(len(names)))
        numbers = {
            split: [value if value in known else -1 for value in held]
            for split, held in values.items()
        }
        return tuple(names), numbers, {}
    text_of = {
        value: "" if value is None or value != value else str(value)
        for held in values.values()
        for value in held
    }
    named_as = labels.spelt(text_of.values(), words=labels.as_words(ref))
    # By value, and texts by spelling: the order is part of what a set's name has always meant.
    ordered = dict.fromkeys(
        named_as[text_of[value]]
        for value in sorted(text_of, key=lambda value: (isinstance(value, str), _rank(value)))
        if named_as[text_of[value]]
    )
    place = {name: i for i, name in enumerate(ordered)}
    numbers = {
        split: [place.get(named_as[text_of[value]], -1) for value in held]
        for split, held in values.items()
    }
    return tuple(ordered), numbers, labels.notes(named_as)


def _rank(value: Any) -> Any:
    """What a label sorts by; what is missing sorts anywhere, and is left out."""
    return float("-inf") if value is None or value != value else value


def _contents(read: Column, row: catalog.Hub, place: str) -> tuple[list[str], list[str], set[str]]:
    """(ids, faults), a row each, and the ids of pictures that may have more than 8 bits; a fault is
    empty where all is well."""
    ids, faults, deep = [], [], set()
    for i, value in enumerate(cells_of(read.table, read.name)):
        if row.card.modality == "text":
            one, why = text_id(value or ""), "" if value is not None else "the text is empty"
        else:
            content, why = _file(value, read, f"{place}, row {i + 1}")
            one = bytes_id(content)
            if not read.sound and may_be_deep(content):
                deep.add(one)
        ids.append(one)
        faults.append(why)
    return ids, faults, deep


def _file(value: Any, read: Column, place: str) -> tuple[bytes, str]:
    """(content, fault) of a cell; BadData where it names a file of somebody else."""
    if not value or (value.get("bytes") is None and not value.get("path")):
        return b"", f"there is no {'recording' if read.sound else 'picture'}"
    try:
        content = stored(value, read.within)
        return regular.read(content) if isinstance(content, str) else content, ""
    except BadData as error:
        raise BadData(f"{place}: {error}") from None
    except OSError as error:
        return b"", f"cannot be read: {error.strerror or error}"


def _looks(
    splits: Mapping[str, Split],
    row: catalog.Hub,
    usable: Sequence[tuple[str, int]],
    deep: set[str],
    grey: Grey | None,
) -> tuple[twins.Looks, list[tuple[str, int, str]]]:
    """What the usable rows look like, and (split, row, why) of files that can't be decoded."""
    columns = {name: split.read for name, split in splits.items() if isinstance(split.read, Column)}
    if row.card.modality == "text":
        texts = (
            v or "" for column in columns.values() for v in cells_of(column.table, column.name)
        )
        return twins.of_texts(texts), []

    def source(at: int) -> bytes | str:
        name, i = usable[at]
        column = columns[name]
        return stored(column.table[i][column.name], column.within)

    ids = [splits[name].ids[i] for name, i in usable]
    looks, wrong = (
        twins.of_sounds(ids, source)
        if row.card.modality == "audio"
        else twins.of_pictures(ids, source, deep.intersection(ids), grey)
    )
    return looks, [
        (name, i, wrong[one]) for (name, i), one in zip(usable, ids, strict=True) if one in wrong
    ]


def cells_of(table: Any, column: str) -> Iterator[Any]:
    """Batch by batch: a column of `datasets` converts cell by cell, 80 times slower."""
    for batch in table.select_columns([column]).iter(batch_size=1000):
        yield from batch[column]
