"""A head on frozen features, and the Adapted that scores with it: what the probes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

    def log_probs(self, split: Split) -> torch.Tensor:
        """(N, C) float32 on the CPU. Raises NotFinite."""
        from zoobench.solvers.basis import require_finite
        from zoobench.solvers.classes import spread

        features = self.backbone.features(split).to(self.backbone.device)
        require_finite(features, split.name)
        return spread(self.score(features), self.present, self.classes).cpu()


@dataclass(frozen=True)
class AdaptedHead:
    """An Adapted that scores with `fit`."""

    chosen: Mapping[str, Any]
    facts: Mapping[str, float]
    flags: tuple[str, ...]
    valid_scores: torch.Tensor
    fit: HeadFit

    def predict(self, split: Split) -> torch.Tensor:
        """(N, C) float32 log-probabilities, on the CPU."""
        return self.fit.log_probs(split)
