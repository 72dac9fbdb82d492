"""torchvision's data sets of masks and boxes, from the files that it lists.

A download of torchvision's is read as a folder of a user's would be: by the same readers, with the
same checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoobench.datasets import boxed, boxfiles, segmented
from zoobench.datasets.splits import Found
from zoobench.schema import Ref
from zoobench.tasks.segmentation import IGNORED

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""Classes of Pascal VOC, in the order of their numbers in masks, from 1."""
CLASSES: Mapping[str, tuple[str, ...]] = {
    "VOCSegmentation": ("background", *VOC),
    "SBDataset": ("background", *VOC),
    "OxfordIIITPet": ("background", "pet"),
    "VOCDetection": VOC,
}
VALUES: Mapping[str, tuple[int, ...]] = {"OxfordIIITPet": (IGNORED, 1, 0, IGNORED)}
"""Type -> the class of each number: of a trimap 1 is pet, 2 background, and 3 between the two."""


def found(kind: str, sets: Mapping[str, Any], root: str, ref: Ref) -> Found:
    """The official splits of data sets of torchvision's type `kind`, by their split's name.

    Raises BadData as of folders: where more than a tenth of it cannot be used.
    """
    classes = CLASSES[kind]
    examples = [
        (split, str(picture), str(target))
        for split, dataset in sets.items()
        for picture, target in zip(_pictures(dataset), _targets(dataset), strict=True)
    ]
    if kind == "VOCDetection":
        annotated = tuple(boxfiles.voc_picture(xml, path, split) for split, path, xml in examples)
        boxes = boxed.BoxedPictures(root, classes, annotated)
        return boxed.found(boxes, ref, verify=True)[0]
    pairs = segmented.MaskedPictures(root, classes, tuple(examples), values=VALUES.get(kind, ()))
    return segmented.found(pairs, ref, verify=True)[0]


def _pictures(dataset: Any) -> Any:
    return dataset.images if hasattr(dataset, "images") else dataset._images


def _targets(dataset: Any) -> Any:
    """Files of masks or of XML."""
    for name in ("masks", "targets", "_segs"):
        if hasattr(dataset, name):
            return getattr(dataset, name)
    raise TypeError(f"{type(dataset).__name__} lists no masks and no boxes")
