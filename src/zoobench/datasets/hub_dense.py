"""Masks and boxes in the columns of a hub set.

A mask is a picture of one number a pixel. Boxes stand in a column that holds for each row a table
of lists, of `bbox` and `category` (or `label`), and perhaps of `area` and `iscrowd`:

    hf/user/scenes?image=image&label=annotation&task=segmentation&reduce_labels=true
    hf/user/things?image=image&label=objects&task=detection
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoobench.datasets import boxed, masks, regular
from zoobench.datasets.boxed import Annotated
from zoobench.datasets.readers import stored
from zoobench.errors import BadData, UserError, opening, unknown
from zoobench.interfaces import Targets
from zoobench.schema import Ref
from zoobench.tasks.detection import Annotation, Boxes
from zoobench.tasks.segmentation import IGNORED, MOST_CLASSES, Mask, Masks, Seen, seen

FORMATS = ("xywh", "xyxy")
"""How four numbers say a box: COCO's left, top, width, height, or left, top, right, bottom."""
LABELS = ("category", "label", "categories", "labels", "category_id")
CROWD = ("iscrowd", "is_crowd")
Sizes = Sequence[tuple[int, int] | None]


def check_options(ref: Ref, where: str) -> None:
    """Raises UserError for an option of masks or boxes that is none."""
    if (given := str(ref.option("box_format", "xywh"))) not in FORMATS:
        raise unknown(where, "box_format", given, FORMATS, f"of {ref.id}")
    if not isinstance(reduced := ref.option("reduce_labels", False), bool):
        what = f"reduce_labels of {ref.id} is true or false, not {reduced!r}"
        raise UserError(f"{opening(where)}{what}")


@dataclass(frozen=True)
class MaskColumn:
    """Mask i is a cell of an Arrow table. If `less` is 1, number 0 is ignored, 1 is class 0."""

    table: Any = field(repr=False)
    name: str
    within: tuple[str, ...]
    less: int = 0

    def __call__(self, i: int) -> Mask:
        value = self.table[i][self.name]
        if not value or (value.get("bytes") is None and not value.get("path")):
            raise BadData("there is no mask")
        content = stored(value, self.within)
        try:
            numbers = masks.numbers(regular.read(content) if isinstance(content, str) else content)
        except OSError as error:
            raise BadData(f"its mask cannot be read: {error.strerror or error}") from error
        if self.less:  # 255 stays what it is
            numbers = np.where(numbers == IGNORED, IGNORED, numbers - self.less).astype(np.uint8)
        return numbers


def masks_in(
    columns: Mapping[str, MaskColumn], sizes: Mapping[str, Sizes], names: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, tuple[Targets, list[str]]]]:
    """The classes, and of each split its masks with what is wrong with each ("" where nothing is).

    Without `names` there are as many classes as the greatest number of train says.
    """
    found: dict[str, list[Seen | str]] = {}
    for split, column in columns.items():
        found[split] = [_seen(column, i, size) for i, size in enumerate(sizes[split])]
    most = 1 + max((_last(one) for one in found["train"] if isinstance(one, Seen)), default=1)
    classes = tuple(names) or tuple(f"class {number}" for number in range(max(2, most)))
    out: dict[str, tuple[Targets, list[str]]] = {}
    for split, held in found.items():
        faults, sound = [], []
        for one in held:
            why = one if isinstance(one, str) else ""
            if isinstance(one, Seen) and _last(one) >= len(classes):
                why = f"its mask holds the number {_last(one)}; {len(classes) - 1} is the last"
            faults.append(why)
            empty = Seen((0, 0), (0,) * len(classes), "")
            kept = one if isinstance(one, Seen) and not why else empty
            sound.append(Seen(kept.size, kept.counts[: len(classes)], kept.digest))
        out[split] = (Masks(columns[split], tuple(sound), len(classes)), faults)
    return classes, out


def _seen(column: MaskColumn, i: int, size: tuple[int, int] | None) -> Seen | str:
    try:
        one = seen(column(i), MOST_CLASSES)
    except (BadData, ValueError) as error:
        return str(error)
    if size not in (None, one.size):
        own, other = (f"{w} x {h}" for h, w in (one.size, size or (0, 0)))
        return f"its mask is {own} pixels, and its picture {other}"
    return one if any(one.counts) else f"all pixels of its mask are ignored ({IGNORED})"


def _last(one: Seen) -> int:
    """The greatest class that it holds."""
    return int(np.flatnonzero(one.counts)[-1])


def boxes_in(
    rows: Mapping[str, Iterable[Any]], sizes: Mapping[str, Sizes], names: Sequence[str], how: str
) -> tuple[tuple[str, ...], dict[str, tuple[Targets, list[str]]], dict[str, Any]]:
    """As `masks_in`, of cells that hold tables of boxes, and notes. Without `names` classes are
    what is said, in the order of numbers or letters."""
    read = {split: [_annotated(cell, how) for cell in cells] for split, cells in rows.items()}
    said = {label for one in read["train"] for label in one.labels}
    classes = tuple(names) or tuple(sorted(said, key=_order))
    out: dict[str, tuple[Targets, list[str]]] = {}
    twice = 0
    for split, held in read.items():
        pictures, faults = [], []
        for one, size in zip(held, sizes[split], strict=True):
            made, why = Annotation.of((0, 0), [], []), one.fault
            if names:
                one.labels = [_name(label, names) for label in one.labels]
            strange = next((label for label in one.labels if label not in classes), None)
            if not why and strange is not None:
                why = f"a box is of {strange!r}, which is none of the classes"
            if not why:
                try:
                    made, same = boxed.checked(one, size, classes)
                    twice += same
                except BadData as error:
                    why = str(error)
            pictures.append(made)
            faults.append(why)
        out[split] = (Boxes(tuple(pictures), len(classes)), faults)
    return classes, out, {"boxes_given_twice": twice} if twice else {}


def _order(label: str) -> tuple[int, float, str]:
    """Numbers first."""
    return (0, float(label), label) if label.isdecimal() else (1, 0.0, label)


def _name(label: str, names: Sequence[str]) -> str:
    return names[int(label)] if label.isdecimal() and float(label) < len(names) else label


def _annotated(cell: Any, how: str) -> Annotated:
    """The boxes of one row: a table of lists, or a list of tables."""
    one = Annotated("", "")
    try:
        if isinstance(cell, list):
            cell = {key: [row[key] for row in cell] for key in (cell[0] if cell else ())}
        label = next((key for key in LABELS if key in (cell or {})), "")
        if not cell or not label or "bbox" not in cell:
            if cell:
                one.fault = f"it has no bbox and category, but {', '.join(map(str, cell))}"
            return one
        crowd = next((cell[key] for key in CROWD if key in cell), None)
        many = len(cell[label])
        columns = (
            cell["bbox"],
            cell[label],
            crowd or [0] * many,
            cell.get("area") or [None] * many,
        )
        for box, name, group, area in zip(*columns, strict=True):
            one.add(box, name, group, area, how)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        one.fault = f"its boxes cannot be read: {error}"
    return one
