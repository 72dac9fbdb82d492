"""folder/NAME?path=DIR: pictures by class, with or without train/valid/test sub-folders."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from zoobench.datasets import images, options, ranges, table_, twins
from zoobench.datasets.faults import check_classes, check_faults, raised_as
from zoobench.datasets.readers import Files
from zoobench.datasets.splits import Found, assemble
from zoobench.errors import BadData, UserError, unknown
from zoobench.interfaces import Split, Splits
from zoobench.schema import DatasetCard, Ref, digest
from zoobench.tasks.classification import Labels

VERSION = 1
"""Counts changes of how a folder is read."""


@dataclass(frozen=True)
class Layout:
    """What lies in a folder: (split, class, path) of each picture, sorted by path.

    `split` is "" where there are no split folders. `ignored` counts other files.
    """

    root: Path
    pictures: tuple[tuple[str, str, str], ...]
    ignored: int


def cards() -> tuple[DatasetCard, ...]:
    return ()


def card(ref: Ref) -> DatasetCard:
    """What the name alone shows: nothing is read, so classes and sizes are 0, not known."""
    return DatasetCard(
        "folder", ref.name, "image", 0, (0, 0, 0), ref.revision, task=table_.task_of(ref),
        version=VERSION, about="pictures by class in a folder",
    )  # fmt: skip


def resolve(ref: Ref, where: str) -> Ref:
    """Revision: a digest of every picture's relative path and content.

    Raises UserError for a folder that is absent, empty, of one class only, or whose
    classes are too small to split, naming it.
    """
    options.check(ref, ("path", "task", "range"), where)
    table_.check_task(ref, where)
    ranges.told(ref, where)
    if "path" not in dict(ref.options):
        ref = Ref(ref.source, Path(ref.name).name, ref.revision, ref.options).with_options(
            path=ref.name
        )
    if table_.task_of(ref) == "regression":
        with raised_as(UserError, where):
            targets = _targets(ref)
        return ref.at(table_.resolve(targets, where).revision)
    with raised_as(UserError, where):
        layout = _layout(ref)
        pairs = [(split, name) for split, name, _ in layout.pictures]
        check_classes(pairs, str(layout.root), "pictures")
        found, revision = _found(layout, ref, verify=False)
        assemble(found, ref)  # too many twins, say: better said now than after the downloads
    return options.pin(ref, revision, where)


def available(ref: Ref) -> tuple[bool, str]:
    root = _root(ref)
    return root.is_dir(), f"the folder {root}" if root.is_dir() else f"no folder {root}"


def load(ref: Ref) -> Splits:
    """Every picture is read and decoded once, to find the damaged ones.

    Raises BadData when the folder changed since `ref` was resolved, when 1% of the
    pictures or more are damaged, or when what is left cannot be split.
    """
    if table_.task_of(ref) == "regression":
        return table_.load(_targets(ref))
    layout = _layout(ref)
    found, here = _found(layout, ref, verify=True)
    if ref.revision not in ("", here):
        raise BadData(f"{layout.root}: its pictures are not those that {ref} was pinned to")
    return assemble(found, ref)


def _found(layout: Layout, ref: Ref, *, verify: bool) -> tuple[Found, str]:
    """The sound pictures as splits, and the revision; decodes each one under `verify`."""
    splits, names, paths = zip(*layout.pictures, strict=True)
    ids, faults, looks = twins.scan(paths, verify=verify, grey=ranges.told(ref))
    relative = [Path(path).relative_to(layout.root).as_posix() for path in paths]
    named = [f"{name}: {why}" for name, why in zip(relative, faults, strict=True) if why]
    notes = check_faults(named, len(ids), str(layout.root), "picture")
    notes |= ranges.notes(looks.grey, looks.narrow)
    if layout.ignored:
        notes["ignored_files"] = layout.ignored
    sound = [i for i, why in enumerate(faults) if not why]
    classes = tuple(sorted(set(names)))
    number = {name: label for label, name in enumerate(classes)}

    def split(name: str, *folders: str) -> Split:
        rows = [i for i in sound if splits[i] in folders]
        labels = np.asarray([number[names[i]] for i in rows], dtype=np.int64)
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
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        columns = [name.strip() for name in next(csv.reader(lines), [])]
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


def _root(ref: Ref) -> Path:
    return Path(options.text(ref, "path") or ref.name).expanduser()


def _layout(ref: Ref) -> Layout:
    root = _root(ref)
    if not root.is_dir():
        kind = "is a file, not a folder" if root.exists() else "there is no such folder"
        raise BadData(f"{root}: {kind}")
    top = _folders(root)
    found: list[tuple[str, str, str]] = []
    ignored = 0
    for folder, split in _split_folders(top).items() or {str(root): ""}.items():
        for group in _folders(Path(folder)):
            for path in _files(group):
                if os.path.splitext(path)[1].casefold() in images.SUFFIXES:
                    found.append((split, group.name, path))
                else:
                    ignored += 1
    if not found:
        raise BadData(
            f"{root}: no pictures found. Expected {root}/CLASS/picture.jpg, or the same "
            "inside train, valid and test folders"
        )
    return Layout(root, tuple(sorted(found, key=lambda item: item[2])), ignored)


def _split_folders(top: Sequence[Path]) -> dict[str, str]:
    """Folder -> split, when there is a train folder that holds class folders."""
    named = {
        str(p): options.SPLIT_NAMES[p.name.casefold()]
        for p in top
        if p.name.casefold() in options.SPLIT_NAMES
    }
    has_train = any(split == "train" and _folders(Path(p)) for p, split in named.items())
    return named if has_train else {}


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(group: Path) -> list[str]:
    """Every file below `group`, but hidden ones; links to folders are not followed.

    Plain strings: making ten thousand Path objects takes longer than listing them.
    """
    found = []
    for folder, inside, names in os.walk(group):
        inside[:] = [name for name in inside if not name.startswith(".")]
        found += [os.path.join(folder, name) for name in names if not name.startswith(".")]
    return found
