"""Object detection: boxes with a class and a score (PROTOCOL section 2).

n pictures, C classes. A box is (left, top, right, bottom) in pixels of its own picture, float64,
right and bottom beyond the last pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.interfaces import Split
from zoobench.statistics.bootstrap import Floats


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
    """The boxes of a split that asks for them. Raises TypeError for another task's."""
    if not isinstance(split.targets, Boxes):
        raise TypeError(f"{split.name} has {type(split.targets).__name__}, not boxes")
    return split.targets


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
Detector = Callable[[Split], Detected]
