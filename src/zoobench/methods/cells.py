"""Masks on the grid of a network's maps, and back.

A picture lies in a frame (`Placement`), and the frame is cut into cells of STRIDE pixels, the
same for every model. The cross-entropy of logits that are constant on a cell, summed over its
pixels, is that of the cell with its masses, the numbers of its pixels of each class: so a
solver of few rows solves the problem of all pixels exactly (PROTOCOL section 2).
C classes, grid (h, w).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoobench.features.cells import STRIDE, grid_of
from zoobench.interfaces import Split
from zoobench.tasks.segmentation import IGNORED, Mask, masks_of
from zoobench.views import Placement

if TYPE_CHECKING:
    import torch

MOST_CELLS = 40_000
"""Cells of a split that a head is fitted to."""
BLOCK = 2**24
"""Scores that are held at once while a mask is painted (float32: 64 MB)."""


def masses(mask: Mask, where: Placement, classes: int) -> NDArray[np.int64]:
    """(h, w, C) pixels of each class in each cell; a pixel is where its centre lies."""
    (h, w), down, across = grid_of(where.frame), *_places(where)
    rows, columns = (down / STRIDE).astype(np.int64), (across / STRIDE).astype(np.int64)
    cell = rows[:, None] * w + columns
    size = IGNORED + 1
    counts = np.bincount((cell * size + mask).ravel(), minlength=h * w * size)
    return counts.reshape(h, w, size)[:, :, :classes]


def painted(
    scores: torch.Tensor, where: Placement, strides: tuple[float, float] = (STRIDE, STRIDE)
) -> Mask:
    """The best class of each of the picture's pixels, from scores (h, w, C) of its cells: they
    are bilinear between the centres of cells, which lie `strides` pixels of the frame apart.
    Equal scores give the lower class."""
    import torch

    h, w, classes = scores.shape
    down, across = (
        torch.from_numpy(_between(places / stride, cells, side / stride)).to(scores)
        for places, cells, side, stride in zip(
            _places(where), (h, w), where.content, strides, strict=True
        )
    )
    height, width = where.picture
    mask = np.empty((height, width), dtype=np.uint8)
    beside = torch.einsum("xw,hwc->hxc", across, scores)
    step = max(1, BLOCK // (width * classes))
    for top in range(0, height, step):
        block = torch.einsum("yh,hxc->yxc", down[top : top + step], beside)
        mask[top : top + step] = block.argmax(dim=2).to(torch.uint8).cpu().numpy()
    return mask


def _places(where: Placement) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the centres of the picture's rows and columns lie in the frame, in its pixels."""
    sides = zip(where.picture, where.scale, strict=True)
    down, across = (np.asarray((np.arange(side) + 0.5) * scale) for side, scale in sides)
    return down, across


def _between(places: NDArray[np.float64], cells: int, content: float) -> NDArray[np.float32]:
    """(n, cells) weights of the two cells that each place, in cells, lies between; beyond the outer
    centres, and beyond the last of the `content` cells that hold the picture, the outer ones go
    on."""
    last = min(cells - 1, int(np.ceil(content)) - 1)
    at = np.clip(places - 0.5, 0, last)
    low = np.minimum(at.astype(np.int64), max(last - 1, 0))
    weights = np.zeros((len(places), cells), dtype=np.float32)
    rows = np.arange(len(places))
    weights[rows, np.minimum(low + 1, last)] = at - low
    weights[rows, low] += 1 - (at - low)
    return weights


@dataclass(frozen=True)
class CellSample:
    """R cells of a split, which is N h w in all: their `rows`, ascending, and (R, C) masses."""

    rows: NDArray[np.intp]
    mass: NDArray[np.float32]


def sampled(split: Split, places: Sequence[Placement], most: int = MOST_CELLS) -> CellSample:
    """The cells that a head is fitted to: of those that hold pixels at most about `most`, by a
    hash of (picture, cell), and for each class that they lack the cell that has most of it."""
    masks = masks_of(split)
    h, w = grid_of(places[0].frame)
    each = h * w
    order = np.fromiter(_hashes(split, each), dtype=np.uint64, count=len(split) * each)
    bound = order.max() if len(order) <= most else np.partition(order, most - 1)[most - 1]
    kept: dict[int, NDArray[np.int64]] = {}
    fullest = np.zeros(masks.classes, dtype=np.int64)
    best: dict[int, tuple[int, NDArray[np.int64]]] = {}
    for i, where in enumerate(places):
        mass = masses(masks.read(i), where, masks.classes).reshape(each, masks.classes)
        chosen = (mass.sum(axis=1) > 0) & (order[i * each : (i + 1) * each] <= bound)
        kept.update((i * each + int(cell), mass[cell]) for cell in np.flatnonzero(chosen))
        for c in np.flatnonzero(mass.max(axis=0) > fullest):
            cell = int(mass[:, c].argmax())
            fullest[c], best[int(c)] = mass[cell, c], (i * each + cell, mass[cell])
    total = np.sum(list(kept.values()), axis=0) if kept else fullest * 0
    kept.update(best[c] for c in best if not total[c])
    rows = sorted(kept)
    return CellSample(
        np.asarray(rows, np.intp), np.stack([kept[r] for r in rows]).astype(np.float32)
    )


def _hashes(split: Split, each: int) -> Iterator[int]:
    """A number for each cell of each picture, the same wherever the picture stands."""
    for one in split.ids:
        seed = int.from_bytes(hashlib.sha256(f"cells:1:{one}".encode()).digest()[:8], "big")
        yield from np.random.default_rng(seed).integers(0, 2**63, each, dtype=np.uint64)


def cell_miou(best: torch.Tensor, mass: torch.Tensor) -> float:
    """mIoU of a prediction that is one class on a cell: `best` (R,), `mass` (R, C)."""
    import torch

    from zoobench.tasks.segmentation import mean_iou

    classes = mass.shape[1]
    chosen = torch.nn.functional.one_hot(best, classes).to(mass)
    sums = ((chosen * mass).sum(dim=0), (chosen * mass.sum(dim=1, keepdim=True)).sum(dim=0))
    counted = [part.double().cpu().numpy()[None] for part in (*sums, mass.sum(dim=0))]
    return float(mean_iou(*counted)[0])
