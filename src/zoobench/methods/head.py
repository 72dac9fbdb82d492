"""The end of an adaptation that scores classes or numbers from features, and heads on them."""

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
class AffineHead:
    """`features @ weight.T + bias`: (N, C) scores whose softmax are the probabilities of C classes,
    or (N, 1) numbers in the target's unit.

    `weight` (C, D), `bias` (C,), both float64 on the CPU, since an offset of the features that is
    much larger than their spread must not eat the spread. It is what a saved model holds.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor) -> AffineHead:
        """Of tensors in any precision, on any device."""
        kept = (one.detach().cpu().double().contiguous() for one in (weight, bias))
        return cls(*kept)

    def among(self, present: torch.Tensor, classes: int) -> AffineHead:
        """The same head for all `classes`; those that are not `present` are never said."""
        import torch

        if len(present) == classes:
            return self
        weight = self.weight.new_zeros(classes, self.weight.shape[1])
        bias = self.bias.new_full((classes,), torch.finfo(torch.float32).min)
        weight[present.cpu()], bias[present.cpu()] = self.weight, self.bias
        return AffineHead(weight, bias)


@dataclass(frozen=True)
class Fitted:
    """An Adapted that scores with `score`: (N, C) float32 log-probabilities, on the CPU.

    `head` makes what saves a model of it, where the score is linear in the features.
    """

    score: Callable[[Split], torch.Tensor]
    valid_scores: torch.Tensor
    chosen: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    head: Callable[[], AffineHead] | None = None

    def predict(self, split: Split) -> torch.Tensor:
        """(N, C) float32 log-probabilities, on the CPU."""
        return self.score(split)
