"""`supervised`: cross-entropy over the classes of the data. The one that reads labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.pretraining.objective import Learner, PretrainingObjective
from zoobench.schema import Modality

if TYPE_CHECKING:
    import torch


class Supervised(PretrainingObjective):
    about: ClassVar[str] = "cross-entropy over the classes of the data"
    modalities: ClassVar[tuple[Modality, ...]] = ("image", "text")

    def heads(self, learner: Learner) -> torch.nn.ModuleDict:
        from torch import nn

        return nn.ModuleDict({"classes": nn.Linear(learner.width, learner.classes)})

    def loss(
        self, learner: Learner, heads: Any, batch: Any, labels: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        import torch.nn.functional as F

        return F.cross_entropy(heads["classes"](learner.embed(batch)).float(), labels)
