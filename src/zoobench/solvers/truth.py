"""What rows are labelled with: one class each, or a mass of each class.

A cell of a segmentation's grid holds pixels of several classes. Its masses are their numbers,
and the loss of its row is the sum of its pixels' cross-entropies: a row of mass m weighs as
much as m rows with one label each. N rows, C classes; scores and probabilities may lie either
way round, `dim` is the dimension of the classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


class Truth(ABC):
    """Abstract: the labels of N rows."""

    @property
    @abstractmethod
    def total(self) -> float:
        """How many labels there are: N, or the sum of the masses."""

    @property
    def weights(self) -> Tensor | None:
        """(N,) float64 how much each row weighs, None where all weigh alike."""
        return None

    @abstractmethod
    def take(self, rows: slice) -> Truth: ...

    @abstractmethod
    def counts(self, classes: int) -> Tensor:
        """(C,) float64 labels of each class."""

    @abstractmethod
    def loss(self, logs: Tensor, rows: slice, dim: int) -> Tensor:
        """Sum of the cross-entropies of log-probabilities, in float64."""

    def weighed(self, values: Tensor, rows: slice, dim: int) -> Tensor:
        """`values`, each row times its weight; the same tensor where all weigh alike."""
        return values

    @abstractmethod
    def residual_(self, probs: Tensor, rows: slice, dim: int) -> Tensor:
        """weight x probabilities - masses, in place: the gradient by the scores."""

    @abstractmethod
    def hits(self, scores: Tensor, rows: slice) -> float:
        """How many labels are the best class of their row (n, C)."""

    @abstractmethod
    def means(self, own: Tensor, z: Tensor, rows: slice) -> None:
        """Adds to `own` (C, D) the mean over all labels of the rows `z` (n, D), by class."""


@dataclass(frozen=True)
class HardLabels(Truth):
    """`labels` (N,) int64."""

    labels: Tensor

    @property
    def total(self) -> float:
        return len(self.labels)

    def take(self, rows: slice) -> HardLabels:
        return HardLabels(self.labels[rows])

    def counts(self, classes: int) -> Tensor:
        return torch.bincount(self.labels, minlength=classes).double()

    def loss(self, logs: Tensor, rows: slice, dim: int) -> Tensor:
        index = self.labels[rows].unsqueeze(dim)
        return -logs.gather(dim, index).sum(dtype=torch.float64)

    def residual_(self, probs: Tensor, rows: slice, dim: int) -> Tensor:
        index = self.labels[rows].unsqueeze(dim)
        return probs.scatter_add_(dim, index, probs.new_full(index.shape, -1.0))

    def hits(self, scores: Tensor, rows: slice) -> float:
        return int((scores.argmax(dim=1) == self.labels[rows]).sum())

    def means(self, own: Tensor, z: Tensor, rows: slice) -> None:
        own.index_add_(0, self.labels[rows], z, alpha=1.0 / self.total)


@dataclass(frozen=True)
class Masses(Truth):
    """`mass` (N, C) of any float type, at least 0, and above 0 somewhere in each row."""

    mass: Tensor

    @cached_property
    def total(self) -> float:
        return float(self.mass.sum(dtype=torch.float64))

    @cached_property
    def weights(self) -> Tensor:
        return self.mass.sum(dim=1, dtype=torch.float64)

    def take(self, rows: slice) -> Masses:
        return Masses(self.mass[rows])

    def counts(self, classes: int) -> Tensor:
        return self.mass.sum(dim=0, dtype=torch.float64)

    def loss(self, logs: Tensor, rows: slice, dim: int) -> Tensor:
        return -(logs * self._mass(logs, rows, dim)).sum(dtype=torch.float64)

    def weighed(self, values: Tensor, rows: slice, dim: int) -> Tensor:
        return values * self.weights[rows].to(values.dtype).unsqueeze(dim)

    def residual_(self, probs: Tensor, rows: slice, dim: int) -> Tensor:
        weight = self.weights[rows].to(probs.dtype).unsqueeze(dim)
        return probs.mul_(weight).sub_(self._mass(probs, rows, dim))

    def hits(self, scores: Tensor, rows: slice) -> float:
        best = scores.argmax(dim=1, keepdim=True)
        return float(self.mass[rows].gather(1, best).sum(dtype=torch.float64))

    def means(self, own: Tensor, z: Tensor, rows: slice) -> None:
        own.addmm_(self.mass[rows].to(z.dtype).t(), z, alpha=1.0 / self.total)

    def _mass(self, like: Tensor, rows: slice, dim: int) -> Tensor:
        mass = self.mass[rows].to(like.dtype)
        return mass if dim == 1 else mass.t()


def truth_of(labels: Tensor) -> Truth:
    """(N,) whole numbers are one class each, (N, C) floats masses."""
    return HardLabels(labels) if labels.ndim == 1 else Masses(labels)


def labelled(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that have a label or some mass."""
    known = labels >= 0 if labels.ndim == 1 else labels.sum(dim=1) > 0
    if bool(known.all()):
        return features, labels
    return features[known.to(features.device)], labels[known]
