"""`random`: the encoder as it begins, without a step of training. What every other must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from zoobench.pretraining.objective import Learner, PretrainingObjective
from zoobench.schema import Modality

if TYPE_CHECKING:
    import torch


class RandomEncoder(PretrainingObjective):
    about: ClassVar[str] = "the encoder as it begins: the control"
    modalities: ClassVar[tuple[Modality, ...]] = ("image", "text")
    views: ClassVar[int] = 0
    trains: ClassVar[bool] = False

    def heads(self, learner: Learner) -> torch.nn.ModuleDict:
        from torch import nn

        return nn.ModuleDict({})
