"""packaged/photo-patches: where are shapes cut from five public photographs, and from which?

Made of scikit-image's example pictures: ellipses and rectangles of one photograph's texture lie on
a piece of another one, which is none of the five. Their boxes are tight; some pictures have none.
Pieces for train come from the left of a photograph, those for test from the right; all are grey,
turned and mirrored, with the mean and the contrast made alike and then jittered, so that neither
colour nor brightness gives a shape or its class away, but texture does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets.ids import array_ids
from zoobench.datasets.packaged_mosaic import piece
from zoobench.datasets.packaged_photos import grey
from zoobench.datasets.readers import PixelArray
from zoobench.datasets.splits import Found
from zoobench.interfaces import Split
from zoobench.tasks.detection import Annotation, Boxes

CLASSES = ("brick.png", "coins.png", "grass.png", "gravel.png", "ihc.png")
"""Textured all over."""
GROUNDS = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg")
SIDE = 160
PARTS = {"train": (0.0, 0.55, 200), "test": (0.58, 1.0, 150)}
"""split -> (left edge, right edge, as shares of the width; pictures)."""
SHAPES = 4
"""Most shapes of a picture."""
SIDES = (26, 76)
"""Least and most pixels that a shape is wide or high."""


def photo_patches(folder: Path) -> Found:
    """Always the same pictures."""
    photos = {name: grey(folder / name) for name in (*CLASSES, *GROUNDS)}
    splits = {}
    for part, (left, right, count) in PARTS.items():
        halves = {
            name: photo[:, int(photo.shape[1] * left) : int(photo.shape[1] * right)]
            for name, photo in photos.items()
        }
        rng = np.random.default_rng([*b"photo-patches", *part.encode()])
        pictures, boxes = zip(*(_scene(halves, rng) for _ in range(count)), strict=True)
        whole = np.stack(pictures)
        targets = Boxes(boxes, len(CLASSES))
        splits[part] = Split(part, array_ids(whole), targets, PixelArray(whole))
    classes = tuple(Path(name).stem for name in CLASSES)
    return Found(splits["train"], None, splits["test"], classes, "image", task="detection")


def _scene(
    photos: dict[str, NDArray[np.float32]], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Annotation]:
    """(SIDE, SIDE) grey values, and the shapes that lie there side by side."""
    picture = piece(photos[str(rng.choice(GROUNDS))], rng, SIDE)
    taken = np.zeros((SIDE, SIDE), dtype=bool)
    boxes, labels = [], []
    for _ in range(int(rng.integers(0, SHAPES + 1))):
        height, width = rng.integers(SIDES[0], SIDES[1] + 1, 2)
        top, left = (int(rng.integers(SIDE - side + 1)) for side in (height, width))
        box = (slice(top, top + height), slice(left, left + width))
        label = int(rng.integers(len(CLASSES)))
        texture, round_ = piece(photos[CLASSES[label]], rng, SIDE), rng.random() < 0.5
        if taken[box].any():
            continue
        shape = inside(top, left, int(height), int(width), round_=round_)
        picture[shape], taken[box] = texture[shape], True
        boxes.append((left, top, left + width, top + height))
        labels.append(label)
    pixels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return pixels, Annotation.of((SIDE, SIDE), boxes, labels)


def inside(top: int, left: int, height: int, width: int, *, round_: bool) -> NDArray[np.bool_]:
    """(SIDE, SIDE) whether a pixel is of the rectangle, or of the ellipse in it."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    down, across = (y + 0.5 - top) / height - 0.5, (x + 0.5 - left) / width - 0.5
    box = (abs(down) < 0.5) & (abs(across) < 0.5)
    return np.asarray(box & (down**2 + across**2 <= 0.25) if round_ else box)
