"""table/NAME?path=FILE&text=COLUMN&label=COLUMN: the rows of a file that `formats` reads.

Options: `text`, `image` or `audio` (a column of texts, or of files relative to the table), `label`,
`split` (a column of train/valid/test), `group` (of what is never parted), `task`; and of delimited
text `encoding`, `delimiter` and `quotes`. Tasks of `ROWS` have columns of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from zoobench.datasets import delimited, formats, local, options, ranges, regular, rows, twins
from zoobench.datasets.faults import check_classes, check_faults
from zoobench.datasets.ids import text_id
from zoobench.datasets.labels import as_words, number, order, spelt
from zoobench.datasets.labels import notes as label_notes
from zoobench.datasets.readers import Files, Recordings, Texts
from zoobench.datasets.rows import ROWS
from zoobench.datasets.splits import Found
from zoobench.datasets.twins import Looks
from zoobench.errors import BadData, UserError, unknown
from zoobench.interfaces import Raw, Split, Splits, Targets
from zoobench.schema import DatasetCard, Modality, Ref, digest
from zoobench.tasks import normalisers
from zoobench.tasks.classification import Labels
from zoobench.tasks.regression import Numbers
from zoobench.tasks.speech_recognition import Transcripts

VERSION = 1
"""Counts changes of how a table is read."""

OPTIONS = (
    "path", "text", "image", "audio", "label", "labels", "split", "group", "task", "range",
    "encoding", "delimiter", "quotes", "allow_unused",
)  # fmt: skip
CONTENTS = ("text", "image", "audio")
"""Options that name the column of the content."""
LARGEST = 2**36
"""Bytes of a table's file, which is read whole."""

TASKS = ("classification", "regression")
SPEECH = "speech-recognition"


@dataclass(frozen=True)
class Table:
    """The rows of a table: `contents` are texts or files, one list entry a row.

    `stored` are the files themselves, where the table holds them. `labels` name the classes, one
    name a class; `groups` are empty where none are asked for;
    `sha256` is that of the file, and of the classes where they are others than their spellings.
    """

    path: Path
    modality: Modality
    contents: list[str]
    labels: list[str]
    splits: list[str]
    groups: list[str]
    sha256: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    stored: list[bytes] | None = field(default=None, repr=False)

    @property
    def is_text(self) -> bool:
        return self.modality == "text"

    def files(self) -> Sequence[str | bytes]:
        """The file of each row, relative to the table's folder, or its bytes."""
        if self.stored is not None:
            return self.stored
        return [str(self.path.parent / name) for name in self.contents]


def cards() -> tuple[DatasetCard, ...]:
    return ()


def card(ref: Ref) -> DatasetCard:
    """What the name alone shows: modality and task. Classes and sizes are 0, not known."""
    given = dict(ref.options)
    modality: Modality = "audio" if "audio" in given else "image" if "image" in given else "text"
    return DatasetCard(
        "table", ref.name, modality, 0, (0, 0, 0), ref.revision,
        task=task_of(ref), version=VERSION, about="rows of a CSV, JSON, Parquet or Feather file",
    )  # fmt: skip


def task_of(ref: Ref) -> str:
    """What the option `task` asks of the labels: classes, by default, or numbers."""
    return str(ref.option("task", TASKS[0]))


def check_task(ref: Ref, where: str, tasks: Sequence[str] = TASKS) -> None:
    """Raises UserError for a task that is not one of `tasks`."""
    if task_of(ref) not in tasks:
        raise unknown(where, "task", task_of(ref), tasks, f"of {ref.id}")


def resolve(ref: Ref, where: str) -> Ref:
    """Revision: a digest of the file, and of those that it names.

    Raises UserError for whatever can be seen in the table: no such file or column,
    not UTF-8 (which line), one class only, classes too small to split, an unknown
    split, a class that train never saw.
    """
    check_task(ref, where, (*TASKS, SPEECH, *ROWS))  # first: the options are the task's
    options.check(ref, _options(ref), where)
    ranges.range_of(ref, where)
    as_words(ref, where)
    options.allow_unused(ref, where)
    ref = local.with_path(ref, Path(ref.name).stem)
    return local.resolved(ref, where, partial(_every, ref, verify=False))


def available(ref: Ref) -> tuple[bool, str]:
    path = options.path_of(ref)
    there = os.path.isfile(path)
    return there, f"the file {path}" if there else f"no file {path}"


def names(ref: Ref) -> list[str]:
    """What the rows hold: texts, or files relative to the table's folder."""
    return _read(ref).contents


def load(ref: Ref) -> Splits:
    """Raises BadData when the table changed since it was resolved, or too much of it is damaged."""
    return local.loaded(ref, str(options.path_of(ref)), partial(_every, ref, verify=True))


def _options(ref: Ref) -> tuple[str, ...]:
    """The options that a table of this task has."""
    if task_of(ref) == SPEECH:
        other: tuple[str, ...] = ("image", "label", "labels", "range")
        return (*(name for name in OPTIONS if name not in other), "normaliser")
    if task_of(ref) not in ROWS:
        return OPTIONS
    other = (*CONTENTS, "label", "labels", "range", "group")
    return (*(name for name in OPTIONS if name not in other), *rows.options_of(task_of(ref)))


def _every(ref: Ref, *, verify: bool) -> tuple[Found, str]:
    """The sound rows as splits, and the revision."""
    return _found(_read(ref), ref, verify=verify) if task_of(ref) not in ROWS else _rows(ref)


def _rows(ref: Ref) -> tuple[Found, str]:
    """The rows of a task of `ROWS`, and the revision. Raises UserError for a column that is not
    said."""
    reader, path = rows.reader(task_of(ref)), options.path_of(ref)
    named = rows.columns_of(ref, task_of(ref), "table/NAME?path=FILE")
    if split := options.text(ref, "split"):
        named["split"] = split
    raw = content(path)
    lists = [named[name] for name in reader.LISTS if name in named]
    found = formats.columns(path, raw, list(dict.fromkeys(named.values())), _how(ref), lists)
    columns = {name: found[column] for name, column in named.items()}
    of = columns.pop("split", None)
    many = len(next(iter(columns.values())))
    splits = [""] * many if of is None else [_split(one, path, named["split"]) for one in of]
    made: Found = reader.of_rows(columns, splits, str(path), ref)
    sha256 = hashlib.sha256(raw).hexdigest()
    if made.modality == "text":
        return made, sha256[:16]
    parts = (made.train, made.valid, made.test)
    return made, digest([sha256, [part.ids for part in parts if part is not None]])


def _found(table: Table, ref: Ref, *, verify: bool) -> tuple[Found, str]:
    """The sound rows as splits, and the revision; decodes each file under `verify`."""
    task = task_of(ref)
    ids, faults, looks = _scan(table, ref, verify=verify)
    kept, notes = _sound(table, faults, options.allow_unused(ref))
    notes |= looks.notes
    names: list[str] = []
    if task == "classification":
        check_classes([(table.splits[i], table.labels[i]) for i in kept], str(table.path), "rows")
        names = sorted({table.labels[i] for i in kept}, key=order)
    contents: Sequence[Any] = table.contents if table.is_text else table.files()

    def split(name: str, rows: list[int]) -> Split:
        targets = _targets([table.labels[i] for i in rows], names, ref)
        inside = tuple(contents[i] for i in rows)
        return Split(name, tuple(ids[i] for i in rows), targets, _reads(inside, table, looks))

    sound = np.isin(np.arange(len(ids)), kept).tolist()
    parts = rows.parted(table.splits, sound, split, str(table.path))
    groups = {ids[i]: table.groups[i] for i in kept if table.groups and table.groups[i]}
    found = Found(*parts, tuple(names), table.modality, notes, groups, task=task, looks=looks)
    return found, table.sha256[:16] if table.is_text else digest([table.sha256, ids])


def _targets(labels: list[str], names: list[str], ref: Ref) -> Targets:
    if task_of(ref) == SPEECH:
        return Transcripts.of(labels, options.text(ref, "normaliser") or normalisers.DEFAULT)
    if task_of(ref) == "regression":
        return Numbers(np.asarray([float(text) for text in labels], dtype=np.float64))
    place = {name: label for label, name in enumerate(names)}
    return Labels(np.asarray([place[text] for text in labels], dtype=np.int64))


def _reads(inside: tuple[Any, ...], table: Table, looks: Looks) -> Callable[[int], Raw]:
    if table.is_text:
        return Texts(inside)
    return Recordings(inside) if table.modality == "audio" else Files(inside, looks.grey)


def _as_classes(table: Table, words: bool) -> Table:
    """`table` with one name a class, for which `labels` decides.

    Where each spelling was a class before, in the same order, the revision is still the file's.
    """
    named = spelt(table.labels, words=words)
    revision, names = table.sha256, sorted({name for name in named.values() if name}, key=order)
    if any(text != name for text, name in named.items()) or names != sorted(names, key=_whole):
        revision = digest([table.sha256, names], 64)
    labels = [named[text] for text in table.labels]
    notes = {**table.notes, **label_notes(named)}
    return replace(table, labels=labels, sha256=revision, notes=notes)


def _whole(name: str) -> tuple[bool, Decimal, str]:
    """The order of classes when whole numbers alone were numbers."""
    value = number(name) if name.lstrip("-").isdecimal() else None
    return (value is None, value or Decimal(0), name)


def _read(ref: Ref) -> Table:
    path = options.path_of(ref)
    raw = content(path)
    modality, named = _columns(ref)
    stored = None if modality == "text" else formats.stored(path, raw, named["content"])
    if stored is not None:
        del named["content"]
    wanted = list(dict.fromkeys(named.values()))
    columns = formats.columns(path, raw, wanted, _how(ref))
    held = {name: columns[column] for name, column in named.items()}
    contents = held.get("content") or [f"{len(one)} bytes" for one in stored or ()]
    labels = [label.strip() for label in held["label"]]
    splits = [""] * len(labels)
    notes = {}
    if "split" in named:
        splits = [_split(value, path, named["split"]) for value in held["split"]]
    elif spare := _column_of_splits(path, raw, wanted, _how(ref)):
        notes["split_column"] = [spare]
    groups = [group.strip() for group in held.get("group", ())]
    sha256 = hashlib.sha256(raw).hexdigest()
    table = Table(path, modality, contents, labels, splits, groups, sha256, notes, stored)
    return _as_classes(table, as_words(ref)) if task_of(ref) == "classification" else table


def _column_of_splits(path: Path, raw: bytes, wanted: list[str], how: delimited.How) -> str:
    """The column of a plain text that nobody asked for and that holds names of splits alone; ""."""
    header: list[str] = []
    with contextlib.suppress(UserError):  # packed, or of another kind
        header = delimited.header(path, raw, wanted, how)
    called = ("split", "splits", "set", "subset", "partition", "fold")
    for name in header:
        if name.strip().casefold() in called and name not in wanted:
            values = formats.columns(path, raw, [*wanted, name], how)[name]
            if {value.strip().casefold() for value in values} <= options.SPLIT_NAMES.keys():
                return name
    return ""


def content(path: Path) -> bytes:
    """The bytes of a table's file. Raises UserError where it is none, or too large."""
    try:
        return regular.read(str(path), LARGEST)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file{options.separated(path)}") from None
    except OSError as error:
        what = "is a folder, not a table" if os.path.isdir(path) else error.strerror
        raise UserError(f"{path}: {what}") from None


def _how(ref: Ref) -> delimited.How:
    said = {name: options.text(ref, name) for name in ("encoding", "delimiter", "quotes")}
    return delimited.How(**{name: value for name, value in said.items() if value})


def _columns(ref: Ref) -> tuple[Modality, dict[str, str]]:
    """The modality, and the columns of the content, the label, the split and the group, as far as
    they are said."""
    given = dict(ref.options)
    modality, label = next((one for one in CONTENTS if one in given), ""), "label"
    if task_of(ref) == SPEECH:
        modality, label = "audio", "text"
        if not {"audio", "text"} <= given.keys():
            raise UserError(
                f"{ref.id}: give the options audio and text, the columns of the files and of what "
                "is said in them"
            )
    elif sum(one in given for one in CONTENTS) != 1:
        raise UserError(
            f"{ref.id}: give one of the options text, image and audio, each names a column"
        )
    elif "label" not in given:
        raise UserError(
            f"{ref.id}: give the option label, the column that holds the class or number"
        )
    said = {"content": modality, "label": label, "split": "split", "group": "group"}
    named = {name: options.text(ref, option) for name, option in said.items() if option in given}
    rows.check_apart(named, ("content", "label"), ref.id)
    return cast("Modality", modality), named


def _split(value: str, path: Path, column: str) -> str:
    name = value.strip().casefold()
    if name not in options.SPLIT_NAMES:
        raise unknown(f"{path}: column {column!r}", "split", value, options.SPLIT_NAMES)
    return options.SPLIT_NAMES[name]


def _scan(table: Table, ref: Ref, *, verify: bool) -> tuple[list[str], list[str], Looks]:
    """(ids, faults), a row each, and looks; a fault is empty where all is well."""
    if table.is_text:
        ids = [text_id(text) for text in table.contents]
        named = _columns(ref)[1]
        header = [named["content"], named["label"]]
        both = zip(table.contents, table.labels, strict=True)
        faults = [_text_fault([text.strip(), label], header) for text, label in both]
        looks = twins.of_texts(table.contents)
    else:
        sound = table.modality == "audio"
        named_files = sound and table.stored is None
        away = [rows.away(name) if named_files else "" for name in table.contents]
        files = ["" if far else path for far, path in zip(away, table.files(), strict=True)]
        ids, faults, looks = twins.scan(
            files, verify=verify, grey=ranges.range_of(ref), sound=sound
        )
        faults = [far or fault for far, fault in zip(away, faults, strict=True)]
    unlabelled = [_fault(label, task_of(ref)) for label in table.labels]
    return ids, [fault or other for fault, other in zip(faults, unlabelled, strict=True)], looks


def _text_fault(row: list[str], header: list[str]) -> str:
    """What is wrong with a row's (text, label); "" where nothing is."""
    if row == header:
        return "it repeats the header"  # of files that were put one after another
    return "" if row[0] else "the text is empty"


def _fault(label: str, task: str) -> str:
    """What is wrong with a label; "" where nothing is. A recording may hold no words."""
    if task == SPEECH:
        return ""
    if not label:
        return "the label is empty"
    if task != "regression":
        return ""
    try:
        return "" if math.isfinite(float(label)) else f"the label {label!r} is not finite"
    except ValueError:
        return f"the label {label!r} is no number"


def _sound(table: Table, faults: list[str], allowed: bool) -> tuple[list[int], dict[str, Any]]:
    """(rows without a fault, notes); raises BadData when more than 10% have one and may not."""
    if not faults:
        raise BadData(f"{table.path}: the table has no rows")
    named = [
        f"row {i + 1}: {fault}" if table.is_text else f"row {i + 1} ({table.contents[i]}): {fault}"
        for i, fault in enumerate(faults)
        if fault
    ]
    bad = check_faults(named, len(faults), str(table.path), "row", allowed)
    notes = {**table.notes, **bad}
    return [i for i, fault in enumerate(faults) if not fault], notes
