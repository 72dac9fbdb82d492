"""Fine-tuning for segmentation, and the same recipe from random weights (PROTOCOL section 2).

One recipe for every model: a decoder on the backbone's own maps, AdamW with a poly decay of 0.9,
the encoder at a tenth of the decoder's rate with its batch norms frozen, flips and scales of 0.5
to 2, a budget in steps, and one small grid of rates whose best is chosen on `valid` by mIoU.
`test` is read once, by the chosen run's last step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from zoobench.interfaces import SealedSplits, Split
from zoobench.machine import sent
from zoobench.methods.augmentation import Jitter
from zoobench.methods.cells import painted
from zoobench.methods.dense_decoders import Borrowed, borrowed
from zoobench.methods.dense_training import FrameNetwork, MapFineTune, view_batches
from zoobench.methods.training import TrainedNetwork, fit
from zoobench.models.dense import DenseView, dense
from zoobench.tasks.segmentation import IGNORED, LabelMaps, Mask, masks_of, outcomes_of, statistics
from zoobench.views import MapSpec

if TYPE_CHECKING:
    import torch

WIDTH = 128
"""Channels of the fpn decoder."""
TOGETHER = 16
"""Pictures that are read at once when nothing is trained."""


@dataclass(frozen=True)
class DenseFineTune(MapFineTune):
    """All weights, with a new decoder on the maps. `steps` and `batch_size` are the budget of one
    run of the grid, `rates` the decoder's.

    `decoder` "linear" is one layer on the last map, "fpn" adds the finer ones to it; the others are
    segmentation-models-pytorch's. `freeze` "encoder" trains the decoder alone.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    decoder: Literal["linear", "fpn"] | Borrowed = "fpn"
    size: int = 224
    steps: int = 300
    batch_size: int = 8
    rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4)
    weight_decay: float = 0.05
    freeze: Literal["none", "encoder"] = "none"

    def trained(
        self, source: Any, splits: SealedSplits, rate: float, seed: int
    ) -> TrainedNetwork | None:
        """One rate of the grid, chosen on `valid` by mIoU."""
        import torch

        view = dense(source.backbone, (self.size, self.size))  # over a module of its own
        view = view.last() if self.decoder == "linear" else view
        torch.manual_seed(seed)
        net = network(view, len(splits.classes), self.decoder).to(source.device)

        def loss(step: int, rows: NDArray[np.intp]) -> torch.Tensor:
            pixels, target = _batch(view, splits.train, rows, [seed, step])
            with source.autocast():
                scores = net(sent(torch.from_numpy(pixels), source.device)).float()
            return _loss(scores, sent(torch.from_numpy(target), source.device), view)

        size = fit(net, loss, len(splits.train), self, rate, seed, source.progress)
        if size is None:
            return None

        def answer(split: Split) -> LabelMaps:
            return LabelMaps(_masks(view, net, source, split))

        said, held = answer(splits.valid), masks_of(splits.valid)
        judged = outcomes_of(said, held.read, len(held), held.classes)
        miou = float(statistics(judged)(np.ones((1, judged.n)), ["miou"])["miou"][0])
        facts = {"valid_miou": miou, "steps": float(self.steps), "trainable_params": size}
        whole = FrameNetwork(net, view, source.backbone.feature_dim)
        return TrainedNetwork(whole, answer, rate, miou, said, facts)


@dataclass(frozen=True)
class DenseFromScratch(DenseFineTune):
    """The same recipe on the same architecture with random weights."""

    random_weights: ClassVar[bool] = True


def _masks(view: DenseView, net: torch.nn.Module, source: Any, split: Split) -> Iterator[Mask]:
    import torch

    net.eval()
    for frames, places in view_batches(view, split, TOGETHER):
        with torch.no_grad(), source.autocast():
            scores = net(sent(frames, source.device)).float().permute(0, 2, 3, 1)
        height, width = view.input_size
        strides = height / scores.shape[1], width / scores.shape[2]
        for one, where in zip(scores, places, strict=True):
            yield painted(one, where, strides)


def network(view: DenseView, classes: int, kind: str = "fpn") -> Any:
    """`encoder`, the view's module, and `decoder`: frames (B, H, W, 3) uint8 -> scores
    (B, C, h, w) that cover the view's input size."""
    import torch

    class Segmenting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = view.module
            own = kind in ("linear", "fpn")
            self.decoder: Any = (
                decoder(view.specs, classes) if own else borrowed(cast("Any", kind), view, classes)
            )

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.decoder(view.maps(view.tensor(frames)))
            return scores

    return Segmenting()


def decoder(specs: Sequence[MapSpec], classes: int) -> torch.nn.Module:
    """From maps, the finest first, to scores on the finest: each is taken to WIDTH channels and the
    coarser ones are added to it. Of one map it is a single layer."""
    import torch
    from torch import nn

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sides = nn.ModuleList(nn.Conv2d(spec.channels, WIDTH, 1) for spec in specs)
            self.smooth = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
            self.norm = nn.GroupNorm(16, WIDTH)
            self.score = nn.Conv2d(WIDTH, classes, 1)

        def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
            sides = [side(one) for side, one in zip(self.sides, maps, strict=True)]
            whole = sides[-1]
            for finer in reversed(sides[:-1]):
                whole = finer + nn.functional.interpolate(
                    whole, finer.shape[2:], mode="bilinear", align_corners=False
                )
            scores: torch.Tensor = self.score(torch.relu(self.norm(self.smooth(whole))))
            return scores

    class LastMap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Conv2d(specs[-1].channels, classes, 1)

        def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
            scores: torch.Tensor = self.score(maps[-1])
            return scores

    return LastMap() if len(specs) == 1 else Pyramid()


def _loss(scores: torch.Tensor, target: torch.Tensor, view: DenseView) -> torch.Tensor:
    """Mean cross-entropy of the frame's pixels that have a class."""
    from torch.nn import functional

    height, width = view.size
    whole = functional.interpolate(scores, view.input_size, mode="bilinear", align_corners=False)
    total = functional.cross_entropy(
        whole[:, :, :height, :width], target, ignore_index=IGNORED, reduction="sum"
    )
    return total / (target != IGNORED).sum().clamp_min(1)


def _batch(
    view: DenseView, split: Split, rows: NDArray[np.intp], seed: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(B, H, W, 3) frames and (B, H, W) classes, drawn anew for each step."""
    masks = masks_of(split)
    made = [
        augmented(view, split.read(int(i)), masks.read(int(i)), np.random.default_rng([*seed, i]))
        for i in rows
    ]
    pixels, targets = zip(*made, strict=True)
    return np.stack(pixels), np.stack(targets).astype(np.int64)


def augmented(
    view: DenseView, picture: Any, mask: Mask, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Mask]:
    """A picture and its mask, scaled, mirrored and put somewhere in the frame alike."""
    from PIL import Image

    drawn = Jitter.drawn(mask.shape, view, rng)
    target = drawn.laid(Image.fromarray(mask), IGNORED, Image.Resampling.NEAREST)
    return drawn.laid(picture, view.colours.padding, Image.Resampling.BILINEAR), target
