"""The Adapted of every method but training: a function that scores; and a head on features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoobench.interfaces import Split

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HeadFit:
    """`score` maps (N, D) features to (N, P) log-probabilities over the P classes `present`."""

    backbone: Any
    score: Callable[[torch.Tensor], torch.Tensor]
    present: torch.Tensor
    classes: int
    dim: int

    @property
    def trainable_params(self) -> float:
        """A weight a feature and an offset, for each class that is present."""
        return float(len(self.present) * (self.dim + 1))

    def log_probs(self, split: Split) -> torch.Tensor:
        """(N, C) float32 on the CPU."""
        from zoobench.solvers.classes import spread

        features = self.backbone.features(split).to(self.backbone.device)
        return spread(self.score(features), self.present, self.classes).cpu()


@dataclass(frozen=True)
class Fitted:
    """An Adapted that scores with `score`: (N, C) float32 log-probabilities, on the CPU."""

    score: Callable[[Split], torch.Tensor]
    valid_scores: torch.Tensor
    chosen: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    def predict(self, split: Split) -> torch.Tensor:
        """(N, C) float32 log-probabilities, on the CPU."""
        return self.score(split)
