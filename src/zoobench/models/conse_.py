"""conse/...: a network of pictures and texts made of two that were trained apart.

    conse/lite0-minilm      EfficientNet-Lite0 of ImageNet, and MiniLM; both in pip packages

A picture is the mean of what the encoder of texts makes of the names of its TOP likeliest classes,
each as much as it is likely (Norouzi et al. 2014, arXiv:1312.5650, section 3). Neither half has
seen a picture with its caption. They are judged as they are, by the method `as-is`. E dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from zoobench import errors
from zoobench.errors import Unsupported, UserError, opening
from zoobench.models import packaged_
from zoobench.models.catalog import ZERO_SHOT
from zoobench.schema import ModelCard, Ref
from zoobench.views import TextTower, unit

if TYPE_CHECKING:
    import torch

    from zoobench.models.backbones import ImageBackbone, TextBackbone

TOP = 10
"""Classes that a picture is made of: the paper's T."""
TOGETHER = 64
"""Texts that are read at once."""
WEIGHTS = ("pretrained", "random")


@dataclass(frozen=True)
class Halves:
    """Names of packaged models: a classifier of ImageNet's classes, and an encoder of texts."""

    pictures: str
    texts: str


COMPOSED: Mapping[str, Halves] = {"lite0-minilm": Halves("efficientnet-lite0", "minilm-l6-v2")}


def cards() -> tuple[ModelCard, ...]:
    return tuple(_card(name, halves) for name, halves in COMPOSED.items())


def _card(name: str, halves: Halves) -> ModelCard:
    pictures, texts = _parts(halves)
    return ModelCard(
        "conse", name, "image", "1", f"{pictures.weights}, and {texts.weights}",
        pretrained_on=f"{pictures.pretrained_on}, and {texts.pretrained_on}, apart",
        license=" AND ".join(sorted({pictures.license, texts.license})), family="conse",
        extra=pictures.extra, answers=ZERO_SHOT,
    )  # fmt: skip


def _parts(halves: Halves) -> tuple[ModelCard, ModelCard]:
    return packaged_.entry(halves.pictures).card, packaged_.entry(halves.texts).card


def resolve(ref: Ref, where: str) -> Ref:
    """Raises UserError for an unknown name, revision or option."""
    if ref.name not in COMPOSED:
        raise errors.unknown(where, "model", ref.name, COMPOSED, "of conse")
    card = _card(ref.name, COMPOSED[ref.name])
    if ref.revision not in ("", card.revision):
        raise errors.unknown(where, f"revision of {ref.id}", ref.revision, [card.revision])
    for option, value in ref.options:
        if option != "weights":
            raise errors.unknown(where, "option", option, ("weights",), f"of {ref.id}")
        if value not in WEIGHTS:
            at = opening(where)
            raise UserError(f"{at}{ref.id}: weights are {' or '.join(WEIGHTS)}, not {value!r}")
    plain = ref.without("weights") if ref.option("weights") == WEIGHTS[0] else ref
    return plain.at(card.revision)


def available(ref: Ref) -> tuple[bool, str]:
    """Whether both halves are here; else why not."""
    said = [packaged_.available(one.ref) for one in _parts(COMPOSED[ref.name])]
    return next((one for one in said if not one[0]), (True, "; ".join(why for _, why in said)))


def load(ref: Ref, seed: int) -> ImageBackbone:
    """The backbone of pictures, whose texts the other half reads. Raises MissingWeights."""
    import torch

    from zoobench.models.backbones import seeded

    pictures, texts = (_half(card, ref) for card in _parts(COMPOSED[ref.name]))
    made: Any = packaged_.load(pictures, seed)
    read: Any = packaged_.load(texts, seed)
    head = made.source_head
    if ref.option("weights") == "random":
        with seeded(seed):
            head = torch.nn.Linear(made.feature_dim, len(class_names()))
    if head is None:
        raise Unsupported(f"{pictures.id} has no head of classes on its features")
    made.reads_texts = partial(_tower, head, read)
    made.blueprint = None
    made.provenance = {
        **made.provenance, "texts": read.provenance, "names": "torchvision", "top": TOP,
    }  # fmt: skip
    return made  # type: ignore[no-any-return]


def _half(card: ModelCard, ref: Ref) -> Ref:
    drawn = ref.option("weights") == "random"
    return packaged_.resolve(card.ref.with_options(weights="random") if drawn else card.ref, "")


def _tower(head: torch.nn.Linear, texts: TextBackbone) -> TextTower:
    embed = partial(_embed, texts)
    return TextTower(embed, partial(_project, head, unit(embed(class_names()))))


def class_names() -> list[str]:
    """The 1,000 names of ImageNet's classes, in the order of networks' outputs."""
    from torchvision.models import ResNet50_Weights

    names: list[str] = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    return names


def _embed(texts: TextBackbone, words: Sequence[str]) -> torch.Tensor:
    """(K, E) float32."""
    import torch

    parts = [words[first : first + TOGETHER] for first in range(0, len(words), TOGETHER)]
    with torch.inference_mode():
        found = [texts.embed(texts.collate([texts.prepare(one) for one in part])) for part in parts]
    return torch.cat(found)


def _project(head: torch.nn.Linear, names: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """(N, E) float32 of features (N, D): `names` (C, E) of the likeliest classes, each as much as
    it is likely."""
    import torch

    with torch.inference_mode():
        chances, classes = head(features.float()).softmax(dim=1).topk(TOP)
        mixed: torch.Tensor = (chances[:, :, None] * names[classes]).sum(dim=1)
    return mixed
