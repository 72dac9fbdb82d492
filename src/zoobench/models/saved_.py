"""saved/NAME?path=FOLDER: what `zoobench save` wrote, as a backbone like any other.

Its features are those that its head reads, so that it can be probed anew, timed, checked and made
smaller. The folder is a stranger's: see `saved.description`. A folder may stand for the whole name
(saved/FOLDER). The revision is a digest of the folder's content.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import CellError, MissingWeights, Unsupported, UserError, opening
from zoobench.interfaces import InputSpec
from zoobench.models import folders, glove, graphs, onnx_session, options, sentence, sound, text
from zoobench.models.backbones import (
    AudioBackbone,
    Blueprint,
    ImageBackbone,
    OurBackbone,
    TextBackbone,
    finish,
)
from zoobench.models.checkpoints import facts
from zoobench.models.saved.description import HEAD, ONNX, Description, describe, read
from zoobench.models.sound_frames import FAMILIES
from zoobench.models.variants import HALVES, OPTION, halves
from zoobench.models.variants.int8 import quiet
from zoobench.models.weights import FROZEN, content_digest
from zoobench.schema import Modality, ModelCard, Ref, digest

if TYPE_CHECKING:
    from zoobench.interfaces import Backbone

OPTIONS = ("path", "modality")
BESIDE = ("README.md", "predict.py")
"""Files that nothing is read from."""
PACKAGES = {
    "timm": ("timm",),
    "torchvision": ("torchvision",),
    "transformers-image": ("transformers", "torchvision"),
    "transformers-text": ("transformers", "tokenizers"),
    "transformers-audio": ("transformers", "scipy"),
    "words": (),
    "onnx": ("onnx", "onnxruntime", "timm", "torchvision"),
}
"""What computes with a library's models, beside torch and Pillow."""
available = folders.available


def cards() -> tuple[ModelCard, ...]:
    return ()


def find(ref: Ref) -> ModelCard:
    """The card of a resolved ref, with what its folder says where that is here."""
    said = ref.option("modality")
    modality: Modality = said if said == "text" or said == "audio" else "image"
    origin = license = "unknown"  # noqa: A001
    graph = False
    # Without its path, as records name it, another folder of this name may be here.
    with contextlib.suppress(CellError, UserError, OSError):
        if ref.option("path") is not None:
            described = read(folders.located(ref))
            origin, license = described.pretrained_on, described.license  # noqa: A001
            graph = described.graph
    return ModelCard(
        "saved", ref.name, modality, ref.revision, "written by zoobench save",
        pretrained_on=origin, license=license, extra=((FROZEN, True),) if graph else (),
    )  # fmt: skip


def resolve(ref: Ref, where: str) -> Ref:
    """Raises UserError for a folder that is none, or another one than the revision says."""
    if ref.option("weights") == "pretrained":
        ref = ref.without("weights")
    options.check_names(ref, where, OPTIONS)
    at = opening(where)
    with folders.looked_at(at):
        folder = folders.located(ref)
        modality, revision = read(folder).modality, _revision(folder)
    if ref.revision not in ("", revision):
        raise UserError(f"{at}{folder}: its content is not that of {ref.id}@{ref.revision}")
    if ref.option("modality", modality) != modality:
        raise UserError(f"{at}{ref.id} reads {modality}, not {ref.option('modality')}")
    # Absolute: a run is resumed, and its suite read again, from other folders.
    located = {"path": os.path.abspath(folder), "modality": modality}
    last = Path(os.path.abspath(ref.name)).name
    return Ref("saved", last or "saved", revision, located.items())


def load(ref: Ref, seed: int) -> Backbone:
    """Raises Unsupported, MissingWeights where the folder is not what it was when it was named,
    MissingExtra."""
    if ref.option("weights", "pretrained") != "pretrained":
        raise Unsupported(f"{ref.short}: of a saved model there are no random weights")
    folder = folders.located(ref)
    described = describe(folder)
    revision = _revision(folder)
    if ref.revision not in ("", revision):
        raise MissingWeights(f"{folder}: it has changed since it was named")
    with quiet():
        backbone = _made(folder, described)
        provenance = {
            "weights": "saved", "revision": revision, **facts(folder / described.weights)
        }  # fmt: skip
        if described.variant:
            provenance[OPTION] = {"name": described.variant}
        return finish(backbone, provenance, PACKAGES[described.library])


def _made(folder: Path, described: Description) -> OurBackbone:
    if described.library == "words":
        return _words(folder, described)
    make: Mapping[str, Callable[[Path, Description], OurBackbone]] = {
        "image": _pictures, "text": _texts, "audio": _recordings,
    }  # fmt: skip
    return make[described.modality](folder, described)


def _revision(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.name not in BESIDE)
    return content_digest([folders.inside(folder, name) for name in names], folder)


def _blueprint(
    folder: Path, described: Description, parts: Callable[[Any], Any] | None = None
) -> Blueprint:
    """How it is saved again, in the type of folder that it came in."""

    def write(new: Path, _: Any) -> None:
        weights = (described.weights, HEAD, "predict.json", *BESIDE)
        for path in folder.iterdir():
            if path.name not in weights:
                shutil.copyfile(folders.inside(folder, path.name), new / path.name)

    more = {} if parts is None else {"parts": parts}
    return Blueprint(described.library, described.model, write, **more)


def _pictures(folder: Path, described: Description) -> ImageBackbone:
    from PIL import Image

    transform, network, features = described.script.parts(
        folder, described.model, described.variant
    )
    if described.graph:
        network = onnx_session.module_of((folder / ONNX).read_bytes())
        pool = described.model["pool"] if described.library == "onnx" else ""
        features = partial(graphs.pooled, pool, 1)
    how: Mapping[str, Any] = described.model.get("transform", {})
    channels, height, width = transform(Image.new("RGB", (64, 64))).shape
    spec = InputSpec(
        modality="image",
        size=(channels, height, width),
        mean=tuple(how.get("mean", ())),
        std=tuple(how.get("std", ())),
        interpolation=str(how.get("interpolation", "")),
        crop_pct=float(how.get("crop_pct", 1.0)),
        crop_mode=str(how.get("crop_mode", "")),
        extra=(("saved", digest([described.library, described.model, _settings(folder)])),),
    )
    return ImageBackbone(
        network, spec, "as saved", transform, features, blueprint=_blueprint(folder, described)
    )


def _settings(folder: Path) -> str:
    """Of an image processor, "" where the library has none."""
    path = folder / "preprocessor_config.json"
    return path.read_text("utf-8") if path.is_file() else ""


def _texts(folder: Path, described: Description) -> TextBackbone:
    import torch

    made = described.model
    tokenizer, encoder, dense, _ = described.script.parts(folder, made, described.variant)
    layers = tuple(
        None if layer == "normalize" else sentence.Dense(folder, 0, 0, bias=False, activation=layer)
        for layer in made["layers"]
    )
    how = sentence.PoolingRecipe(made["pool"], layers)
    module = encoder
    if any(layers):
        module = torch.nn.ModuleDict({"encoder": encoder})
        module.config = encoder.config
        places = [place for place, layer in enumerate(layers) if layer]
        for number, place in enumerate(places):
            activation = getattr(torch.nn, made["layers"][place])()
            module[f"dense_{number}"] = torch.nn.Sequential(dense[str(place)], activation)
    pad = text.padding(tokenizer, encoder.config)
    told = {"prefix": made["prefix"], "tokenizer": text.tokenizer_digest(tokenizer)}
    return TextBackbone(
        module,
        InputSpec(modality="text", length=made["length"], extra=tuple(told.items())),
        how.pooling,
        partial(text.tokenized, tokenizer, made["length"], made["prefix"], pad),
        partial(sentence.pooled, how),
        pad_id=pad,
        blueprint=_blueprint(folder, described, partial(sentence.parts, how)),
        rules=text.tokenizer_rules(tokenizer),
    )


def _recordings(folder: Path, described: Description) -> AudioBackbone:
    made = described.model
    extractor, network = described.script.parts(folder, made, described.variant)
    family = FAMILIES[made["fed"]]
    kind = sound.AudioArchitecture(made["class"], family, made["part"])
    ref = Ref("saved", folder.name).with_options(pool=made["pool"])
    found: Any = sound.encoder_of(ref, network, extractor, kind)
    if described.variant in HALVES:
        found, _ = getattr(halves, described.variant)(found)
    found.input_spec = replace(found.input_spec, length=made["length"], rate=made["rate"])
    found.blueprint = _blueprint(folder, described)
    made_of: AudioBackbone = found
    return made_of


def _words(folder: Path, described: Description) -> TextBackbone:
    backbone = glove.of_vectors(
        folders.tensors([folder / described.weights])["weight"],
        folders.read_json(folder / "words.json"),
        described.model["length"],
    )
    backbone.blueprint = _blueprint(folder, described)
    return backbone
