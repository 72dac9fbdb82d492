"""keras/...: networks of Keras 3, on its torch backend (extra keras).

    keras/MobileNetV2                            of keras.applications, with weights of ImageNet
    keras/MobileNetV2?weights=FILE.weights.h5    the same with weights of one's own
    keras/NAME?path=FILE.keras                   a whole model that Keras saved

Their modules are torch's, so that they are probed, tuned, counted and made smaller as any other.
Features are what the average over places gives before the classifier; of a saved model what the
dense layer reads that makes its answers. No layer runs code that is not Keras's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors
from zoobench.errors import CellError, MissingWeights, Unsupported, UserError, opening
from zoobench.files import expanded
from zoobench.models import checkpoints, options
from zoobench.models.backbones import ImageBackbone, finish
from zoobench.models.weights import content_digest
from zoobench.schema import ModelCard, Ref

if TYPE_CHECKING:
    import torch

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BYTE = (1 / 255,) * 3
MODES: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "tf": ((0.5,) * 3, (0.5,) * 3),
    "torch": IMAGENET,
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), BYTE),
    "inside": ((0.0,) * 3, BYTE),
}
"""Mean and deviation of pixels in [0, 1] that make of them what `preprocess_input` makes, by its
mode: from -1 to 1; ImageNet's; 0 to 255 less the mean, as BGR; 0 to 255, the network does the
rest."""


@dataclass(frozen=True)
class Application:
    """A network of keras.applications: its mode of MODES, and the side of its pictures."""

    mode: str
    side: int = 224


APPLICATIONS: Mapping[str, Application] = {
    "ConvNeXtTiny": Application("inside"),
    "ConvNeXtSmall": Application("inside"),
    "ConvNeXtBase": Application("inside"),
    "ConvNeXtLarge": Application("inside"),
    "DenseNet121": Application("torch"),
    "DenseNet169": Application("torch"),
    "DenseNet201": Application("torch"),
    "EfficientNetB0": Application("inside"),
    "EfficientNetB1": Application("inside", 240),
    "EfficientNetB2": Application("inside", 260),
    "EfficientNetB3": Application("inside", 300),
    "EfficientNetB4": Application("inside", 380),
    "EfficientNetB5": Application("inside", 456),
    "EfficientNetB6": Application("inside", 528),
    "EfficientNetB7": Application("inside", 600),
    "EfficientNetV2B0": Application("inside"),
    "EfficientNetV2B1": Application("inside", 240),
    "EfficientNetV2B2": Application("inside", 260),
    "EfficientNetV2B3": Application("inside", 300),
    "EfficientNetV2S": Application("inside", 384),
    "EfficientNetV2M": Application("inside", 480),
    "EfficientNetV2L": Application("inside", 480),
    "InceptionResNetV2": Application("tf", 299),
    "InceptionV3": Application("tf", 299),
    "MobileNet": Application("tf"),
    "MobileNetV2": Application("tf"),
    "MobileNetV3Large": Application("inside"),
    "MobileNetV3Small": Application("inside"),
    "NASNetLarge": Application("tf", 331),
    "NASNetMobile": Application("tf"),
    "ResNet50": Application("caffe"),
    "ResNet101": Application("caffe"),
    "ResNet152": Application("caffe"),
    "ResNet50V2": Application("tf"),
    "ResNet101V2": Application("tf"),
    "ResNet152V2": Application("tf"),
    "VGG16": Application("caffe"),
    "VGG19": Application("caffe"),
    "Xception": Application("tf", 299),
}
POOLS = ("avg", "max")
SUFFIX, OWN_WEIGHTS = ".keras", ".weights.h5"
GUESS, GUESSED_SIDE, CROP, INTERPOLATION = "tf", 224, 0.875, "bilinear"
"""Of a saved model of which nobody says how pictures become its input, and of all others what
Keras does not say: how a picture becomes one of that side."""


def cards() -> tuple[ModelCard, ...]:
    return tuple(
        ModelCard(
            "keras", name, "image", weights="downloaded by Keras", pretrained_on="ImageNet-1k",
            family=name.casefold(), extra=(("input_size", one.side),),
        )
        for name, one in APPLICATIONS.items()
    )  # fmt: skip


def find(ref: Ref) -> ModelCard:
    """The card of a resolved ref."""
    for card in cards():
        if card.name == ref.name and ref.option("path") is None:
            return card
    family = str(ref.option("family", ref.name))
    return ModelCard("keras", ref.name, "image", ref.revision, "a file of Keras", family=family)


def resolve(ref: Ref, where: str) -> Ref:
    """Raises UserError for an unknown name or option, a file that is none, or another one than the
    revision says; MissingExtra."""
    from zoobench.models import keras_files

    at = opening(where)
    if ref.option("path") is None and ref.name.endswith(SUFFIX):
        named = Ref(ref.source, Path(ref.name).stem or "keras", ref.revision, ref.options)
        ref = named.with_options(path=ref.name)
    if ref.option("path") is not None:
        return _resolved_file(ref, at, where)
    if ref.name not in APPLICATIONS:
        known = [f"keras/{name}" for name in APPLICATIONS]
        raise errors.unknown(where, "model", ref.id, known, f"(or say path=FILE{SUFFIX})")
    if ref.revision:
        raise UserError(f"{at}{ref.id}: networks of keras.applications have no revisions")
    application = APPLICATIONS[ref.name]
    mean, std = MODES[application.mode]
    known_values: dict[str, Any] = {
        "input_size": application.side, "pool": POOLS[0], "mean": mean, "std": std,
        "crop_pct": CROP, "interpolation": INTERPOLATION,
    }  # fmt: skip
    weights = ref.option("weights")
    own = weights if isinstance(weights, str) and weights.endswith(OWN_WEIGHTS) else ""
    if own and not expanded(own).is_file():
        raise UserError(f"{at}{ref.id}: weights: there is no file {own}")
    if not own and weights not in (None, "pretrained", "random"):
        raise UserError(
            f"{at}{ref.id}: weights are pretrained, random, or a file{OWN_WEIGHTS}, not {weights!r}"
        )
    asked = ref.without("weights") if own else ref
    named = options.normalise(asked, where, "image", known_values, POOLS)
    keras_files.require(f"{at}{ref.id}")
    return named.with_options(weights=own) if own else named


def _resolved_file(ref: Ref, at: str, where: str) -> Ref:
    from zoobench.models import keras_files

    path = expanded(str(ref.option("path")))
    if ref.option("weights", "pretrained") not in ("pretrained", "random"):
        raise UserError(f"{at}{ref.id}: the weights of {path} are its own, or random")
    keras_files.require(f"{at}{ref.id}")
    try:
        keras_files.check(path)
    except CellError as error:
        raise UserError(f"{at}{error}") from error
    revision = content_digest([path], None)
    if ref.revision not in ("", revision):
        raise UserError(f"{at}{path}: its content is not that of {ref.id}@{ref.revision}")
    more = ("path", "family", "bgr")
    if ref.option("bgr", False) not in (True, False):
        raise UserError(f"{at}{ref.id}: bgr is true or false")
    named = options.normalise(ref, where, "image", {}, (), more)
    return named.with_options(path=os.path.abspath(path)).at(revision)


def available(ref: Ref) -> tuple[bool, str]:
    """Whether it can be loaded without a download, and where it is or how it is got."""
    from zoobench.models import keras_files

    try:
        keras_files.require(ref.id)
    except errors.MissingExtra as error:
        return False, str(error)
    given = str(ref.option("path", ref.option("weights", "pretrained")))
    if given != "pretrained":
        there = expanded(given).is_file()
        return there, f"the file {given}" if there else f"no file {given}"
    folder = Path(os.environ.get("KERAS_HOME", expanded("~/.keras"))) / "models"
    stem = _plain(ref.name)
    held = [one for one in folder.glob("*.h5") if _plain(one.name).startswith(stem)]
    none = [one for one in held if "no_top" in one.name or "notop" in one.name]
    return (True, f"in {folder}") if none else (False, "downloaded by Keras when it is loaded")


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


def load(ref: Ref, seed: int) -> ImageBackbone:
    """Raises MissingWeights, MissingExtra, and Unsupported for a model that does not read pictures
    of three channels."""
    from zoobench.models import keras_network
    from zoobench.models.images import timm_preprocessing

    keras = keras_network.library()
    with keras_network.drawn_from(seed):
        module, mode, side, provenance = (
            _application(keras, ref) if ref.option("path") is None else _saved(keras, ref)
        )
    mean, std = MODES[mode]
    told = {
        "input_size": (3, side, side), "mean": mean, "std": std, "crop_pct": CROP,
        "interpolation": INTERPOLATION,
    }  # fmt: skip
    spec, transform = timm_preprocessing(told, ref)
    pool = str(ref.option("pool", POOLS[0]))
    pooling = f"{pool} before the classifier" if ref.option("path") is None else "as saved"
    made = ImageBackbone(module, spec, pooling, transform, keras_network.features)
    return finish(made, {"mode": mode, **provenance}, ("keras", "timm", "torchvision"))


def _application(keras: Any, ref: Ref) -> tuple[torch.nn.Module, str, int, dict[str, Any]]:
    """A network of keras.applications, its mode, its side, and what its record says of it."""
    from zoobench.models import keras_files
    from zoobench.models.keras_network import module_of

    application, weights = APPLICATIONS[ref.name], str(ref.option("weights", "pretrained"))
    side = int(ref.option("input_size", application.side))
    provenance: dict[str, Any] = {"weights": weights}
    own = weights not in ("pretrained", "random")
    if own:
        path = expanded(weights)
        provenance |= checkpoints.facts(path)
        keras_files.check_weights(path, path)
    try:
        net = getattr(keras.applications, ref.name)(
            include_top=False, input_shape=(side, side, 3), pooling=ref.option("pool", POOLS[0]),
            weights="imagenet" if weights == "pretrained" else None,
        )  # fmt: skip
        if own:
            net.load_weights(path)
    except (OSError, ValueError) as error:
        why = errors.one_line(error)
        raise MissingWeights(f"{ref.short}: its weights cannot be had: {why}") from error
    return module_of(net, application.mode == "caffe"), application.mode, side, provenance


def _saved(keras: Any, ref: Ref) -> tuple[torch.nn.Module, str, int, dict[str, Any]]:
    """A model that was saved whole, up to its features."""
    from zoobench.models import keras_files, keras_network, picture_inputs
    from zoobench.models.keras_network import module_of

    path = expanded(str(ref.option("path")))
    keras_files.check(path)
    if ref.revision not in ("", content_digest([path], None)):
        raise MissingWeights(f"{path}: it has changed since it was named")
    net = keras.saving.load_model(path, compile=False, safe_mode=True)
    if ref.option("weights") == "random":
        net = keras.models.clone_model(net)
    shape = getattr(net, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[3] != 3:
        raise Unsupported(f"{path}: it reads {shape}, not pictures with three channels last")
    fixed = [one for one in shape[1:3] if one]
    if fixed and (len(set(fixed)) > 1 or int(ref.option("input_size", fixed[0])) != fixed[0]):
        raise Unsupported(f"{path}: it reads pictures of {shape[1:3]}, and of no other size")
    side = int(ref.option("input_size", fixed[0] if fixed else GUESSED_SIDE))
    if max(fixed, default=0) > picture_inputs.LARGEST_SIDE:
        most = picture_inputs.LARGEST_SIDE
        raise Unsupported(f"{path}: it reads pictures of {shape[1:3]}, more than {most} a side")
    read, tap = keras_network.classifier_input(keras, net, path)
    inside = keras_network.scales_itself(keras, net)
    guessed = [name for name in ("mean", "std") if ref.option(name) is None and not inside]
    if not fixed and ref.option("input_size") is None:
        guessed.append("input_size")
    taken = keras.Model(net.inputs, read)
    provenance = {
        "weights": str(ref.option("weights", "pretrained")), **checkpoints.facts(path),
        "tap": tap,
        **({"guessed": guessed} if guessed else {}),
    }  # fmt: skip
    module = module_of(taken, bool(ref.option("bgr", False)))
    return module, "inside" if inside else GUESS, side, provenance
