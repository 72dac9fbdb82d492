"""The one decoder of all objectives that rebuild pictures: from one vector to H x W pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WIDTH = 64
"""Channels."""


def patch_of(side: tuple[int, int]) -> int:
    """Pixels of a patch's side, a seventh of the picture's: 4 of 28, 32 of 224."""
    return max(1, min(side) // 7)


def decoder(features: int, side: tuple[int, int]) -> torch.nn.Module:
    """(N, features) -> (N, 3, H, W) pixels: a linear layer to a grid of patches, two convolutions
    on it, and each cell of the grid is laid out as its patch's pixels. They may leave [0, 1]: a
    sigmoid would have no gradient where pictures are black, as most of a digit's is."""
    from torch import nn

    patch = patch_of(side)
    rows, columns = (-(-length // patch) for length in side)
    layers: list[nn.Module] = [
        nn.Linear(features, WIDTH * rows * columns),
        nn.Unflatten(1, (WIDTH, rows, columns)),
        nn.GELU(),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(WIDTH, 3 * patch**2, 3, padding=1),
        nn.PixelShuffle(patch),
    ]
    if (rows * patch, columns * patch) != side:
        layers.append(nn.Upsample(size=side, mode="bilinear"))
    return nn.Sequential(*layers)
