"""Decoders of a segmentation from segmentation-models-pytorch (extra `segmentation`), on any
backbone's maps.

They are made for encoders whose maps have strides of 4, 8, 16 and 32. Of maps of several strides
each level takes the one that is nearest to it, of those of one stride the four depths in their
order; each is read on the level's own grid.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from zoobench.errors import missing_extra
from zoobench.models.dense import DenseView, padded, resample
from zoobench.views import MapSpec

if TYPE_CHECKING:
    import torch

Borrowed = Literal["unet", "deeplabv3plus", "upernet", "dpt"]
LEVELS = (4, 8, 16, 32)
"""Strides of the maps that the decoders are given."""
UNET = (256, 128, 64, 32)
"""Channels of the U-Net's blocks, as the library has them by default; the last is at stride 2."""
DEEPLAB, ATROUS = 256, (12, 24, 36)


def nearest(specs: Sequence[MapSpec]) -> tuple[int, ...]:
    """The map that each of LEVELS is read from."""
    strides = [math.log2(spec.stride) for spec in specs]
    if len(set(strides)) == 1:
        last = len(specs) - 1
        return tuple(round(k * last / (len(LEVELS) - 1)) for k in range(len(LEVELS)))
    return tuple(
        min(range(len(specs)), key=lambda i: abs(strides[i] - math.log2(level))) for level in LEVELS
    )


def borrowed(kind: Borrowed, view: DenseView, classes: int) -> Any:
    """From the view's maps to scores (B, C, h, w) that cover its input size, at a stride of 4.

    Raises MissingExtra where the library is not installed.
    """
    if importlib.util.find_spec("segmentation_models_pytorch") is None:
        package = "segmentation-models-pytorch"
        raise missing_extra(package, "segmentation", f"the decoder {kind}")
    from torch import nn

    levels = nearest(view.specs)
    channels = [view.specs[i].channels for i in levels]
    whole = padded(view.input_size, LEVELS[-1])
    body, width = _body(kind, channels)
    grid = tuple(-(-side // LEVELS[0]) for side in view.input_size)

    class BorrowedDecoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body
            self.score = nn.Conv2d(width, classes, 1)

        def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
            read = [
                resample(maps[i], view.input_size, whole, (whole[0] // s, whole[1] // s))
                for i, s in zip(levels, LEVELS, strict=True)
            ]
            scores = self.score(_run(kind, self.body, read))
            return resample(scores, whole, view.input_size, (grid[0], grid[1]))

    return BorrowedDecoder()


def _body(kind: Borrowed, channels: Sequence[int]) -> tuple[Any, int]:
    """The library's decoder of four maps, and its channels."""
    if kind == "unet":
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        return UnetDecoder([1, *channels], UNET, n_blocks=len(UNET)), UNET[-1]
    if kind == "upernet":
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

        return UPerNetDecoder([1, 1, *channels], encoder_depth=5, decoder_channels=256), 256
    if kind == "dpt":
        from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder

        decoder = DPTDecoder(
            encoder_out_channels=tuple(channels), encoder_output_strides=LEVELS,
            encoder_has_prefix_tokens=False, readout="ignore",
        )  # fmt: skip
        return decoder, 256
    from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

    decoder = DeepLabV3PlusDecoder(
        [1, 1, channels[0], channels[2]], encoder_depth=5, out_channels=DEEPLAB,
        atrous_rates=ATROUS, output_stride=16, aspp_separable=True, aspp_dropout=0.5,
    )  # fmt: skip
    return decoder, DEEPLAB


def _run(kind: Borrowed, body: Any, read: list[torch.Tensor]) -> Any:
    """What it makes of maps at LEVELS. A level that it asks the size of alone, or passes over, is
    empty."""
    size, (height, width) = len(read[0]), read[0].shape[2:]
    if kind == "dpt":
        return body(read, [None] * len(read))
    if kind == "unet":
        return body([read[0].new_empty(size, 1, 2 * height, 2 * width), *read])
    none = read[0].new_empty(0)
    return body([none, none, *read] if kind == "upernet" else [none, none, read[0], read[2]])
