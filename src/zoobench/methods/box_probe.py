"""A linear layer on the cells of frozen maps that finds boxes (PROTOCOL section 2, Detection).

What `linear-probe` is to pictures: nothing but one layer a level stands between the maps and the
answer. Its problem is not convex, so that it is trained in small steps, not solved.
B pictures, P cells of both levels, D features, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.machine import sent
from zoobench.methods import box_grid
from zoobench.methods.box_grid import CROWD, STRIDES, BoxGrid, framed
from zoobench.methods.dense_training import check
from zoobench.methods.predictor import Predictor
from zoobench.methods.stepped_probe import Standardised, SteppedProbe, fit_heads
from zoobench.methods.training import edge
from zoobench.tasks.detection import Detections, boxes_of
from zoobench.views import CellFeatures

if TYPE_CHECKING:
    import torch

PRIOR = 0.01
"""Probability of every class in every cell before the first step."""
EPSILON = 1e-7
"""Added to areas that are divided by."""
SHOWN = 16
"""Pictures whose boxes are found at once."""


@dataclass(frozen=True)
class BoxProbe(SteppedProbe):
    """One linear layer a level on the cells of frozen maps, chosen on `valid` by AP.

    Pictures lie in a frame of `size` pixels; the fine level is the grid that every model's maps
    are read on, the coarse one its mean over two by two cells. `layers` are the last one's
    features, or with "pyramid" those of every map. A layer gives logits of the classes (focal
    loss) and the distances to four sides (GIoU); `steps` are of `batch_size` pictures.
    """

    size: int = 320
    layers: Literal["last", "pyramid"] = "last"

    weight_decay: ClassVar[float] = 0.01
    tasks: ClassVar[tuple[str, ...]] = ("detection",)
    view: ClassVar[str] = "maps"

    def __post_init__(self) -> None:
        check(self)

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` gives `cells`; `seed` orders the pictures.

        Raises NotFinite where the loss of every rate leaves the finite numbers.
        """
        return fit_boxes(backbone, splits, self, seed)


def fit_boxes(source: Any, splits: SealedSplits, recipe: BoxProbe, seed: int) -> Adapted:
    """The probe on whatever `source` gives of the cells of a split."""
    size, device = (recipe.size, recipe.size), source.device
    held = source.cells(splits.train, size, recipe.layers)
    reader = CellReader.of(held, device)
    heads = [new_head(held.values.shape[-1], len(splits.classes)).to(device) for _ in recipe.rates]
    losses = partial(head_losses, heads, reader, held, splits.train, BoxGrid(size))
    pairs = list(zip(recipe.rates, heads, strict=True))
    finite = fit_heads(pairs, losses, len(splits.train), recipe, seed, source.progress)

    def finder(head: torch.nn.Module) -> Callable[[Split], list[Detections]]:
        return lambda split: list(
            found(head, reader, source.cells(split, size, recipe.layers), BoxGrid(size))
        )

    judged = {
        rate: (box_grid.average_precision(finder(head)(splits.valid), boxes_of(splits.valid)), head)
        for rate, head, good in zip(recipe.rates, heads, finite, strict=True)
        if good
    }
    if not judged:
        raise NotFinite(f"the training loss at every learning rate of {list(recipe.rates)}")
    rate = max(judged, key=lambda one: judged[one][0])
    ap, head = judged[rate]
    facts = {
        "valid_ap": ap, "steps": float(recipe.steps),
        "trainable_params": float(sum(p.numel() for p in head.parameters())),
    }  # fmt: skip
    answer = finder(head)
    flags = edge(rate, recipe.rates)
    return Predictor(answer, splits.valid, answer, {"rate": rate}, facts, flags)


@dataclass(frozen=True)
class CellReader:
    """Cells of pictures as both levels, standardised by those of train."""

    standardised: Standardised

    @classmethod
    def of(cls, held: CellFeatures, device: torch.device) -> CellReader:
        return cls(Standardised.by(held.values, device))

    def levels(self, held: CellFeatures, rows: NDArray[np.intp]) -> list[torch.Tensor]:
        """(B, cells, D) of each level."""
        import torch

        values = np.asarray(held.values[rows], dtype=np.float32)
        fine = self.standardised(sent(torch.from_numpy(values), self.standardised.mean.device))
        coarse = torch.nn.functional.avg_pool2d(
            fine.permute(0, 3, 1, 2), 2, ceil_mode=True, count_include_pad=False
        )
        return [fine.flatten(1, 2), coarse.permute(0, 2, 3, 1).flatten(1, 2)]


def new_head(features: int, classes: int) -> torch.nn.ModuleList:
    """A linear layer for each level: C logits, and four numbers for distances."""
    import torch

    layers = [torch.nn.Linear(features, classes + 4) for _ in STRIDES]
    for layer in layers:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        torch.nn.init.constant_(layer.bias[:classes], math.log(PRIOR / (1 - PRIOR)))
    return torch.nn.ModuleList(layers)


def spoken(
    head: torch.nn.Module, levels: Sequence[torch.Tensor], grid: BoxGrid
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, P, C) and boxes (B, P, 4) in the frame."""
    import torch

    layers: Any = head
    said = torch.cat([layer(one) for layer, one in zip(layers, levels, strict=True)], dim=1)
    strides, centres = (
        sent(torch.from_numpy(a).to(said.dtype), said.device) for a in (grid.strides, grid.centres)
    )
    away = torch.nn.functional.softplus(said[..., -4:]) * strides[:, None]
    boxes = torch.cat([centres - away[..., :2], centres + away[..., 2:]], dim=-1)
    return said[..., :-4], boxes


def head_losses(
    heads: Sequence[torch.nn.Module], reader: CellReader, held: CellFeatures, train: Split,
    grid: BoxGrid, rows: NDArray[np.intp],
) -> torch.Tensor:  # fmt: skip
    """(H,) the loss of each head, of some pictures of train."""
    import torch

    levels = reader.levels(held, rows)
    labels, boxes = (torch.from_numpy(one) for one in asked(train, held, rows, grid))
    targets = CellTargets.of(labels, boxes.float(), levels[0].device)
    return torch.stack([loss(*spoken(head, levels, grid), targets) for head in heads])


def asked(
    split: Split, held: CellFeatures, rows: NDArray[np.intp], grid: BoxGrid
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What the cells of some pictures should say: (B, P) the class, NOBODY or CROWD, and (B, P, 4)
    the box in the frame, of no meaning where there is no class."""
    labels = np.empty((len(rows), len(grid.levels)), dtype=np.int64)
    boxes = np.zeros((*labels.shape, 4))
    for i, row in enumerate(rows):
        truth, where = boxes_of(split).pictures[row], held.places[row]
        owner = grid.assigned(truth, where)
        mine = owner >= 0
        labels[i] = owner
        labels[i, mine] = truth.labels[owner[mine]]
        boxes[i, mine] = framed(truth.boxes, where)[owner[mine]]
    return labels, boxes


@dataclass(frozen=True)
class CellTargets:
    """What a batch's cells should say, on the device: the numbers of those that count, of those
    with an object, of the latter among the former, and the objects' classes and boxes.

    The host numbers them, as it knows the labels: to ask a GPU which they are is to wait for it.
    """

    counted: torch.Tensor
    positive: torch.Tensor
    among: torch.Tensor
    labels: torch.Tensor
    truth: torch.Tensor

    @classmethod
    def of(cls, labels: torch.Tensor, truth: torch.Tensor, device: torch.device) -> CellTargets:
        """Of labels (B, P), NOBODY or CROWD where there is no object, and boxes (B, P, 4)."""
        said = labels.flatten()
        counted, positive = (one.nonzero()[:, 0] for one in (said != CROWD, said >= 0))
        among = (said[counted] >= 0).nonzero()[:, 0]
        parts = (counted, positive, among, said[positive], truth.flatten(0, 1)[positive])
        return cls(*(sent(one, device) for one in parts))


def loss(logits: torch.Tensor, boxes: torch.Tensor, targets: CellTargets) -> torch.Tensor:
    """Focal loss of all cells but those in crowds, and GIoU of those with an object, each over the
    number of the latter."""
    from torchvision.ops import sigmoid_focal_loss

    said = logits.flatten(0, 1)[targets.counted]
    hot = said.new_zeros(said.shape).index_put(
        (targets.among, targets.labels), said.new_ones(len(targets.labels))
    )
    focal = sigmoid_focal_loss(said, hot, alpha=0.25, gamma=2.0, reduction="sum")
    apart = giou_loss(boxes.flatten(0, 1)[targets.positive], targets.truth).sum()
    total: torch.Tensor = (focal + apart) / max(1, len(targets.positive))
    return total


def giou_loss(boxes: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(n,) 1 - GIoU of boxes (n, 4) (Rezatofighi et al. 2019, arXiv:1902.09630).

    torchvision's own asks the device which of them meet: of a GPU that is to wait five times.
    """
    import torch

    def area(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        across, down = (high - low).unbind(dim=1)
        return across * down

    (low, high), (first, last) = ((one[:, :2], one[:, 2:]) for one in (boxes, truth))
    left = torch.maximum(low, first)
    met = area(left, torch.maximum(left, torch.minimum(high, last)))
    union = area(low, high) + area(first, last) - met
    hull = area(torch.minimum(low, first), torch.maximum(high, last))
    return 1 - met / (union + EPSILON) + (hull - union) / (hull + EPSILON)


def found(
    head: torch.nn.Module, reader: CellReader, held: CellFeatures, grid: BoxGrid
) -> Iterator[Detections]:
    """The detections of each picture."""
    import torch

    for start in range(0, len(held.places), SHOWN):
        rows = np.arange(start, min(start + SHOWN, len(held.places)))
        with torch.inference_mode():
            logits, boxes = spoken(head, reader.levels(held, rows), grid)
            for i, row in enumerate(rows):
                yield box_grid.detections(logits[i].sigmoid(), boxes[i], held.places[row])
