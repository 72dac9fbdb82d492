"""How near one picture is to another: PSNR and SSIM. N pictures of C channels, H x W pixels.

X and Y are (N, C, H, W) in [0, 1] of any real type; everything is computed in float64, in blocks
of pictures.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from zoobench.solvers.basis import blocks

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
"""SSIM's window and constants, as its paper has them; pixels go from 0 to 1."""
HELD = 12
"""Arrays of a block's size, in float64, that SSIM holds at once."""


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """(N,) peak signal-to-noise ratios in dB: 10 log10(1 / mean squared difference).

    The mean is over a picture's channels and pixels together. Infinite where two pictures are
    equal: say how many those are, and take the mean of the others. Raises ValueError for shapes
    that differ or are not (N, C, H, W).
    """
    return _by_blocks(x, y, lambda a, b: -10 * (a - b).square().mean(dim=(1, 2, 3)).log10())


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """(N,) structural similarities in [-1, 1], 1 of equal pictures (Wang et al. 2004, TIP 13).

    Local means, variances and covariance under a Gaussian window of 11 x 11 pixels and deviation
    1.5, at each place where it lies inside of the picture; the mean over those places, then over
    channels. Along a side of fewer than 11 pixels the window is cut to the largest odd length
    that fits, and its weights sum to 1 again. Raises ValueError as `psnr` does.
    """
    return _by_blocks(x, y, _ssim)


def _by_blocks(x: Tensor, y: Tensor, score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    if x.shape != y.shape or x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"expected two arrays (N, C, H, W), got {(*x.shape,)} and {(*y.shape,)}")
    out = torch.empty(len(x), dtype=torch.float64, device=x.device)
    for part in blocks(len(x), 8 * HELD * x[:1].numel(), x.device):
        out[part] = score(x[part].double(), y[part].double())
    return out


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    mean_x, mean_y = _local(x), _local(y)
    product = mean_x * mean_y
    squares = mean_x.square() + mean_y.square()
    covariance = _local(x * y) - product
    variances = _local(x.square() + y.square()) - squares
    c1, c2 = K1**2, K2**2
    places = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return places.mean(dim=(1, 2, 3))


def _local(x: Tensor) -> Tensor:
    """The weighted mean around each place at which the window lies inside of the picture."""
    for dim in (2, 3):
        weights = gaussian(x.shape[dim])
        places = x.shape[dim] - len(weights) + 1
        out = x.narrow(dim, 0, places) * weights[0]
        for start, weight in enumerate(weights[1:], 1):
            out.add_(x.narrow(dim, start, places), alpha=weight)
        x = out
    return x


def gaussian(side: int) -> list[float]:
    """The window's weights along a side of so many pixels; they sum to 1."""
    length = min(WINDOW, side - 1 + side % 2)
    offsets = torch.arange(length, dtype=torch.float64) - length // 2
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    values: list[float] = (weights / weights.sum()).tolist()
    return values
