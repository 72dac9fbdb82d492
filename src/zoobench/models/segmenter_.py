"""segmenter/...: complete segmenters, with a head and label names of their own.

    segmenter/deeplabv3_resnet50                        one of torchvision's six
    segmenter/nvidia/segformer-b0-finetuned-ade-512-512 any of transformers', semantic or universal
    segmenter/mine?weights=FOLDER                       the same from a local folder

They are judged as they are, by the method `as-is`, which maps their labels to the data's by name.
Their answer is (H, W) int64: for each pixel the number of a label, or -1 or 255 for nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoobench.interfaces import InputSpec
from zoobench.models.backbones import finish, seeded
from zoobench.models.complete import (
    CompletePictures,
    CompleteSource,
    Folder,
    TorchvisionModels,
    torchvision_weights,
)
from zoobench.schema import Ref

if TYPE_CHECKING:
    import torch
    from PIL import Image

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


def _torchvision(ref: Ref, seed: int) -> CompletePictures:
    import torchvision.models as zoo
    from torchvision.transforms import functional

    enum = zoo.get_model_weights(ref.name)[REVISION]
    labels = tuple(enum.meta["categories"])
    with seeded(seed):
        module = zoo.get_model(
            ref.name, weights=None, weights_backbone=None, num_classes=len(labels)
        )
    provenance = torchvision_weights(ref, module, enum.url, ("aux_classifier",))
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

    def mean_scores(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = module(batch)["out"]
        scores.argmax(dim=1)  # belongs to the time of an answer
        return scores.mean((2, 3))

    model = CompletePictures(
        module, spec, "mean scores", lambda raw: functional.center_crop(tensor(raw), [side]),
        mean_scores,
        task="segmentation", labels=labels, answer_with=segment,
    )  # fmt: skip
    return finish(model, provenance, ("torchvision",))


def _transformers(read: Folder) -> CompletePictures:
    def segment(module: torch.nn.Module, picture: Image.Image) -> torch.Tensor:
        output = module(**read.values(module, picture))
        sizes = [(picture.height, picture.width)]
        (found,) = read.processor.post_process_semantic_segmentation(output, sizes)
        best: torch.Tensor = found.long()
        return best

    def mean_scores(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        output = module(pixel_values=batch)
        sizes = [tuple(batch.shape[2:])] * len(batch)
        read.processor.post_process_semantic_segmentation(output, sizes)  # as above
        if hasattr(output, "class_queries_logits"):
            queries: torch.Tensor = output.class_queries_logits
            return queries.mean(1)
        scores: torch.Tensor = output.logits
        return scores.mean((2, 3))

    return CompletePictures(
        read.module, read.spec, "mean scores", read.transform, mean_scores,
        task="segmentation", labels=read.labels, answer_with=segment,
    )  # fmt: skip


SEGMENTERS = CompleteSource(
    "segmenter", "segmentation",
    ("MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING", "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING"),
    _transformers,
    own=TorchvisionModels(
        TORCHVISION, REVISION, lambda name: SIDE, "COCO, pictures with VOC's classes", _torchvision
    ),
)  # fmt: skip
