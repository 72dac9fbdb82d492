"""packaged/photo-mosaic: which of eight public photographs is each pixel from?

Made of scikit-image's example pictures: each mosaic is laid out in irregular regions, and each
region filled with a piece of one photograph. Pieces for train come from the left of a photograph,
those for test from the right. They are grey, turned and mirrored, with the mean and the contrast
made alike and then jittered, so that neither colour nor brightness gives the photograph away.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets.ids import array_ids
from zoobench.datasets.masks import MaskArray
from zoobench.datasets.packaged_photos import grey
from zoobench.datasets.readers import PixelArray
from zoobench.datasets.splits import Found
from zoobench.interfaces import Split
from zoobench.tasks.segmentation import Mask, Masks

PHOTOS = (
    "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png",
    "gravel.png", "ihc.png",
)  # fmt: skip
"""Those that are textured all over, and at least 300 pixels high."""
SIDE = 128
PARTS = {"train": (0.0, 0.55, 160), "test": (0.58, 1.0, 120)}
"""split -> (left edge, right edge, as shares of the width; mosaics)."""
REGIONS = (3, 6)
"""Least and most regions of a mosaic."""


def photo_mosaic(folder: Path) -> Found:
    """Always the same mosaics."""
    photos = [grey(folder / photo) for photo in PHOTOS]
    splits = {}
    for part, (left, right, count) in PARTS.items():
        halves = [p[:, int(p.shape[1] * left) : int(p.shape[1] * right)] for p in photos]
        rng = np.random.default_rng([*b"photo-mosaic", *part.encode()])
        made = [_mosaic(halves, rng) for _ in range(count)]
        pictures, masks = (np.stack(side) for side in zip(*made, strict=True))
        targets = Masks.of(MaskArray(masks), count, len(PHOTOS))
        splits[part] = Split(part, array_ids(pictures), targets, PixelArray(pictures))
    classes = tuple(Path(photo).stem for photo in PHOTOS)
    return Found(splits["train"], None, splits["test"], classes, "image", task="segmentation")


def _mosaic(
    photos: list[NDArray[np.float32]], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Mask]:
    """(SIDE, SIDE) grey values, and the photograph of each pixel."""
    regions = _regions(int(rng.integers(REGIONS[0], REGIONS[1] + 1)), rng)
    picture, mask = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE), dtype=np.uint8)
    drawn = rng.permutation(len(photos))
    for region, photo in enumerate(drawn[: regions.max() + 1]):
        inside = regions == region
        picture[inside] = piece(photos[photo], rng, SIDE)[inside]
        mask[inside] = photo
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), mask


def _regions(many: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """(SIDE, SIDE) the nearest of `many` random points, distances bent by a few waves."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    for _ in range(3):
        fy, fx, phase = rng.uniform(-2, 2), rng.uniform(-2, 2), rng.uniform(0, 2 * np.pi)
        wave = 0.05 * np.sin(2 * np.pi * (fy * y + fx * x) + phase)
        y, x = y + wave, x + wave[::-1]
    points = rng.uniform(0.05, 0.95, (many, 2))
    apart = (y[None] - points[:, 0, None, None]) ** 2 + (x[None] - points[:, 1, None, None]) ** 2
    return np.asarray(apart.argmin(axis=0))


def piece(photo: NDArray[np.float32], rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    """(side, side) from anywhere in (H, W) grey values, turned and mirrored, even in contrast."""
    top, left = (int(rng.integers(size - side + 1)) for size in photo.shape)
    cut = photo[top : top + side, left : left + side].astype(np.float64)
    cut = np.rot90(cut, int(rng.integers(4)))
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    contrast, brightness = 40 * rng.uniform(0.7, 1.3), 128 + rng.normal(0, 15)
    even = (cut - cut.mean()) / (cut.std() + 1e-3)
    return np.asarray(even * contrast + brightness)
