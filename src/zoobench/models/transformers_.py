"""hf/...: encoders of transformers, from the hub or from a local folder.

Any repository may be named; those in the catalogue have a card. Nothing but what
transformers itself implements is run (no trust_remote_code).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors, hub
from zoobench.errors import MissingWeights, UserError, opening
from zoobench.files import expanded, parse_json
from zoobench.models import checkpoints, folders, options, sentence, sound, text, two_towers, vision
from zoobench.models.catalog import HF
from zoobench.schema import Modality, ModelCard, Ref

if TYPE_CHECKING:
    from zoobench.interfaces import Backbone
    from zoobench.schema import Value
    from zoobench.transfer import Meter


SHARD = re.compile(r"model-\d+-of-(\d+)\.safetensors")
POOLS: dict[Modality, tuple[str, ...]] = {
    "image": vision.POOLS, "text": sentence.POOLS, "audio": sound.POOLS,
}  # fmt: skip
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
SIDE_FILES = (
    *text.TOKENIZERS,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "modules.json",
    sentence.PROMPTS,
    *sentence.TRANSFORMER,
    *PROCESSORS,
)
LAYER = re.compile(r"\d+_[A-Za-z]+/(config\.json|model\.safetensors|pytorch_model\.bin)")
"""Files of the modules that sentence-transformers puts on top of a Transformer."""


def cards() -> tuple[ModelCard, ...]:
    return HF


def catalogued(name: str) -> ModelCard | None:
    """The card of a full name, or of a last part that only one card has."""
    same = [card for card in HF if card.name == name]
    same = same or [card for card in HF if card.name.rpartition("/")[2] == name]
    return same[0] if len(same) == 1 else None


def find(ref: Ref) -> ModelCard:
    """The card of a resolved ref; an uncatalogued one says what is sure and no more."""
    card = catalogued(ref.name)
    if card is not None:
        return card
    said = ref.option("modality")
    modality: Modality = said if said == "image" or said == "audio" else "text"
    folder = _folder(ref)
    weights = f"local folder {folder}" if folder else f"Hugging Face hub {ref.name}"
    return ModelCard(
        "hf", ref.name, modality, weights=weights, family=ref.name.rpartition("/")[2],
        zero_shot=two_towers.answers(_config(ref, folder)) if modality == "image" else (),
    )  # fmt: skip


def resolve(ref: Ref, where: str) -> Ref:
    at = opening(where)
    folder = _folder(ref)
    card = catalogued(ref.name)
    if card is None:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", ref.name):
            raise UserError(f"{at}{ref.id!r} is not of the form hf/user/name")
        if "/" not in ref.name and folder is None:
            raise errors.unknown(where, "model", ref.name, [card.name for card in HF], "of hf")
    modality = card.modality if card else modality_of(ref, folder, at)
    named = Ref(ref.source, card.name, ref.revision, ref.options) if card else ref
    defaults = {"modality": card.modality, **dict(card.extra)} if card else {}
    if modality == "text" and (most := _positions(ref, folder)):
        defaults["positions"] = most
    resolved = options.normalise(
        named, where, modality, defaults, POOLS[modality], ("modality", "configuration")
    )
    if card and resolved.option("modality"):
        raise UserError(f"{at}{card.id} reads {card.modality}, not {resolved.option('modality')}")
    # Kept in the name, so that a model has the same one before and after it is downloaded.
    return resolved if card else resolved.with_options(modality=modality)


def _folder(ref: Ref) -> Path | None:
    """The local folder that the model's configuration comes from, if it is not the hub."""
    given = [ref.option("configuration"), ref.option("weights")]
    return next((expanded(str(one)) for one in given if _is_folder(one)), None)


def _is_folder(value: Value | None) -> bool:
    return value is not None and expanded(str(value)).is_dir()


def modality_of(ref: Ref, folder: Path | None, at: str) -> Modality:
    """What a model of no card reads: as its name says, or its configuration where that is here.
    `at` begins a message. Raises UserError."""
    asked = ref.option("modality")
    if asked is None:
        asked = _modality_of(_config(ref, folder))
    if asked is None and folder:
        raise UserError(f"{at}{ref.id}: {folder} holds no config.json that says what it reads")
    if asked is None:
        raise UserError(
            f"{at}{ref.id} is not in the catalogue and not downloaded yet: say what it reads, "
            f"as in {ref.id}?modality=text (or image, or audio)"
        )
    for known in POOLS:
        if asked == known:
            return known
    raise errors.unknown(at.removesuffix(": "), "modality", str(asked), POOLS)


def _positions(ref: Ref, folder: Path | None) -> int:
    """Most tokens that the encoder reads, as far as its configuration is here; 0 where not."""
    return text.positions(_config(ref, folder))


def _config(ref: Ref, folder: Path | None) -> Mapping[str, Any]:
    """The model's config.json, as far as it is here; empty where not."""
    paths = (
        [folder / "config.json"] if folder else hub.cached(ref.name, ref.revision, hub.config_only)
    )
    try:
        body = parse_json(paths[0].read_text("utf-8")) if paths else {}
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _modality_of(body: Mapping[str, Any]) -> str | None:
    if body.get("model_type") in sound.ARCHITECTURES:
        return "audio"
    if {"image_size", "num_channels", "vision_config", "patch_size"} & body.keys():
        return "image"
    return "text" if "vocab_size" in body else None


def choose(names: Sequence[str], modality: str, pretrained: bool = True) -> list[str]:
    """config, tokenizer or processor, weights last where they are read; [] when something is
    not there."""
    side = [name for name in SIDE_FILES if name in names]
    if modality == "text":
        side += sorted(name for name in names if LAYER.fullmatch(name))
        # Some tokenizers know all characters, and have a configuration alone.
        enough = any(name in (*text.TOKENIZERS, "tokenizer_config.json") for name in side)
    else:
        enough = any(name in PROCESSORS for name in side)
    weights = _weights(names) if pretrained else []
    enough = enough and "config.json" in names and bool(weights or not pretrained)
    return ["config.json", *side, *weights] if enough else []


def _choice(ref: Ref, modality: str) -> hub.Choose:
    """What a model of the hub needs here: weights only where those are its own."""
    own = ref.option("weights", "pretrained") == "pretrained"
    return partial(choose, modality=modality, pretrained=own)


def _weights(names: Sequence[str]) -> list[str]:
    if "model.safetensors" in names:
        return ["model.safetensors"]
    shards = sorted(name for name in names if SHARD.fullmatch(name))
    match = SHARD.fullmatch(shards[0]) if shards else None
    if match and len(shards) == int(match.group(1)) and "model.safetensors.index.json" in names:
        return ["model.safetensors.index.json", *shards]
    return ["pytorch_model.bin"] if "pytorch_model.bin" in names else []


def repository(ref: Ref) -> str | None:
    """The hub repository that `ref`'s files come from, if any."""
    return None if _folder(ref) else ref.name


def available(ref: Ref) -> tuple[bool, str]:
    folder = _folder(ref)
    if folder:
        return True, f"local {folder}"
    if hub.cached(ref.name, ref.revision, _choice(ref, find(ref).modality)):
        return True, f"in {hub.cache_folder()}"
    return False, f"on the hub ({ref.name}), not downloaded yet"


def _snapshot(ref: Ref, meter: Meter | None = None) -> hub.Snapshot:
    modality = find(ref).modality
    wanted = "complete set of config.json, weights and " + (
        "tokenizer" if modality == "text" else "preprocessor_config.json"
    )
    return hub.fetch(ref.name, ref.revision, _choice(ref, modality), wanted, meter)


def fetch(ref: Ref, meter: Meter) -> None:
    """Download what `load` will read. Raises MissingWeights."""
    _snapshot(ref, meter)


def load(ref: Ref, seed: int) -> Backbone:
    """Raises MissingWeights, and Unsupported for what transformers cannot load or fit."""
    card = find(ref)
    weights = str(ref.option("weights", "pretrained"))
    folder = _folder(ref)
    provenance: dict[str, Any] = {"weights": weights}
    if folder is not None:
        provenance["settings"] = checkpoints.settings(folder)
        if _is_folder(weights):
            # From here on a folder is like a snapshot: its weights are the pretrained ones.
            ref = ref.without("weights")
            files = folders.weight_files(folder)
            sha256 = folders.digest([checkpoints.sha256_file(path) for path in files])
            provenance["weights_sha256"] = sha256
            provenance["weights_bytes"] = sum(path.stat().st_size for path in files)
    else:
        snapshot = _snapshot(ref)
        folder = snapshot.folder
        provenance |= {"repository": ref.name, "revision": snapshot.commit}
        if weights == "pretrained":
            provenance |= {"weights_sha256": snapshot.sha256, "weights_bytes": snapshot.bytes}
            provenance["file"] = snapshot.files[-1].name
    if weights not in ("pretrained", "random") and Path(weights).is_file():
        provenance |= checkpoints.facts(Path(weights))
    folders.refuse_foreign(folder, ref.short)
    if card.modality == "audio":
        return sound.load_folder(folder, ref, seed, provenance)
    if card.modality == "image":
        if not any((folder / name).is_file() for name in PROCESSORS):
            raise MissingWeights(f"{folder} holds no image processor: {' or '.join(PROCESSORS)}")
        return vision.load_folder(folder, ref, seed, provenance)
    prefix = str(dict(card.extra).get("prefix", ""))
    return text.load_folder(folder, ref, seed, provenance, prefix)
