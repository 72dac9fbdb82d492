"""COCO's JSON of boxes: what `boxfiles` reads where a folder has one for each part."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from zoobench.datasets.boxed import (
    PARTS,
    Annotated,
    bounds_of,
    check_parts,
    content_of,
    count_unused,
    name,
    split_folders,
    whole,
)
from zoobench.datasets.layouts import role
from zoobench.datasets.listing import Unused, entries, shown
from zoobench.errors import BadData
from zoobench.files import lies_in, parse_json

MOST_BYTES = 1 << 30
"""Bytes of a file that are read at most; that of COCO's train set has 469 million."""
LOOKED_AT = 100
"""Pictures by which the folder is found that a file's names are meant in."""
_WORDS = re.compile(r"instances|annotations?|coco|labels|result|default")


def files_of(root: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Split -> (file of annotations, folders that its names may be meant in, the likeliest
    first); "" where there is one part."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    images = os.path.join(root, "images")
    parts = [split_folders(folder) for folder in (root, images) if os.path.isdir(folder)]
    common = (images, os.path.join(images, "default"), os.path.join(root, "data"), root)
    for folder in (root, os.path.join(root, "annotations")):
        for entry in entries(folder)[1] if os.path.isdir(folder) else ():
            if (split := _split_of(entry.name)) is not None:
                named = [part[split] for part in reversed(parts) if split in part]
                first = [root] if folder == root and not split else []
                _add(found, split, (entry.path, (*first, *named, *common)), root)
    for split, folder in (parts[0] if parts else {}).items():
        for entry in entries(folder)[1]:
            if _split_of(entry.name) in ("", split):
                _add(found, split, (entry.path, (folder, os.path.join(folder, "images"), root)),
                     root)  # fmt: skip
    return found


def _split_of(name: str) -> str | None:
    """The split that a file annotates by its name, "" where it says none; None for a file of
    another kind, as of captions."""
    stem, suffix = os.path.splitext(name.casefold())
    if suffix != ".json":
        return None
    rest = _WORDS.sub("", stem)
    if (split := role(rest)) in PARTS:
        return split
    plain = rest != stem and not any(map(str.isalnum, rest))
    return "" if plain or stem.startswith("instances") else None


def _add(
    found: dict[str, tuple[str, tuple[str, ...]]],
    split: str,
    files: tuple[str, tuple[str, ...]],
    root: str,
) -> None:
    if split in found:
        names = " and ".join(
            shown(os.path.relpath(path, root)) for path in (found[split][0], files[0])
        )
        raise BadData(f"{shown(root)}: two files annotate {split or 'its pictures'}: {names}")
    found[split] = files


def read(root: str, unused: Unused) -> tuple[tuple[str, ...], list[Annotated]]:
    files = files_of(root)
    check_parts({split: path for split, (path, _) in files.items()}, root)
    names: dict[str, None] = {}
    examples: list[Annotated] = []
    for split in ("train", "", "valid", "test"):
        if split in files:
            path, folders = files[split]
            categories, own = _part(path, folders, split)
            # A category that heads others, as of Roboflow's files, annotates nothing.
            used = {label for one in own for label in one.labels}
            names |= dict.fromkeys(name for name in categories if name in used)
            examples += own
    count_unused(examples, unused, ".json")
    return tuple(names), examples


def _part(path: str, folders: Sequence[str], split: str) -> tuple[list[str], list[Annotated]]:
    """The names of a file's categories, by id, and its pictures."""
    where = shown(path)
    try:
        content = parse_json(content_of(path, MOST_BYTES), _light)
        if not isinstance(content, dict):
            raise ValueError(f"it is a {type(content).__name__}, not a table")
        images, annotations, categories = (
            _rows(content[name], name) for name in ("images", "annotations", "categories")
        )
        names = {whole(row["id"]): name(row["name"]) for row in categories}
        files = [name(row["file_name"]) for row in images]
        folder = _folder_of(files, folders)
        home = cache(partial(_lies_in, folder))
        pictures = {
            _id(row["id"]): _picture(name, row, folder, split, home)
            for name, row in zip(files, images, strict=True)
        }
    except KeyError as error:
        raise BadData(f"{where}: {error} is missing; it is no COCO file of boxes") from error
    except ValueError as error:
        raise BadData(f"{where}: not COCO's JSON: {error}") from error
    for what, rows, unique in (("image", images, pictures), ("category", categories, names)):
        if len(unique) < len(rows):
            raise BadData(f"{where}: two {what} ids are the same")
    if len(set(names.values())) < len(names):
        raise BadData(f"{where}: two categories have one name")
    lost = 0
    for row in annotations:
        one = pictures.get(_id(row.get("image_id")))
        if one is None:
            lost += 1
        else:
            _box(one, row, names)
    if lost:
        raise BadData(f"{where}: {lost} annotations are of images that it does not list")
    return [names[i] for i in sorted(names)], list(pictures.values())


def _light(table: dict[str, Any]) -> dict[str, Any]:
    """Without the polygons of an annotation that has a box: they are most of a large file."""
    if table.get("bbox") is not None:
        table.pop("segmentation", None)
    return table


def _rows(table: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
        raise ValueError(f"{name!r} is no list of tables")
    return table


def _folder_of(files: Sequence[str], folders: Sequence[str]) -> str:
    """The folder in which most of the names are files: tools write them with and without the
    folders around them."""
    some = [_local(name) for name in files[:LOOKED_AT] if ".." not in name]
    return max(
        folders,
        key=lambda folder: sum(os.path.isfile(os.path.join(folder, name)) for name in some),
    )


def _local(name: str) -> str:
    """As Windows' tools write it, too."""
    return name if os.sep in name else name.replace("\\", os.sep)


def _id(value: Any) -> Any:
    """An id, which may be a number or text."""
    return value if isinstance(value, (int, str)) else repr(value)


def _lies_in(folder: str, place: str) -> bool:
    try:
        return lies_in(Path(place), folder)
    except (OSError, ValueError, RuntimeError):
        return False


def _picture(
    name: str, row: Mapping[str, Any], folder: str, split: str, home: Callable[[str], bool]
) -> Annotated:
    """`home` says of a folder whether it lies in the one of the pictures."""
    path = os.path.normpath(os.path.join(folder, _local(name)))
    size = (whole(row["height"]), whole(row["width"])) if row.get("height") else None
    one = Annotated(split, path, size=size)
    if not home(os.path.dirname(path)):
        one.fault = "its name leads out of the folder"
    elif not os.path.isfile(path):
        one.fault = "there is no such picture"
    return one


def _box(one: Annotated, row: Mapping[str, Any], names: Mapping[int, str]) -> None:
    """Adds an annotation to its picture, or says what is wrong with it."""
    try:
        if (label := names.get(whole(row.get("category_id")))) is None:
            raise ValueError(f"its category {row['category_id']!r} is not listed")
        area = row.get("area")
        if (box := row.get("bbox")) is None:
            if not isinstance(polygons := row.get("segmentation"), list):
                raise ValueError("it has neither a bbox nor polygons")
            box, shape = bounds_of(polygons)
            area = shape if area is None else area
        one.add(box, label, row.get("iscrowd"), area, "xywh")
    except ValueError as error:
        one.fault = one.fault or f"an annotation that is no box: {error}"
