"""Detections matched with objects as in COCO's evaluator (PROTOCOL section 2).

K detections of n pictures, sorted by picture and within it the best first; C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.statistics.bootstrap import Floats

if TYPE_CHECKING:
    from zoobench.tasks.detection import Boxes

IOUS = np.linspace(0.5, 0.95, 10)
MOST = 100
"""Detections of one class that are looked at in a picture, the best."""
AREAS = ("all", "small", "medium", "large")
"""Objects of any size, below 32 x 32 pixels, up to 96 x 96, and above."""
SIZES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
"""Least and most pixels of each of AREAS, both ends included."""
TOGETHER = 250
"""Pictures that are matched at once."""


def places(owner: NDArray[np.int32], label: NDArray[np.int64]) -> NDArray[np.intp]:
    """(K,) which of the detections of its picture and class each one is, from 0."""
    order = np.lexsort((label, owner))
    both = np.stack([owner[order], label[order]])
    first = np.flatnonzero(np.r_[True, (np.diff(both) != 0).any(axis=0)][: len(order)])
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
    return place


def matched(
    truth: Boxes,
    owner: NDArray[np.int32],
    boxes: Floats,
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint32]]:
    """`hit` and `ignored` (K, 4), and `true` (n, 4, C).

    What is of a class that its picture has nothing of matches nothing, and is ignored where its own
    size is another. All else goes to the evaluator, some pictures at a time: what it answers with
    are Python's lists, which take its time and memory many times over.
    """
    size = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None]
    low, high = np.transpose(SIZES)
    hit = np.zeros((len(owner), len(AREAS)), dtype=np.uint16)
    ignored = np.where((size < low) | (size > high), 2 ** len(IOUS) - 1, 0).astype(np.uint16)
    true = np.zeros((len(truth), len(AREAS), truth.classes), dtype=np.uint32)
    for start in range(0, len(truth), TOGETHER):
        some = truth.subset(np.arange(start, min(start + TOGETHER, len(truth))))
        here = np.zeros((len(some), truth.classes), dtype=bool)
        for held, one in zip(here, some.pictures, strict=True):
            held[one.labels] = True
        first, last = np.searchsorted(owner, [start, start + len(some)])
        rows = first + np.flatnonzero(here[owner[first:last] - start, labels[first:last]])
        said = owner[rows] - start, labels[rows], _corners(boxes[rows]), scores[rows]
        ignored[rows] = 0
        _note(_judged(some, *said), (hit, ignored), true[start : start + len(some)], rows)
    return hit, ignored, true


def _judged(
    truth: Boxes, owner: NDArray[Any], labels: NDArray[Any], corners: Any, scores: NDArray[Any]
) -> list[dict[str, Any]]:
    """hotcoco's matches of each picture, class and size: of the kept evaluators it is the one that
    shows them. The tests hold it to pycocotools."""
    from hotcoco import COCO, COCOeval

    data: Any = COCO(coco_json(truth))
    rows = zip(owner.tolist(), labels.tolist(), corners, scores.tolist(), strict=True)
    found = data.load_res([
        {"image_id": i + 1, "category_id": c + 1, "bbox": box, "score": score}
        for i, c, box, score in rows
    ])  # fmt: skip
    evaluator = COCOeval(data, found, "bbox")
    evaluator.params.iou_thrs = IOUS.tolist()
    evaluator.params.area_rng = [list(limits) for limits in SIZES]
    evaluator.evaluate()
    return list(filter(None, evaluator.eval_imgs))


def _note(
    judged: Sequence[Mapping[str, Any]],
    bits: tuple[NDArray[np.uint16], NDArray[np.uint16]],
    true: NDArray[np.uint32],
    rows: NDArray[np.intp],
) -> None:
    """Writes matches into `hit`, `ignored` and `true`; `rows` are those of the detections."""
    areas = {limits: a for a, limits in enumerate(SIZES)}
    for one in judged:
        place = one["image_id"] - 1, areas[tuple(one["aRng"])], one["category_id"] - 1
        true[place] = len(one["gtIgnore"]) - sum(one["gtIgnore"])
    at = rows[[i - 1 for one in judged for i in one["dtIds"]]]
    area = np.array([areas[tuple(one["aRng"])] for one in judged], dtype=np.intp)
    area = np.repeat(area, [len(one["dtIds"]) for one in judged])
    for kept, name in zip(bits, ("dtMatched", "dtIgnore"), strict=True):
        for k in range(len(IOUS)):
            flags = chain.from_iterable(one[name][k] for one in judged)
            kept[at, area] |= np.fromiter(flags, dtype=np.uint16, count=len(at)) << k


def _corners(boxes: Floats) -> list[list[float]]:
    """(left, top, width, height) of each."""
    corners: list[list[float]] = np.concatenate(
        [boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1
    ).tolist()
    return corners


def coco_json(truth: Boxes) -> dict[str, Any]:
    """The truth as COCO's JSON has it."""
    rows = [
        (i + 1, label + 1, box, crowd, area)
        for i, one in enumerate(truth.pictures)
        for label, box, crowd, area in zip(
            one.labels.tolist(), _corners(one.boxes), one.crowd.tolist(), one.area.tolist(),
            strict=True,
        )
    ]  # fmt: skip
    return {
        "images": [
            {"id": i + 1, "height": one.size[0], "width": one.size[1]}
            for i, one in enumerate(truth.pictures)
        ],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(truth.classes)],
        "annotations": [
            {"id": k, "image_id": i, "category_id": c, "bbox": b, "iscrowd": int(m), "area": a}
            for k, (i, c, b, m, a) in enumerate(rows, start=1)
        ],
    }
