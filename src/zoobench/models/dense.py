"""Pictures of any size through a backbone, and the maps of features that it makes of them.

A picture is laid in a frame of H x W pixels, scaled as a whole ("letterbox": the rest is
padding) or each way for itself ("stretch"), by the same filter for every model. What belongs
to the weights is how pixels become numbers; it is read off from what their own preprocessing
makes of pictures of one colour, and so holds for whatever library it comes from.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from zoobench.errors import CellError, Unsupported, one_line
from zoobench.interfaces import Backbone
from zoobench.machine import constant, unrounded
from zoobench.models.backbones import seeded
from zoobench.views import MapReader, MapSpec, Placement

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

FITS = ("letterbox", "stretch")
FINEST = 4
"""Least stride of a map: finer ones are of a stem alone, and as large as the picture."""
DEPTHS = 4
"""Maps that are read where all layers have one stride."""
SQUARE = 2.0
"""Most that a cell may be longer than wide, or wider than long."""
STRAIGHT = 2e-3
"""Most that a value may differ from a straight line of its pixel's, relative to the range."""


def dense(backbone: Backbone, size: tuple[int, int], fit: str = "letterbox") -> DenseView:
    """`backbone` at work on frames of `size` (height, width).

    Raises Unsupported where it has no maps, or none at this size, with what it has.
    """
    if fit not in FITS:
        raise ValueError(f"fit is one of {', '.join(FITS)}, not {fit!r}")
    if backbone.input_spec.modality != "image":
        raise Unsupported(f"it reads {backbone.input_spec.modality}, so it has no maps: only embed")
    if not hasattr(backbone, "map_reader"):
        raise Unsupported("this backbone has no maps: only embed")
    height, width = size
    try:
        reader: MapReader = backbone.map_reader(size)
        shapes = _shapes(reader)
    except (CellError, MemoryError):
        raise
    except Exception as error:  # whatever a library raises for a size that it does not take
        own = " x ".join(map(str, (backbone.input_spec.size or ())[1:]))
        raise Unsupported(
            f"it has no maps at {height} x {width}, its own size is {own}: {one_line(error)}"
        ) from error
    wanted = _levels(reader, shapes)
    specs = tuple(_spec(reader, shapes[i], reader.taps[i]) for i in wanted)
    return DenseView(reader, size, fit, wanted, specs, colours(backbone))


@dataclass(frozen=True)
class DenseView:
    """A DenseBackbone: `reader` of the taps that `wanted` numbers, on frames of `size`."""

    reader: MapReader
    size: tuple[int, int]
    fit: str
    wanted: tuple[int, ...]
    specs: tuple[MapSpec, ...]
    colours: Colours

    @property
    def module(self) -> torch.nn.Module:
        return self.reader.module

    @property
    def input_size(self) -> tuple[int, int]:
        return self.reader.size

    def place(self, raw: Image.Image) -> tuple[NDArray[np.uint8], Placement]:
        """One picture in its frame (H, W, 3), and where it lies."""
        return lay(raw, self.size, self.fit, self.colours.padding)

    def tensor(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H', W') float32 in channels-last from (B, H, W, 3) uint8, on its device."""
        import torch

        values = self.colours.values(pixels)
        below, beside = (self.input_size[i] - self.size[i] for i in (0, 1))
        # 0 is the mean of what the weights were trained on.
        padded = torch.nn.functional.pad(values, (0, beside, 0, below))
        return padded.contiguous(memory_format=torch.channels_last)

    def maps(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A (B, C, h, w) float32 for each of `specs`; differentiable."""
        found = self.reader.read(self.module, batch, self.wanted)
        return tuple(one.float() for one in found)

    def last(self) -> DenseView:
        """The same with the map of the last layer alone."""
        return replace(self, wanted=self.wanted[-1:], specs=self.specs[-1:])

    def copy(self) -> DenseView:
        """The same over a module of its own, to be trained."""
        own = replace(self.reader, module=copy.deepcopy(self.module))
        return replace(self, reader=own)


def placement(picture: tuple[int, int], frame: tuple[int, int], fit: str) -> Placement:
    """Where a picture of (height, width) lies in a frame; at least one pixel of it is there."""
    if fit == "stretch":
        return Placement(picture, frame, frame)
    scale = min(frame[0] / picture[0], frame[1] / picture[1])
    height, width = (
        min(most, max(1, round(side * scale))) for side, most in zip(picture, frame, strict=True)
    )
    return Placement(picture, (height, width), frame)


def lay(
    picture: Image.Image, frame: tuple[int, int], fit: str, padding: tuple[int, ...]
) -> tuple[NDArray[np.uint8], Placement]:
    """The picture in a frame (H, W, 3) of the colour `padding`, and where it lies."""
    import numpy as np
    from PIL import Image

    picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    where = placement((picture.height, picture.width), frame, fit)
    height, width = where.content
    # Pillow's bilinear filter averages what it shrinks, so that nothing aliases.
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.empty((*frame, 3), dtype=np.uint8)
    pixels[:] = padding
    pixels[:height, :width] = np.asarray(scaled)
    return pixels, where


@dataclass(frozen=True)
class Colours:
    """What a preprocessing makes of a colour: values = `matrix` @ (r, g, b) + `offset`."""

    matrix: tuple[tuple[float, ...], ...]
    offset: tuple[float, ...]

    def values(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) float32 from (B, H, W, 3) uint8, on its device."""
        import torch

        matrix, offset = (constant(each, pixels.device) for each in (self.matrix, self.offset))
        with unrounded(pixels.device):
            values = pixels.to(torch.float32) @ matrix.T + offset
        return values.permute(0, 3, 1, 2)

    @property
    def padding(self) -> tuple[int, ...]:
        """The colour whose values are the closest to 0."""
        import numpy as np

        colour = -np.linalg.pinv(np.array(self.matrix)) @ np.array(self.offset)
        return tuple(int(c) for c in np.clip(np.round(colour), 0, 255))


def colours(backbone: Backbone) -> Colours:
    """How `backbone` turns colours into values. Raises Unsupported where that is no straight line.

    A picture of one colour stays one, however it is resized and cropped.
    """
    import numpy as np
    from PIL import Image

    def value(*colour: int) -> NDArray[np.float64]:
        values = np.asarray(backbone.prepare(Image.new("RGB", (96, 96), colour)), dtype=np.float64)
        return values[:, values.shape[1] // 2, values.shape[2] // 2]

    offset = value(0, 0, 0)
    ends = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    matrix = np.stack([(value(*end) - offset) / 255 for end in ends], axis=1)
    expected, got = matrix @ np.array([40, 128, 210]) + offset, value(40, 128, 210)
    reach = float(np.abs(matrix).sum(axis=1).max()) * 255
    if not reach or np.abs(got - expected).max() > STRAIGHT * reach:
        raise Unsupported("its preprocessing is no scale and offset of the pixels")
    return Colours(tuple(map(tuple, matrix.tolist())), tuple(offset.tolist()))


def resample(
    one: torch.Tensor, covered: tuple[int, int], frame: tuple[int, int], grid: tuple[int, int]
) -> torch.Tensor:
    """(B, C, *grid) over a frame from a map (B, C, h, w) that covers more: `covered` pixels.

    Bilinear between the centres of cells; where cells grow they are averaged under a triangle as
    wide, so that nothing aliases. A grid as the map's own changes nothing.
    """
    down, across = (
        _held(one.shape[2 + i], covered[i], frame[i], grid[i], one.device, one.dtype)
        for i in (0, 1)
    )
    return down @ one @ across.T


@lru_cache(maxsize=256)
def _held(
    cells: int, covered: int, side: int, wanted: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """`_triangles` on a device, which would have to be waited for if each batch sent them anew."""
    import torch

    with torch.inference_mode(False):  # or training could not read what extraction made
        return _triangles(cells, covered, side, wanted).to(device, dtype)


def _triangles(cells: int, covered: int, side: int, wanted: int) -> torch.Tensor:
    """(wanted, cells): the share of each cell in each wanted one; a row sums to 1."""
    import torch

    old, new = covered / cells, side / wanted
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) * old
    at = (torch.arange(wanted, dtype=torch.float64) + 0.5) * new
    # Beyond the outer centres the outer cells go on.
    at = at.clamp(float(centres[0]), float(centres[-1]))
    shares = (1 - (at[:, None] - centres).abs() / max(old, new)).clamp_min(0)
    return shares / shares.sum(dim=1, keepdim=True)


def padded(size: tuple[int, int], unit: int) -> tuple[int, int]:
    """The next (height, width) above, or the same, of multiples of `unit`."""
    return -(-size[0] // unit) * unit, -(-size[1] // unit) * unit


def _shapes(reader: MapReader) -> list[tuple[int, int, int]]:
    """(C, h, w) at every tap. Raises Unsupported where one is no map."""
    import torch

    device = next(reader.module.parameters()).device
    reader.module.eval()
    with torch.inference_mode(), seeded(0):
        zeros = torch.zeros(1, 3, *reader.size, device=device)
        found = reader.read(reader.module, zeros, range(len(reader.taps)))
    shapes = [tuple(one.shape[1:]) for one in found]
    wrong = [
        f"{tap} {shape}"
        for tap, shape in zip(reader.taps, shapes, strict=True)
        if not _is_map(shape, reader.size)
    ]
    if wrong or not shapes:
        raise Unsupported(f"layers that give no map: {', '.join(wrong) or 'all of them'}")
    return [(c, h, w) for c, h, w in shapes]


def _is_map(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether it is (C, h, w) with cells that are about square: channels that stand last are no
    columns."""
    if len(shape) != 3 or min(shape) < 1:
        return False
    down, across = size[0] / shape[1], size[1] / shape[2]
    return 1 / SQUARE <= down / across <= SQUARE


def _levels(reader: MapReader, shapes: Sequence[tuple[int, int, int]]) -> tuple[int, ...]:
    """The last tap of each grid, the finest first; of one grid for all the ends of its quarters.

    Raises Unsupported where the last layer is not the coarsest: nobody can say which to read then.
    """
    last = {(h, w): i for i, (_, h, w) in enumerate(shapes)}
    n = len(shapes)
    if len(last) == 1:
        return tuple(sorted({-(-n * k // DEPTHS) - 1 for k in range(1, DEPTHS + 1)}))
    by_size = sorted(last.values(), key=lambda i: -shapes[i][1] * shapes[i][2])
    if by_size[-1] != n - 1 or sorted(by_size) != by_size:
        said = ", ".join(f"{reader.taps[i]} {shapes[i][1:]}" for i in by_size)
        raise Unsupported(f"its layers do not go from fine to coarse: {said}")
    coarse = [i for i in by_size if reader.size[0] >= (FINEST - 0.5) * shapes[i][1]]
    return tuple(coarse or by_size[-1:])


def _spec(reader: MapReader, shape: tuple[int, int, int], tap: str) -> MapSpec:
    channels, height, width = shape
    down, across = (round(a / b) for a, b in zip(reader.size, (height, width), strict=True))
    return MapSpec(max(down, across), channels, tap)
