"""The closed-form ridge probe (PROTOCOL section 2, `ridge`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.errors import BadData
from zoobench.interfaces import Adapted, SealedSplits
from zoobench.methods.head import Fitted, HeadFit
from zoobench.tasks.classification import labels_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Ridge:
    """Ridge regression on one-hot labels; lambda by leave-one-out on train alone.

    Scores become log-probabilities by one softmax temperature, fitted to the scores of
    the examples left out. `valid` is not used, so `valid_scores` are honest as they are.
    """

    lambdas: int = 45
    decades: float = 11.0

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"

    def __post_init__(self) -> None:
        if self.lambdas < 1 or not self.decades > 0:
            raise ValueError("ridge needs at least 1 lambda and more than 0 decades")

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` is a FeatureSource; `seed` changes nothing. Raises NotFinite, BadData."""
        import torch

        from zoobench.solvers.basis import require_finite
        from zoobench.solvers.calibration import temperature
        from zoobench.solvers.classes import present_classes, relabel
        from zoobench.solvers.grid import grid
        from zoobench.solvers.ridge import ridge_path

        if len(splits.train) < 2:
            raise BadData("ridge: the train split has fewer than 2 examples")
        train = backbone.features(splits.train).to(backbone.device)
        require_finite(train, splits.train.name)
        labels = torch.from_numpy(labels_of(splits.train)).to(train.device)
        classes = len(splits.classes)
        present = present_classes(labels, classes)
        local = relabel(labels, present, classes)
        path = ridge_path(train, local, len(present), grid(self.lambdas, self.decades))
        heat = temperature(path.loo_scores, local)
        fitted = path.head.scores(train)

        def score(features: torch.Tensor) -> torch.Tensor:
            return torch.log_softmax(path.head.scores(features) / heat, dim=1)

        fit = HeadFit(backbone, score, present, classes, train.shape[1])
        facts = {
            "train_accuracy": (fitted.argmax(dim=1) == local).double().mean().item(),
            "loo_accuracy": path.loo_accuracy[path.best].item(),
            "loo_error": path.loo_error[path.best].item(),
            "temperature": heat,
            "trainable_params": fit.trainable_params,
        }
        edge = self.lambdas > 1 and path.best in (0, self.lambdas - 1)
        flags = ("lambda-on-edge",) if edge else ()
        chosen, held = {"lambda": path.lambdas[path.best]}, fit.log_probs(splits.valid)
        return Fitted(fit.log_probs, held, chosen, facts, flags)
