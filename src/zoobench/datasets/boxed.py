"""folder/NAME?path=DIR&task=detection: pictures, and boxes with a class for each.

    DIR/train/_annotations.coco.json  DIR/train/a.jpg          COCO: or DIR/annotations/
        instances_train.json beside the folder of pictures, DIR/train or DIR/images/train
    DIR/train/a.xml                   DIR/train/a.jpg          Pascal VOC: or DIR/Annotations/a.xml,
        DIR/JPEGImages/a.jpg and DIR/ImageSets/Main/train.txt
    DIR/labels/train/a.txt            DIR/images/train/a.jpg   YOLO: or DIR/train/labels and
        DIR/train/images, with data.yaml or classes.txt

Without train there is one part, DIR itself. `boxfiles` reads the files; what they say is checked
here, alike for all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoobench.datasets import dense, listing, options, ranges, regular, twins
from zoobench.datasets.faults import check_faults
from zoobench.datasets.ids import THREADS
from zoobench.datasets.layouts import Layout, role
from zoobench.datasets.listing import Unused, entries, shown
from zoobench.datasets.masks import size_of
from zoobench.datasets.readers import Files
from zoobench.datasets.splits import Found
from zoobench.datasets.waiting import told
from zoobench.errors import BadData
from zoobench.interfaces import Split
from zoobench.schema import Ref, digest
from zoobench.tasks.detection import Annotation, Boxes

PARTS = ("train", "valid", "test")
SLACK = 2.0
"""Pixels that a box may reach beyond its picture, by rounding; it is cut off there."""


@dataclass
class Annotated:
    """One picture as its annotations have it: `boxes` of (left, top, right, bottom), in pixels or
    where `relative` in shares of the picture; `labels` are names of classes, `areas` may be None.

    `size` is (height, width) where the file says it, `fault` what is wrong with the file.
    """

    split: str
    picture: str
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    areas: list[float | None] = field(default_factory=list)
    size: tuple[int, int] | None = None
    relative: bool = False
    fault: str = ""

    def add(
        self, box: Any, label: Any, crowd: Any = False, area: Any = None, how: str = "xyxy"
    ) -> None:
        """An object as a file has it; the box is left, top, width and height where `how` is
        "xywh". Raises ValueError for what is none."""
        if not isinstance(box, (list, tuple)) or len(box) != 4:
            raise ValueError(f"the box {box!r:.40} is not four numbers")
        left, top, third, fourth = map(number, box)
        corner = (left + third, top + fourth) if how == "xywh" else (third, fourth)
        text, many = name(label), whole(crowd or 0) != 0
        self.areas.append(None if area is None else number(area))
        self.boxes.append((left, top, *corner))
        self.labels.append(text)
        self.crowd.append(many)


@dataclass(frozen=True)
class BoxedPictures:
    """What is read of a folder; `classes` by number."""

    root: str
    classes: tuple[str, ...]
    examples: tuple[Annotated, ...]
    unused: Unused = field(default_factory=Unused)

    @property
    def layout(self) -> Layout:
        """The same as of other folders, whose rule is of what may go unused."""
        used = tuple((one.split, "", one.picture) for one in self.examples)
        return Layout(self.root, used, self.unused, {}, {})


def found(boxed: BoxedPictures, ref: Ref, *, verify: bool) -> tuple[Found, str]:
    """The sound pictures as splits, and the revision; decodes each one under `verify`.

    Raises BadData where more of them cannot be used than is allowed.
    """
    place, examples = shown(boxed.root), boxed.examples
    paths = [one.picture for one in examples]
    ids, wrong, truth, twice, looks = _scanned(boxed, ranges.range_of(ref), verify=verify)
    named = [
        f"{shown(os.path.relpath(path, boxed.root))}: {why}"
        for path, why in zip(paths, wrong, strict=True)
        if why
    ]
    allowed = options.allow_unused(ref)
    notes = boxed.layout.check_unused(allowed=allowed)
    notes |= check_faults(named, len(ids), place, "example", allowed)
    notes |= looks.notes
    if twice:
        notes["boxes_given_twice"] = twice
    sound = [i for i, why in enumerate(wrong) if not why]

    def split(name: str, *parts: str) -> Split:
        rows = [i for i in sound if examples[i].split in parts]
        targets = Boxes(tuple(truth[i] for i in rows), len(boxed.classes))
        files = Files(tuple(paths[i] for i in rows), looks.grey)
        return Split(name, tuple(ids[i] for i in rows), targets, files)

    given = {one.split for one in examples}
    train = split("train", "", "train")
    valid = split("valid", "valid") if "valid" in given else None
    test = split("test", "test") if "test" in given else None
    notes |= dense.notes(train, boxed.classes, *filter(None, (valid, test)))
    relative = [shown(os.path.relpath(path, boxed.root)) for path in paths]
    content = sorted(zip(relative, ids, (one.digest for one in truth), strict=True))
    revision = digest([list(boxed.classes), content])
    made = Found(train, valid, test, boxed.classes, "image", notes, task="detection", looks=looks)
    return made, revision


def _scanned(
    boxed: BoxedPictures, grey: ranges.Grey | None, *, verify: bool
) -> tuple[list[str], list[str], list[Annotation], int, twins.Looks]:
    """Of each picture its id, why it cannot be used ("" where it can), its objects; how many of
    these stood there twice; and the looks."""
    examples = boxed.examples
    paths = [one.picture for one in examples]
    # What is known to be wrong is not opened: a name may lead anywhere.
    opened = [i for i, one in enumerate(examples) if not one.fault]
    files = [paths[i] for i in opened]
    some, faults, looks = twins.scan(files, verify=verify, grey=grey)
    with ThreadPoolExecutor(THREADS) as pool:
        sides = list(told(pool.map(size_of, files), "reading sizes", len(files)))
    ids, wrong = [""] * len(paths), [one.fault for one in examples]
    sizes: list[tuple[int, int] | None] = [None] * len(paths)
    for i, name, why, size in zip(opened, some, faults, sides, strict=True):
        ids[i], wrong[i], sizes[i] = name, why, size
    truth, twice = [], 0
    for i, one in enumerate(examples):
        annotation, same = Annotation.of((0, 0), [], []), 0
        if not wrong[i]:
            try:
                annotation, same = checked(one, sizes[i], boxed.classes)
            except BadData as error:
                wrong[i] = str(error)
        truth.append(annotation)
        twice += same
    return ids, wrong, truth, twice, looks


def checked(
    one: Annotated, size: tuple[int, int] | None, classes: Sequence[str]
) -> tuple[Annotation, int]:
    """The picture's objects, each once, and how many stood there again. Raises BadData for what
    cannot be meant."""
    if size is None:
        raise BadData("its picture cannot be opened")
    if one.size is not None and one.size != size:
        ours, theirs = (f"{w} x {h}" for h, w in (size, one.size))
        turned = ": perhaps EXIF turns it" if one.size == size[::-1] else ""
        raise BadData(f"it is {ours} pixels, and {theirs} by its annotation{turned}")
    height, width = size
    boxes = np.array(one.boxes, dtype=np.float64).reshape(-1, 4)
    if one.relative:
        boxes = boxes * (width, height, width, height)
    _check_boxes(boxes, one.labels, width, height)
    if len(boxes) and not one.relative and boxes.max() <= 1 < min(size):
        raise BadData(
            "all its boxes lie in the first pixel: perhaps they are shares of the picture"
        )
    boxes = boxes.clip(0, (width, height, width, height))
    kept: dict[tuple[object, ...], int] = {}
    for k, (box, label, crowd) in enumerate(
        zip(boxes.tolist(), one.labels, one.crowd, strict=True)
    ):
        kept.setdefault((*box, label, crowd), k)
    rows = list(kept.values())
    own = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).tolist()
    areas = np.array([own[k] if (area := one.areas[k]) is None else area for k in rows])
    if not ((areas >= 0) & (areas <= (width + 2 * SLACK) * (height + 2 * SLACK))).all():
        raise BadData("the area of one of its objects is no number from 0 to that of the picture")
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers[one.labels[k]] for k in rows]
    many = [one.crowd[k] for k in rows]
    made = Annotation.of(size, boxes[rows], labels, many, areas)
    return made, len(one.labels) - len(rows)


def _check_boxes(boxes: np.ndarray, labels: Sequence[str], width: int, height: int) -> None:
    """Raises BadData that names the first box that cannot be meant."""
    left, top, right, bottom = boxes.T
    beyond = (np.minimum(left, top) < -SLACK) | (right > width + SLACK) | (bottom > height + SLACK)
    beyond |= (left >= width) | (top >= height) | (right <= 0) | (bottom <= 0)
    faults = (
        (~np.isfinite(boxes).all(axis=1), "is no number"),
        ((right < left) | (bottom < top), "has its corners the wrong way round"),
        ((right == left) | (bottom == top), "is empty"),
        (beyond, f"lies outside its picture of {width} x {height} pixels"),
    )
    for wrong, why in faults:
        if wrong.any():
            k = int(wrong.argmax())
            box = ", ".join(f"{side:g}" for side in boxes[k])
            raise BadData(f"its box ({box}) of {labels[k]!r} {why}")


def number(value: Any) -> float:
    """A number as a file has it, perhaps as text. Raises ValueError for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{value!r:.40} is no number") from error


def whole(value: Any) -> int:
    """As `number`, without a fraction."""
    if not (found := number(value)).is_integer():
        raise ValueError(f"{value!r:.40} is no whole number")
    return int(found)


def name(value: Any) -> str:
    """The name of a class or a file, without blanks around it. Raises ValueError for what is
    none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    if not isinstance(value, (str, int)) or not text or (isinstance(value, int) and value < 0):
        raise ValueError(f"{value!r:.40} is no name")
    text.encode("utf-8", "surrogateescape")  # half a character is no text
    return text


def pictures_by_stem(folder: str, unused: Unused) -> dict[str, str]:
    """Relative path without its suffix -> path, of the pictures below `folder`. Raises BadData
    where two differ in their suffix alone."""
    by_stem: dict[str, str] = {}
    for path in listing.examples(folder, unused):
        stem = os.path.splitext(os.path.relpath(path, folder))[0]
        if stem in by_stem:
            raise BadData(f"{shown(folder)}: two pictures are called {shown(stem)!r}")
        by_stem[stem] = path
    return by_stem


def split_folders(folder: str) -> dict[str, str]:
    """Split -> the folder that is called so. Raises BadData where two are."""
    found: dict[str, str] = {}
    for entry in entries(folder)[0]:
        if (split := role(entry.name)) in PARTS:
            if split in found:
                raise BadData(f"{shown(folder)}: two folders are called {split}")
            found[split] = entry.path
    return found


def check_parts(parts: Mapping[str, str], root: str) -> Mapping[str, str]:
    """Raises BadData where there are parts, but no train."""
    if parts and "" not in parts and "train" not in parts:
        raise BadData(f"{shown(root)}: there is {', '.join(sorted(parts))}, but no train")
    return parts


def count_unused(
    examples: Sequence[Annotated], unused: Unused, own: str, apart: Iterable[str] = ()
) -> None:
    """Counts the pictures beside those of `examples` that nothing annotates, but for those that
    are `apart`; files that end with `own` are the annotations."""
    known = {os.path.normpath(path) for path in (*(one.picture for one in examples), *apart)}
    folders: dict[str, set[str]] = {}
    for one in examples:
        if not one.fault:
            folders.setdefault(one.split, set()).add(os.path.dirname(one.picture))
    lost = Unused()
    for folder in sorted({os.path.commonpath(held) for held in folders.values()}):
        for path in listing.examples(folder, lost):
            if os.path.normpath(path) not in known:
                lost.lose("picture without annotation", path)
    unused.lost += lost.lost
    unused.beside += lost.beside
    unused.first |= lost.first
    del unused.beside[f"{own} file"]


def content_of(path: str, most: int) -> bytes:
    try:
        return regular.read(path, most)
    except OSError as error:
        raise BadData(f"{shown(path)}: {error.strerror}") from error


def bounds_of(polygons: Any) -> tuple[tuple[float, float, float, float], float]:
    """(left, top, width, height) and the area of what polygons [x, y, x, y, ...] enclose."""
    points: list[tuple[float, float]] = []
    area = 0.0
    for polygon in polygons:
        if not isinstance(polygon, (list, tuple)) or len(polygon) % 2:
            raise ValueError("a polygon that is no list of x, y, x, y and so on")
        flat = [number(side) for side in polygon]
        corners = list(zip(flat[::2], flat[1::2], strict=True))
        after = [*corners[1:], *corners[:1]]
        area += abs(sum(x * v - u * y for (x, y), (u, v) in zip(corners, after, strict=True))) / 2
        points += corners
    if not points:
        raise ValueError("a polygon without corners")
    across, down = zip(*points, strict=True)
    left, top = min(across), min(down)
    return (left, top, max(across) - left, max(down) - top), area
