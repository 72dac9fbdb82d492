"""Explanations of a picture's class by its tiles, and how far they are right (PROTOCOL section 8).

A picture is (C, H, W), cut into T tiles of TILE x TILE pixels, row by row. A map gives each tile an
importance, (T,). `probability` maps (B, C, H, W) to (B,) of the class that is explained.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

TILE = 16
"""Side of a tile, in pixels of what the network reads."""
STEPS = 16
"""Steps of a curve, at most: as many as there are tiles where those are fewer."""
BLUR = 1 / 16
"""Deviation of the Gaussian blur that stands for nothing seen, of the shorter side."""

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


def occlusion(picture: Tensor, blank: Tensor, probability: Probability) -> Tensor:
    """(T,) by how much the probability falls where a tile is `blank` (Zeiler and Fergus 2014)."""
    owner = tiles(picture)
    count = int(owner.max()) + 1
    hidden = torch.stack([torch.where(owner == tile, blank, picture) for tile in range(count)])
    found = probability(torch.cat([picture[None], hidden]))
    return found[0] - found[1:]


def curves(
    picture: Tensor, blank: Tensor, importance: Tensor, probability: Probability
) -> tuple[float, float]:
    """(insertion, deletion) areas under the probability as tiles are shown on `blank`, or hidden in
    the picture, the most important first (Petsiuk et al. 2018, arXiv:1806.07421)."""
    owner, count = tiles(picture), len(importance)
    place = torch.empty(count, dtype=torch.long)
    place[importance.argsort(descending=True, stable=True)] = torch.arange(count)
    steps = min(STEPS, count)
    shown = [round(step * count / steps) for step in range(steps + 1)]
    first = [place[owner] < many for many in shown]
    insertion = torch.stack([torch.where(mask, picture, blank) for mask in first])
    deletion = torch.stack([torch.where(mask, blank, picture) for mask in first])
    at = torch.tensor(shown, dtype=torch.float64) / count
    both = probability(torch.cat([insertion, deletion])).double().view(2, -1)
    areas = torch.trapezoid(both, at, dim=1)
    return float(areas[0]), float(areas[1])


def centre(picture: Tensor) -> Tensor:
    """(T,) a map that looks at no picture: the nearer to the middle, the more important."""
    owner, (height, width) = tiles(picture), picture.shape[1:]
    down = (torch.arange(height)[:, None] - (height - 1) / 2) / height
    across = (torch.arange(width) - (width - 1) / 2) / width
    distance = (down.square() + across.square()).expand(height, width).flatten()
    totals = torch.zeros(int(owner.max()) + 1).index_add_(0, owner.flatten(), distance)
    return -totals / torch.bincount(owner.flatten())
