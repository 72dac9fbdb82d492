"""Pretrained models behind one protocol, with the preprocessing that belongs to the weights.

SOURCES says which module answers for the first part of a name. A source module has
`cards()`, `resolve(ref, where)`, `load(ref, seed)` and `available(ref)`; one whose weights
can be downloaded has `fetch(ref, meter)`, and where they lie on the Hugging Face hub
`repository(ref)`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from zoobench import errors, hub, machine, plugins
from zoobench.models import index, variants
from zoobench.schema import ModelCard, Ref

if TYPE_CHECKING:
    from zoobench.interfaces import Backbone
    from zoobench.transfer import Meter

SOURCES: dict[str, str] = {
    "synthetic": "zoobench.models.synthetic_:Models",
    "packaged": "zoobench.models.packaged_",
    "timm": "zoobench.models.timm_",
    "torchvision": "zoobench.models.torchvision_",
    "hf": "zoobench.models.transformers_",
    "saved": "zoobench.models.saved_",
    "classifier": "zoobench.models.classifier_:CLASSIFIERS",
    "onnx": "zoobench.models.onnx_",
    "segmenter": "zoobench.models.segmenter_:SEGMENTERS",
    "reader": "zoobench.models.reader_:READERS",
    "detector": "zoobench.models.detector_:DETECTORS",
    "language-model": "zoobench.models.language_model_:LANGUAGE_MODELS",
    "tagger": "zoobench.models.tagger_:TAGGERS",
    "recogniser": "zoobench.models.recogniser_:RECOGNISERS",
    "conse": "zoobench.models.conse_",
    "keras": "zoobench.models.keras_",
    "tf": "zoobench.models.tf_",
    "pretrained-here": "zoobench.models.pretrained_here_",
    "open-clip": "zoobench.models.open_clip_",
}


def _source(name: str, where: str = "") -> Any:
    return plugins.named("models", SOURCES, name, where)


def resolve(name: str | Ref, where: str = "") -> Ref:
    """The exact, normal form of a model's name; cheap, without torch and without network.

    Raises UserError (unknown source, name, revision or option: nearest and known are said).
    """
    ref = Ref.parse(name) if isinstance(name, str) else name
    plain = variants.original(ref)
    resolved: Ref = _source(ref.source, where).resolve(plain, where)
    variants.check(ref, where)
    variant = variants.name_of(ref)
    return resolved.with_options(variant=variant) if variant else resolved


def load(ref: Ref, seed: int = 0) -> Backbone:
    """The backbone on the CPU, in eval mode, float32 unless `ref` names a variant.

    `seed` draws random weights, and nothing else; torch's global generator is left as it
    was. Raises MissingWeights, Unsupported, MissingExtra, and what says that memory ended.
    A variant that is calibrated has to be made with pictures (`variants.made`): Unsupported.
    """
    if variant := variants.name_of(ref):
        return variants.made(load(variants.original(ref), seed), variant)
    source = _source(ref.source)
    try:
        backbone: Backbone = source.load(ref, seed)
    except (errors.ZoobenchError, MemoryError):
        raise
    except Exception as error:  # of any kind: files and libraries are a stranger's
        if machine.out_of_memory(error):
            raise
        why = errors.one_line(error)
        raise errors.Unsupported(f"{ref.short}: it cannot be loaded ({why})") from error
    return backbone


def available(ref: Ref) -> tuple[bool, str]:
    """Whether `ref` can be loaded offline right now, and where from or why not."""
    if ref.option("weights") == "random":
        return True, "random weights"
    answer: tuple[bool, str] = _source(ref.source).available(variants.original(ref))
    return answer


def fetchable(ref: Ref) -> bool:
    """Whether the pretrained weights of `ref` can be downloaded, as far as is known."""
    pretrained = ref.option("weights", "pretrained") == "pretrained"
    return pretrained and hasattr(_source(ref.source), "fetch")


def fetch(ref: Ref, meter: Meter) -> None:
    """Download what `load` will read of a `fetchable` model, as far as `meter` allows and it is
    not here. Raises MissingWeights."""
    _source(ref.source).fetch(variants.original(ref), meter)


def card(name: str | Ref) -> ModelCard:
    """What is known of a resolved model before it is loaded. Raises UnknownName."""
    ref = Ref.parse(name) if isinstance(name, str) else name
    source = _source(ref.source)
    if hasattr(source, "find"):
        found: ModelCard = source.find(variants.original(ref))
        return found
    cards: tuple[ModelCard, ...] = source.cards()
    for known in cards:
        if known.name == ref.name:
            return known
    raise errors.unknown("", "model", ref.id, [f"{one.source}/{one.name}" for one in cards])


def list_cards(pattern: str = "*") -> list[ModelCard]:
    """Cards whose `source/name`, or name alone, matches the shell pattern; case is ignored. A
    pattern that begins with a source, such as packaged/*, means its cards alone.

    timm's and torchvision's come from the index, so neither is imported once it is built.
    """
    wanted = pattern.casefold()
    of_one = wanted.partition("/")[0] in SOURCES and "/" in wanted
    found: list[ModelCard] = []
    for name in (*SOURCES, *dict(plugins.every("models", {}))):
        listed = index.cards(name) if name in index.INDEXED else _source(name).cards()
        found += [
            card
            for card in listed
            if (fnmatchcase(card.name.casefold(), wanted) and not of_one)
            or fnmatchcase(f"{card.source}/{card.name}".casefold(), wanted)
        ]
    return found


def pin(ref: Ref) -> Ref:
    """`ref` at the hub commit that its revision means now; unchanged where that is unknown.

    The hub's local cache is asked first, then the hub, once and with a short timeout.
    Models that are not on the hub, and random weights of timm's own, stay as they are.
    Never raises.
    """
    source = _source(ref.source)
    plain = variants.original(ref)
    repository = source.repository(plain) if hasattr(source, "repository") else None
    commit = hub.pin(repository, ref.revision) if repository else None
    return ref.at(commit) if commit else ref


__all__ = [
    "SOURCES", "available", "card", "fetch", "fetchable", "list_cards", "load", "pin", "resolve",
    "variants",
]  # fmt: skip
