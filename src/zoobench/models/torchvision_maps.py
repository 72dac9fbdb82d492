"""The maps of torchvision's classification models, by its own feature extraction.

Which layers are read is said here for each class of models, and never guessed: the class of a new
one is unsupported until it stands in TAPS.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zoobench.errors import Unsupported
from zoobench.models.dense import padded
from zoobench.views import MapReader

if TYPE_CHECKING:
    import torch

COARSEST = 32
"""Stride of the last layer of all that are read so, but of AlexNet, SqueezeNet and VGG."""
TAPS: dict[str, tuple[str, ...]] = {
    "AlexNet": ("features.*",),
    "ConvNeXt": ("features.*",),
    "DenseNet": ("features.denseblock1", "features.denseblock2", "features.denseblock3", "relu"),
    "EfficientNet": ("features.*",),
    "GoogLeNet": ("conv3", "inception3b", "inception4e", "inception5b"),
    "Inception3": ("Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"),
    "MNASNet": ("layers.*",),
    "MaxVit": ("stem", "blocks.*"),
    "MobileNetV2": ("features.*",),
    "MobileNetV3": ("features.*",),
    "RegNet": ("trunk_output.*",),
    "ResNet": ("layer1", "layer2", "layer3", "layer4"),
    "ShuffleNetV2": ("maxpool", "stage2", "stage3", "stage4", "conv5"),
    "SqueezeNet": ("features.*",),
    "SwinTransformer": ("features.*", "norm"),
    "VGG": ("features.*",),
}
"""By class: the nodes of the traced network; `.*` stands for all children of a module."""
CHANNELS_LAST = ("SwinTransformer",)


def reader(module: torch.nn.Module, size: tuple[int, int]) -> MapReader:
    """How the maps of an input of `size`, or the next that fits, are read.

    Raises Unsupported for a class of models that is not in TAPS.
    """
    from torchvision.models.feature_extraction import create_feature_extractor

    kind = type(module).__name__
    if kind == "VisionTransformer":
        return _vit(module, size)
    if kind not in TAPS:
        known = ", ".join(("VisionTransformer", *TAPS))
        raise Unsupported(f"no layers of a {kind} are known to be maps; known: {known}")
    taps = tuple(_named(module, TAPS[kind]))
    # Tracing copies, and leaves out what comes after the taps.
    traced = create_feature_extractor(
        copy.deepcopy(module), {tap: str(i) for i, tap in enumerate(taps)},
        suppress_diff_warning=True,
    )  # fmt: skip
    read = partial(_read, kind in CHANNELS_LAST)
    return MapReader(traced.eval(), padded(size, COARSEST), taps, read)


def _named(module: torch.nn.Module, taps: Sequence[str]) -> Iterator[str]:
    for tap in taps:
        parent, _, star = tap.rpartition(".")
        if star != "*":
            yield tap
            continue
        for name, _ in module.get_submodule(parent).named_children():
            yield f"{parent}.{name}"


def _read(
    channels_last: bool, module: torch.nn.Module, batch: torch.Tensor, wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    found = module(batch)
    maps = [found[str(i)] for i in wanted]
    return [one.permute(0, 3, 1, 2) if channels_last else one for one in maps]


def _vit(module: torch.nn.Module, size: tuple[int, int]) -> MapReader:
    """Of a plain ViT: all layers, under its last norm as in timm; the class token is left out."""
    import torch

    own: Any = copy.deepcopy(module)
    patch = int(own.patch_size)
    fitted = padded(size, patch)
    tokens, grid = own.class_token.shape[1], int(own.image_size) // patch
    position = own.encoder.pos_embedding.detach()
    spread = position[:, tokens:].transpose(1, 2).reshape(1, -1, grid, grid)
    wanted = (fitted[0] // patch, fitted[1] // patch)
    if wanted != (grid, grid):
        spread = torch.nn.functional.interpolate(
            spread, wanted, mode="bicubic", antialias=True, align_corners=False
        )
        joined = torch.cat([position[:, :tokens], spread.flatten(2).transpose(1, 2)], dim=1)
        own.encoder.pos_embedding = torch.nn.Parameter(joined)
    taps = tuple(f"encoder.layers.{name}" for name, _ in own.encoder.layers.named_children())
    return MapReader(own, fitted, taps, _read_vit)


def _read_vit(
    module: torch.nn.Module, batch: torch.Tensor, wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    import torch

    model: Any = module
    patches = model.conv_proj(batch)
    n, _, h, w = patches.shape
    tokens = model.class_token.expand(n, -1, -1)
    x = torch.cat([tokens, patches.flatten(2).transpose(1, 2)], dim=1)
    x = model.encoder.dropout(x + model.encoder.pos_embedding)
    found = {}
    for i, layer in enumerate(model.encoder.layers):
        x = layer(x)
        if i in wanted:
            own = model.encoder.ln(x)[:, tokens.shape[1] :]
            found[i] = own.transpose(1, 2).reshape(n, -1, h, w)
    return [found[i] for i in wanted]
