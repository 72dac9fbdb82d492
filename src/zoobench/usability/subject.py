"""The model that is probed, and the fixed inputs that it is asked with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoobench import models
from zoobench.features import fingerprint
from zoobench.interfaces import Backbone
from zoobench.schema import ModelCard, Ref

if TYPE_CHECKING:
    import torch


@dataclass
class Subject:
    """A resolved model; it is loaded when a probe first asks for its `backbone`."""

    ref: Ref

    @property
    def card(self) -> ModelCard:
        return models.card(self.ref)

    @cached_property
    def backbone(self) -> Backbone:
        """Raises what `models.load` raises."""
        return models.load(self.ref)

    @cached_property
    def raws(self) -> list[Any]:
        """Four pictures, texts or recordings that are the same everywhere."""
        return fingerprint.fixed_inputs(self.backbone.input_spec.modality)

    def batch(self, rows: Sequence[int] = (0, 1, 2, 3)) -> Any:
        """The fixed inputs at `rows`, as the model's own preprocessing makes them."""
        prepared = [self.backbone.prepare(self.raws[row]) for row in rows]
        return self.backbone.collate(prepared)

    def features(self, batch: Any) -> torch.Tensor:
        """(N, D) of a batch, without gradients."""
        import torch

        with torch.no_grad():
            return self.backbone.embed(batch)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The greatest distance of two rows (N, D), relative to the longer; inf where one is no
    number."""
    import torch

    if one.shape != other.shape or not bool(
        torch.isfinite(one).all() & torch.isfinite(other).all()
    ):
        return float("inf")
    size = torch.maximum(one.norm(dim=1), other.norm(dim=1)).clamp_min(1e-30)
    return float(((one - other).norm(dim=1) / size).max())
