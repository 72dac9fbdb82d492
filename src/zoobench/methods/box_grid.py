"""Boxes on a grid of two levels: which cell answers for which object, and back.

A picture lies in a frame (`Placement`). A cell says how likely each class is, and how far the four
sides of a box are from its centre. An object is asked of one level, by its size in the frame, and
there of every cell whose centre lies inside; where objects overlap the smaller one is asked (as in
FCOS, Tian et al. 2019, arXiv:1904.01355).
P cells of both levels, K objects, D detections, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoobench.features.cells import STRIDE, grid_of
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.detection import (
    Annotation,
    Boxes,
    Detected,
    Detections,
    Precisions,
    outcomes_of,
)
from zoobench.views import Placement

if TYPE_CHECKING:
    import torch

STRIDES = (STRIDE, 2 * STRIDE)
BORDER = 64.0
"""Objects up to this many pixels of the frame (the root of the area) belong to the fine level."""
NOBODY, CROWD = -1, -2
"""What a cell answers for that no object has, and one of a crowd, of which nothing is asked."""
SCORE, NMS, MOST = 0.001, 0.6, 100
"""Least score, greatest IoU of two detections of one class, most detections of a picture."""
CANDIDATES = 1000
"""Best guesses of a picture that NMS goes through."""


@dataclass(frozen=True)
class BoxGrid:
    """The cells of a frame of (height, width) pixels, the fine level's first, row by row."""

    frame: tuple[int, int]

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each level; the last ones may reach beyond the frame."""
        h, w = grid_of(self.frame)
        return (h, w), (-(-h // 2), -(-w // 2))

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        """(P,) 0 or 1."""
        return np.repeat([0, 1], [h * w for h, w in self.shapes])

    @cached_property
    def centres(self) -> Floats:
        """(P, 2): across and down, in pixels of the frame."""
        return np.concatenate([
            (np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=2).reshape(-1, 2) + 0.5) * s
            for (h, w), s in zip(self.shapes, STRIDES, strict=True)
        ])  # fmt: skip

    @cached_property
    def strides(self) -> Floats:
        """(P,) pixels that a cell is wide."""
        return np.asarray(STRIDES, dtype=np.float64)[self.levels]

    def assigned(self, truth: Annotation, where: Placement) -> NDArray[np.int64]:
        """(P,) the number of the object that each cell answers for, NOBODY, or CROWD."""
        found = np.full(len(self.levels), NOBODY, dtype=np.int64)
        if not len(truth.boxes):
            return found
        left, top, right, bottom = framed(truth.boxes, where).T
        x, y = self.centres.T[:, :, None]
        inside = (left < x) & (x < right) & (top < y) & (y < bottom)
        area = (right - left) * (bottom - top)
        asked = inside & ((area > BORDER**2) == self.levels[:, None]) & ~truth.crowd
        found[(inside & truth.crowd).any(axis=1)] = CROWD
        smallest = np.where(asked, area, np.inf).argmin(axis=1)
        here = asked.any(axis=1)
        found[here] = smallest[here]
        return found


def framed(boxes: Floats, where: Placement) -> Floats:
    """Boxes of the picture in pixels of the frame."""
    down, across = where.scale
    return np.asarray(boxes * [across, down, across, down])


def detections(scores: torch.Tensor, boxes: torch.Tensor, where: Placement) -> Detections:
    """Of scores (P, C) and the boxes (P, 4) of cells in the frame: those that stay after NMS, in
    pixels of the picture."""
    import torch
    from torchvision.ops import batched_nms, clip_boxes_to_image

    boxes = clip_boxes_to_image(boxes, where.content)
    cells, labels = torch.nonzero((scores >= SCORE) & solid(boxes)[:, None], as_tuple=True)
    order = scores[cells, labels].argsort(descending=True, stable=True)[:CANDIDATES]
    cells, labels = cells[order], labels[order]
    values = scores[cells, labels].float()
    kept = batched_nms(boxes[cells].float(), values, labels, NMS)[:MOST]
    return pictured(boxes[cells[kept]], values[kept], labels[kept], where)


def pictured(
    boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, where: Placement
) -> Detections:
    """Detections of the frame in pixels of the picture, clipped to it; what lies in the padding
    alone is left out."""
    from torchvision.ops import clip_boxes_to_image

    boxes = clip_boxes_to_image(boxes, where.content)
    kept = solid(boxes)
    (down, across), (height, width) = where.scale, where.picture
    corners = boxes[kept].double().cpu().numpy() / [across, down, across, down]
    # Dividing may round a side to beyond the picture's.
    corners = np.minimum(corners, [width, height, width, height])
    return Detections.of(corners, scores[kept].float().cpu(), labels[kept].cpu())


def solid(boxes: torch.Tensor) -> torch.Tensor:
    """Which boxes have an inside."""
    return (boxes[:, 2:] > boxes[:, :2]).all(dim=1)


def average_precision(predicted: Detected, truth: Boxes) -> float:
    """AP, for a choice on `valid`."""
    outcomes = outcomes_of(predicted, truth)
    return float(Precisions(outcomes)(np.ones((1, outcomes.n)), ["ap"])["ap"][0])
