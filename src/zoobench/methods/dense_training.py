"""What the recipes that train on maps have in common, whatever they train for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.interfaces import InputSpec, Split
from zoobench.methods.training import RateGrid, check_budget
from zoobench.models.dense import DenseView
from zoobench.views import Placement

if TYPE_CHECKING:
    import torch


def check(recipe: Any) -> None:
    """Raises ValueError for a budget, rates or a size of a recipe's that cannot be."""
    check_budget(recipe)
    if not 32 <= recipe.size <= 4096:
        raise ValueError(f"size must lie between 32 and 4096 pixels, not {recipe.size}")


class MapFineTune(RateGrid):
    """Abstract: a recipe that trains all weights, with a new decoder on the maps, at each of its
    `rates`. A frozen dataclass of its hyper-parameters inherits it."""

    view: ClassVar[str] = "maps"

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class FrameNetwork:
    """A trained encoder and decoder as a Backbone, whose costs are those of what was judged:
    `embed` gives what the network says of frames (B, H, W, 3) of the `view`, scores or boxes."""

    module: torch.nn.Module
    view: DenseView
    feature_dim: int
    pooling: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_spec(self) -> InputSpec:
        return InputSpec("image", size=(3, *self.view.size))

    def prepare(self, raw: Any) -> NDArray[np.uint8]:
        return self.view.place(raw)[0]

    def collate(self, prepared: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.stack(prepared))

    def embed(self, batch: torch.Tensor) -> Any:
        return self.module(batch)


def view_batches(
    view: DenseView, split: Split, size: int
) -> Iterator[tuple[torch.Tensor, Sequence[Placement]]]:
    """(B, H, W, 3) frames of all pictures, in order, and where each lies."""
    import torch

    for start in range(0, len(split), size):
        rows = range(start, min(start + size, len(split)))
        pixels, places = zip(*(view.place(split.read(i)) for i in rows), strict=True)
        yield torch.from_numpy(np.stack(pixels)), places
