"""Controls of a segmentation: what mIoU says nothing below (PROTOCOL section 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.features.cells import STRIDE, grid_of
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.cells import masses, painted
from zoobench.methods.dense_probe import DenseProbe, fit_cells
from zoobench.methods.predictor import Predictor
from zoobench.models.dense import lay, placement
from zoobench.tasks.segmentation import LabelMaps, masks_of
from zoobench.views import CellFeatures, Placement

if TYPE_CHECKING:
    import torch


class Blind:
    """Abstract: a control that learns no weights."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        answer = self.answerer(splits)
        return Predictor(answer, splits.valid, answer)

    def answerer(self, splits: SealedSplits) -> Callable[[Split], Any]:
        raise NotImplementedError


@dataclass(frozen=True)
class MajorityClass(Blind):
    """The class of most pixels of train, for every pixel."""

    def answerer(self, splits: SealedSplits) -> Callable[[Split], LabelMaps]:
        most = int(masks_of(splits.train).counts.sum(axis=0).argmax())
        return lambda split: LabelMaps(
            np.full(size, most, dtype=np.uint8) for size in masks_of(split).sizes
        )


@dataclass(frozen=True)
class Oracle(Blind):
    """The true shares of classes in the grid's cells in place of scores: what the grid of `size`
    allows, and no probe of it should pass. It reads the truth, and is no method."""

    size: int = 224

    def answerer(self, splits: SealedSplits) -> Callable[[Split], LabelMaps]:
        import torch

        frame, classes = (self.size, self.size), len(splits.classes)

        def label(split: Split) -> LabelMaps:
            masks = masks_of(split)
            places = [placement(size, frame, "letterbox") for size in masks.sizes]
            counts = (masses(masks.read(i), where, classes) for i, where in enumerate(places))
            shares = (c / np.maximum(c.sum(axis=2, keepdims=True), 1) for c in counts)
            return LabelMaps(
                painted(torch.from_numpy(one).float(), where)
                for one, where in zip(shares, places, strict=True)
            )

        return label


@dataclass(frozen=True)
class ColourAndPlace:
    """The dense probe on the colours of a cell and its place in the picture: no network at all."""

    refit: bool = True
    size: int = 224

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        return fit_cells(RawCells(), splits, DenseProbe(refit=self.refit, size=self.size))


class RawCells:
    """Cells without a network: mean and deviation of each channel, the place, and its squares."""

    progress = None

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    def cells(self, split: Split, size: tuple[int, int], layers: str = "last") -> CellFeatures:
        places, cells = [], []
        for i in range(len(split)):
            pixels, where = lay(split.read(i), size, "letterbox", (128, 128, 128))
            places.append(where)
            cells.append(_colours(pixels, where))
        return CellFeatures(np.stack(cells).astype(np.float32), tuple(places))


def _colours(pixels: NDArray[np.uint8], where: Placement) -> NDArray[np.float64]:
    """(h, w, 11): mean and deviation of the three channels, and the place in the picture."""
    h, w = grid_of(where.frame)
    beyond = [(0, n * STRIDE - side) for n, side in zip((h, w), where.frame, strict=True)]
    whole = np.pad(pixels, (*beyond, (0, 0)), mode="edge") / 255
    blocks = whole.reshape(h, STRIDE, w, STRIDE, 3)
    down, across = (
        (np.arange(n) + 0.5) * STRIDE / side for n, side in zip((h, w), where.content, strict=True)
    )
    y, x = np.meshgrid(down, across, indexing="ij")
    place = np.stack([y, x, y * y, x * x, x * y], axis=2)
    return np.concatenate([blocks.mean(axis=(1, 3)), blocks.std(axis=(1, 3)), place], axis=2)
