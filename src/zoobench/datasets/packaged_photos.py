"""packaged/photo-crops: which of twelve public photographs is this small grey crop from?

Derived from scikit-image's example pictures, and no recognition of objects: a crop shows a
texture or a part. Train crops lie in the left of a photograph, test crops in the right. Crops
are grey, turned and mirrored, with the mean and the contrast made alike and then jittered, so
that neither colour nor brightness nor a place that was seen gives the photograph away.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets import images
from zoobench.datasets.readers import PixelArray
from zoobench.datasets.splits import Found
from zoobench.interfaces import Split
from zoobench.tasks.classification import Labels

PHOTOS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
"""Those whose licence scikit-image states: CC0, or in the public domain."""
SIDE = 64
PARTS = {"train": (0.0, 0.55, 100), "test": (0.58, 1.0, 60)}
"""split -> (left edge, right edge, as shares of the width; crops a photograph)."""


def photo_crops(folder: Path) -> Found:
    """Always the same crops, in the order of PHOTOS. Crops that share most of a 64-pixel tile of
    a photograph are one unit."""
    splits = {}
    for part, (left, right, count) in PARTS.items():
        pictures, names, tiles = [], [], []
        for photo in PHOTOS:
            whole = grey(folder / photo)
            width = whole.shape[1]
            seen = whole[:, int(width * left) : int(width * right)]
            rng = np.random.default_rng([*photo.encode(), *part.encode()])
            for number in range(count):
                crop, tile = _crop(seen, rng)
                pictures.append(crop)
                names.append(f"{photo} {part} {number}")
                tiles.append(f"{photo} {part} {tile}")
        labels = np.repeat(np.arange(len(PHOTOS), dtype=np.int64), count)
        read = PixelArray(np.stack(pictures))
        splits[part] = Split(part, tuple(names), Labels(labels), read, groups=tuple(tiles))
    classes = tuple(Path(photo).stem for photo in PHOTOS)
    return Found(splits["train"], None, splits["test"], classes, "image")


def grey(path: Path) -> NDArray[np.float32]:
    """(H, W) grey values of a photograph."""
    return np.asarray(images.decode(path).convert("L"), dtype=np.float32)


def _crop(seen: NDArray[np.float32], rng: np.random.Generator) -> tuple[NDArray[np.uint8], str]:
    """(SIDE, SIDE) uint8 from anywhere in (H, W) grey values, and the tile that it lies on."""
    y, x = (int(rng.integers(size - SIDE + 1)) for size in seen.shape)
    crop = np.rot90(seen[y : y + SIDE, x : x + SIDE], int(rng.integers(4)))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    contrast, brightness = 40 * rng.uniform(0.7, 1.3), 128 + rng.normal(0, 15)
    even = (crop - crop.mean()) / (crop.std() + 1e-3)
    tile = f"{(y + SIDE // 2) // SIDE},{(x + SIDE // 2) // SIDE}"
    return np.clip(np.rint(even * contrast + brightness), 0, 255).astype(np.uint8), tile
