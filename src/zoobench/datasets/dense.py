"""What a folder and a hub set of masks or boxes have in common: what train must hold, and notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoobench.errors import BadData
from zoobench.interfaces import Split
from zoobench.schema import Ref
from zoobench.tasks.detection import Boxes, boxes_of
from zoobench.tasks.segmentation import IGNORED, masks_of

TASKS = ("segmentation", "detection")


def check(train: Split, classes: Sequence[str], ref: Ref) -> None:
    """Raises BadData where the masks of `train` hold fewer than two of the classes.

    Pictures may all have the same mask, or the same boxes; that there are boxes is checked in
    each split (splits.bounded).
    """
    here = _learned(train, classes)
    if not isinstance(train.targets, Boxes) and len(here) < 2:
        what = f"only the class {here[0]!r}" if here else "no class"
        raise BadData(
            f"{ref.id}: the masks of train hold {what}. {IGNORED} is no class, but a pixel that is "
            "ignored: where it is meant for one, write another number"
        )


def notes(train: Split, classes: Sequence[str], *others: Split) -> dict[str, Any]:
    """The classes that `train` doesn't hold, and how many pictures of all splits hold no object."""
    made: dict[str, Any] = {}
    here = _learned(train, classes)
    if absent := [name for name in classes if name not in here]:
        made["classes_not_in_train"] = absent
    if isinstance(train.targets, Boxes):
        pictures = (one for split in (train, *others) for one in boxes_of(split).pictures)
        if empty := sum(not one.labels.size for one in pictures):
            made["pictures_without_objects"] = empty
    return made


def _learned(train: Split, classes: Sequence[str]) -> list[str]:
    """The classes that `train` holds."""
    targets = boxes_of(train) if isinstance(train.targets, Boxes) else masks_of(train)
    return [c for c, many in zip(classes, targets.counts.sum(axis=0), strict=True) if many]
