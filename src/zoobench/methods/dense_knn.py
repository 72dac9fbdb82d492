"""The k-nearest-neighbour vote on the cells of frozen maps: no head, nothing is learned.

As in in-context segmentation (Balazevic et al. 2023, arXiv:2306.01667): a cell takes the shares of
classes of the train cells that its features are most like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from zoobench.interfaces import Adapted, SealedSplits
from zoobench.methods.cells import cell_miou, sampled
from zoobench.methods.dense_probe import scored_masks
from zoobench.methods.predictor import Predictor
from zoobench.tasks.segmentation import LabelMaps

if TYPE_CHECKING:
    import torch

MOST_CELLS = 10_000
"""Train cells that vote, and valid cells that k is chosen on: every cell is compared with all."""


@dataclass(frozen=True)
class DenseKnn:
    """Cosine, weighted vote exp(s/T) of train cells; k chosen on `valid` by the mIoU of cells.

    A cell votes with its shares of classes, however many of its pixels are ignored. Votes are then
    bilinear between the centres of cells. `size` and `layers` are as of the linear probe.
    """

    k: tuple[int, ...] = (10, 20, 100, 200)
    temperature: float = 0.07
    size: int = 224
    layers: Literal["last", "pyramid"] = "last"

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    view: ClassVar[str] = "maps"

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k must be one or more whole numbers from 1 up, not {self.k!r}")
        if not self.temperature > 0 or not 32 <= self.size <= 4096:
            raise ValueError("temperature must be positive, and size between 32 and 4096 pixels")

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` gives `cells`; `seed` changes nothing."""
        import torch

        from zoobench.solvers.knn import knn_log_probs

        device, size = backbone.device, (self.size, self.size)
        held = [backbone.cells(s, size, self.layers) for s in (splits.train, splits.valid)]
        drawn = [
            sampled(split, one.places, MOST_CELLS)
            for split, one in zip((splits.train, splits.valid), held, strict=True)
        ]
        bank, asked = (
            one.rows(picked.rows).to(device) for one, picked in zip(held, drawn, strict=True)
        )
        mass = torch.from_numpy(drawn[0].mass).to(device)
        shares, classes = mass / mass.sum(dim=1, keepdim=True), len(splits.classes)
        ks = sorted({min(k, len(bank)) for k in self.k})

        def votes(rows: torch.Tensor, wanted: list[int]) -> torch.Tensor:
            return knn_log_probs(bank, shares, rows, classes, wanted, self.temperature)

        truth = torch.from_numpy(drawn[1].mass).to(device)
        found = [cell_miou(one.argmax(dim=1), truth) for one in votes(asked, ks)]
        best = int(np.argmax(found))
        k, named = ks[best], torch.arange(classes)

        def label(split: Any) -> LabelMaps:
            cells = backbone.cells(split, size, self.layers)
            return LabelMaps(scored_masks(cells, device, lambda r: votes(r, [k])[0].exp(), named))

        facts = {
            "valid_miou": found[best], "train_cells": float(len(bank)), "trainable_params": 0.0,
        }  # fmt: skip
        return Predictor(label, splits.valid, label, {"k": k}, facts)
