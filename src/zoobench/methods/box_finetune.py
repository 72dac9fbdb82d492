"""Fine-tuning for detection, and the same recipe from random weights (PROTOCOL section 2).

One recipe for every model: torchvision's Faster R-CNN, RetinaNet or FCOS on a pyramid of 256
channels over the backbone's own maps, and otherwise what fine-tuning for segmentation does.
`test` is read once, by the chosen run's last step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zoobench.interfaces import SealedSplits, Split
from zoobench.machine import sent
from zoobench.methods.augmentation import Jitter
from zoobench.methods.box_grid import MOST, SCORE, average_precision, pictured
from zoobench.methods.box_pyramid import frame_pyramid, norm
from zoobench.methods.dense_training import FrameNetwork, MapFineTune, view_batches
from zoobench.methods.training import TrainedNetwork, fit
from zoobench.models.dense import DenseView, dense
from zoobench.models.detector_ import coordinates_exact
from zoobench.tasks.detection import Detections, boxes_of

if TYPE_CHECKING:
    import torch

TRAINED_AT = 800
"""Pixels of the shorter side for which torchvision's anchors are made."""
ROIS = 128
"""Proposals of a picture that the second stage learns from."""
SHOWN = 8
"""Pictures whose boxes are found at once."""
Head = Literal["faster-rcnn", "retinanet", "fcos"]


@dataclass(frozen=True)
class BoxFineTune(MapFineTune):
    """All weights, with a new detector on the maps. `steps` and `batch_size` are the budget of one
    run of the grid, `rates` the detector's.

    Pictures lie in a frame of `size` pixels; anchors are as large in it as torchvision's are in 800
    pixels. `freeze` "encoder" trains the detector alone.
    """

    tasks: ClassVar[tuple[str, ...]] = ("detection",)

    head: Head = "faster-rcnn"
    size: int = 320
    steps: int = 2000
    batch_size: int = 4
    rates: tuple[float, ...] = (8e-5, 1e-4, 2e-4, 3e-4)
    weight_decay: float = 0.05
    freeze: Literal["none", "encoder"] = "none"

    def trained(
        self, source: Any, splits: SealedSplits, rate: float, seed: int
    ) -> TrainedNetwork | None:
        """One rate of the grid, chosen on `valid` by AP."""
        import torch

        view = dense(source.backbone, (self.size, self.size))  # over a module of its own
        torch.manual_seed(seed)
        net = network(view, len(splits.classes), self.head).to(source.device)

        def loss(step: int, rows: NDArray[np.intp]) -> torch.Tensor:
            pixels, targets = batch(view, splits.train, rows, [seed, step])
            placed = [sent(one, source.device) for one in targets]
            with source.autocast():
                # torchvision's detectors ask the device some fifty times a step which anchors they
                # keep: of them a GPU is waited for.
                parts = net(sent(pixels, source.device), placed)
            total: torch.Tensor = torch.stack([one.float() for one in parts.values()]).sum()
            return total

        size = fit(net, loss, len(splits.train), self, rate, seed, source.progress)
        if size is None:
            return None

        def answer(split: Split) -> list[Detections]:
            net.eval()
            found: list[Detections] = []
            for frames, places in view_batches(view, split, SHOWN):
                with torch.no_grad(), source.autocast():
                    said = net(sent(frames, source.device))
                found += [
                    pictured(one["boxes"], one["scores"], one["labels"], where)
                    for one, where in zip(said, places, strict=True)
                ]
            return found

        said = answer(splits.valid)
        ap = average_precision(said, boxes_of(splits.valid))
        facts = {"valid_ap": ap, "steps": float(self.steps), "trainable_params": size}
        whole = FrameNetwork(net, view, source.backbone.feature_dim)
        return TrainedNetwork(whole, answer, rate, ap, said, facts)


@dataclass(frozen=True)
class BoxFromScratch(BoxFineTune):
    """The same recipe on the same architecture with random weights."""

    random_weights: ClassVar[bool] = True


def network(view: DenseView, classes: int, head: Head) -> Any:
    """`encoder`, the view's module, and `decoder`: frames (B, H, W, 3) uint8 -> losses by name
    where targets are given in train mode, else the detections of each."""
    import torch

    first = _first(head)

    class FrameDetector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = view.module
            self.decoder = detector(view, classes, head)
            coordinates_exact(self.decoder)

        def forward(
            self, frames: torch.Tensor, targets: Sequence[dict[str, torch.Tensor]] | None = None
        ) -> Any:
            if targets is not None:
                targets = [{**one, "labels": one["labels"] + first} for one in targets]
            said = self.decoder(list(frames.permute(0, 3, 1, 2).float()), targets)
            if not self.training:
                said = [{**one, "labels": one["labels"] - first} for one in said]
            return said

    return FrameDetector()


def _first(head: Head) -> int:
    """What torchvision's detector calls class 0: two stages know a background, which is their 0."""
    return 1 if head == "faster-rcnn" else 0


def detector(view: DenseView, classes: int, head: Head) -> Any:
    """torchvision's detector of frames (3, H, W), 0 to 255: its own scaling changes nothing, as
    the weights' own is the view's."""
    from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.retinanet import RetinaNetHead
    from torchvision.ops import MultiScaleRoIAlign

    two_stage, named = head == "faster-rcnn", classes + _first(head)
    body = frame_pyramid(view, finest=4 if two_stage else 8, pools=1 if two_stage else 2)
    scale, strides = view.size[0] / TRAINED_AT, body.strides
    frame = {
        "min_size": view.size[0], "max_size": view.size[0], "image_mean": [0.0] * 3,
        "image_std": [1.0] * 3, "size_divisible": strides[-1],
    }  # fmt: skip
    ratios = ((0.5, 1.0, 2.0),) * len(strides)
    if two_stage:
        roi = MultiScaleRoIAlign(
            body.names, output_size=7, sampling_ratio=2, canonical_scale=max(1, round(224 * scale))
        )
        anchors = AnchorGenerator(tuple((8 * s * scale,) for s in strides), ratios)
        return FasterRCNN(
            body, named, rpn_anchor_generator=anchors, box_roi_pool=roi,
            box_score_thresh=SCORE, box_detections_per_img=MOST, box_batch_size_per_image=ROIS,
            **frame,
        )  # fmt: skip
    one_stage = {"score_thresh": SCORE, "detections_per_img": MOST, **frame}
    if head == "retinanet":
        octaves = tuple(tuple(4 * s * scale * 2 ** (k / 3) for k in range(3)) for s in strides)
        own = AnchorGenerator(octaves, ratios)
        each = own.num_anchors_per_location()[0]
        top = RetinaNetHead(body.out_channels, each, named, norm_layer=norm)
        return RetinaNet(body, named, anchor_generator=own, head=top, **one_stage)
    # The points of FCOS are no anchors: their size is the stride, whatever the frame is.
    points = AnchorGenerator(tuple((s,) for s in strides), ((1.0,),) * len(strides))
    return FCOS(body, named, anchor_generator=points, **one_stage)


def batch(
    view: DenseView, split: Split, rows: NDArray[np.intp], seed: Sequence[int]
) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """(B, H, W, 3) frames and the boxes and labels of each, drawn anew for each step. Of crowds
    nobody learns."""
    import torch
    from PIL import Image

    frames, targets = [], []
    for i in rows:
        truth = boxes_of(split).pictures[i]
        drawn = Jitter.drawn(truth.size, view, np.random.default_rng([*seed, i]))
        boxes, kept = drawn.boxes(truth.boxes[~truth.crowd])
        labels = truth.labels[~truth.crowd][kept]
        targets.append(
            {"boxes": torch.from_numpy(boxes).float(), "labels": torch.from_numpy(labels)}
        )
        padding = view.colours.padding
        frames.append(drawn.laid(split.read(int(i)), padding, Image.Resampling.BILINEAR))
    return torch.from_numpy(np.stack(frames)), targets
