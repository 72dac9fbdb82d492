"""COCO's JSON of boxes: what `boxfiles` reads where a folder has one for each part."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoobench.datasets.boxed import (
    PARTS,
    Annotated,
    bounds_of,
    check_parts,
    content_of,
    count_unused,
    split_folders,
)
from zoobench.datasets.layouts import role
from zoobench.datasets.listing import Unused, entries, shown
from zoobench.errors import BadData
from zoobench.files import lies_in, parse_json

MOST_BYTES = 1 << 30
"""Bytes of a file that are read at most; that of COCO's train set has 469 million."""
NAMES = re.compile(r"_?annotations\.coco\.json|instances[\w-]*\.json", re.IGNORECASE)


def files_of(root: str) -> dict[str, tuple[str, str]]:
    """Split -> (file of annotations, folder of its pictures); "" where there is one part."""
    found: dict[str, tuple[str, str]] = {}
    for split, folder in {"": root, **split_folders(root)}.items():
        for entry in entries(folder)[1]:
            if NAMES.fullmatch(entry.name):
                _add(found, split, (entry.path, folder), root)
    beside = os.path.join(root, "annotations")
    if os.path.isdir(beside):
        images = os.path.join(root, "images")
        folders = {
            **split_folders(root),
            **(split_folders(images) if os.path.isdir(images) else {}),
        }
        for entry in entries(beside)[1]:
            if NAMES.fullmatch(entry.name):
                split = role(os.path.splitext(entry.name)[0].casefold().replace("instances", ""))
                own = folders.get(split, images if os.path.isdir(images) else root)
                _add(found, split if split in PARTS else "", (entry.path, own), root)
    return found


def _add(found: dict[str, tuple[str, str]], split: str, files: tuple[str, str], root: str) -> None:
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
            path, folder = files[split]
            categories, own = _part(path, folder, split)
            # A category that heads others, as of Roboflow's files, annotates nothing.
            used = {label for one in own for label in one.labels}
            names |= dict.fromkeys(name for name in categories if name in used)
            examples += own
    count_unused((folder for _, folder in files.values()), examples, unused)
    return tuple(names), examples


def _part(path: str, folder: str, split: str) -> tuple[list[str], list[Annotated]]:
    """The names of a file's categories, by id, and its pictures."""
    where = shown(path)
    try:
        content = parse_json(content_of(path, MOST_BYTES))
        tables = [content[name] for name in ("images", "annotations", "categories")]
        images, annotations, categories = ([dict(row) for row in table] for table in tables)
        names = {int(row["id"]): str(row["name"]).strip() for row in categories}
        pictures = {_number(row["id"]): _picture(row, folder, split) for row in images}
    except KeyError as error:
        raise BadData(f"{where}: {error} is missing; it is no COCO file of boxes") from error
    except (ValueError, TypeError) as error:
        raise BadData(f"{where}: not COCO's JSON: {error}") from error
    for what, rows, unique in (("image", images, pictures), ("category", categories, names)):
        if len(unique) < len(rows):
            raise BadData(f"{where}: two {what} ids are the same")
    if len(set(names.values())) < len(names):
        raise BadData(f"{where}: two categories have one name")
    lost = 0
    for row in annotations:
        one = pictures.get(_number(row.get("image_id")))
        if one is None:
            lost += 1
        else:
            _box(one, row, names)
    if lost:
        raise BadData(f"{where}: {lost} annotations are of images that it does not list")
    return [names[i] for i in sorted(names)], list(pictures.values())


def _number(value: Any) -> Any:
    """An id, which may be a number or text."""
    return value if isinstance(value, (int, str)) else repr(value)


def _picture(row: Mapping[str, Any], folder: str, split: str) -> Annotated:
    name = str(row["file_name"])
    path = os.path.normpath(os.path.join(folder, name))
    try:
        inside = lies_in(Path(path).parent, folder)
    except (OSError, ValueError, RuntimeError):
        inside = False
    size = (int(row["height"]), int(row["width"])) if row.get("height") else None
    one = Annotated(split, path, size=size)
    if not inside:
        one.fault = "its name leads out of the folder"
    elif not os.path.isfile(path):
        one.fault = "there is no such picture"
    return one


def _box(one: Annotated, row: Mapping[str, Any], names: Mapping[int, str]) -> None:
    try:
        label = names[int(row["category_id"])]
        crowd = bool(int(row.get("iscrowd", 0)))
        area = row.get("area")
        if (box := row.get("bbox")) is not None:
            left, top, width, height = (float(side) for side in box)
        else:
            box, shape = bounds_of(row["segmentation"])
            left, top, width, height = box
            area = shape if area is None else area
        one.add(
            (left, top, left + width, top + height), label, crowd,
            None if area is None else float(area),
        )  # fmt: skip
    except KeyError as error:
        one.fault = one.fault or f"an annotation without, or of an unknown, {error}"
    except (ValueError, TypeError) as error:
        one.fault = one.fault or f"an annotation that is no box: {error}"
