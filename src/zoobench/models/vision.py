"""A transformers folder as an image encoder: its own processor, its own pooling."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import Unsupported
from zoobench.interfaces import InputSpec
from zoobench.models import two_towers, vision_maps
from zoobench.models.backbones import Blueprint, ImageBackbone, finish, seeded
from zoobench.models.text import encoder, quiet, transformers_errors

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from zoobench.schema import Ref

POOLS = ("pooler", "cls", "mean")
TOWERS = {
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "siglip2": "Siglip2VisionModel",
    "chinese_clip": "ChineseCLIPVisionModel",
}
"""Image-text models, of which the image tower alone is loaded."""
SWITCHES: dict[str, Mapping[str, Any]] = {"vit_mae": {"mask_ratio": 0.0}}
"""By model type: the settings with which features are of the whole picture, where its own are for
pre-training. ViT-MAE drops three quarters of the patches at random, in eval mode too."""


def _processed(processor: Any, arguments: Mapping[str, Any], picture: Image.Image) -> torch.Tensor:
    """(3, H, W) float32 through the folder's own processor."""
    values = processor(images=picture, return_tensors="pt", **arguments)
    pixels: torch.Tensor = values["pixel_values"][0].float()
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise Unsupported(
            f"its {type(processor).__name__} gives {tuple(pixels.shape)}, "
            "not a picture of 3 channels"
        )
    return pixels


def _features(
    pool: str, arguments: Mapping[str, Any], module: torch.nn.Module, batch: torch.Tensor
) -> torch.Tensor:
    """(N, D) from (N, 3, H, W). "pooler" is the model's own pooled output."""
    output = module(pixel_values=batch, **arguments)
    if pool == "pooler":
        pooled: torch.Tensor = output.pooler_output
        return pooled.flatten(1)  # ResNet and its like pool to (N, D, 1, 1)
    hidden: torch.Tensor = output.last_hidden_state
    if hidden.ndim == 4:
        return hidden.mean((2, 3))
    return hidden[:, 0] if pool == "cls" else hidden.mean(1)


def load_folder(folder: Path, ref: Ref, seed: int, provenance: Mapping[str, Any]) -> ImageBackbone:
    """The image encoder in `folder`. Raises MissingWeights, Unsupported."""
    from transformers import AutoImageProcessor

    what = f"{ref.short} in {folder}"
    with transformers_errors(f"the image processor of {what}"), quiet():
        processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    with transformers_errors(f"the image processor of {what}"):
        transform, spec = preprocessing(processor, ref)
    with seeded(seed):
        module, notes = encoder(folder, ref, TOWERS)
    config: Any = module.config
    if (channels := getattr(config, "num_channels", 3)) != 3:
        raise Unsupported(f"{what}: it reads pictures of {channels} channels, not of 3")
    for name, value in SWITCHES.get(config.model_type, {}).items():
        setattr(config, name, value)
    # A pooler that was never trained is no pooler.
    with transformers_errors(f"a picture through {what}"):
        trained = "pooler" if _pools(module, spec) else "mean"
    default = "cls" if notes.get("untrained_keys") else trained
    pool = str(ref.option("pool", default))
    if pool == "pooler" and default != "pooler":
        raise Unsupported(f"{what}: these weights have no trained pooler; known: cls, mean")
    forward = partial(_features, pool, resized(module, spec))
    backbone = ImageBackbone(module, spec, pool, transform, forward)
    told = {
        "class": type(module).__name__,
        "pool": pool,
        "forward": resized(module, spec),
        "processing": transform.args[1],
    }
    backbone.blueprint = Blueprint("transformers-image", told, partial(_write, processor))
    backbone.reads_maps = vision_maps.reader
    if pool == "pooler" and two_towers.family_of(folder):
        backbone.reads_texts = partial(two_towers.text_tower, folder, ref, seed)
    return finish(backbone, {**provenance, **notes}, ("transformers", "torchvision", "pillow"))


def _write(processor: Any, folder: Path, module: Any) -> None:
    """What `load_folder` reads of a folder, but for the weights."""
    processor.save_pretrained(folder)
    module.config.save_pretrained(folder)


def _pools(module: Any, spec: InputSpec) -> bool:
    import torch

    with torch.no_grad():
        output = module.eval()(
            pixel_values=torch.zeros(1, *(spec.size or (3, 224, 224))), **resized(module, spec)
        )
    return getattr(output, "pooler_output", None) is not None


def resized(module: Any, spec: InputSpec) -> dict[str, Any]:
    """What a forward pass has to be told when pictures have another size than in training."""
    import inspect

    own = getattr(module.config, "image_size", None)
    side = spec.size[-1] if spec.size else None
    known = "interpolate_pos_encoding" in inspect.signature(module.forward).parameters
    return {"interpolate_pos_encoding": True} if known and own not in (None, side) else {}


def preprocessing(processor: Any, ref: Ref) -> tuple[partial[torch.Tensor], InputSpec]:
    from PIL import Image

    arguments: dict[str, Any] = {
        ours: list(ref.option(name))
        for name, ours in (("mean", "image_mean"), ("std", "image_std"))
        if ref.option(name) is not None
    }
    if (interpolation := ref.option("interpolation")) is not None:
        arguments["resample"] = Image.Resampling[str(interpolation).upper()]
    arguments |= _sizes(processor, ref)
    process = partial(_processed, processor, arguments)
    # What comes out is the truth about the size: crop and size rules differ by processor.
    shape = tuple(process(Image.new("RGB", (320, 320))).shape)
    resample = arguments.get("resample", getattr(processor, "resample", None))
    name = Image.Resampling(int(resample)).name.lower() if resample is not None else ""
    spec = InputSpec(
        modality="image",
        size=(shape[0], shape[1], shape[2]),
        mean=tuple(arguments.get("image_mean") or getattr(processor, "image_mean", None) or ()),
        std=tuple(arguments.get("image_std") or getattr(processor, "image_std", None) or ()),
        interpolation=name,
        extra=(
            ("processor", type(processor).__name__),
            ("size", str(arguments.get("size", getattr(processor, "size", "")))),
            ("crop", str(arguments.get("crop_size", getattr(processor, "crop_size", "")))),
        ),
    )
    return process, spec


def _sizes(processor: Any, ref: Ref) -> dict[str, Any]:
    """`input_size` and `crop_pct` in the processor's own words."""
    side, crop_pct = ref.option("input_size"), ref.option("crop_pct")
    if side is None and crop_pct is None:
        return {}
    size = dict(processor.size)
    crop = (
        getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", 0) else None
    )
    if crop:
        old = int(crop["height"])
        side = side or old
        edge = int(size.get("shortest_edge") or size.get("height") or old)
        edge = round(side / crop_pct) if crop_pct else round(side * edge / old)
        resized = {"shortest_edge": edge} if "shortest_edge" in size else _square(edge)
        return {"size": resized, "crop_size": _square(side)}
    if side is None:
        side = int(size.get("shortest_edge") or size.get("height") or 224)
    chosen: dict[str, Any] = {
        "size": {"shortest_edge": side} if "shortest_edge" in size else _square(side)
    }
    if crop_pct is not None:
        if not hasattr(processor, "crop_pct"):
            raise Unsupported(f"{ref.short}: its processor does not crop by crop_pct")
        chosen["crop_pct"] = crop_pct
    return chosen


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}
