"""Semantic segmentation: one class of C for each pixel (PROTOCOL sections 2 and 3).

n pictures, C classes. A mask is (H, W) uint8 of its picture's own size, a class in each pixel or
IGNORED, which is judged by nobody. All metrics follow from numbers of pixels a class and picture,
summed over the test set: the IoU of a class is |truth and prediction| / |truth or prediction|,
and mIoU its mean over the classes that occur in the truth (Everingham et al. 2010). In a resample
a class without truth is left out, for every model alike.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.ratios import Ratio, Ratios, Sums
from zoobench.tasks.targets import targets_of

Mask = NDArray[np.uint8]

IGNORED = 255
"""A pixel of no class: in a truth it is judged by nobody, in a prediction it is wrong."""
MOST_CLASSES = 255
BACKGROUND = ("background", "bg", "unlabelled", "unlabeled")
"""Names of a first class that is what no other class is: mIoU is given without it, too."""


@dataclass(frozen=True)
class Seen:
    """What is known of a mask: (height, width), its pixels of each class, a digest of it."""

    size: tuple[int, int]
    counts: tuple[int, ...]
    digest: str


def seen(mask: Mask, classes: int) -> Seen:
    """Raises ValueError for a value that is none of the classes, and not IGNORED."""
    found = np.bincount(mask.ravel(), minlength=IGNORED + 1)
    wrong = np.flatnonzero(found[classes:IGNORED])
    if len(wrong):
        known = f"0 to {classes - 1} are known, and {IGNORED} is ignored"
        raise ValueError(f"it holds the class {classes + wrong[0]}; {known}")
    hasher = hashlib.sha256(repr(mask.shape).encode())
    hasher.update(np.ascontiguousarray(mask).data)
    height, width = mask.shape
    return Seen((height, width), tuple(found[:classes].tolist()), hasher.hexdigest()[:32])


@dataclass(frozen=True, eq=False)
class Masks:
    """Targets of a segmentation, read when they are asked for.

    `read(i)` gives mask i, for several threads at once; `seen` is what each is known by.
    """

    read: Callable[[int], Mask]
    seen: tuple[Seen, ...]
    classes: int

    @classmethod
    def of(cls, read: Callable[[int], Mask], n: int, classes: int) -> Masks:
        """Reads each of `n` masks once."""
        return cls(read, tuple(seen(read(i), classes) for i in range(n)), classes)

    def __len__(self) -> int:
        return len(self.seen)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(N, C) pixels of each class."""
        rows = [one.counts for one in self.seen]
        return np.asarray(rows, dtype=np.int64).reshape(len(self), self.classes)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each mask, and of its picture."""
        return [one.size for one in self.seen]

    @property
    def strata(self) -> NDArray[np.int64]:
        """(N,) the rarest class of each mask, by the number of masks that it is in."""
        inside = self.counts > 0
        rare = np.where(inside, inside.sum(axis=0), len(self) + 1)
        return np.asarray(rare.argmin(axis=1), dtype=np.int64)

    def subset(self, rows: NDArray[np.intp]) -> Self:
        picked = np.asarray(rows, dtype=np.intp)
        some = tuple(self.seen[i] for i in picked)
        return type(self)(_Rows(self.read, picked), some, self.classes)

    def keys(self) -> tuple[str, ...]:
        return tuple(one.digest for one in self.seen)

    def content(self) -> bytes:
        return "\n".join((*self.keys(), str(self.classes))).encode()


@dataclass(frozen=True)
class _Rows:
    read: Callable[[int], Mask]
    rows: NDArray[np.intp]

    def __call__(self, i: int) -> Mask:
        return self.read(int(self.rows[i]))


def masks_of(split: Split) -> Masks:
    return targets_of(split, Masks)


class LabelMaps(Sequence[Mask]):
    """What a method predicts: a mask for each picture, of its own size. They are kept packed."""

    def __init__(self, masks: Iterable[Mask]) -> None:
        self._packed = [(m.shape, zlib.compress(np.ascontiguousarray(m).data, 1)) for m in masks]

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, i: int) -> Mask: ...
    @overload
    def __getitem__(self, i: slice) -> LabelMaps: ...
    def __getitem__(self, i: int | slice) -> Mask | LabelMaps:
        if isinstance(i, slice):
            return LabelMaps(self[k] for k in range(*i.indices(len(self))))
        shape, packed = self._packed[i]
        return np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(shape)

    def __iter__(self) -> Iterator[Mask]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class Segmentation:
    """A class for each pixel. Outputs are a mask for each picture, as large as its truth."""

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = (
        "miou", "miou_foreground", "pixel_accuracy", "picture_miou",
    )  # fmt: skip
    truth: ClassVar[tuple[str, ...]] = ("true",)
    rounded: ClassVar[tuple[str, ...]] = ()

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """See `outcomes_of`; nothing is calibrated."""
        masks = masks_of(split)
        return outcomes_of(output, masks.read, len(masks), masks.classes)

    def statistics(self, outcomes: Outcomes) -> Ratios:
        return statistics(outcomes)

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        """mIoU with the IoU of each class, without the background where the first class is one."""
        true = outcomes.arrays["true"].sum(axis=0)
        iou = intersection_over_union(*(outcomes.arrays[a].sum(axis=0) for a in ARRAYS))
        by_class = {
            name: round(float(value), 6)
            for name, value, many in zip(splits.classes, iou, true, strict=True)
            if many
        }
        details: dict[str, dict[str, Any]] = {name: {} for name in self.metrics}
        details["miou"]["iou"] = by_class
        if absent := int((true == 0).sum()):
            details["miou"]["classes_not_in_test"] = absent
        if splits.classes[0].casefold() not in BACKGROUND or not true[1:].any():
            del details["miou_foreground"]
        return details


ARRAYS = ("intersection", "predicted", "true")


def outcomes_of(
    predicted: Sequence[ArrayLike], truth: Callable[[int], Mask], n: int, classes: int
) -> Outcomes:
    """What is kept of n pictures: (n, C) int32 pixels `true`, `predicted`, and in their
    `intersection`, of the pixels that are not ignored.

    Raises ValueError where a prediction is not of its truth's size, or of a class that is
    neither known nor IGNORED; NotFinite where it is no number.
    """
    if len(predicted) != n:
        raise ValueError(f"predictions must be {n} masks, not {len(predicted)}")
    arrays = {name: np.zeros((n, classes), dtype=np.int32) for name in ARRAYS}
    bad = 0
    for i, said in enumerate(map(np.asarray, predicted)):
        mask = truth(i)
        if said.shape != mask.shape:
            raise ValueError(f"prediction {i} must be {mask.shape} pixels, not {said.shape}")
        if said.dtype.kind == "f" and not np.isfinite(said).all():
            bad += 1
            continue
        if ((said >= classes) & (said != IGNORED) | (said < 0)).any():
            raise ValueError(f"prediction {i} must lie in 0 to {classes - 1}, or be {IGNORED}")
        valid = mask != IGNORED
        held, named = mask[valid], said[valid].astype(np.uint8)
        for name, pixels in zip(ARRAYS, (held[held == named], named, held), strict=True):
            arrays[name][i] = np.bincount(pixels, minlength=IGNORED + 1)[:classes]
    if bad:
        raise NotFinite(f"{bad} of {n} test examples have predictions that are no number")
    return Outcomes(n, arrays)


def intersection_over_union(intersection: Any, predicted: Any, true: Any) -> Floats:
    """IoU from pixels, 0 where there are neither truth nor prediction."""
    union = np.asarray(true, dtype=np.float64) + predicted - intersection
    return np.asarray(intersection / np.maximum(union, 1e-300))


def mean_iou(intersection: Any, predicted: Any, true: Any) -> Floats:
    """(B,) from (B, C): the mean over the classes that occur in the truth, 0 where none does."""
    here = np.asarray(true) > 0
    iou = np.where(here, intersection_over_union(intersection, predicted, true), 0.0)
    return np.asarray(iou.sum(axis=1) / np.maximum(here.sum(axis=1), 1))


def statistics(outcomes: Outcomes) -> Ratios:
    """Every metric as a function of the pictures' weights."""
    kept = {name: outcomes.arrays[name] for name in ARRAYS}

    def block(name: str) -> Callable[[], Floats]:
        return lambda: kept[name].astype(np.float64)

    return Ratios(
        {"picture_miou": mean_iou(*kept.values())}, {name: block(name) for name in ARRAYS}, RATIOS
    )


def _miou(sums: Sums, total: Floats) -> Floats:
    return mean_iou(*(sums[name] for name in ARRAYS))


def _foreground(sums: Sums, total: Floats) -> Floats:
    return mean_iou(*(sums[name][:, 1:] for name in ARRAYS))


def _pixel_accuracy(sums: Sums, total: Floats) -> Floats:
    return np.asarray(sums["intersection"].sum(axis=1) / np.maximum(sums["true"].sum(axis=1), 1))


RATIOS = {
    "miou": Ratio(ARRAYS, _miou),
    "miou_foreground": Ratio(ARRAYS, _foreground),
    "pixel_accuracy": Ratio(("intersection", "true"), _pixel_accuracy),
}
