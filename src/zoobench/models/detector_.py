"""detector/...: complete detectors, with a head and label names of their own.

    detector/fasterrcnn_resnet50_fpn_v2     one of torchvision's twelve
    detector/facebook/detr-resnet-50        any of transformers' for object detection
    detector/mine?weights=FOLDER            the same from a local folder

They are judged as they are, by the method `as-is`, which maps their labels to the data's by name.
Their answer is boxes (D, 4) in the picture's pixels, scores (D,) of at least 0.001 and numbers of
labels (D,): the best 100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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

REVISION = "COCO_V1"
TORCHVISION = {
    "fasterrcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
    "fasterrcnn_resnet50_fpn_v2": "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
    "fasterrcnn_mobilenet_v3_large_fpn": "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
    "fcos_resnet50_fpn": "fcos_resnet50_fpn_coco-99b0c9b7.pth",
    "retinanet_resnet50_fpn": "retinanet_resnet50_fpn_coco-eeacb38b.pth",
    "retinanet_resnet50_fpn_v2": "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
    "ssd300_vgg16": "ssd300_vgg16_coco-b556d3b4.pth",
    "ssdlite320_mobilenet_v3_large": "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
    "maskrcnn_resnet50_fpn": "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
    "maskrcnn_resnet50_fpn_v2": "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
    "keypointrcnn_resnet50_fpn": "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
}
"""Name -> the file of its weights."""
UNSHIFTED = (
    "fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "maskrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
)  # fmt: skip
"""Whose weights were trained with batch norms that add nothing to the variance."""
SCORE, MOST = 0.001, 100
"""Least score, and most detections of a picture (PROTOCOL section 2, `as-is`)."""


def _side(name: str) -> int:
    """Pixels of the shorter side of a picture, or of each."""
    return 300 if "ssd300" in name else 320 if "320" in name else 800


def _torchvision(ref: Ref, seed: int) -> CompletePictures:
    import torch
    import torchvision.models as zoo
    from torchvision.transforms import functional

    enum = zoo.get_model_weights(ref.name)[REVISION]
    labels = tuple(enum.meta["categories"])
    with seeded(seed):
        module: Any = zoo.get_model(
            ref.name, weights=None, weights_backbone=None, num_classes=len(labels)
        )
    provenance = torchvision_weights(ref, module, enum.url)
    if provenance["weights"] != "random" and ref.name in UNSHIFTED:
        for norm in module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.eps = 0.0
    coordinates_exact(module)
    heads = getattr(module, "roi_heads", module)
    heads.score_thresh, heads.detections_per_img = SCORE, MOST
    own = module.transform
    if (side := ref.option("input_size")) is not None:
        side, old = int(side), own.min_size[-1]
        own.min_size, own.max_size = (side,), round(own.max_size * side / old)
        own.fixed_size = own.fixed_size and (side, side)
    for name in ("mean", "std"):
        setattr(own, f"image_{name}", list(ref.option(name) or getattr(own, f"image_{name}")))
    side = own.min_size[-1]
    spec = InputSpec(
        "image", (3, side, side), tuple(own.image_mean), tuple(own.image_std), "bilinear",
        extra=(("fit", "stretch" if own.fixed_size else "whole"), ("longest", own.max_size)),
    )  # fmt: skip

    def detect(module: torch.nn.Module, picture: Image.Image) -> Any:
        device = next(module.parameters()).device
        (said,) = module([functional.to_tensor(picture).to(device)])
        return _best(said["boxes"], said["scores"], said["labels"])

    model = CompletePictures(
        module, spec, "scores by label",
        lambda raw: functional.to_tensor(functional.resize(raw, [side, side])),
        lambda module, batch: _by_label(module(list(batch)), len(labels)),
        task="detection", labels=labels, answer_with=detect,
    )  # fmt: skip
    return finish(model, provenance, ("torchvision",))


def coordinates_exact(module: Any) -> None:
    """Let a torchvision detector compute boxes in float32, whatever precision its convolutions
    take: anchors follow the maps' type and boxes the head's, and bfloat16 counts to 256 pixels."""
    parts = [module.backbone]
    if rois := getattr(module, "roi_heads", None):
        own = (getattr(rois, f"{kind}_predictor") for kind in ("box", "mask", "keypoint"))
        parts += [module.rpn.head, *(one for one in own if one is not None)]
    else:
        parts.append(module.head)
    for part in parts:
        part.register_forward_hook(_in_float)


def _in_float(part: Any, inputs: Any, said: Any) -> Any:
    return _float(said)


def _float(said: Any) -> Any:
    """Tensors of any nest in float32."""
    if isinstance(said, Mapping):
        return type(said)((name, _float(one)) for name, one in said.items())  # type: ignore[call-arg]
    if isinstance(said, (list, tuple)):
        return type(said)(_float(one) for one in said)
    return said.float()


def _transformers(read: Folder) -> CompletePictures:
    def said(output: Any, sizes: Sequence[tuple[int, int]]) -> Any:
        return read.processor.post_process_object_detection(
            output, threshold=SCORE, target_sizes=list(sizes)
        )

    def detect(module: torch.nn.Module, picture: Image.Image) -> Any:
        output = module(**read.values(module, picture))
        (one,) = said(output, [(picture.height, picture.width)])
        return _best(one["boxes"], one["scores"], one["labels"])

    def scores(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        height, width = batch.shape[2:]
        found = said(module(pixel_values=batch), [(height, width)] * len(batch))
        return _by_label(found, len(read.labels))

    return CompletePictures(
        read.module, read.spec, "scores by label", read.transform, scores,
        task="detection", labels=read.labels, answer_with=detect,
    )  # fmt: skip


def _best(
    boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    order = scores.argsort(descending=True, stable=True)[:MOST]
    return boxes[order], scores[order], labels[order]


def _by_label(said: Sequence[Mapping[str, torch.Tensor]], labels: int) -> torch.Tensor:
    """(N, labels): the sum of the scores of each picture's detections."""
    import torch

    return torch.stack([
        one["scores"].new_zeros(labels).index_add(0, one["labels"], one["scores"]) for one in said
    ])  # fmt: skip


DETECTORS = CompleteSource(
    "detector", "detection", ("MODEL_FOR_OBJECT_DETECTION_MAPPING",), _transformers,
    own=TorchvisionModels(TORCHVISION, REVISION, _side, "COCO", _torchvision),
)  # fmt: skip
