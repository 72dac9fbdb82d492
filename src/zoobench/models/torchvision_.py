"""torchvision/...: its classification models; the revision is the name of the weights.

Files come from torch.hub's downloader and cache ($TORCH_HOME), and are read with
weights_only, which torchvision's own loader does not ask for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors
from zoobench.errors import Unsupported
from zoobench.interfaces import InputSpec
from zoobench.models import checkpoints, index, options, torchhub, torchvision_maps
from zoobench.models.backbones import Blueprint, ImageBackbone, finish, seeded
from zoobench.schema import ModelCard

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Backbone
    from zoobench.models.checkpoints import State
    from zoobench.schema import Ref
    from zoobench.transfer import Meter

POOLING = "penultimate"
"""The one pooling: whatever the last layer was given (documented in docs/models.md)."""
LIBRARIES = ("torchvision", "pillow")
DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")


def cards() -> tuple[ModelCard, ...]:
    import torchvision.models as zoo

    return tuple(
        _card(name, weights, weights is zoo.get_model_weights(name).DEFAULT)
        for name in zoo.list_models(module=zoo)
        for weights in zoo.get_model_weights(name)
    )


def _card(name: str, weights: Any, default: bool) -> ModelCard:
    swag = "SWAG" in weights.name
    side = _preset(weights)["crop_size"]
    extra = (("input_size", side), ("url", weights.url))
    return ModelCard(
        source="torchvision",
        name=name,
        modality="image",
        revision=weights.name,
        weights=weights.url,
        pretrained_on="Instagram hashtags, ImageNet-1k" if swag else "ImageNet-1k",
        # torchvision gives the code's licence only; SWAG states its own for the weights.
        license="CC-BY-NC-4.0" if swag else "unknown",
        family=index.family(name),
        extra=(*extra, ("default", True)) if default else extra,
    )


def find(ref: Ref, where: str = "") -> ModelCard:
    """The card of `ref`'s name and revision ("" is the default). Raises UnknownName."""
    table = index.by_name("torchvision")
    if ref.name not in table:
        raise errors.unknown(where, "model", ref.id, [f"torchvision/{name}" for name in table])
    rows = {card.revision: card for card in table[ref.name]}
    if ref.revision and ref.revision not in rows:
        raise errors.unknown(where, "weights", ref.revision, rows, f"of {ref.id}")
    return rows[ref.revision] if ref.revision else table[ref.name][0]


def resolve(ref: Ref, where: str) -> Ref:
    card = find(ref, where)
    known = {"input_size": dict(card.extra)["input_size"], "pool": POOLING}
    named = options.normalise(ref.at(card.revision), where, "image", known, (POOLING,))
    return options.refuse_folder(named, where)


def available(ref: Ref) -> tuple[bool, str]:
    weights = ref.option("weights", "pretrained")
    if weights != "pretrained":
        return Path(str(weights)).exists(), f"local {weights}"
    return torchhub.available(str(dict(find(ref).extra)["url"]))


def fetch(ref: Ref, meter: Meter) -> None:
    """Download what `load` will read. Raises MissingWeights."""
    torchhub.fetch(str(dict(find(ref).extra)["url"]), meter)


def load(ref: Ref, seed: int) -> Backbone:
    """Raises MissingWeights, and Unsupported for what does not fit or cannot be resized."""
    module, enum, provenance = whole(ref, seed)
    last = _last_layer(module)
    _behead(module, last)
    spec, transform = preprocessing(enum, ref)
    backbone = ImageBackbone(module, spec, f"{POOLING} (input of {last})", transform, forward)
    backbone.blueprint = Blueprint("torchvision", _settings(ref, enum, last, spec))
    backbone.reads_maps = torchvision_maps.reader
    return finish(backbone, provenance, LIBRARIES)


def whole(ref: Ref, seed: int) -> tuple[Any, Any, dict[str, Any]]:
    """The module with its classifier, torchvision's member of its weights, and what its record says
    of it. Raises as `load` does."""
    import torchvision.models as zoo

    enum = zoo.get_model_weights(ref.name)[find(ref).revision]
    weights = str(ref.option("weights", "pretrained"))
    provenance: dict[str, Any] = {"weights": weights, "revision": enum.name}
    path: Path | None = None
    if weights == "pretrained":
        path, sha256 = torchhub.fetch(enum.url)
        provenance |= {**checkpoints.facts(path, sha256), "url": enum.url}
    elif weights != "random":
        path = Path(weights)
        provenance |= checkpoints.facts(path)
    with seeded(seed):
        module = _create(ref, enum, auxiliary=path is not None)
    last = _last_layer(module)
    if path is not None:
        whole = checkpoints.read(path, str(ref.option("prefix", "")))
        inner = checkpoints.unwrap(whole, module.state_dict())
        state = _prepared(inner, module)
        heads = () if weights == "pretrained" else (last, "aux1", "aux2", "AuxLogits")
        dropped = checkpoints.fit(module, state, f"{path} into {ref.short}", heads)
        dropped = (*checkpoints.left_out(whole, inner), *dropped)
        provenance |= {"dropped_keys": list(dropped)} if dropped else {}
    _drop_auxiliary(module)
    return module, enum, provenance


def _settings(ref: Ref, enum: Any, last: str, spec: InputSpec) -> dict[str, Any]:
    """What torchvision makes the same model and transform of; `last` is the classifier's place."""
    arguments = _arguments(ref, enum, auxiliary=False)
    extra = dict(spec.extra)
    return {
        "architecture": ref.name,
        "weights": enum.name,
        "arguments": arguments | ({"init_weights": False} if "init_weights" in arguments else {}),
        "last": last,
        "transform": {
            "crop_size": spec.size[-1] if spec.size else 0,
            "resize_size": extra["resize"],
            "mean": spec.mean,
            "std": spec.std,
            "antialias": extra["antialias"],
        },
        "interpolation": spec.interpolation,
    }


def _arguments(ref: Ref, enum: Any, auxiliary: bool) -> dict[str, Any]:
    """Of the model's constructor."""
    arguments: dict[str, Any] = {"num_classes": len(enum.meta["categories"])}
    if ref.name in ("googlenet", "inception_v3"):
        # As torchvision does for pretrained ones: inputs are renormalised inside, and the
        # auxiliary classifiers are there to be filled. Initialising is slow, so only if kept.
        arguments |= {"transform_input": True, "aux_logits": auxiliary}
        arguments["init_weights"] = not auxiliary
    side = ref.option("input_size")
    if ref.name.startswith("vit_"):
        arguments["image_size"] = side or _preset(enum)["crop_size"]
    elif ref.name.startswith("maxvit") and side is not None:
        arguments["input_size"] = (side, side)
    return arguments


def _create(ref: Ref, enum: Any, auxiliary: bool) -> Any:
    import torchvision.models as zoo

    try:
        return zoo.get_model(ref.name, weights=None, **_arguments(ref, enum, auxiliary))
    except (ValueError, RuntimeError, AssertionError) as error:
        raise Unsupported(f"{ref.short}: torchvision cannot build it so: {error}") from error


def _prepared(state: State, module: Any) -> State:
    """`state` as the model wants it: DenseNet's old names, position embeddings resized."""
    own = dict(module.state_dict())
    state = {DENSENET.sub(r"\1\2", key): value for key, value in state.items()}
    position = "encoder.pos_embedding"
    if position in state and position in own and state[position].shape != own[position].shape:
        from collections import OrderedDict

        from torchvision.models.vision_transformer import interpolate_embeddings

        state = dict(
            interpolate_embeddings(module.image_size, module.patch_size, OrderedDict(state))
        )
    return state


def _last_layer(module: Any) -> str:
    """The classifier, found by structure: the last Linear, or in SqueezeNet the last Conv2d."""
    import torch

    for kind in (torch.nn.Linear, torch.nn.Conv2d):
        names = [name for name, layer in module.named_modules() if isinstance(layer, kind)]
        if names:
            return str(names[-1])
    raise Unsupported(f"{type(module).__name__} has no layer that could be its classifier")


def _behead(module: Any, last: str) -> None:
    import torch

    parent, _, name = last.rpartition(".")
    setattr(module.get_submodule(parent), name, torch.nn.Identity())


def _drop_auxiliary(module: Any) -> None:
    for auxiliary in ("aux1", "aux2", "AuxLogits"):
        if hasattr(module, auxiliary):
            setattr(module, auxiliary, None)
    if hasattr(module, "aux_logits"):
        module.aux_logits = False


def forward(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """What a module of torchvision gives, as a tensor."""
    output: Any = module(batch)
    # GoogLeNet and Inception wrap what they return when they train.
    features: torch.Tensor = output.logits if hasattr(output, "logits") else output
    return features


def _preset(enum: Any) -> dict[str, Any]:
    """The arguments of the evaluation transform that belongs to the weights."""
    preset = enum.transforms()
    return {
        "crop_size": preset.crop_size[0],
        "resize_size": preset.resize_size[0],
        "mean": tuple(preset.mean),
        "std": tuple(preset.std),
        "interpolation": preset.interpolation,
        "antialias": preset.antialias,
    }


def preprocessing(enum: Any, ref: Ref) -> tuple[InputSpec, Any]:
    """The evaluation transform that belongs to the weights, with `ref`'s options laid over it."""
    from torchvision.transforms import InterpolationMode

    preset = _preset(enum)
    crop_pct = float(ref.option("crop_pct", preset["crop_size"] / preset["resize_size"]))
    changed = {name: ref.option(name) for name in ("mean", "std") if ref.option(name) is not None}
    if (side := ref.option("input_size")) is not None or ref.option("crop_pct") is not None:
        side = side or preset["crop_size"]
        changed |= {"crop_size": side, "resize_size": round(side / crop_pct)}
    if (interpolation := ref.option("interpolation")) is not None:
        changed["interpolation"] = InterpolationMode(interpolation)
    final = {**preset, **changed}
    transform = enum.transforms(**changed) if changed else enum.transforms()
    spec = InputSpec(
        modality="image",
        size=(3, final["crop_size"], final["crop_size"]),
        mean=tuple(final["mean"]),
        std=tuple(final["std"]),
        interpolation=final["interpolation"].value,
        crop_pct=final["crop_size"] / final["resize_size"],
        crop_mode="center",
        extra=(
            ("transform", "torchvision"),
            ("resize", final["resize_size"]),
            ("antialias", bool(final["antialias"])),
        ),
    )
    return spec, transform
