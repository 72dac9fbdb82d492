"""timm's transform for models of any source, and what of a transform makes 8-bit pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from zoobench.interfaces import InputSpec
from zoobench.machine import constant

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
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


@dataclass(frozen=True)
class PixelPath:
    """An evaluation transform, cut where its picture becomes a tensor.

    `shape` turns an RGB picture into one of the model's size, in 8 bits; `geometry` says
    in words all that it depends on, and is equal for models that share it.
    """

    shape: Callable[[Image.Image], Image.Image]
    geometry: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """(H, W, 3)."""
        import numpy as np

        return np.array(self.shape(picture if picture.mode == "RGB" else picture.convert("RGB")))

    def tensor(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) float32 in channels-last from (B, H, W, 3) uint8, on its device.

        The steps are those of torchvision's to_tensor and normalize, in their order: the
        values are equal to the last bit.
        """
        import torch

        batch = pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255)
        mean, std = (constant(each, batch.device).view(-1, 1, 1) for each in (self.mean, self.std))
        return batch.sub_(mean).div_(std)


def pixel_path(transform: Any) -> PixelPath | None:
    """The cut of a timm transform or of a torchvision preset, None for any other."""
    steps: list[Any] = list(getattr(transform, "transforms", ()))
    kinds = [type(step).__name__ for step in steps]
    if kinds[-2:] in (["MaybeToTensor", "Normalize"], ["ToTensor", "Normalize"]):
        from torchvision.transforms import Compose

        before, last = steps[:-2], steps[-1]
        mean, std = (tuple(float(v) for v in values) for values in (last.mean, last.std))
        return PixelPath(Compose(before), repr(before), mean, std)
    if type(transform).__name__ == "ImageClassification":
        wanted = ("resize_size", "crop_size", "interpolation", "antialias")
        said = {name: str(getattr(transform, name)) for name in wanted}
        mean, std = tuple(transform.mean), tuple(transform.std)
        return PixelPath(partial(_preset_shape, transform), f"torchvision {said}", mean, std)
    return None


def _preset_shape(preset: Any, picture: Image.Image) -> Image.Image:
    """The geometric part of torchvision's classification preset, on a PIL picture."""
    from torchvision.transforms import functional

    sized = functional.resize(
        picture, preset.resize_size, interpolation=preset.interpolation, antialias=preset.antialias
    )
    result: Image.Image = functional.center_crop(sized, preset.crop_size)
    return result
