"""Cells of boxes by strangers: what is meant is read, and all else is one damaged example."""

from __future__ import annotations

from typing import Any

import pytest

from zoobench.datasets.hub_dense import boxes_in

BOX = [1, 2, 4, 5]
SOUND = {"bbox": [BOX], "category": [0]}


def read(cell: Any, *names: str) -> tuple[tuple[str, ...], list[list[float]], str]:
    """The classes, the boxes of a row, and what is wrong with it."""
    classes, out, _ = boxes_in({"train": [cell, SOUND]}, {"train": [(9, 9)] * 2}, names, "xywh")
    boxes, faults = out["train"]
    assert not faults[1]
    return classes, boxes.pictures[0].boxes.tolist(), faults[0]  # type: ignore[attr-defined]


def one(**change: Any) -> dict[str, Any]:
    return {**SOUND, **change}


FAULTS: dict[str, tuple[Any, str]] = {
    "no category": (one(category=[None]), "None is no name"),
    "no category by number": (one(category=[-1]), "-1 is no name"),
    "an empty category": (one(category=[" "]), "' ' is no name"),
    "half a character": (one(category=["\ud800"]), "surrogates not allowed"),
    "half a number": (one(category=[0.5]), "0.5 is no name"),
    "categories that are none": (one(category=None), "cannot be read"),
    "more categories": (one(category=[0, 0]), "cannot be read"),
    "another column": ({"box": [BOX], "category": [0]}, "it has no bbox and category, but box"),
    "three sides": (one(bbox=[BOX[:3]]), "[1, 2, 4] is not four numbers"),
    "corners": (one(bbox=[[[1, 2], [4, 5]]]), "is not four numbers"),
    "a table": (one(bbox=[dict.fromkeys("xywh", 1)]), "is not four numbers"),
    "no box": (one(bbox=[None]), "None is not four numbers"),
    "words": (one(bbox=[[1, 2, "a", 4]]), "'a' is no number"),
    "beyond all numbers": (one(bbox=[[10**400, 2, 4, 5]]), "is no number"),
    "no number": (one(bbox=[[float("nan"), 2, 4, 5]]), "is no number"),
    "shares of the picture": (one(bbox=[[0.1, 0.2, 0.4, 0.5]]), "perhaps they are shares"),
    "outside": (one(bbox=[[1, 2, 40, 5]]), "lies outside its picture of 9 x 9 pixels"),
    "words for areas": (one(area=["x"]), "'x' is no number"),
    "fewer areas": (one(bbox=[BOX] * 2, category=[0, 0], area=[1.0]), "cannot be read"),
    "a crowd of words": (one(iscrowd=["no"]), "'no' is no number"),
    "rows of numbers": ([1, 2], "cannot be read"),
    "rows of nothing": ([None], "cannot be read"),
    "rows of unlike tables": ([{"bbox": BOX, "category": 0}, {"bbox": BOX}], "cannot be read"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_cell_that_cannot_be_meant_is_one_damaged_example(case: str) -> None:
    cell, why = FAULTS[case]
    classes, boxes, said = read(cell)
    assert why in said
    assert boxes == []
    assert classes == ("0",)
    assert why in read(cell, "cat")[2]


@pytest.mark.parametrize(
    ("cell", "classes"),
    [
        (one(category=["²"]), ("0", "²")),
        (one(category=["10"]), ("0", "10")),
        (one(category=[0.0]), ("0",)),
        (one(area=[None], iscrowd=[None]), ("0",)),
        (one(iscrowd=["0"], area=["9"]), ("0",)),
        ([{"bbox": BOX, "category": 2}], ("0", "2")),
    ],
)
def test_unlike_tables_say_the_same(cell: Any, classes: tuple[str, ...]) -> None:
    assert read(cell) == (classes, [[1, 2, 5, 7]], "")


@pytest.mark.parametrize("cell", [None, {}, [], {"bbox": [], "category": []}])
def test_an_empty_cell_is_a_picture_without_objects(cell: Any) -> None:
    assert read(cell) == (("0",), [], "")


def test_numbers_are_names_where_names_are_said_and_nothing_else_is() -> None:
    assert read(one(category=[1]), "cat", "dog")[2] == ""
    assert (
        read(one(category=[2]), "cat", "dog")[2] == "a box is of '2', which is none of the classes"
    )
