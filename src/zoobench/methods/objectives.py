"""What a network is trained for, by task: its outputs, its loss, and what it finally says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from zoobench.interfaces import SealedSplits, Split, Splits
from zoobench.methods.head import AffineHead
from zoobench.tasks.classification import labels_of
from zoobench.tasks.regression import numbers_of

if TYPE_CHECKING:
    import torch


class Objective(Protocol):
    """B examples of a batch, K outputs of the head for each."""

    @property
    def outputs(self) -> int: ...

    def targets(self, split: Split) -> torch.Tensor:
        """(N,) what `loss` compares with."""

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean over the (B, K) float32 outputs of a batch."""

    def hits(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """How many of the batch are right; 0 where that means nothing."""

    def said(self, outputs: torch.Tensor) -> torch.Tensor:
        """What the task judges, from (B, K) float32 outputs."""

    def head(self, trained: AffineHead) -> AffineHead:
        """The trained head as a saved model's, whose scores are `said`'s own, or logits."""

    def valid_loss(self, said: torch.Tensor, split: Split) -> float:
        """By what the grid's best is chosen: less is better."""

    def facts(self, hits: float, seen: int) -> Mapping[str, float]:
        """What the record says of the training batches."""


@dataclass(frozen=True)
class ClassObjective:
    """Cross-entropy over C classes; the best of the grid has the least NLL."""

    outputs: int

    def targets(self, split: Split) -> torch.Tensor:
        import torch

        return torch.from_numpy(labels_of(split))

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        import torch.nn.functional as F

        return F.cross_entropy(outputs, target)

    def hits(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (outputs.argmax(dim=1) == target).sum()

    def said(self, outputs: torch.Tensor) -> torch.Tensor:
        """(B, C) log-probabilities."""
        return outputs.log_softmax(dim=1)

    def head(self, trained: AffineHead) -> AffineHead:
        return trained

    def valid_loss(self, said: torch.Tensor, split: Split) -> float:
        import torch.nn.functional as F

        return float(F.nll_loss(said, self.targets(split)))

    def facts(self, hits: float, seen: int) -> Mapping[str, float]:
        return {"train_accuracy_online": hits / seen}


@dataclass(frozen=True)
class NumberObjective:
    """Squared error of a number in deviations `std` from the train mean; so is the choice."""

    mean: float
    std: float
    outputs: int = 1

    def targets(self, split: Split) -> torch.Tensor:
        import torch

        return torch.from_numpy((numbers_of(split) - self.mean) / self.std).float()

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        import torch.nn.functional as F

        return F.mse_loss(outputs[:, 0], target)

    def hits(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return outputs.new_zeros(())

    def said(self, outputs: torch.Tensor) -> torch.Tensor:
        """(B,) float64 numbers in the target's unit."""
        return outputs[:, 0].double() * self.std + self.mean

    def head(self, trained: AffineHead) -> AffineHead:
        return AffineHead(trained.weight * self.std, trained.bias * self.std + self.mean)

    def valid_loss(self, said: torch.Tensor, split: Split) -> float:
        error = (said.numpy() - numbers_of(split)) / self.std
        return float(np.mean(error**2))

    def facts(self, hits: float, seen: int) -> Mapping[str, float]:
        return {}


def objective_of(splits: SealedSplits | Splits) -> Objective:
    """The objective of the splits' task; what is learned of the target is train's alone."""
    if splits.task == "regression":
        return NumberObjective(*standard(splits.train))
    return ClassObjective(len(splits.classes))


def standard(train: Split) -> tuple[float, float]:
    """Mean and standard deviation of the train targets; 1 for a deviation of 0."""
    numbers = numbers_of(train)
    return float(numbers.mean()), float(numbers.std()) or 1.0
