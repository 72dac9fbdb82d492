"""A pyramid of maps for detectors, from whatever maps a backbone has.

Of maps of several strides it is torchvision's feature pyramid (Lin et al. 2017); of those of one
stride the simple one of ViTDet (Li et al. 2022, arXiv:2203.16527): the last map, made finer by
transposed convolutions and coarser by pooling. Every map is read on a grid whose stride is a power
of two, as detectors take it for granted.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from zoobench.models.dense import DenseView, resample

if TYPE_CHECKING:
    import torch
    from torch import nn

WIDTH = 256
"""Channels of every level."""
SIMPLE = (4, 8, 16, 32)
"""Strides that are made of maps of one stride."""


def frame_pyramid(view: DenseView, finest: int, pools: int) -> Any:
    """A torchvision detector's `backbone`: frames (B, 3, H, W), 0 to 255, perhaps padded below and
    beside, -> name -> map (B, WIDTH, h, w) that covers them.

    `strides` are its levels', none below `finest` where there is another; the last `pools` of them
    are every second cell of the level before. `names` are those of the others.
    """
    from torch import nn

    own = {2 ** round(math.log2(spec.stride)): i for i, spec in enumerate(view.specs)}
    several = len(own) > 1
    used = {s: i for s, i in own.items() if s >= finest} or own
    strides = tuple(used if several else (s for s in SIMPLE if s >= finest))
    height, width = view.size

    class FramePyramid(nn.Module):
        out_channels = WIDTH

        def __init__(self) -> None:
            super().__init__()
            self.strides = (*strides, *(strides[-1] * 2 ** (k + 1) for k in range(pools)))
            self.names = [str(k) for k in range(len(strides))]
            if several:
                self.levels: Any = _fpn([view.specs[i].channels for i in used.values()])
            else:
                stride = next(iter(own))
                made = [_simple(view.specs[-1].channels, stride, s) for s in strides]
                self.levels = nn.ModuleList(made)

        def forward(self, frames: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
            whole = tuple(frames.shape[2:])
            pixels = frames[:, :, :height, :width].permute(0, 2, 3, 1)
            maps = view.maps(view.tensor(pixels))
            read = {
                s: _on_grid(maps[i], view.input_size, whole, s)
                for s, i in (used if several else {next(iter(own)): -1}).items()
            }
            if several:
                levels = list(self.levels({str(s): one for s, one in read.items()}).values())
            else:
                (last,) = read.values()
                levels = [level(last) for level in self.levels]
            for _ in range(pools):
                levels.append(nn.functional.max_pool2d(levels[-1], 1, 2))
            return OrderedDict((str(k), one) for k, one in enumerate(levels))

    return FramePyramid()


def _on_grid(
    one: torch.Tensor, covered: tuple[int, int], whole: tuple[int, ...], stride: int
) -> torch.Tensor:
    """A map of `covered` pixels on the cells of `stride` that cover the `whole`."""
    h, w = (-(-side // stride) for side in whole)
    same = tuple(one.shape[2:]) == (h, w) and covered == (h * stride, w * stride)
    return one if same else resample(one, covered, (h * stride, w * stride), (h, w))


def _fpn(channels: list[int]) -> Any:
    from torchvision.ops import FeaturePyramidNetwork

    return FeaturePyramidNetwork(channels, WIDTH, norm_layer=norm)


def _simple(channels: int, stride: int, wanted: int) -> nn.Module:
    """The map of `stride` at the stride `wanted`, in WIDTH channels."""
    from torch import nn

    parts: list[nn.Module] = []
    while stride > wanted:
        parts += [nn.ConvTranspose2d(channels, WIDTH, 2, 2), norm(WIDTH), nn.GELU()]
        channels, stride = WIDTH, stride // 2
    if stride < wanted:
        parts.append(nn.MaxPool2d(wanted // stride, ceil_mode=True))
    return nn.Sequential(
        *parts, nn.Conv2d(channels, WIDTH, 1, bias=False), norm(WIDTH),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), norm(WIDTH),
    )  # fmt: skip


def norm(channels: int) -> nn.Module:
    """The norm of whatever is new."""
    from torch import nn

    return nn.GroupNorm(32, channels)
