"""timm's transform for a model of any source whose preprocessing timm describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoobench.interfaces import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from PIL import Image

    from zoobench.schema import Ref


def overrides(ref: Ref) -> dict[str, Any]:
    """The preprocessing options of `ref`, in the words of timm's data config."""
    changed: dict[str, Any] = {
        name: ref.option(name)
        for name in ("mean", "std", "interpolation", "crop_pct")
        if ref.option(name) is not None
    }
    if (side := ref.option("input_size")) is not None:
        changed["input_size"] = (3, side, side)
    return changed


def timm_preprocessing(
    pretrained_cfg: Mapping[str, Any], ref: Ref
) -> tuple[InputSpec, Callable[[Image.Image], torch.Tensor]]:
    """The evaluation transform of a timm `pretrained_cfg`, with `ref`'s options laid over it."""
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config(args=overrides(ref), pretrained_cfg=dict(pretrained_cfg))
    transform = create_transform(**config, is_training=False)
    spec = InputSpec(
        modality="image",
        size=tuple(config["input_size"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop_pct=float(config["crop_pct"]),
        crop_mode=config["crop_mode"],
        extra=(("transform", "timm"),),
    )
    return spec, transform
