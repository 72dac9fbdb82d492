"""Controls of a detection: what AP says nothing below (PROTOCOL section 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.box_grid import MOST, BoxGrid, detections, framed
from zoobench.methods.box_probe import BoxProbe, fit_boxes
from zoobench.methods.dense_controls import Blind, RawCells
from zoobench.models.dense import placement
from zoobench.tasks.detection import Detections, boxes_of


@dataclass(frozen=True)
class UsualBoxes(Blind):
    """The same in every picture: the class of most objects of train, in boxes of theirs.

    The boxes are shares of the picture, 100 evenly over the order of their areas; a box's score is
    the share of them that overlap it by half.
    """

    tasks: ClassVar[tuple[str, ...]] = ("detection",)

    def answerer(self, splits: SealedSplits) -> Callable[[Split], list[Detections]]:
        import torch
        from torchvision.ops import box_area, box_iou

        truth = boxes_of(splits.train)
        most = int(truth.counts.sum(axis=0).argmax())
        shares = np.concatenate([
            one.boxes[(one.labels == most) & ~one.crowd] / np.tile(one.size[::-1], 2)
            for one in truth.pictures
        ])  # fmt: skip
        by_area = box_area(torch.from_numpy(shares)).argsort(stable=True).numpy()
        steps = np.linspace(0, len(shares) - 1, min(MOST, len(shares)))
        boxes = shares[by_area[np.rint(steps).astype(np.int64)]]
        overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)) >= 0.5
        scores = overlaps.double().mean(dim=1).numpy()
        labels = np.full(len(boxes), most)

        def answer(split: Split) -> list[Detections]:
            return [
                Detections.of(boxes * np.tile(one.size[::-1], 2), scores, labels)
                for one in boxes_of(split).pictures
            ]

        return answer


@dataclass(frozen=True)
class BoxOracle(Blind):
    """The true box and class in every cell that answers for an object: what the grid of `size`
    and its assignment allow, and no probe of it should pass. It reads the truth, and is no method.
    """

    size: int = 320

    tasks: ClassVar[tuple[str, ...]] = ("detection",)

    def answerer(self, splits: SealedSplits) -> Callable[[Split], list[Detections]]:
        import torch

        grid, classes = BoxGrid((self.size, self.size)), len(splits.classes)

        def answer(split: Split) -> list[Detections]:
            found = []
            for truth in boxes_of(split).pictures:
                where = placement(truth.size, grid.frame, "letterbox")
                owner = grid.assigned(truth, where)
                mine = owner[owner >= 0]
                scores = torch.eye(classes)[torch.from_numpy(truth.labels[mine])]
                boxes = torch.from_numpy(framed(truth.boxes, where)[mine])
                found.append(detections(scores, boxes, where))
            return found

        return answer


@dataclass(frozen=True)
class ColourBoxes:
    """The probe of boxes on the colours of a cell and its place in the picture: no network."""

    size: int = 320

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("detection",)
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        """Raises NotFinite as the probe does."""
        return fit_boxes(RawCells(), splits, BoxProbe(size=self.size), seed)
