"""classifier/...: complete classifiers, with a head and label names of their own.

    classifier/packaged/efficientnet-lite0   a packaged network of ImageNet's classes
    classifier/timm/resnet50.a1_in1k         timm's and torchvision's of ImageNet, by their names
    classifier/torchvision/resnet50
    classifier/onnx/mine?path=FILE.onnx      a file of ONNX, which may name its labels itself
    classifier/tf/mine?path=FOLDER&labels=FILE
                                             a SavedModel of TensorFlow
    classifier/MIT/ast-finetuned-audioset-10-10-0.4593
                                             any of transformers', of the hub: of pictures, texts
    classifier/mine?weights=FOLDER           or recordings, as its configuration says

They are judged as they are, by the method `as-is`, which maps their labels to the data's by name.
Their features are the scores of their K labels, before any softmax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from zoobench import errors
from zoobench.errors import CellError, Unsupported, UserError, opening
from zoobench.models import (
    graphs,
    onnx_,
    packaged_,
    sound_frames,
    tf_,
    timm_,
    torchvision_,
    transformers_,
    vision,
)
from zoobench.models.backbones import finish
from zoobench.models.catalog import PACKAGED
from zoobench.models.complete import (
    CompleteModel,
    CompletePictures,
    CompleteRecordings,
    CompleteSource,
    CompleteTexts,
    Folder,
    SoundFolder,
    TextFolder,
    folder_of,
)
from zoobench.models.text import padding, tokenized, tokenizer_rules
from zoobench.schema import Modality, ModelCard, Ref

if TYPE_CHECKING:
    import torch

    from zoobench.transfer import Meter

NAME, TASK = "classifier", "classification"
POOLING = "scores of its labels"
SOURCES: Mapping[str, ModuleType] = {
    "packaged": packaged_, "timm": timm_, "torchvision": torchvision_, "onnx": onnx_,
    "tf": tf_,
}  # fmt: skip
"""Whose networks keep their classifier, by the first part of a name: those of ImageNet, and frozen
graphs."""
FROZEN_GRAPHS: Mapping[str, ModuleType] = {"onnx": onnx_, "tf": tf_}
BUILDER = "lite"
"""Of packaged models, those that have a classifier."""


@dataclass(frozen=True)
class ClassifierSource:
    """The source of classifiers: transformers' by what they read, and the networks of SOURCES."""

    folders: Mapping[Modality, CompleteSource]

    def cards(self) -> tuple[ModelCard, ...]:
        """Of the packaged ones; all others work by name."""
        kept = [one.card for one in PACKAGED if one.builder == BUILDER]
        return tuple(_card(Ref("packaged", card.name), card) for card in kept)

    def find(self, ref: Ref, where: str = "") -> ModelCard:
        """The card of a resolved ref."""
        if inner := _inner(ref):
            return _card(inner, SOURCES[inner.source].find(inner))
        if card := _catalogued(ref):
            return replace(card, source=NAME, answers=(TASK,), extra=())
        return self._of(ref).find(ref, where)

    def resolve(self, ref: Ref, where: str) -> Ref:
        """Raises UserError for an unknown name, revision or option, and for a model of the hub of
        which nobody has said what it reads."""
        if inner := _inner(ref):
            return _outer(_resolved(inner, where))
        self.folders["text"].find(ref, where)  # which knows what a name looks like
        modality = _reads(ref, where)
        named = self.folders[modality].resolve(ref.without("modality"), where)
        return named if _catalogued(ref) else named.with_options(modality=modality)

    def repository(self, ref: Ref) -> str | None:
        """The hub repository that the files come from, if any."""
        if inner := _inner(ref):
            return timm_.repository(inner) if inner.source == "timm" else None
        return self._of(ref).repository(ref)

    def available(self, ref: Ref) -> tuple[bool, str]:
        """Whether it can be loaded without a download, and where it is or how it is got."""
        if inner := _inner(ref):
            answer: tuple[bool, str] = SOURCES[inner.source].available(inner)
            return answer
        return self._of(ref).available(ref.without("modality"))

    def fetch(self, ref: Ref, meter: Meter) -> None:
        """Download what `load` will read; a package's is here. Raises MissingWeights."""
        inner = _inner(ref)
        if inner is None:
            self._of(ref).fetch(ref.without("modality"), meter)
        elif inner.source not in ("packaged", *FROZEN_GRAPHS):
            SOURCES[inner.source].fetch(inner, meter)

    def load(self, ref: Ref, seed: int) -> Any:
        """A CompleteModel. Raises MissingWeights, and Unsupported for what has no head for classes,
        or labels that nobody knows."""
        inner = _inner(ref)
        if inner is None:
            found: CompleteModel = self._of(ref).load(ref.without("modality"), seed)
        else:
            found = _of_library(inner, seed)
        many = found.feature_dim  # type: ignore[attr-defined]
        if many != len(found.labels):
            raise Unsupported(f"{ref.short}: it has {many} scores and {len(found.labels)} labels")
        return found

    def _of(self, ref: Ref) -> CompleteSource:
        """What loads a resolved model of transformers."""
        return self.folders[_reads(ref)]


def _inner(ref: Ref) -> Ref | None:
    """The model of one of SOURCES that `ref` names; None for transformers'."""
    source, _, name = ref.name.partition("/")
    return Ref(source, name, ref.revision, ref.options) if name and source in SOURCES else None


def _catalogued(ref: Ref) -> ModelCard | None:
    """The card of the encoder of the same repository of the hub."""
    return transformers_.catalogued(ref.name) if folder_of(ref) is None else None


def _reads(ref: Ref, where: str = "") -> Modality:
    """What a model of transformers reads. Raises UserError where nobody says it."""
    if card := _catalogued(ref):
        return card.modality
    return transformers_.modality_of(ref, folder_of(ref), opening(where))


def _outer(inner: Ref) -> Ref:
    return Ref(NAME, f"{inner.source}/{inner.name}", inner.revision, inner.options)


def _card(inner: Ref, card: ModelCard) -> ModelCard:
    """A card of one of SOURCES as a classifier's."""
    return replace(card, source=NAME, name=f"{inner.source}/{card.name}", answers=(TASK,))


def _resolved(inner: Ref, where: str) -> Ref:
    known = [one.card.name for one in PACKAGED if one.builder == BUILDER]
    if inner.source == "packaged" and inner.name not in known:
        named = [f"{NAME}/packaged/{name}" for name in known]
        raise errors.unknown(where, "model", _outer(inner).id, named)
    at = f"{where}: {_outer(inner).id}" if where else _outer(inner).id
    if inner.option("pool") is not None:
        raise UserError(f"{at}: its classifier reads its own pooling, and no other")
    if inner.source not in FROZEN_GRAPHS and inner.option("weights", "pretrained") not in (
        "pretrained",
        "random",
    ):
        raise UserError(
            f"{at}: a checkpoint does not say what its classes are called; a transformers folder "
            f"does ({NAME}/NAME?weights=FOLDER)"
        )
    found: Ref = SOURCES[inner.source].resolve(inner, where)
    if inner.source in FROZEN_GRAPHS:
        try:
            FROZEN_GRAPHS[inner.source].labels(found)
        except CellError as error:
            raise UserError(f"{where}: {error}" if where else str(error)) from error
    return found


def _of_library(inner: Ref, seed: int) -> CompletePictures:
    """A network of one of SOURCES with the classifier that it came with."""
    from zoobench.models.images import timm_preprocessing

    several = False
    frozen = FROZEN_GRAPHS.get(inner.source)
    if frozen is not None:
        (module, spec, transform, provenance), labels, several = frozen.classifier(inner)
        libraries: tuple[str, ...] = frozen.libraries()
    elif inner.source == "torchvision":
        module, enum, provenance = torchvision_.whole(inner, seed)
        spec, transform = torchvision_.preprocessing(enum, inner)
        labels = tuple(enum.meta["categories"])
        libraries = torchvision_.LIBRARIES
    else:
        if inner.source == "packaged":
            module, provenance = packaged_.whole(inner, seed)
        else:
            module, _, provenance, _ = timm_.whole(inner, seed)
        spec, transform = timm_preprocessing(module.pretrained_cfg, inner)
        labels, libraries = _imagenet(module, inner), ("timm", "torchvision", "pillow")
    made = CompletePictures(
        module, spec, POOLING, transform,
        graphs.features if frozen is not None else torchvision_.forward,
        task=TASK, labels=labels, multilabel=several,
    )  # fmt: skip
    return finish(made, provenance, libraries)


def _imagenet(module: Any, inner: Ref) -> tuple[str, ...]:
    """The names of ImageNet's synsets, in the order of the scores of one of timm's own models."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    # A stranger's thousand classes may be any.
    theirs = inner.source == "timm" and "/" in inner.name
    subset = None if theirs else infer_imagenet_subset(module)
    if subset is None:
        many = getattr(module, "num_classes", 0)
        raise Unsupported(f"{inner.short}: nobody says what its {many} classes are called")
    return tuple(ImageNetInfo(subset).label_descriptions())


def _head(module: Any, labels: Sequence[str]) -> dict[str, Any]:
    """What a CompleteModel says of the head of a network of transformers."""
    if len(labels) < 2:
        raise Unsupported("its head gives one number, and no class")
    several = getattr(module.config, "problem_type", None) == "multi_label_classification"
    return {"task": TASK, "labels": tuple(labels), "multilabel": several}


def _texts(read: TextFolder) -> CompleteTexts:
    module: Any = read.module
    own: int | None = getattr(module.config, "pad_token_id", None)
    padded = own is not None and own >= 0
    # A decoder finds a text's last token by its own pad token, whatever the tokenizer's is.
    pad = int(own or 0) if padded else padding(read.tokenizer, module.config)
    return CompleteTexts(
        module, read.spec, POOLING, partial(tokenized, read.tokenizer, read.length, "", pad),
        _text_scores if padded else _scores_alone, pad, rules=tokenizer_rules(read.tokenizer),
        **_head(module, read.labels),
    )  # fmt: skip


def _text_scores(module: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(N, K)."""
    scores: torch.Tensor = module(**batch).logits
    return scores


def _scores_alone(module: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(N, K) of a network without a pad token, which cannot tell where a text of a batch ends."""
    import torch

    lengths = batch["attention_mask"].sum(dim=1).tolist()
    rows = zip(batch["input_ids"], lengths, strict=True)
    return torch.cat([module(input_ids=ids[None, :many]).logits for ids, many in rows])


def _pictures(read: Folder) -> CompletePictures:
    told = vision.resized(read.module, read.spec)
    return CompletePictures(
        read.module, read.spec, POOLING, read.transform, partial(_picture_scores, told),
        **_head(read.module, read.labels),
    )  # fmt: skip


def _picture_scores(told: Mapping[str, Any], module: Any, batch: torch.Tensor) -> torch.Tensor:
    """(N, K) from (N, 3, H, W)."""
    scores: torch.Tensor = module(pixel_values=batch, **told).logits
    return scores


def _recordings(read: SoundFolder) -> CompleteRecordings:
    module: Any = read.module
    return CompleteRecordings(
        module, read.spec, POOLING, partial(read.family.listen, read.extractor, module.config),
        partial(sound_frames.class_scores, read.family), **_head(module, read.labels),
    )  # fmt: skip


CLASSIFIERS = ClassifierSource(
    {
        "image": CompleteSource(
            NAME, TASK, ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",), _pictures, "image"
        ),
        "text": CompleteSource(
            NAME, TASK, ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",), _texts, "text"
        ),
        "audio": CompleteSource(
            NAME, TASK, ("MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING",), _recordings, "audio"
        ),
    }
)
