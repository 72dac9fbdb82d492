"""The maps of timm's models, by its own `forward_intermediates`.

It removes prefix tokens by the model's own count, and its `norm=True` puts the model's last norm
over what is read, as DINOv2 and its like are meant.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zoobench.errors import Unsupported
from zoobench.models.dense import padded
from zoobench.views import MapReader

if TYPE_CHECKING:
    import torch

UNNORMED = ("Hiera", "HieraDet")
"""Architectures whose `forward_intermediates` refuses norm=True; they are read without."""


def reader(module: torch.nn.Module, size: tuple[int, int]) -> MapReader:
    """How the maps of an input of `size`, or the next that fits, are read.

    Raises Unsupported where the architecture has no such taps.
    """
    own: Any = copy.deepcopy(module)
    name = type(own).__name__
    if not hasattr(own, "forward_intermediates"):
        raise Unsupported(f"timm's {name} has no forward_intermediates: only embed")
    info = list(own.feature_info)
    trained = tuple(own.pretrained_cfg.get("input_size", ())[1:])
    # The size of training always fits, be it a multiple of the coarsest stride or not.
    unit = 1 if size == trained else max(int(level["reduction"]) for level in info)
    fitted = padded(size, unit)
    _resize(own, fitted, trained)
    taps = tuple(str(level.get("module") or i) for i, level in enumerate(info))
    return MapReader(own, fitted, taps, partial(_read, name not in UNNORMED))


def _read(
    norm: bool, module: torch.nn.Module, batch: torch.Tensor, wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    model: Any = module
    found: Sequence[torch.Tensor] = model.forward_intermediates(
        batch, indices=list(wanted), norm=norm, output_fmt="NCHW", intermediates_only=True
    )
    return found


def _resize(module: Any, size: tuple[int, int], trained: tuple[int, ...]) -> None:
    """Fit position embeddings and windows to `size`, by timm's own rule."""
    patches = getattr(module, "patch_embed", None)
    now = getattr(patches, "img_size", None) or trained
    if size != now and hasattr(module, "set_input_size"):
        module.set_input_size(img_size=size)
