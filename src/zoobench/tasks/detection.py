"""Object detection: boxes with a class and a score (PROTOCOL section 2).

n pictures, C classes. A box is (left, top, right, bottom) in pixels of its own picture, float64,
right and bottom beyond the last pixel.

Detections are matched with objects as in COCO's evaluator (Lin et al. 2014, arXiv:1405.0312): of
one class, inside a picture, best score first, at most 100, at ten IoU from 0.50 to 0.95; objects
of all sizes, and again those of three sizes alone. What lies in a crowd, or matches an object of
another size, is neither right nor wrong. AP is the mean over classes and IoU of the average
precision at 101 levels of recall. In a resample a class without objects is left out, for every
model alike; a resample without any counts as the test set itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.curves import RECALLS, RankedDetections
from zoobench.tasks.matching import AREAS, MOST, matched, places
from zoobench.tasks.targets import targets_of


@dataclass(frozen=True, eq=False)
class Annotation:
    """The K objects of one picture, which is `size` (height, width) pixels.

    `boxes` (K, 4) float64, `labels` (K,) int64, `crowd` (K,) bool: a region of many objects that
    are not told apart, in which nobody is wrong; `area` (K,) float64 pixels of the objects.
    """

    size: tuple[int, int]
    boxes: Floats
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: Floats

    @classmethod
    def of(
        cls,
        size: tuple[int, int],
        boxes: ArrayLike,
        labels: ArrayLike,
        crowd: ArrayLike | None = None,
        area: ArrayLike | None = None,
    ) -> Self:
        """No crowd and the areas of the boxes themselves where nothing else is said."""
        corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        wide, high = (corners[:, 2:] - corners[:, :2]).T
        many = np.zeros(len(corners), dtype=bool) if crowd is None else np.asarray(crowd, bool)
        areas = wide * high if area is None else np.asarray(area, dtype=np.float64)
        return cls(size, corners, np.asarray(labels, dtype=np.int64).reshape(-1), many, areas)

    @cached_property
    def digest(self) -> str:
        hasher = hashlib.sha256(repr(self.size).encode())
        for array, kind in (
            (self.boxes, "<f8"), (self.labels, "<i8"), (self.crowd, "|b1"), (self.area, "<f8")
        ):  # fmt: skip
            hasher.update(np.ascontiguousarray(array, dtype=kind).tobytes())
        return hasher.hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Targets of a detection: an Annotation of each picture. One without objects is a negative."""

    pictures: tuple[Annotation, ...]
    classes: int

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(N, C) objects of each class, without crowds."""
        rows = [
            np.bincount(one.labels[~one.crowd], minlength=self.classes) for one in self.pictures
        ]
        return np.asarray(rows, dtype=np.int64).reshape(len(self), self.classes)

    @property
    def strata(self) -> NDArray[np.int64]:
        """(N,) the rarest class of each picture, by the number of pictures that it is in; C where
        there is none."""
        inside = self.counts > 0
        rare = np.where(inside, inside.sum(axis=0), len(self) + 1)
        return np.where(inside.any(axis=1), rare.argmin(axis=1), self.classes).astype(np.int64)

    def subset(self, rows: NDArray[np.intp]) -> Self:
        return type(self)(tuple(self.pictures[i] for i in rows), self.classes)

    def keys(self) -> tuple[str, ...]:
        return tuple(one.digest for one in self.pictures)

    def content(self) -> bytes:
        return "\n".join((*self.keys(), str(self.classes))).encode()


def boxes_of(split: Split) -> Boxes:
    return targets_of(split, Boxes)


@dataclass(frozen=True, eq=False)
class Detections:
    """What a method finds in one picture: `boxes` (D, 4) in its pixels, `scores` (D,) and
    `labels` (D,), a class of the data; any number of any class, in any order."""

    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, boxes: ArrayLike, scores: ArrayLike, labels: ArrayLike) -> Self:
        return cls(
            np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
            np.asarray(scores, dtype=np.float64).reshape(-1),
            np.asarray(labels, dtype=np.int64).reshape(-1),
        )


Detected = Sequence[Detections]


@dataclass(frozen=True)
class Detection:
    """Boxes with a class and a score. Outputs are the Detections of each picture."""

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = (
        "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100"
    )  # fmt: skip
    truth: ClassVar[tuple[str, ...]] = ("true",)
    rounded: ClassVar[tuple[str, ...]] = ()

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """See `outcomes_of`; nothing is calibrated."""
        return outcomes_of(output, boxes_of(split))

    def statistics(self, outcomes: Outcomes) -> Precisions:
        return Precisions(outcomes)

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        """AP with that of each class; sizes that no object of the test set has are left out."""
        true = outcomes.arrays["true"].sum(axis=0)
        by_class = Precisions(outcomes).of_classes(np.ones((1, outcomes.n)))
        details: dict[str, dict[str, Any]] = {name: {} for name in self.metrics}
        details["ap"]["ap"] = {
            name: round(float(by_class[c][0]), 6)
            for c, name in enumerate(splits.classes)
            if true[0, c]
        }
        if absent := int((true[0] == 0).sum()):
            details["ap"]["classes_not_in_test"] = absent
        for area, many in zip(AREAS[1:], true[1:].sum(axis=1), strict=True):
            if not many:
                del details[f"ap_{area}"]
        return details


ROWS = ("owner", "label", "score", "hit", "ignored")
"""Arrays of detections; `hit` and `ignored` hold a bit for each of IOUS, (K, 4) for AREAS."""


def outcomes_of(predicted: Detected, truth: Boxes) -> Outcomes:
    """What is kept of n pictures: of each of K detections, the best first within a picture, the
    picture `owner` (K,), `label` (K,), `score` (K,), bits of `hit` and `ignored` (K, 4) uint16;
    `true` (n, 4, C), the objects of each class and size that count.

    Raises ValueError where a detection is of no known class or its box is turned round, NotFinite
    where it is no number.
    """
    if len(predicted) != len(truth):
        raise ValueError(f"predictions must be of {len(truth)} pictures, not {len(predicted)}")
    bad = sum(
        not (np.isfinite(one.boxes).all() and np.isfinite(one.scores).all()) for one in predicted
    )
    if bad:
        raise NotFinite(f"{bad} of {len(truth)} test examples have predictions that are no number")
    for i, one in enumerate(predicted):
        if not len(one.boxes) == len(one.scores) == len(one.labels):
            raise ValueError(f"prediction {i} must be as many boxes as scores and labels")
        if ((one.labels < 0) | (one.labels >= truth.classes)).any():
            raise ValueError(f"prediction {i} must be of classes 0 to {truth.classes - 1}")
        if (one.boxes[:, 2:] < one.boxes[:, :2]).any():
            raise ValueError(f"prediction {i} must be boxes of left, top, right, bottom")
    owner = np.repeat(np.arange(len(truth), dtype=np.int32), [len(p.scores) for p in predicted])
    whole = Detections.of(*(
        np.concatenate([getattr(one, name) for one in predicted])
        for name in ("boxes", "scores", "labels")
    ))  # fmt: skip
    scores = whole.scores.astype(np.float32)
    order = np.lexsort((-scores, owner))
    order = order[places(owner[order], whole.labels[order]) < MOST]
    owner, scores, labels = owner[order], scores[order], whole.labels[order]
    hit, ignored, true = matched(truth, owner, whole.boxes[order], scores, labels)
    return Outcomes(len(truth), {
        "owner": owner, "label": labels.astype(np.int32), "score": scores, "hit": hit,
        "ignored": ignored, "true": true,
    })  # fmt: skip


class Precisions:
    """Statistics of a detection: every metric from ranked detections, class by class."""

    def __init__(self, outcomes: Outcomes) -> None:
        """Raises KeyError or ValueError where the arrays are no outcomes of a detection."""
        arrays = outcomes.arrays
        self._true = np.asarray(arrays["true"], dtype=np.float64)
        owner, label, score, hit, ignored = (np.asarray(arrays[name]) for name in ROWS)
        n, areas, classes = self._true.shape
        wide = (len(owner), len(AREAS))
        if (n, areas) != (outcomes.n, len(AREAS)) or not hit.shape == ignored.shape == wide:
            raise ValueError("arrays that do not fit each other")
        if (
            not label.shape == score.shape == owner.shape
            or not np.isin(label, range(classes)).all()
        ):
            raise ValueError("detections of classes that are not known")
        if not np.isfinite(score).all() or not (np.isfinite(self._true) & (self._true >= 0)).all():
            raise ValueError("scores or counts of objects that are no numbers")
        self._rows = [np.flatnonzero(label == c) for c in range(classes)]
        self._arrays = owner.astype(np.intp), score.astype(np.float64), hit, ignored

    def ranked(
        self, label: int, area: str = "all", ious: Sequence[int] = range(10)
    ) -> RankedDetections:
        """The detections of one class, judged at some of IOUS, over objects of one size."""
        rows, a, at = self._rows[label], AREAS.index(area), np.asarray(ious)[:, None]
        owner, score, hit, ignored = self._arrays
        hits, out = ((one[rows, a] >> at) & 1 == 1 for one in (hit, ignored))
        return RankedDetections(score[rows], owner[rows], hits, out, self._true[:, a, label])

    def of_classes(self, weights: Floats, area: str = "all") -> dict[int, Floats]:
        """Class -> (B,) its AP, of the classes with objects of that size; NaN where a resample has
        none."""
        return {
            c: self.ranked(c, area).average_precision(weights).mean(axis=0)
            for c in self._present(area)
        }

    def curve(self, name: str) -> Floats:
        """(101,) best precision at each of curves.RECALLS or a higher one, mean over the classes
        with objects, at the IoU of `name`, ap50 or ap75, which is its mean."""
        present = self._present("all")
        each = [self.ranked(c, ious=[IOU_OF[name]]).curve()[0] for c in present]
        return np.asarray(np.mean(each, axis=0)) if each else np.zeros(len(RECALLS))

    def _present(self, area: str) -> list[int]:
        true = self._true[:, AREAS.index(area)].sum(axis=0)
        return [int(c) for c in np.flatnonzero(true)]

    def __call__(self, weights: Floats, names: Sequence[str]) -> dict[str, Floats]:
        """(B, n) weights -> metric -> (B,), for each of `names`."""
        drawn = self._means(weights, names)
        for name, values in drawn.items():
            if nothing := np.isnan(values).sum():
                whole = self._means(np.ones((1, len(self._true))), [name])[name]
                values[np.isnan(values)] = np.nan_to_num(np.repeat(whole, nothing))
        return drawn

    def _means(self, weights: Floats, names: Sequence[str]) -> dict[str, Floats]:
        """As `__call__`; NaN where a resample has no object that counts."""
        out = {}
        if "ar100" in names:
            recalls = [self.ranked(c).recall(weights).mean(axis=0) for c in self._present("all")]
            out["ar100"] = _mean(recalls, len(weights))
        for area in AREAS[1:]:
            if (name := f"ap_{area}") in names:
                out[name] = _mean(list(self.of_classes(weights, area).values()), len(weights))
        asked = [name for name in ("ap", "ap50", "ap75") if name in names]
        if asked:
            # All ten hold the two.
            ious = range(10) if "ap" in asked else [IOU_OF[name] for name in asked]
            by_class = [
                self.ranked(c, ious=ious).average_precision(weights) for c in self._present("all")
            ]
            for name in asked:
                at = slice(None) if name == "ap" else [list(ious).index(IOU_OF[name])]
                out[name] = _mean([one[at].mean(axis=0) for one in by_class], len(weights))
        return {name: out[name] for name in names}

    def mean_of(self, name: str) -> None:
        """None: a curve is the mean of nothing."""


IOU_OF = {"ap50": 0, "ap75": 5}


def _mean(by_class: Sequence[Floats], resamples: int) -> Floats:
    """(B,) over the classes that a resample holds; NaN where it holds none."""
    if not by_class:
        return np.full(resamples, np.nan)
    table = np.stack(by_class)
    here = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(here, table, 0.0).sum(axis=0) / here.sum(axis=0))
