"""Where what a network reads lies in the picture that it was given, and whether a map points there.

A picture's preparation cuts, resizes and scales. What it does to places is found by preparing other
pictures of the same size: black, white, and the mask itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import BadData

if TYPE_CHECKING:
    import torch

FLAT = 1e-6
"""Black and white that are read so nearly alike say nothing of places."""


def as_read(body: Any, grey: NDArray[np.uint8]) -> torch.Tensor | None:
    """(H, W) of what `body` reads of a grey picture, 0 for black and 1 for white; None where it
    reads these two alike."""
    from PIL import Image

    size = (grey.shape[1], grey.shape[0])
    flat = [body.prepare(Image.new("RGB", size, (level,) * 3)) for level in (0, 255)]
    reach = (flat[1] - flat[0]).mean(dim=0)
    if float(reach.abs().min()) < FLAT:
        return None
    read = body.prepare(Image.fromarray(grey).convert("RGB"))
    found: torch.Tensor = (read - flat[0]).mean(dim=0) / reach
    return found


def inside(body: Any, raw: Any, mask: NDArray[Any]) -> torch.Tensor | None:
    """(H, W) bool which pixels of what `body` reads of the picture `raw` are in `mask`, which is as
    large as the picture and not 0 there. Raises BadData where it is of another size."""
    if mask.shape != (raw.height, raw.width):
        raise BadData(
            f"a mask of {mask.shape[1]} x {mask.shape[0]} pixels says where the class is in a "
            f"picture of {raw.width} x {raw.height}"
        )
    read = as_read(body, np.where(mask != 0, 255, 0).astype(np.uint8))
    return None if read is None else read > 0.5


def touched(body: Any, raw: Any, mask: NDArray[Any]) -> torch.Tensor | None:
    """(T,) bool the tiles in which something of `mask` is; None where none is, or all are: there is
    then nowhere to point to, or nowhere else."""
    from zoobench.solvers.explanation import of_tiles

    pixels = inside(body, raw, mask)
    if pixels is None:
        return None
    found = of_tiles(pixels[None].float()) > 0
    return found if bool(found.any()) and not bool(found.all()) else None


def frame(body: Any, raw: Any) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) of what `body` reads, as shares of the picture's sides; None where
    that cannot be told."""
    ends = []
    for across in (True, False):
        length = raw.width if across else raw.height
        ramp = np.rint(np.linspace(0, 255, length)).astype(np.uint8)
        grey = ramp[None, :] if across else ramp[:, None]
        read = as_read(body, np.ascontiguousarray(np.broadcast_to(grey, (raw.height, raw.width))))
        if read is None:
            return None
        line = read.median(dim=0 if across else 1).values
        ends.append((float(line[0]), float(line[-1])))
    (left, right), (top, bottom) = ends
    left, top, right, bottom = (round(min(max(x, 0.0), 1.0), 3) for x in (left, top, right, bottom))
    return left, top, right, bottom
