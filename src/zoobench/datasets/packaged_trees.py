"""packaged/tree-crowns: where are the crowns of trees, seen from the air?

Four scenes of the National Ecological Observatory Network ship with deepforest (Weinstein et al.
2019), with a box for each crown; they are cut into tiles. The largest scene is for training, the
other three are the test set, so an interval speaks of tiles of these scenes, not of other forests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets import boxfiles, images
from zoobench.datasets.ids import array_ids
from zoobench.datasets.readers import PixelArray
from zoobench.datasets.splits import Found
from zoobench.interfaces import Split
from zoobench.tasks.detection import Annotation, Boxes

SCENES = {
    "train": ("2019_YELL_2_528000_4978000_image_crop2",),
    "test": ("2019_YELL_2_541000_4977000_image_crop", "OSBS_029", "SOAP_061"),
}
SIDE = 200
INSIDE = 0.5
"""Share of a crown that a tile holds at least: of less it is judged by nobody."""


def tree_crowns(folder: Path) -> Found:
    """Always the same tiles, row by row."""
    splits = {}
    for part, scenes in SCENES.items():
        tiles = [tile for scene in scenes for tile in _tiles(folder, scene)]
        pictures = np.stack([pixels for pixels, _ in tiles])
        boxes = Boxes(tuple(one for _, one in tiles), 1)
        splits[part] = Split(part, array_ids(pictures), boxes, PixelArray(pictures))
    return Found(splits["train"], None, splits["test"], ("tree",), "image", task="detection")


def _tiles(folder: Path, scene: str) -> list[tuple[NDArray[np.uint8], Annotation]]:
    """Whole tiles of a scene, and the crowns in them."""
    pixels = np.asarray(images.decode(folder / f"{scene}.png"))
    read = boxfiles.voc_picture(str(folder / f"{scene}.xml"), str(folder / f"{scene}.png"), "")
    crowns = np.array(read.boxes)
    whole = (crowns[:, 2:] - crowns[:, :2]).prod(axis=1)
    found = []
    for top in range(0, pixels.shape[0] - SIDE + 1, SIDE):
        for left in range(0, pixels.shape[1] - SIDE + 1, SIDE):
            here = (crowns - (left, top, left, top)).clip(0, SIDE)
            area = (here[:, 2:] - here[:, :2]).prod(axis=1)
            rows = area > 0
            partly = area[rows] < INSIDE * whole[rows]
            one = Annotation.of((SIDE, SIDE), here[rows], np.zeros(rows.sum(), np.int64), partly)
            found.append((pixels[top : top + SIDE, left : left + SIDE], one))
    return found
