"""folder/NAME?path=DIR: pictures by class, with or without train/valid/test sub-folders.

Under `task=language-modelling` the texts in it are documents (see `documents`).
"""

from __future__ import annotations

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
    layouts,
    listing,
    local,
    options,
    ranges,
    segmented,
    table_,
    twins,
)
from zoobench.datasets.faults import WARNED, about, check_classes, check_faults, raised_as
from zoobench.datasets.labels import as_words
from zoobench.datasets.layouts import Layout
from zoobench.datasets.readers import Files
from zoobench.datasets.splits import Found, assemble
from zoobench.datasets.waiting import told
from zoobench.errors import BadData, UserError, unknown
from zoobench.files import expanded
from zoobench.interfaces import Split, Splits
from zoobench.schema import DatasetCard, Ref, digest
from zoobench.tasks.classification import Labels

VERSION = 1
"""Counts changes of how a folder is read."""


OPTIONS = ("path", "task", "range", "splits", "labels", "allow_unused")
PLAIN = ("path", "task", "range", "allow_unused")
TEXTS = ("path", "task", "allow_unused")
"""Options of a folder whose task is no classification."""
TASKS = (*table_.TASKS, "segmentation", "detection", *documents.TASKS)


def cards() -> tuple[DatasetCard, ...]:
    return ()


def card(ref: Ref) -> DatasetCard:
    """What the name alone shows: nothing is read, so classes and sizes are 0, not known."""
    task = table_.task_of(ref)
    texts = task in documents.TASKS
    return DatasetCard(
        "folder", ref.name, "text" if texts else "image", 0, (0, 0, 0), ref.revision, task=task,
        version=VERSION, about="documents" if texts else "pictures by class in a folder",
    )  # fmt: skip


def resolve(ref: Ref, where: str) -> Ref:
    """Revision: a digest of every picture's relative path and content.

    Raises UserError for a folder that is absent, empty, of one class only, or whose
    classes are too small to split, naming it.
    """
    task = table_.task_of(ref)
    known = TEXTS if task in documents.TASKS else PLAIN if task in TASKS[1:] else OPTIONS
    options.check(ref, known, where)
    table_.check_task(ref, where, TASKS)
    ranges.range_of(ref, where)
    as_words(ref, where)
    options.allow_unused(ref, where)
    ref = local.with_path(ref, Path(ref.name).name)
    if task in documents.TASKS:
        return local.resolved(ref, where, lambda: documents.of_folder(_folder(ref), ref))
    if task in ("segmentation", "detection"):
        with raised_as(UserError, where):
            layout, found, revision = _dense(ref, verify=False)
            control.counted(ref, assemble(found, ref))
        _warn(ref, layout, found.notes)
        return options.pin(ref, revision, where)
    if task == "regression":
        with raised_as(UserError, where):
            targets = _targets(ref)
        pinned = ref.at(table_.resolve(targets, where).revision)
        control.counted_as(pinned, targets)
        with raised_as(UserError, where):
            beside = _beside(ref, table_.names(targets))
            _warn(ref, beside, beside.check_unused(allowed=options.allow_unused(ref)))
        return pinned
    with raised_as(UserError, where):
        layout = _layout(ref)
        pairs = [(split, name) for split, name, _ in layout.pictures]
        check_classes(pairs, layout.place, "pictures")
        found, revision = _found(layout, ref, verify=False)
        # Too many twins, say: better said now than after the downloads.
        control.counted(ref, assemble(found, ref))
    _warn(ref, layout, found.notes)
    return options.pin(ref, revision, where)


def available(ref: Ref) -> tuple[bool, str]:
    root = _root(ref)
    return root.is_dir(), f"the folder {root}" if root.is_dir() else f"no folder {root}"


def load(ref: Ref) -> Splits:
    """Every picture is read and decoded once, to find the damaged ones.

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
    """The sound pictures as splits, and the revision; decodes each one under `verify`."""
    allowed = options.allow_unused(ref)
    unused = layout.check_unused(allowed=allowed)
    splits, class_of, paths = zip(*layout.pictures, strict=True)
    ids, faults, looks = twins.scan(paths, verify=verify, grey=ranges.range_of(ref))
    relative = [listing.shown(os.path.relpath(path, layout.root)) for path in paths]
    named = [f"{name}: {why}" for name, why in zip(relative, faults, strict=True) if why]
    notes = {**layout.notes, **unused}
    notes |= check_faults(named, len(ids), layout.place, "picture", allowed)
    notes |= ranges.notes(looks.grey, looks.narrow)
    sound = [i for i, why in enumerate(faults) if not why]
    classes = tuple(sorted(set(class_of)))
    number = {name: label for label, name in enumerate(classes)}

    def split(name: str, *folders: str) -> Split:
        rows = [i for i in sound if splits[i] in folders]
        labels = np.asarray([number[class_of[i]] for i in rows], dtype=np.int64)
        read = Files(tuple(paths[i] for i in rows), looks.grey)
        return Split(name, tuple(ids[i] for i in rows), Labels(labels), read)

    valid = split("valid", "valid") if "valid" in splits else None
    test = split("test", "test") if "test" in splits else None
    found = Found(split("train", "", "train"), valid, test, classes, "image", notes, looks=looks)
    return found, digest(sorted(zip(relative, ids, strict=True)))


def _targets(ref: Ref) -> Ref:
    """The table of a regression: targets.csv in the folder, columns file, target and, where it
    has one, split; files are named relative to the folder. Raises BadData where it is absent,
    or has a column that is nearly called split."""
    path = _root(ref) / "targets.csv"
    if not path.is_file():
        raise BadData(
            f"{path}: there is no such file; it names each picture of a "
            "regression and its number, in columns file and target"
        )
    columns = delimited.header(path, table_.content(path), ("file", "target"), delimited.How())
    named = {"image": "file", "label": "target", "path": str(path)}
    if "split" in columns:
        named["split"] = "split"
    for name in columns:
        # An official split must not be lost to a slip of the pen.
        if "split" not in columns and (
            "split" in name.casefold() or get_close_matches(name.casefold(), ["split"], cutoff=0.75)
        ):
            raise BadData(str(unknown(str(path), "column", name, ("file", "target", "split"))))
    return Ref("table", ref.name, ref.revision, ref.without("path").options).with_options(**named)


def _beside(ref: Ref, named: Iterable[str]) -> Layout:
    """The folder of a regression, whose pictures that `targets.csv` does not name are unused."""
    root = str(_root(ref))
    unused, used = listing.Unused(), {os.path.normpath(os.path.join(root, name)) for name in named}
    for path in told(listing.pictures(root, unused), f"looking through {listing.shown(root)!r}"):
        if os.path.normpath(path) not in used:
            unused.lose("picture that targets.csv does not name", path)
    return Layout(root, tuple(("", "", path) for path in sorted(used)), unused, {}, {})


def _warn(ref: Ref, layout: Layout, notes: Mapping[str, Any]) -> None:
    """On standard error, before a run and where it is planned; the report says it once more."""
    damaged = notes.get("corrupt", 0) > WARNED * len(layout.pictures)
    if layout.warns or damaged:
        logging.getLogger(__name__).warning("%s: %s", ref.id, about(notes))


def _root(ref: Ref) -> Path:
    return expanded(options.text(ref, "path") or ref.name)


def _folder(ref: Ref) -> str:
    root = _root(ref)
    if not root.is_dir():
        kind = "is a file, not a folder" if root.exists() else "there is no such folder"
        kind += options.separated(root)
        raise BadData(f"{root}: {kind}")
    return str(root)


def _layout(ref: Ref) -> Layout:
    every = ref.option("classes") == "all"
    return layouts.read(_folder(ref), options.text(ref, "splits"), every, as_words(ref))
