"""Multinomial logistic regression on the cells of frozen maps (PROTOCOL section 2, Segmentation).

What `linear-probe` is to pictures: the same solver, path and certificate, over cells with masses
of classes, which is the problem of all their pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.machine import placed
from zoobench.methods.cells import CellSample, cell_miou, painted, sampled
from zoobench.methods.linear_probe import LambdaPath, facts_of, flags_of
from zoobench.methods.predictor import Predictor
from zoobench.tasks.segmentation import LabelMaps, Mask
from zoobench.views import CellFeatures

if TYPE_CHECKING:
    import torch

ROWS = 2**16
"""Cells whose features are scored at once."""


@dataclass(frozen=True)
class DenseProbe(LambdaPath):
    """The linear probe on the cells of frozen maps, chosen on `valid` by mIoU.

    `lambdas`, `decades` and `refit` are as of pictures; the mIoU is of cells of one class each,
    and where it is equal the NLL decides. Pictures lie in a frame of `size` pixels; `layers` are
    the last one's features, or with "pyramid" those of every map, one beside the other.

    Logits are then bilinear between the centres of cells, in the mask's own size.
    """

    size: int = 224
    layers: Literal["last", "pyramid"] = "last"

    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    view: ClassVar[str] = "maps"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 32 <= self.size <= 4096:
            raise ValueError(f"size must lie between 32 and 4096 pixels, not {self.size}")

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` gives `cells`; `seed` changes nothing."""
        return fit_cells(backbone, splits, self)


def fit_cells(source: Any, splits: SealedSplits, recipe: DenseProbe) -> Adapted:
    """The probe on whatever `source` gives of the cells of a split."""
    import torch

    from zoobench.solvers.logistic import COPIES, PathOptions, logistic_path

    device, size = source.device, (recipe.size, recipe.size)
    samples: list[CellSample] = []
    rows: list[torch.Tensor] = []
    for split in (splits.train, splits.valid):
        held = source.cells(split, size, recipe.layers)
        samples.append(sampled(split, held.places))
        rows.append(held.rows(samples[-1].rows))
    rows = placed(rows, device, COPIES)
    present = torch.from_numpy(np.flatnonzero(samples[0].mass.sum(axis=0) > 0))
    train, valid = (torch.from_numpy(one.mass).to(device) for one in samples)
    inside = valid[:, present]
    judged = inside.sum(dim=1) > 0
    options = PathOptions(lambdas=recipe.lambdas, decades=recipe.decades)

    def loss(scores: torch.Tensor) -> float:
        """Classes that train lacks count: nobody finds them, whatever lambda is."""
        return 1.0 - cell_miou(present.to(device)[scores.argmax(dim=1)], valid[judged])

    path = logistic_path(
        rows[0], train[:, present], rows[1], inside, len(present), options, judge=loss
    )
    final = path.refit if recipe.refit else path.fit
    facts = {
        "valid_miou": 1.0 - path.points[path.chosen].valid_loss,
        **facts_of(path),
        "train_cells": float(len(samples[0].rows)),
        "trainable_params": float(len(present) * (rows[0].shape[1] + 1)),
    }

    def labelled(score: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Split], LabelMaps]:
        return lambda split: LabelMaps(
            scored_masks(source.cells(split, size, recipe.layers), device, score, present)
        )

    return Predictor(
        labelled(final.head.scores), splits.valid, labelled(path.fit.head.scores),
        {"lambda": path.fit.lam}, facts, flags_of(path),
    )  # fmt: skip


def scored_masks(
    held: CellFeatures,
    device: torch.device,
    score: Callable[[torch.Tensor], torch.Tensor],
    present: torch.Tensor,
) -> Iterator[Mask]:
    """The mask of each picture, from the scores (R, P) of its cells."""
    h, w = held.grid
    step = max(1, ROWS // (h * w))
    names = present.numpy().astype(np.uint8)
    for start in range(0, len(held.places), step):
        places = held.places[start : start + step]
        rows = np.arange(start * h * w, (start + len(places)) * h * w)
        scores = score(held.rows(rows).to(device)).reshape(len(places), h, w, -1)
        for one, where in zip(scores, places, strict=True):
            yield names[painted(one, where)]
