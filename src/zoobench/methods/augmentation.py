"""Pictures with their masks or boxes, scaled, mirrored and put somewhere in a frame alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoobench.models.dense import DenseView, placement
from zoobench.statistics.bootstrap import Floats

if TYPE_CHECKING:
    from PIL import Image

SCALES = (0.5, 2.0)
"""Of a picture as it fits into the frame."""
LEAST = 1.0
"""Pixels that must be left of a box, each way."""


@dataclass(frozen=True)
class Jitter:
    """One draw: the picture becomes `scaled` (height, width) pixels, perhaps `mirrored`, and its
    part `ours` lies at `theirs` of the `frame`."""

    picture: tuple[int, int]
    frame: tuple[int, int]
    scaled: tuple[int, int]
    mirrored: bool
    ours: tuple[slice, slice]
    theirs: tuple[slice, slice]

    @classmethod
    def drawn(cls, picture: tuple[int, int], view: DenseView, rng: np.random.Generator) -> Jitter:
        fitted = placement(picture, view.size, view.fit).content
        scale = float(np.exp(rng.uniform(*np.log(SCALES))))
        height, width = (max(1, round(side * scale)) for side in fitted)
        mirrored = bool(rng.random() < 0.5)
        down, across = (
            _cut(side, frame, rng) for side, frame in zip((height, width), view.size, strict=True)
        )
        ours, theirs = (down[0], across[0]), (down[1], across[1])
        return cls(picture, view.size, (height, width), mirrored, ours, theirs)

    def laid(
        self, picture: Image.Image, padding: int | tuple[int, ...], resample: Image.Resampling
    ) -> NDArray[np.uint8]:
        """The frame that the picture, or its mask, gives."""
        pixels = np.asarray(picture.resize(self.scaled[::-1], resample))
        frame = np.empty((*self.frame, *pixels.shape[2:]), dtype=np.uint8)
        frame[:] = padding
        frame[self.theirs] = (pixels[:, ::-1] if self.mirrored else pixels)[self.ours]
        return frame

    def boxes(self, boxes: Floats) -> tuple[Floats, NDArray[np.intp]]:
        """What is left of boxes (K, 4) of the picture, in the frame, and the rows of those of which
        a pixel is."""
        (height, width), (rows, columns) = self.scaled, self.theirs
        down, across = height / self.picture[0], width / self.picture[1]
        moved = boxes * [across, down, across, down]
        if self.mirrored:
            moved = np.stack(
                [width - moved[:, 2], moved[:, 1], width - moved[:, 0], moved[:, 3]], 1
            )
        apart = [columns.start - self.ours[1].start, rows.start - self.ours[0].start]
        least, most = ([getattr(s, end) for s in (columns, rows)] for end in ("start", "stop"))
        left = np.clip(moved + np.tile(apart, 2), np.tile(least, 2), np.tile(most, 2))
        kept = np.flatnonzero((left[:, 2:] - left[:, :2] >= LEAST).all(axis=1))
        return left[kept], kept


def _cut(side: int, frame: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Which part of `side` pixels goes where in `frame`: anywhere, as much as there is room for."""
    apart = int(rng.integers(abs(side - frame) + 1))
    size = min(side, frame)
    inside, beyond = slice(apart, apart + size), slice(0, size)
    return (inside, beyond) if side > frame else (beyond, inside)
