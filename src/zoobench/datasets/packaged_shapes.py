"""packaged/photo-shapes: which of five public photographs is the shape in this picture cut from?

Made as photo-patches is, of scikit-image's example pictures, with one ellipse or rectangle of a
photograph's texture on a piece of another one. Where the shape lies is where the evidence of the
class is: the pointing game asks whether an explanation finds it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets.ids import array_ids
from zoobench.datasets.masks import MaskArray
from zoobench.datasets.packaged_mosaic import piece
from zoobench.datasets.packaged_patches import CLASSES, GROUNDS, PARTS, SIDE, inside
from zoobench.datasets.packaged_photos import grey
from zoobench.datasets.readers import PixelArray
from zoobench.datasets.splits import Found
from zoobench.interfaces import Split
from zoobench.tasks.classification import Labels

COUNTS = {"train": 60, "test": 40}
"""Pictures of a class."""
SIDES = (40, 76)
"""Least and most pixels that a shape is wide or high."""


def photo_shapes(folder: Path) -> Found:
    """Always the same pictures, class by class."""
    photos = {name: grey(folder / name) for name in (*CLASSES, *GROUNDS)}
    splits = {}
    for part, (left, right, _) in PARTS.items():
        halves = {
            name: photo[:, int(photo.shape[1] * left) : int(photo.shape[1] * right)]
            for name, photo in photos.items()
        }
        rng = np.random.default_rng([*b"photo-shapes", *part.encode()])
        labels = np.repeat(np.arange(len(CLASSES), dtype=np.int64), COUNTS[part])
        made = [_picture(halves, CLASSES[label], rng) for label in labels]
        pictures, masks = (np.stack(side) for side in zip(*made, strict=True))
        splits[part] = Split(
            part, array_ids(pictures), Labels(labels), PixelArray(pictures),
            evidence=MaskArray(masks),
        )  # fmt: skip
    classes = tuple(Path(name).stem for name in CLASSES)
    return Found(splits["train"], None, splits["test"], classes, "image")


def _picture(
    photos: dict[str, NDArray[np.float32]], name: str, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(SIDE, SIDE) grey values, and 1 where the shape of the photograph `name` is."""
    ground = piece(photos[str(rng.choice(GROUNDS))], rng, SIDE)
    height, width = (int(side) for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
    top, left = (int(rng.integers(SIDE - side + 1)) for side in (height, width))
    shape = inside(top, left, height, width, round_=bool(rng.random() < 0.5))
    picture = np.where(shape, piece(photos[name], rng, SIDE), ground)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), shape.astype(np.uint8)
