"""Explanations of a class by parts of an example, and how far they are right (PROTOCOL section 8).

An example is cut into T parts: a picture (C, H, W) into tiles of TILE x TILE pixels, row by row, a
text into words. A map gives each part an importance, (T,). `probability` maps (B, T) bool, which
parts are shown, to (B,) of the class that is explained.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

TILE = 16
"""Side of a tile, in pixels of what the network reads."""
STEPS = 16
"""Steps of a curve, at most: as many as there are parts where those are fewer."""
BLUR = 1 / 16
"""Deviation of the Gaussian blur that stands for nothing seen, of the shorter side."""
PATH = 32
"""Points at which integrated gradients are taken."""

Probability = Callable[[Tensor], Tensor]


def blurred(picture: Tensor) -> Tensor:
    """The picture under a Gaussian blur; its edges are reflected."""
    sigma = BLUR * min(picture.shape[1:])
    reach = min(int(3 * sigma + 0.5), min(picture.shape[1:]) - 1)
    at = torch.arange(-reach, reach + 1, dtype=picture.dtype)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (kernel / kernel.sum())[None, None]
    out = functional.pad(picture[:, None], (reach, reach, reach, reach), mode="reflect")
    out = functional.conv2d(out, kernel[:, :, None])
    return functional.conv2d(out, kernel[:, :, :, None])[:, 0]


def tiles(picture: Tensor) -> Tensor:
    """(H, W) int64 the tile of each pixel; those at the far edges may be smaller."""
    height, width = picture.shape[1:]
    down, across = torch.arange(height) // TILE, torch.arange(width) // TILE
    return down[:, None] * (int(across[-1]) + 1) + across


def occlusion(count: int, probability: Probability) -> Tensor:
    """(T,) by how much the probability falls where one of `count` parts is hidden (Zeiler and
    Fergus 2014, arXiv:1311.2901)."""
    shown = torch.cat([torch.zeros(1, count), torch.eye(count)]) == 0
    found = probability(shown)
    return found[0] - found[1:]


def integrated_gradients(
    picture: Tensor, blank: Tensor, gradient: Callable[[Tensor], Tensor]
) -> Tensor:
    """(C, H, W) what each number adds on the straight way from `blank` to the picture (Sundararajan
    et al. 2017, arXiv:1703.01365), by Gauss and Legendre's rule with PATH points. `gradient` maps
    (B, C, H, W) to the gradients of the probability there."""
    nodes, weights = np.polynomial.legendre.leggauss(PATH)
    at = torch.from_numpy((nodes + 1) / 2).to(picture.dtype).view(-1, 1, 1, 1)
    slopes = gradient(blank + at * (picture - blank))
    share = torch.from_numpy(weights / 2).to(slopes.dtype)
    return (picture - blank) * torch.einsum("b,bchw->chw", share, slopes)


def of_tiles(values: Tensor) -> Tensor:
    """(T,) sums of (C, H, W) over tiles."""
    owner = tiles(values).flatten()
    totals = values.new_zeros(int(owner[-1]) + 1)
    return totals.index_add_(0, owner, values.sum(dim=0).flatten())


def curves(importance: Tensor, probability: Probability) -> tuple[float, float]:
    """(insertion, deletion) areas under the probability as parts are shown where none were, or
    hidden where all were, the most important first (Petsiuk et al. 2018, arXiv:1806.07421)."""
    count = len(importance)
    place = torch.empty(count, dtype=torch.long)
    place[importance.argsort(descending=True, stable=True)] = torch.arange(count)
    steps = min(STEPS, count)
    ends = torch.tensor([round(step * count / steps) for step in range(steps + 1)])
    first = place < ends[:, None]
    both = probability(torch.cat([first, ~first])).double().view(2, -1)
    areas = torch.trapezoid(both, ends.double() / count, dim=1)
    return float(areas[0]), float(areas[1])


def centre(picture: Tensor) -> Tensor:
    """(T,) a map that looks at no picture: the nearer to the middle, the more important."""
    height, width = picture.shape[1:]
    down = (torch.arange(height)[:, None] - (height - 1) / 2) / height
    across = (torch.arange(width) - (width - 1) / 2) / width
    distance = (down.square() + across.square()).expand(1, height, width)
    return -of_tiles(distance) / torch.bincount(tiles(picture).flatten())
