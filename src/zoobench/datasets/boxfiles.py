"""Files of boxes as the field writes them: COCO's JSON, Pascal VOC's XML and YOLO's text.

Each reader gives what a file says, with its boxes as (left, top, right, bottom), and leaves to
`boxed` what can be said only beside the picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from zoobench.datasets import boxfiles_coco
from zoobench.datasets.boxed import (
    Annotated,
    BoxedPictures,
    bounds_of,
    check_parts,
    content_of,
    count_unused,
    pictures_by_stem,
    split_folders,
)
from zoobench.datasets.listing import Unused, entries, shown
from zoobench.errors import BadData

MOST_TEXT = 1 << 22
"""Bytes of the annotations of one picture that are read at most."""


def read(root: str) -> BoxedPictures:
    """What the folder `root` says. Raises BadData for what no reader knows, or two do."""
    kinds = {name: reader for name, (is_here, reader) in KINDS.items() if is_here(root)}
    if len(kinds) != 1:
        what = f"annotations of {' and of '.join(kinds)}" if kinds else "no annotations of boxes"
        raise BadData(
            f"{shown(root)}: {what}. Expected one of: train/_annotations.coco.json or "
            "annotations/instances_train.json (COCO), train/*.xml or Annotations/*.xml (Pascal "
            "VOC), labels/train/*.txt with data.yaml or classes.txt (YOLO)"
        )
    ((_, reader),) = kinds.items()
    unused = Unused()
    classes, examples = reader(root, unused)
    if not examples:
        raise BadData(f"{shown(root)}: no picture of its annotations is there")
    if not classes:
        raise BadData(f"{shown(root)}: its annotations name no object")
    return BoxedPictures(root, classes, tuple(sorted(examples, key=lambda e: e.picture)), unused)


# Pascal VOC


def _voc_folders(root: str) -> dict[str, tuple[str, str, frozenset[str] | None]]:
    """Split -> (folder of XML, folder of pictures, names where a list says them)."""
    xml, images = (os.path.join(root, name) for name in ("Annotations", "JPEGImages"))
    if os.path.isdir(xml) and os.path.isdir(images):
        lists = os.path.join(root, "ImageSets", "Main")
        named = {
            split: frozenset(content_of(path, MOST_TEXT).decode(errors="replace").split())
            for name, split in (("train", "train"), ("val", "valid"), ("test", "test"))
            if os.path.isfile(path := os.path.join(lists, f"{name}.txt"))
        }
        if not named:
            return {"": (xml, images, None)}
        return {split: (xml, images, names) for split, names in named.items()}
    return {
        split: (folder, folder, None)
        for split, folder in (split_folders(root) or {"": root}).items()
        if any(entry.name.casefold().endswith(".xml") for entry in entries(folder)[1])
    }


def _voc(root: str, unused: Unused) -> tuple[tuple[str, ...], list[Annotated]]:
    examples: list[Annotated] = []
    folders = _voc_folders(root)
    check_parts({split: xml for split, (xml, _, _) in folders.items()}, root)
    for split, (xml, images, names) in folders.items():
        pictures = pictures_by_stem(images, Unused())
        for entry in entries(xml)[1]:
            stem, suffix = os.path.splitext(entry.name)
            if suffix.casefold() == ".xml" and (names is None or stem in names):
                picture = pictures.get(stem, os.path.join(images, f"{stem}.jpg"))
                examples.append(voc_picture(entry.path, picture, split))
    count_unused((images for _, images, _ in folders.values()), examples, unused)
    return tuple(sorted({label for one in examples for label in one.labels})), examples


def voc_picture(path: str, picture: str, split: str) -> Annotated:
    """VOC counts pixels from 1, and a box's right and bottom are its last ones; what it calls
    difficult is judged by nobody, as a crowd."""
    one = Annotated(split, picture)
    if not os.path.isfile(picture):
        one.fault = "there is no such picture"
    try:
        tree = _xml(content_of(path, MOST_TEXT))
        size = [int(float(tree.findtext(f"size/{name}", "0"))) for name in ("height", "width")]
        one.size = (size[0], size[1]) if all(size) else None
        for thing in tree.iter("object"):
            label = (thing.findtext("name") or "").strip()
            if not label:
                raise ValueError("an object without a name")
            left, top, right, bottom = (
                float(thing.findtext(f"bndbox/{side}", "nan"))
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
            difficult = (thing.findtext("difficult") or "0").strip() == "1"
            one.add((left - 1, top - 1, right, bottom), label, difficult)
    except (ValueError, BadData, ElementTree.ParseError) as error:
        one.fault = one.fault or f"its XML cannot be read: {error}"
    return one


def _xml(content: bytes) -> ElementTree.Element:
    """Raises ValueError for a document type, which may name files or grow without end."""

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from error
    return ElementTree.fromstring(content)  # noqa: S314  it has no entities


# YOLO


def _yolo_folders(root: str) -> dict[str, tuple[str, str]]:
    """Split -> (folder of pictures, folder of labels)."""
    images, labels = (os.path.join(root, name) for name in ("images", "labels"))
    if os.path.isdir(images) and os.path.isdir(labels):
        inside = split_folders(images)
        if not inside:
            return {"": (images, labels)}
        return {
            split: (folder, os.path.join(labels, os.path.basename(folder)))
            for split, folder in inside.items()
        }
    return {
        split: (os.path.join(folder, "images"), os.path.join(folder, "labels"))
        for split, folder in split_folders(root).items()
        if os.path.isdir(os.path.join(folder, "images"))
    }


def _yolo_names(root: str) -> tuple[str, ...]:
    """The names of the classes, of classes.txt or of data.yaml's `names`, which is a list or a
    table of numbers. No path that the file names is followed."""
    import yaml

    text = os.path.join(root, "classes.txt")
    if os.path.isfile(text):
        lines = content_of(text, MOST_TEXT).decode("utf-8-sig", errors="replace").splitlines()
        names: Any = [line.strip() for line in lines if line.strip()]
    else:
        path = _yaml_of(root)
        if path is None:
            raise BadData(f"{shown(root)}: neither data.yaml nor classes.txt names its classes")
        try:
            # All of it text: no class is called False because it was written `no`.
            loaded = yaml.BaseLoader(content_of(path, MOST_TEXT)).get_single_data()
            names = loaded["names"]
            if isinstance(names, dict):
                names = [names[str(number)] for number in range(len(names))]
        except (yaml.YAMLError, KeyError, TypeError, RecursionError, UnicodeDecodeError) as error:
            raise BadData(f"{shown(path)}: no list of names in it: {error!r:.200}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadData(f"{shown(root)}: the names of its classes are no list of words")
    if len(set(names)) < len(names):
        raise BadData(f"{shown(root)}: two classes have one name")
    return tuple(names)


def _yaml_of(root: str) -> str | None:
    names = [e.path for e in entries(root)[1] if e.name.endswith((".yaml", ".yml"))]
    return next((path for path in names if "data" in os.path.basename(path)), (*names, None)[0])


def _yolo(root: str, unused: Unused) -> tuple[tuple[str, ...], list[Annotated]]:
    names = _yolo_names(root)
    examples: list[Annotated] = []
    labelled = 0
    folders = _yolo_folders(root)
    for split, (images, labels) in folders.items():
        for stem, picture in pictures_by_stem(images, unused).items():
            one = Annotated(split, picture, relative=True)
            path = os.path.join(labels, f"{stem}.txt")
            if os.path.lexists(path):
                labelled += 1
                _yolo_lines(one, path, names)
            examples.append(one)
    check_parts({split: images for split, (images, _) in folders.items()}, root)
    if not labelled:
        raise BadData(f"{shown(root)}: none of its {len(examples)} pictures has a file of labels")
    return names, examples


def _yolo_lines(one: Annotated, path: str, names: tuple[str, ...]) -> None:
    """Lines of class, centre and size as shares of the picture, or of class and a polygon."""
    try:
        lines = content_of(path, MOST_TEXT).decode("utf-8-sig").splitlines()
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            label, *sides = (float(part) for part in line.split())
            if not label.is_integer() or not 0 <= label < len(names):
                raise ValueError(
                    f"line {number} is of class {label:g}; 0 to {len(names) - 1} are known"
                )
            if len(sides) == 4:
                x, y, width, height = sides
                box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            elif len(sides) >= 6 and len(sides) % 2 == 0:
                (left, top, width, height), _ = bounds_of([sides])
                box = (left, top, left + width, top + height)
            else:
                raise ValueError(
                    f"line {number} has {len(sides) + 1} numbers; a box has 5: class, centre and "
                    "size"
                )
            if max(map(abs, box)) > 1.5:
                raise ValueError(f"line {number} is in pixels; shares of the picture are meant")
            one.add(box, names[int(label)])
    except (ValueError, BadData) as error:
        one.fault = f"{os.path.basename(path)}: {error}"


def _has_yolo(root: str) -> bool:
    named = os.path.isfile(os.path.join(root, "classes.txt")) or _yaml_of(root) is not None
    return bool(_yolo_folders(root)) and (named or not boxfiles_coco.files_of(root))


KINDS: dict[str, tuple[Callable[[str], bool], Callable[..., Any]]] = {
    "COCO": (lambda root: bool(boxfiles_coco.files_of(root)), boxfiles_coco.read),
    "Pascal VOC": (lambda root: bool(_voc_folders(root)), _voc),
    "YOLO": (_has_yolo, _yolo),
}
"""Name -> (whether a folder is of it, its reader)."""
