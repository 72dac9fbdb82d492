"""AP against COCO's own evaluator, and boxes as targets."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.tasks import matching
from zoobench.tasks.detection import (
    Annotation,
    Boxes,
    Detected,
    Detection,
    Detections,
    Precisions,
    boxes_of,
    outcomes_of,
)

NAMES = Detection.metrics
SIDE = 400


def drawn(
    seed: int, n: int = 30, classes: int = 4, ties: int = 2, crowd: float = 0.1
) -> tuple[Boxes, list[Detections]]:
    """Pictures with objects of all sizes and what a middling detector says of them: boxes beside
    the truth, of another class, of nothing, found twice; scores that are often equal."""
    rng = np.random.default_rng(seed)
    truth, said = [], []
    for _ in range(n):
        many = int(rng.integers(0, 5))
        corner = rng.uniform(0, SIDE - 10, (many, 2))
        sides = np.exp(rng.uniform(np.log(8), np.log(300), (many, 2)))
        boxes = np.concatenate([corner, np.minimum(corner + sides, SIDE)], axis=1)
        labels = rng.integers(0, max(1, classes - 1), many)  # the last class is in no truth
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * rng.uniform(0.4, 1, many)
        truth.append(Annotation.of((SIDE, SIDE), boxes, labels, rng.random(many) < crowd, area))
        found, named = [], []
        for _ in range(int(rng.integers(0, 12))):
            if many and rng.random() < 0.7:
                k = int(rng.integers(many))
                moved = boxes[k] + rng.normal(0, 0.06, 4) * np.tile(boxes[k, 2:] - boxes[k, :2], 2)
                found.append([*moved[:2], *np.maximum(moved[2:], moved[:2])])
                named.append(labels[k] if rng.random() < 0.9 else rng.integers(classes))
            else:
                at, size = rng.uniform(0, SIDE, 2), rng.uniform(0, 150, 2)
                found.append([*at, *(at + size)])
                named.append(rng.integers(classes))
        scores = np.round(rng.random(len(found)), ties).astype(np.float32)
        said.append(Detections.of(found, scores, named))
    return Boxes(tuple(truth), classes), said


def coco(truth: Boxes, said: Detected) -> dict[str, float]:
    """What pycocotools says of the same boxes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def sides(box: NDArray[np.float64]) -> list[float]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    annotations = [
        {"image_id": i + 1, "category_id": int(c) + 1, "bbox": sides(box), "area": float(area),
         "iscrowd": int(crowd)}
        for i, one in enumerate(truth.pictures)
        for c, box, crowd, area in zip(one.labels, one.boxes, one.crowd, one.area, strict=True)
    ]  # fmt: skip
    results = [
        {"image_id": i + 1, "category_id": int(c) + 1, "bbox": sides(box), "score": float(score)}
        for i, one in enumerate(said)
        for c, box, score in zip(one.labels, one.boxes, one.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {
            "images": [{"id": i + 1} for i in range(len(truth))],
            "categories": [{"id": c + 1} for c in range(truth.classes)],
            "annotations": [{"id": k, **a} for k, a in enumerate(annotations, start=1)],
        }
        data.createIndex()
        evaluator = COCOeval(data, data.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    # -1 where the test set has no object of a size, for which a record has no metric.
    stats = np.maximum(evaluator.stats, 0).tolist()
    return {**dict(zip(NAMES[:6], stats[:6], strict=True)), "ar100": stats[8]}


def values(outcomes: Outcomes) -> dict[str, float]:
    found = Precisions(outcomes)(np.ones((1, outcomes.n)), NAMES)
    return {name: float(value[0]) for name, value in found.items()}


@pytest.mark.parametrize("seed", range(8))
def test_every_metric_is_that_of_cocos_evaluator(seed: int) -> None:
    truth, said = drawn(seed, ties=seed % 3 + 1, crowd=0.3 if seed == 7 else 0.1)
    assert values(outcomes_of(said, truth)) == pytest.approx(coco(truth, said), abs=1e-6)


def test_the_ap_of_a_class_is_that_of_it_alone() -> None:
    truth, said = drawn(2, crowd=0.3)
    empty = Split("test", (), Boxes((), 4), str)
    splits = Splits(empty, empty, empty, tuple("abcd"), "image", task="detection")
    detail = Detection().reported(outcomes_of(said, truth), splits)["ap"]
    assert detail["classes_not_in_test"] == 1
    assert detail["ap"].keys() == set("abc")
    for number, name in enumerate("abc"):
        objects = tuple(
            Annotation.of(one.size, one.boxes[kept], [0] * kept.sum(), one.crowd[kept],
                          one.area[kept])
            for one in truth.pictures
            for kept in [one.labels == number]
        )  # fmt: skip
        found = [
            Detections.of(one.boxes[kept], one.scores[kept], [0] * kept.sum())
            for one in said
            for kept in [one.labels == number]
        ]
        alone = coco(Boxes(objects, 1), found)["ap"]
        assert detail["ap"][name] == pytest.approx(alone, abs=1e-6)


def test_the_best_hundred_of_a_class_in_a_picture_are_looked_at() -> None:
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 300, (260, 2))
    boxes = np.concatenate(
        [corner, corner + rng.choice([31, 32, 33, 95, 96, 97], (260, 2))], axis=1
    )
    truth = (Annotation.of((SIDE, SIDE), boxes[::2], np.arange(130) % 3 // 2),)
    said = [Detections.of(boxes, np.round(rng.random(260), 2), np.arange(260) % 7 // 5)]
    outcomes = outcomes_of(said, Boxes(truth, 2))
    assert np.bincount(outcomes.arrays["label"]).tolist() == [100, 74]
    assert values(outcomes) == pytest.approx(coco(Boxes(truth, 2), said), abs=1e-6)


def test_it_does_not_matter_how_many_pictures_are_matched_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth, said = drawn(5, n=40)
    whole = outcomes_of(said, truth)
    monkeypatch.setattr(matching, "TOGETHER", 7)
    for name, array in outcomes_of(said, truth).arrays.items():
        assert np.array_equal(array, whole.arrays[name]), name


def judged(seed: int, n: int) -> Outcomes:
    truth, said = drawn(seed, n)
    return outcomes_of(said, truth)


def square(*corners: float) -> list[list[float]]:
    return [list(corners)]


NONE = Detections.of([], [], [])
CASES: dict[str, tuple[list[Annotation], list[Detections], float]] = {
    # name: truth, what is said, AP50
    "found twice: the second is wrong": (
        [Annotation.of((100, 100), square(0, 0, 50, 50), [0])] * 2,
        [Detections.of([[0, 0, 50, 50], [0, 0, 50, 49]], [0.9, 0.8], [0, 0]), NONE],
        51 / 101,
    ),
    "the class counts": (
        [Annotation.of((100, 100), square(0, 0, 50, 50), [0])],
        [Detections.of(square(0, 0, 50, 50), [0.9], [1])],
        0.0,
    ),
    "columns are no rows": (
        [Annotation.of((100, 100), square(0, 0, 80, 10), [0])],
        [Detections.of(square(0, 0, 10, 80), [0.9], [0])],
        0.0,
    ),
    "in a crowd nobody is wrong": (
        [Annotation.of((100, 100), [[0, 0, 20, 20], [40, 40, 100, 100]], [0, 0], [False, True])],
        [Detections.of([[0, 0, 20, 20], [50, 50, 60, 60], [70, 70, 80, 80]], [0.5, 0.9, 0.8],
                       [0, 0, 0])],
        1.0,
    ),
    "a false alarm in a picture without objects": (
        [Annotation.of((100, 100), square(0, 0, 20, 20), [0]), Annotation.of((9, 9), [], [])],
        [Detections.of(square(0, 0, 20, 20), [0.5], [0]), Detections.of(square(0, 0, 9, 9), [0.9],
                                                                       [0])],
        0.5,
    ),
    "nothing is said": ([Annotation.of((9, 9), square(0, 0, 9, 9), [0])], [NONE], 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_ap_by_hand(name: str) -> None:
    truth, said, expected = CASES[name]
    assert values(outcomes_of(said, Boxes(tuple(truth), 2)))["ap50"] == pytest.approx(expected)


def repeated(outcomes: Outcomes, counts: NDArray[np.intp]) -> Outcomes:
    """The outcomes of a test set in which picture i really stands counts[i] times."""
    start = np.searchsorted(outcomes.arrays["owner"], np.arange(outcomes.n + 1))
    pictures = np.repeat(np.arange(outcomes.n), counts)
    rows = [np.arange(start[i], start[i + 1]) for i in pictures]
    owner = np.repeat(np.arange(len(pictures)), [len(r) for r in rows])
    at = np.concatenate(rows)
    arrays = {name: outcomes.arrays[name][at] for name in ("label", "score", "hit", "ignored")}
    return Outcomes(
        len(pictures), {**arrays, "owner": owner, "true": outcomes.arrays["true"][pictures]}
    )


def test_weights_are_really_repeated_pictures_for_cocos_evaluator_too() -> None:
    truth, said = drawn(3, n=20, ties=9)
    counts = np.random.default_rng(0).poisson(1.0, 20)
    drawn_so = Precisions(outcomes_of(said, truth))(counts[None].astype(np.float64), NAMES)
    pictures = np.repeat(np.arange(20), counts)
    whole = Boxes(tuple(truth.pictures[i] for i in pictures), truth.classes)
    expected = coco(whole, [said[i] for i in pictures])
    assert {k: float(v[0]) for k, v in drawn_so.items()} == pytest.approx(expected, abs=1e-9)


def test_a_curve_has_its_average_precision_for_mean_and_starts_at_the_best() -> None:
    statistics = Precisions(judged(1, n=60))
    for label in range(3):
        ranked = statistics.ranked(label)
        curve = ranked.curve()
        assert curve.shape == (10, 101)
        assert curve.mean(axis=1) == pytest.approx(
            ranked.average_precision(np.ones((1, 60)))[:, 0], abs=1e-12
        )
        assert (np.diff(curve, axis=1) <= 0).all()


def test_a_resample_without_any_object_counts_as_the_test_set_itself() -> None:
    truth, said = drawn(1, n=8)
    outcomes = outcomes_of(said, truth)
    without = (outcomes.arrays["true"][:, 3].sum(axis=1) == 0).astype(np.float64)
    found = Precisions(outcomes)(without[None], ["ap_large", "ap"])
    assert found["ap_large"][0] == pytest.approx(values(outcomes)["ap_large"])
    assert found["ap"][0] != pytest.approx(values(outcomes)["ap"])


BROKEN: dict[str, tuple[Any, type[Exception], str]] = {
    "no number": (Detections.of(square(0, 0, np.nan, 9), [0.5], [0]), NotFinite, "1 of 2 test"),
    "an endless score": (Detections.of(square(0, 0, 9, 9), [np.inf], [0]), NotFinite, "1 of 2"),
    "an unknown class": (Detections.of(square(0, 0, 9, 9), [0.5], [2]), ValueError, "0 to 1"),
    "a flipped box": (Detections.of(square(9, 0, 0, 9), [0.5], [0]), ValueError, "left, top"),
    "more scores": (Detections.of(square(0, 0, 9, 9), [0.5, 0.4], [0]), ValueError, "as many"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_detection_is_refused(name: str) -> None:
    said, kind, why = BROKEN[name]
    truth = Boxes((Annotation.of((9, 9), square(0, 0, 9, 9), [0]),) * 2, 2)
    with pytest.raises(kind, match=why):
        outcomes_of([NONE, said], truth)


def test_damaged_outcomes_are_refused() -> None:
    whole = judged(1, n=5)
    damaged: tuple[tuple[str, NDArray[Any]], ...] = (
        ("true", whole.arrays["true"][:2]), ("true", -whole.arrays["true"].astype(int)),
        ("true", whole.arrays["true"] * np.nan), ("hit", whole.arrays["hit"][:-1]),
        ("label", whole.arrays["label"] + 9), ("label", whole.arrays["label"] - 9),
        ("score", whole.arrays["score"] * np.nan),
    )  # fmt: skip
    for name, array in damaged:
        with pytest.raises(ValueError):
            Precisions(Outcomes(whole.n, {**whole.arrays, name: array}))


def test_boxes_say_what_they_hold() -> None:
    truth, _ = drawn(0, n=25)
    assert truth.counts.sum() == sum(int((~one.crowd).sum()) for one in truth.pictures)
    empty = truth.counts.sum(axis=1) == 0
    assert (truth.strata[empty] == truth.classes).all()
    assert (truth.counts[np.flatnonzero(~empty), truth.strata[~empty]] > 0).all()
    some = truth.subset(np.array([3, 3, 0]))
    assert some.keys() == (truth.keys()[3], truth.keys()[3], truth.keys()[0])
    split = Split("test", tuple(map(str, range(25))), truth, str)
    assert boxes_of(split) is truth
    moved = Annotation.of((9, 9), square(0, 0, 9, 9), [1])
    assert moved.digest != Annotation.of((9, 9), square(0, 0, 9, 9), [0]).digest
