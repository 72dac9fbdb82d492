"""Files of boxes as the field writes them: COCO's JSON, Pascal VOC's XML and YOLO's text.

Each reader gives what a file says, with its boxes as (left, top, right, bottom), and leaves to
`boxed` what can be said only beside the picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from zoobench.datasets import boxfiles_coco
from zoobench.datasets.boxed import (
    Annotated,
    BoxedPictures,
    bounds_of,
    check_parts,
    content_of,
    count_unused,
    number,
    pictures_by_stem,
    split_folders,
    whole,
)
from zoobench.datasets.images import SUFFIXES
from zoobench.datasets.listing import Unused, entries, shown
from zoobench.errors import BadData
from zoobench.files import parse_xml

MOST_TEXT = 1 << 22
"""Bytes of the annotations of one picture that are read at most."""


def read(root: str) -> BoxedPictures:
    """What the folder `root` says. Raises BadData for what no reader knows, or two do."""
    kinds = _kinds(root)
    if len(kinds) > 1:
        raise BadData(
            f"{shown(root)}: annotations of {' and of '.join(kinds)}: keep those of one of them"
        )
    if not kinds:
        if inner := [shown(one.path) for one in entries(root)[0] if _holds_boxes(one.path)]:
            raise BadData(f"{shown(root)}: its annotations lie further inside: path = {inner[0]!r}")
        raise BadData(
            f"{shown(root)}: no annotations of boxes. Expected one of: "
            "train/_annotations.coco.json or annotations/instances_train.json (COCO), train/*.xml "
            "or Annotations/*.xml (Pascal VOC), labels/train/*.txt with data.yaml or classes.txt "
            "(YOLO)"
        )
    unused = Unused()
    classes, examples = KINDS[kinds[0]][1](root, unused)
    if not examples:
        raise BadData(f"{shown(root)}: no picture of its annotations is there")
    if not classes:
        raise BadData(f"{shown(root)}: its annotations name no object")
    return BoxedPictures(root, classes, tuple(sorted(examples, key=lambda e: e.picture)), unused)


def _kinds(root: str) -> list[str]:
    """The ways in which the annotations of a folder are written."""
    return [name for name, (is_here, _) in KINDS.items() if is_here(root)]


def _holds_boxes(folder: str) -> bool:
    try:
        return bool(_kinds(folder))
    except BadData:  # of a folder that nobody asked for
        return False


# Pascal VOC


def _voc_folders(root: str) -> dict[str, tuple[str, str]]:
    """Split -> (folder of XML, folder of pictures)."""
    named = {entry.name.casefold(): entry.path for entry in entries(root)[0]}
    images = named.get("jpegimages", named.get("images"))
    if "annotations" in named and images:
        folders = {"": (named["annotations"], images)}
    else:
        parts = split_folders(root) or {"": root}
        folders = {split: (folder, folder) for split, folder in parts.items()}
    return {split: (xml, images) for split, (xml, images) in folders.items() if _stems(xml)}


def _stems(folder: str) -> dict[str, str]:
    """Name without its suffix -> path, of the XML files of a folder."""
    split = ((*os.path.splitext(entry.name), entry.path) for entry in entries(folder)[1])
    return {stem: path for stem, end, path in split if end.casefold() == ".xml"}


def _voc_lists(root: str) -> dict[str, str]:
    """Name of a picture -> its split, as the lists of a devkit say; what `trainval` names and
    no other list is for training."""
    splits: dict[str, str] = {}
    for name, split in (("trainval", "train"), ("train", "train"), ("val", "valid"),
                        ("test", "test")):  # fmt: skip
        path = os.path.join(root, "ImageSets", "Main", f"{name}.txt")
        if os.path.isfile(path):
            lines = content_of(path, MOST_TEXT).decode("utf-8-sig", errors="replace").splitlines()
            splits |= {_stem(line.strip()): split for line in lines if line.strip()}
    return splits


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.casefold() in SUFFIXES else name


def _voc(root: str, unused: Unused) -> tuple[tuple[str, ...], list[Annotated]]:
    examples: list[Annotated] = []
    apart: set[str] = set()
    for split, (folder, pictures) in _voc_folders(root).items():
        paths = pictures_by_stem(pictures, Unused())
        stems = _stems(folder)
        splits = _voc_lists(root) or dict.fromkeys(stems, split)
        for stem, part in sorted(splits.items()):
            picture = paths.get(stem, os.path.join(pictures, f"{stem}.jpg"))
            if stem in stems:
                examples.append(voc_picture(stems[stem], picture, part))
            else:
                fault = "a list names it, and there is no XML of it"
                examples.append(Annotated(part, picture, fault=fault))
        if rest := stems.keys() - splits.keys():
            unused.beside["picture that no list names"] += len(rest)
            apart |= {paths[stem] for stem in rest & paths.keys()}
    if any(-1 <= side < 0 for one in examples for box in one.boxes for side in box[:2]):
        # A box that begins at 0: a converter wrote them as it counts, from 0 to beyond the last.
        for one in examples:
            one.boxes = [(x + 1, y + 1, right, bottom) for x, y, right, bottom in one.boxes]
    check_parts(dict.fromkeys((one.split for one in examples), ""), root)
    count_unused(examples, unused, ".xml", apart)
    return tuple(sorted({label for one in examples for label in one.labels})), examples


def voc_picture(path: str, picture: str, split: str) -> Annotated:
    """VOC counts pixels from 1, and a box's right and bottom are its last ones; what it calls
    difficult is judged by nobody, as a crowd."""
    one = Annotated(split, picture)
    if not os.path.isfile(picture):
        one.fault = "there is no such picture"
    try:
        tree = parse_xml(content_of(path, MOST_TEXT))
        if tree.tag != "annotation":
            raise ValueError(f"it is a {tree.tag:.40}, not an annotation")
        size = [whole(tree.findtext(f"size/{name}", "0")) for name in ("height", "width")]
        one.size = (size[0], size[1]) if all(size) else None
        for thing in tree.iter("object"):
            if not (label := (thing.findtext("name") or "").strip()):
                raise ValueError("an object without a name")
            left, top, right, bottom = (
                number(thing.findtext(f"bndbox/{side}", "nan"))
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
            difficult = (thing.findtext("difficult") or "0").strip() == "1"
            one.add((left - 1, top - 1, right, bottom), label, difficult)
    except (ValueError, BadData, ElementTree.ParseError) as error:
        one.fault = one.fault or f"its XML cannot be read: {error}"
    return one


# YOLO


def _yolo_folders(root: str) -> dict[str, tuple[str, str]]:
    """Split -> (folder of pictures, folder of labels), which may be one."""
    images, labels = (os.path.join(root, name) for name in ("images", "labels"))
    if os.path.isdir(images) and os.path.isdir(labels):
        inside = split_folders(images)
        if not inside:
            return {"": (images, labels)}
        return {
            split: (folder, os.path.join(labels, os.path.basename(folder)))
            for split, folder in inside.items()
        }
    parts = split_folders(root)
    apart = {
        split: (os.path.join(folder, "images"), os.path.join(folder, "labels"))
        for split, folder in parts.items()
        if os.path.isdir(os.path.join(folder, "images"))
    }
    if apart or not _names_file(root):
        return apart
    return {
        split: (folder, folder)
        for split, folder in (parts or {"": root}).items()
        if _labels(folder).keys() & pictures_by_stem(folder, Unused()).keys()
    }


def _names_file(root: str) -> str | None:
    """The file that names the classes, of those that the field's tools write."""
    for name in ("classes.txt", os.path.join("labels", "classes.txt"), "obj.names"):
        if os.path.isfile(path := os.path.join(root, name)):
            return path
    names = [e.path for e in entries(root)[1] if e.name.casefold().endswith((".yaml", ".yml"))]
    return next((path for path in names if "data" in os.path.basename(path)), (*names, None)[0])


def _yolo_names(root: str) -> tuple[str, ...]:
    """The names of the classes, one a line or data.yaml's `names`, which is a list or a table of
    numbers. No path that the file names is followed."""
    path = _names_file(root)
    if path is None:
        raise BadData(f"{shown(root)}: neither data.yaml nor classes.txt names its classes")
    if not path.casefold().endswith((".yaml", ".yml")):
        lines = content_of(path, MOST_TEXT).decode("utf-8-sig", errors="replace").splitlines()
        names: Any = [line.strip() for line in lines if line.strip()]
    else:
        names = _yaml_names(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadData(f"{shown(path)}: the names of its classes are no list of words")
    if not all(map(str.strip, names)):
        raise BadData(f"{shown(path)}: a class has no name")
    if len(set(names)) < len(names):
        raise BadData(f"{shown(path)}: two classes have one name")
    return tuple(names)


def _yaml_names(path: str) -> Any:
    import yaml

    try:
        # All of it text: no class is called False because it was written `no`.
        loaded = yaml.BaseLoader(content_of(path, MOST_TEXT)).get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        why = " ".join(str(error).split())
        raise BadData(f"{shown(path)}: it is no YAML: {why:.200}") from error
    if not isinstance(loaded, dict) or "names" not in loaded:
        raise BadData(f"{shown(path)}: it has no `names` of the classes")
    names = loaded["names"]
    if not isinstance(names, (list, dict)):
        return names
    if (said := str(loaded.get("nc", len(names)))) != str(len(names)):
        raise BadData(f"{shown(path)}: it names {len(names)} classes, and nc is {said:.40}")
    if isinstance(names, list):
        return names
    numbers = [str(k) for k in range(len(names))]
    if missing := [k for k in numbers if k not in names]:
        raise BadData(
            f"{shown(path)}: its names count from 0 without a gap; {missing[0]} is missing"
        )
    return [names[k] for k in numbers]


def _yolo(root: str, unused: Unused) -> tuple[tuple[str, ...], list[Annotated]]:
    names = _yolo_names(root)
    examples: list[Annotated] = []
    folders = _yolo_folders(root)
    check_parts({split: images for split, (images, _) in folders.items()}, root)
    for split, (images, labels) in folders.items():
        files = _labels(labels)
        pictures = pictures_by_stem(images, unused)
        if not files.keys() & pictures.keys():
            part = f" of {split}" if split else ""
            raise BadData(
                f"{shown(root)}: none of the {len(pictures)} pictures{part} has a file of labels"
            )
        for stem, picture in pictures.items():
            one = Annotated(split, picture, relative=True)
            if stem in files:
                _yolo_lines(one, files[stem], names)
            examples.append(one)
        if labels != images:
            for stem in sorted(files.keys() - pictures.keys()):
                unused.lose("file of labels without a picture", files[stem])
    for kind in (".txt", ".names", ".data"):  # the tools' own
        del unused.beside[f"{kind} file"], unused.lost[f"{kind} file"]
    return names, examples


def _labels(folder: str) -> dict[str, str]:
    """Relative path without its suffix -> path, of the files of labels below `folder`."""
    paths = (os.path.join(at, name) for at, _, names in os.walk(folder) for name in sorted(names))
    split = ((os.path.splitext(os.path.relpath(path, folder)), path) for path in paths)
    return {
        stem: path
        for (stem, suffix), path in split
        if suffix.casefold() == ".txt" and stem != "classes"
    }


def _yolo_lines(one: Annotated, path: str, names: tuple[str, ...]) -> None:
    """Lines of class, centre and size as shares of the picture, or of class and a polygon."""
    try:
        lines = content_of(path, MOST_TEXT).decode("utf-8-sig").splitlines()
        for count, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            label, *sides = (number(part) for part in line.split())
            if not label.is_integer() or not 0 <= label < len(names):
                raise ValueError(
                    f"line {count} is of class {label:g}; 0 to {len(names) - 1} are known"
                )
            if len(sides) == 4:
                x, y, width, height = sides
                box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            elif len(sides) >= 6 and len(sides) % 2 == 0:
                (left, top, width, height), _ = bounds_of([sides])
                box = (left, top, left + width, top + height)
            else:
                raise ValueError(
                    f"line {count} has {len(sides) + 1} numbers; a box has 5: class, centre and "
                    "size"
                )
            if max(map(abs, box)) > 1.5:
                raise ValueError(f"line {count} is in pixels; shares of the picture are meant")
            one.add(box, names[int(label)])
    except (ValueError, BadData) as error:
        one.fault = f"{os.path.basename(path)}: {error}"


def _has_yolo(root: str) -> bool:
    named = _names_file(root) is not None or not boxfiles_coco.files_of(root)
    return named and bool(_yolo_folders(root))


KINDS: dict[str, tuple[Callable[[str], bool], Callable[..., Any]]] = {
    "COCO": (lambda root: bool(boxfiles_coco.files_of(root)), boxfiles_coco.read),
    "Pascal VOC": (lambda root: bool(_voc_folders(root)), _voc),
    "YOLO": (_has_yolo, _yolo),
}
"""Name -> (whether a folder is of it, its reader)."""
