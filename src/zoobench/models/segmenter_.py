"""segmenter/...: complete segmenters, with a head and label names of their own.

    segmenter/deeplabv3_resnet50                        one of torchvision's six
    segmenter/nvidia/segformer-b0-finetuned-ade-512-512 any of transformers', semantic or universal
    segmenter/mine?weights=FOLDER                       the same from a local folder

They are judged as they are, by the method `as-is`, which maps their labels to the data's by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors, hub
from zoobench.errors import Unsupported
from zoobench.interfaces import InputSpec
from zoobench.models import checkpoints, folders, options, torchhub, transformers_, vision
from zoobench.models.backbones import ImageBackbone, finish, seeded
from zoobench.models.text import pretrained, quiet, transformers_errors
from zoobench.schema import ModelCard, Ref

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from zoobench.transfer import Meter

URL = "https://download.pytorch.org/models/"
REVISION = "COCO_WITH_VOC_LABELS_V1"
SIDE = 520
"""Pixels of the shorter side of a picture, as torchvision's weights were trained."""
TORCHVISION = {
    "fcn_resnet50": "fcn_resnet50_coco-1167a1af.pth",
    "fcn_resnet101": "fcn_resnet101_coco-7ecb50ca.pth",
    "deeplabv3_resnet50": "deeplabv3_resnet50_coco-cd0a2569.pth",
    "deeplabv3_resnet101": "deeplabv3_resnet101_coco-586e9e4e.pth",
    "deeplabv3_mobilenet_v3_large": "deeplabv3_mobilenet_v3_large-fc3c493d.pth",
    "lraspp_mobilenet_v3_large": "lraspp_mobilenet_v3_large-d234d4ea.pth",
}
"""Name -> the file of its weights."""
COMPLETE = (("complete", "segmentation"),)


def cards() -> tuple[ModelCard, ...]:
    return tuple(
        ModelCard(
            "segmenter", name, "image", REVISION, weights=URL + file, family=name.split("_")[0],
            pretrained_on="COCO, pictures with VOC's classes",
            extra=(*COMPLETE, ("input_size", SIDE)),
        )
        for name, file in TORCHVISION.items()
    )  # fmt: skip


def find(ref: Ref, where: str = "") -> ModelCard:
    """The card of a resolved ref; of one of the hub's it says what is sure and no more."""
    known = {card.name: card for card in cards()}
    if ref.name in known:
        return known[ref.name]
    folder = _folder(ref)
    if folder is None and not re.fullmatch(r"[\w.-]+/[\w.-]+", ref.name):
        raise errors.unknown(where, "model", ref.id, [f"segmenter/{name}" for name in known])
    weights = f"local folder {folder}" if folder else f"Hugging Face hub {ref.name}"
    family = ref.name.rpartition("/")[2]
    return ModelCard("segmenter", ref.name, "image", weights=weights, family=family, extra=COMPLETE)


def resolve(ref: Ref, where: str) -> Ref:
    card = find(ref, where)
    ours = ref.name in TORCHVISION
    if ours and ref.revision not in ("", REVISION):
        raise errors.unknown(where, "weights", ref.revision, [REVISION], f"of {ref.id}")
    named = options.normalise(
        ref.at(card.revision) if ours else ref, where, "image", dict(card.extra), (),
        () if ours else ("configuration",),
    )  # fmt: skip
    return options.refuse_folder(named, where) if ours else named


def _folder(ref: Ref) -> Path | None:
    given = [ref.option("configuration"), ref.option("weights")]
    paths = [Path(str(one)).expanduser() for one in given if one is not None]
    return next((path for path in paths if path.is_dir()), None)


def repository(ref: Ref) -> str | None:
    """The hub repository that the files come from, if any."""
    return None if ref.name in TORCHVISION or _folder(ref) else ref.name


def available(ref: Ref) -> tuple[bool, str]:
    if ref.name in TORCHVISION:
        return torchhub.available(find(ref).weights)
    if folder := _folder(ref):
        return True, f"local {folder}"
    if hub.cached(ref.name, ref.revision, partial(transformers_.choose, modality="image")):
        return True, f"in {hub.cache_folder()}"
    return False, f"on the hub ({ref.name}), not downloaded yet"


def fetch(ref: Ref, meter: Meter) -> None:
    """Download what `load` will read. Raises MissingWeights."""
    if ref.name in TORCHVISION:
        torchhub.fetch(find(ref).weights, meter)
    else:
        _snapshot(ref, meter)


def _snapshot(ref: Ref, meter: Meter | None = None) -> hub.Snapshot:
    drawn = ref.option("weights") == "random"
    choice = partial(transformers_.choose, modality="image", pretrained=not drawn)
    wanted = "complete set of config.json, weights and preprocessor_config.json"
    return hub.fetch(ref.name, ref.revision, choice, wanted, meter)


@dataclass
class SegmentingModel(ImageBackbone):
    """A complete segmenter: `segment` gives each pixel of a picture the number of one of its
    `labels`. As a backbone it gives the mean scores of a picture, which costs are counted by."""

    labels: tuple[str, ...] = ()
    segment_with: Callable[[torch.nn.Module, Image.Image], torch.Tensor] | None = None

    def segment(self, picture: Image.Image) -> torch.Tensor:
        """(H, W) int64, of the picture's own size."""
        assert self.segment_with is not None
        picture = picture if picture.mode == "RGB" else picture.convert("RGB")
        return self.segment_with(self.module, picture)


def load(ref: Ref, seed: int) -> SegmentingModel:
    """Raises MissingWeights, and Unsupported for what is no segmenter."""
    return _torchvision(ref, seed) if ref.name in TORCHVISION else _transformers(ref, seed)


def _torchvision(ref: Ref, seed: int) -> SegmentingModel:
    import torchvision.models as zoo
    from torchvision.transforms import functional

    enum = zoo.get_model_weights(ref.name)[REVISION]
    labels = tuple(enum.meta["categories"])
    weights = str(ref.option("weights", "pretrained"))
    provenance: dict[str, Any] = {"weights": weights, "revision": REVISION}
    with seeded(seed):
        module = zoo.get_model(
            ref.name, weights=None, weights_backbone=None, num_classes=len(labels)
        )
    if weights != "random":
        path = Path(weights)
        if weights == "pretrained":
            path, sha256 = torchhub.fetch(enum.url)
            provenance |= {**checkpoints.facts(path, sha256), "url": enum.url}
        else:
            provenance |= checkpoints.facts(path)
        whole = checkpoints.read(path, str(ref.option("prefix", "")))
        state = checkpoints.unwrap(whole, module.state_dict())
        # The auxiliary head serves training alone.
        checkpoints.fit(module, state, f"{path} into {ref.short}", ("aux_classifier",))
    preset = enum.transforms()
    side = int(ref.option("input_size", SIDE))
    mean, std = (tuple(ref.option(name) or getattr(preset, name)) for name in ("mean", "std"))
    spec = InputSpec("image", (3, side, side), mean, std, "bilinear", extra=(("fit", "whole"),))

    def tensor(picture: Image.Image) -> torch.Tensor:
        """(3, h, w): its shorter side `side` pixels."""
        sized = functional.resize(picture, [side], antialias=True)
        values: torch.Tensor = functional.normalize(
            functional.to_tensor(sized), list(mean), list(std)
        )
        return values

    def segment(module: torch.nn.Module, picture: Image.Image) -> torch.Tensor:
        device = next(module.parameters()).device
        scores = module(tensor(picture)[None].to(device))["out"]
        whole = functional.resize(scores, [picture.height, picture.width])
        best: torch.Tensor = whole[0].argmax(dim=0)
        return best

    model = SegmentingModel(
        module, spec, "mean scores", lambda raw: functional.center_crop(tensor(raw), [side]),
        lambda module, batch: module(batch)["out"].mean((2, 3)),
        labels=labels, segment_with=segment,
    )  # fmt: skip
    finish(model, provenance, ("torchvision",))
    return model


def _transformers(ref: Ref, seed: int) -> SegmentingModel:
    import transformers

    weights = str(ref.option("weights", "pretrained"))
    provenance: dict[str, Any] = {"weights": weights}
    folder = _folder(ref)
    if folder is None:
        snapshot = _snapshot(ref)
        folder = snapshot.folder
        provenance |= {"repository": ref.name, "revision": snapshot.commit}
    else:
        provenance["settings"] = checkpoints.settings(folder)
    what = f"{ref.short} in {folder}"
    folders.refuse_foreign(folder, ref.short)
    with transformers_errors(what), quiet():
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        processor: Any = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        kind = _class_of(config, what)
        transform, spec = vision.preprocessing(processor, ref)
        with seeded(seed):
            notes: dict[str, Any] = {}
            if weights == "random":
                module = kind(config).float()
            else:
                module, notes = pretrained(kind, config, folder, ref.without("weights"))
    if untrained := notes.get("untrained_keys"):
        raise Unsupported(f"{what}: its weights lack {untrained[0]}, so it has no trained head")
    names = config.id2label
    labels = tuple(str(names[i]) for i in sorted(names))
    arguments = transform.args[1]

    def segment(module: torch.nn.Module, picture: Image.Image) -> torch.Tensor:
        device = next(module.parameters()).device
        values = processor(images=picture, return_tensors="pt", **arguments).to(device)
        sizes = [(picture.height, picture.width)]
        (found,) = processor.post_process_semantic_segmentation(module(**values), sizes)
        best: torch.Tensor = found.long()
        return best

    model = SegmentingModel(
        module, spec, "mean scores", transform, _mean_scores, labels=labels, segment_with=segment
    )
    finish(model, {**provenance, **notes}, ("transformers", "torchvision"))
    return model


def _class_of(config: Any, what: str) -> Any:
    """The class that gives masks. Raises Unsupported where transformers has none for `config`."""
    from transformers.models.auto import modeling_auto as auto

    for table in (
        auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING, auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING
    ):  # fmt: skip
        if found := table.get(type(config), None):
            return found
    raise Unsupported(f"{what}: transformers has no segmenter for a {config.model_type}")


def _mean_scores(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    output = module(pixel_values=batch)
    if hasattr(output, "class_queries_logits"):
        queries: torch.Tensor = output.class_queries_logits
        return queries.mean(1)
    scores: torch.Tensor = output.logits
    return scores.mean((2, 3))


__all__: list[str] = ["SegmentingModel", "cards", "fetch", "find", "load", "repository", "resolve"]
