"""folder/NAME?path=DIR: pictures or recordings by class, with or without train/valid/test folders.

Under `task=language-modelling` the texts in it are documents (see `documents`).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from zoobench.datasets import (
    boxed,
    boxfiles,
    control,
    delimited,
    documents,
    evidence,
    grouping,
    layouts,
    listing,
    local,
    options,
    ranges,
    segmented,
    table_,
    twins,
)
from zoobench.datasets.faults import (
    REFUSED,
    WARNED,
    about,
    check_classes,
    check_faults,
    contradicts,
    raised_as,
)
from zoobench.datasets.labels import as_words
from zoobench.datasets.layouts import Layout
from zoobench.datasets.listing import PICTURES, RECORDINGS, Kind
from zoobench.datasets.readers import Files, Recordings
from zoobench.datasets.splits import Found, assemble
from zoobench.datasets.waiting import told
from zoobench.errors import BadData, UserError, opening, unknown
from zoobench.interfaces import Split, Splits
from zoobench.schema import DatasetCard, Modality, Ref, digest
from zoobench.tasks.classification import Labels

VERSION = 1
"""Counts changes of how a folder is read."""


OPTIONS = (
    "path", "task", "range", "splits", "labels", "allow_unused", "modality", evidence.OPTION,
    *grouping.OPTIONS,
)  # fmt: skip
NUMBERS = ("path", "task", "range", "allow_unused", "modality")
DENSE = ("path", "task", "range", "allow_unused")
TEXTS = ("path", "task", "allow_unused")
"""Options of a folder whose task is no classification."""
KINDS = {"image": PICTURES, "audio": RECORDINGS}
"""What the option `modality` may say, and what it reads. `resolve` says it of recordings."""
TASKS = (*table_.TASKS, "segmentation", "detection", *documents.TASKS)


def cards() -> tuple[DatasetCard, ...]:
    return ()


def card(ref: Ref) -> DatasetCard:
    """What the name shows, and where it doesn't say the modality, how most files' names end.
    Nothing is opened, so classes and sizes are 0, not known."""
    task = table_.task_of(ref)
    modality: Modality = "text" if task in documents.TASKS else _modality(ref)
    about = {
        "text": "documents", "audio": "recordings by class in a folder",
        "image": "pictures by class in a folder",
    }[modality]  # fmt: skip
    return DatasetCard(
        "folder", ref.name, modality, 0, (0, 0, 0), ref.revision, task=task, version=VERSION,
        about=about,
    )  # fmt: skip


def resolve(ref: Ref, where: str) -> Ref:
    """Revision: a digest of every example's relative path and content.

    Raises UserError for a folder that is absent, empty, of one class only, or whose
    classes are too small to split, naming it.
    """
    task = table_.task_of(ref)
    options.check(ref, _options(task), where)
    table_.check_task(ref, where, TASKS)
    ranges.range_of(ref, where)
    as_words(ref, where)
    options.allow_unused(ref, where)
    grouping.check(ref, where)
    ref = local.with_path(ref, Path(ref.name).name)
    if task in documents.TASKS:
        return local.resolved(ref, where, lambda: documents.of_folder(_folder(ref), ref))
    if task in ("segmentation", "detection"):
        with raised_as(UserError, where):
            layout, found, revision = _dense(ref, verify=False)
            splits = assemble(found, ref)
            control.counted(ref, splits)
        _warn(ref, layout, splits.notes)
        return options.pin(ref, revision, where)
    ref = _with_modality(ref, where)
    if task == "regression":
        return _resolved_numbers(ref, where)
    with raised_as(UserError, where):
        layout = _layout(ref)
        pairs = [(split, name) for split, name, _ in layout.examples]
        check_classes(pairs, layout.place, f"{_kind(ref).noun}s")
        found, revision = _found(layout, ref, verify=False)
        # Too many twins, say: better said now than after the downloads.
        splits = assemble(found, ref)
        control.counted(ref, splits)
    _warn(ref, layout, splits.notes)
    return options.pin(ref, revision, where)


def _resolved_numbers(ref: Ref, where: str) -> Ref:
    with raised_as(UserError, where):
        targets = _targets(ref)
    pinned = ref.at(table_.resolve(targets, where).revision)
    control.counted_as(pinned, targets)
    with raised_as(UserError, where):
        beside = _beside(ref, table_.names(targets))
        _warn(ref, beside, beside.check_unused(allowed=options.allow_unused(ref)))
    return pinned


def _options(task: str) -> tuple[str, ...]:
    """The options that a folder of this task has."""
    if task in documents.TASKS:
        return TEXTS
    own = {"regression": NUMBERS, "segmentation": DENSE, "detection": DENSE}
    return own.get(task, OPTIONS)


def _with_modality(ref: Ref, where: str) -> Ref:
    """`ref`, which says so where it holds recordings. Raises UserError for another `modality`, and
    where it holds pictures and recordings and says not which are meant."""
    at = f"{opening(where)}{ref.id}"
    said = options.text(ref, "modality")
    if said and said not in KINDS:
        raise unknown(at, "modality", said, KINDS)
    if not said and options.path_of(ref).is_dir():
        with raised_as(UserError, where):
            ref = _modality_found(ref, at)
    for name in ("range", evidence.OPTION):
        if ref.option("modality") == "audio" and ref.option(name) is not None:
            raise UserError(f"{at}: {name} is for pictures, and it holds recordings")
    return ref


def _modality_found(ref: Ref, at: str) -> Ref:
    many = listing.counts(_folder(ref))
    pictures, recordings = many[PICTURES], many[RECORDINGS]
    if min(pictures, recordings) > REFUSED * (pictures + recordings):
        raise UserError(
            f"{at}: it holds {pictures} pictures and {recordings} recordings. Say which are the "
            'examples: modality = "image" or modality = "audio"; the others are left out'
        )
    return ref.with_options(modality="audio") if recordings > pictures else ref


def _modality(ref: Ref) -> Modality:
    resolved = "modality" in dict(ref.options) or ref.revision
    if resolved or table_.task_of(ref) in ("segmentation", "detection"):
        return "audio" if ref.option("modality") == "audio" else "image"
    with contextlib.suppress(BadData, UserError):  # said where it is resolved
        many = listing.counts(_folder(ref))
        return "audio" if many[RECORDINGS] > many[PICTURES] else "image"
    return "image"


def _kind(ref: Ref) -> Kind:
    return KINDS[_modality(ref)]


def available(ref: Ref) -> tuple[bool, str]:
    root = options.path_of(ref)
    return root.is_dir(), f"the folder {root}" if root.is_dir() else f"no folder {root}"


def load(ref: Ref) -> Splits:
    """Every example is read and decoded once, to find the damaged ones.

    Raises BadData when the folder changed since `ref` was resolved, when more of it cannot be
    used than is allowed, or when what is left cannot be split.
    """
    if table_.task_of(ref) == "regression":
        targets = _targets(ref)
        made, beside = table_.load(targets), _beside(ref, table_.names(targets))
        unused = beside.check_unused(allowed=options.allow_unused(ref))
        return replace(made, notes={**made.notes, **unused})
    if table_.task_of(ref) in documents.TASKS:
        found, here = documents.of_folder(_folder(ref), ref)
    elif table_.task_of(ref) in ("segmentation", "detection"):
        _, found, here = _dense(ref, verify=True)
    else:
        found, here = _found(_layout(ref), ref, verify=True)
    if ref.revision not in ("", here):
        place = listing.shown(_folder(ref))
        raise BadData(f"{place}: its files are not those that {ref} was pinned to")
    return assemble(found, ref)


def _dense(ref: Ref, *, verify: bool) -> tuple[Layout, Found, str]:
    """Pictures with masks or with boxes, and the revision."""
    if table_.task_of(ref) == "segmentation":
        masked = segmented.read(_folder(ref))
        return masked.layout, *segmented.found(masked, ref, verify=verify)
    pictures = boxfiles.read(_folder(ref))
    return pictures.layout, *boxed.found(pictures, ref, verify=verify)


def _found(layout: Layout, ref: Ref, *, verify: bool) -> tuple[Found, str]:
    """The examples without a fault as splits, and the revision; decodes each under `verify`."""
    allowed, kind = options.allow_unused(ref), _kind(ref)
    unused = layout.check_unused(allowed=allowed)
    splits, class_of, paths = zip(*layout.examples, strict=True)
    group_of = grouping.of_files(ref, list(zip(splits, paths, strict=True)), layout.root)
    grey, masks = ranges.range_of(ref), evidence.beside(ref, layout.root, paths)
    ids, faults, looks = twins.scan(paths, verify=verify, grey=grey, sound=kind.sound)
    relative = [listing.shown(os.path.relpath(path, layout.root)) for path in paths]
    named = [f"{name}: {why}" for name, why in zip(relative, faults, strict=True) if why]
    notes = {**layout.notes, **unused}
    notes |= check_faults(named, len(ids), layout.place, kind.noun, allowed)
    notes |= looks.notes
    whole = [i for i, why in enumerate(faults) if not why]
    classes = tuple(sorted(set(class_of)))
    number = {name: label for label, name in enumerate(classes)}

    def split(name: str, *folders: str) -> Split:
        rows = [i for i in whole if splits[i] in folders]
        labels = np.asarray([number[class_of[i]] for i in rows], dtype=np.int64)
        files = tuple(paths[i] for i in rows)
        read = Recordings(files) if kind.sound else Files(files, looks.grey)
        own = tuple(ids[i] for i in rows)
        return Split(name, own, Labels(labels), read, evidence=masks.of(files))

    valid = split("valid", "valid") if "valid" in splits else None
    test = split("test", "test") if "test" in splits else None
    groups = {ids[i]: group_of[paths[i]] for i in whole} if group_of else {}
    train = split("train", "", "train")
    found = Found(train, valid, test, classes, _modality(ref), notes, groups, looks=looks)
    content = sorted(zip(relative, ids, strict=True))
    return found, digest([content, masks.digest] if masks.digest else content)


def _targets(ref: Ref) -> Ref:
    """The table of a regression: targets.csv in the folder, columns file, target and, where it
    has one, split; files are named relative to the folder. Raises BadData where it is absent,
    or has a column that is nearly called split."""
    path = options.path_of(ref) / "targets.csv"
    if not path.is_file():
        raise BadData(
            f"{path}: there is no such file; it names each {_kind(ref).noun} of a "
            "regression and its number, in columns file and target"
        )
    columns = delimited.header(path, table_.content(path), ("file", "target"), delimited.How())
    named = {_modality(ref): "file", "label": "target", "path": str(path)}
    if "split" in columns:
        named["split"] = "split"
    for name in columns:
        # An official split must not be lost to a slip of the pen.
        if "split" not in columns and (
            "split" in name.casefold() or get_close_matches(name.casefold(), ["split"], cutoff=0.75)
        ):
            raise BadData(str(unknown(str(path), "column", name, ("file", "target", "split"))))
    return Ref(
        "table", ref.name, ref.revision, ref.without("path", "modality").options
    ).with_options(**named)


def _beside(ref: Ref, named: Iterable[str]) -> Layout:
    """The folder of a regression, whose examples that `targets.csv` does not name are unused."""
    root, kind = str(options.path_of(ref)), _kind(ref)
    unused, used = listing.Unused(), {os.path.normpath(os.path.join(root, name)) for name in named}
    files = listing.examples(root, unused, kind)
    for path in told(files, f"looking through {listing.shown(root)!r}"):
        if os.path.normpath(path) not in used:
            unused.lose(f"{kind.noun} that targets.csv does not name", path)
    return Layout(root, tuple(("", "", path) for path in sorted(used)), unused, {}, {})


def _warn(ref: Ref, layout: Layout, notes: Mapping[str, Any]) -> None:
    """On standard error, before a run and where it is planned; the report says it once more."""
    damaged = notes.get("corrupt", 0) > WARNED * len(layout.examples)
    if layout.warns or damaged or contradicts(notes):
        logging.getLogger(__name__).warning("%s: %s", ref.id, about(notes))


def _folder(ref: Ref) -> str:
    root = options.path_of(ref)
    if not root.is_dir():
        kind = "is a file, not a folder" if root.exists() else "there is no such folder"
        kind += options.separated(root)
        raise BadData(f"{root}: {kind}")
    return str(root)


def _layout(ref: Ref) -> Layout:
    every = ref.option("classes") == "all"
    return layouts.read(_folder(ref), options.text(ref, "splits"), every, as_words(ref), _kind(ref))
