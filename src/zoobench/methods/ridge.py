"""The closed-form ridge probe (PROTOCOL section 2, `ridge`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.errors import BadData
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.head import AffineHead, Fitted, HeadFit
from zoobench.methods.objectives import standard
from zoobench.tasks.classification import labels_of
from zoobench.tasks.regression import numbers_of

if TYPE_CHECKING:
    import torch

    from zoobench.solvers.ridge import RidgePath


@dataclass(frozen=True)
class Ridge:
    """Ridge regression on numbers or one-hot labels; lambda by leave-one-out on train alone.

    Numbers are standardised by train's mean and deviation. Scores of classes become
    log-probabilities by one softmax temperature, fitted to the scores of the examples left
    out. `valid` is not used, so `valid_scores` are honest as they are.
    """

    lambdas: int = 45
    decades: float = 11.0

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")
    view: ClassVar[str] = "embed"

    def __post_init__(self) -> None:
        if self.lambdas < 1 or not self.decades > 0:
            raise ValueError("ridge needs at least 1 lambda and more than 0 decades")

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` is a FeatureSource; `seed` changes nothing. Raises BadData."""
        if len(splits.train) < 2:
            raise BadData("ridge: the train split has fewer than 2 examples")
        train = backbone.features(splits.train).to(backbone.device)
        if splits.task == "regression":
            return self._numbers(backbone, splits, train)
        return self._classes(backbone, splits, train)

    def _classes(self, backbone: Any, splits: SealedSplits, train: torch.Tensor) -> Adapted:
        import torch

        from zoobench.solvers.calibration import temperature
        from zoobench.solvers.grid import grid
        from zoobench.solvers.ridge import ridge_path

        labels = torch.from_numpy(labels_of(splits.train)).to(train.device)
        classes = len(splits.classes)
        present, local = torch.unique(labels, return_inverse=True)
        hot = torch.nn.functional.one_hot(local, len(present))
        path = ridge_path(train, hot, grid(self.lambdas, self.decades))
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
        chosen = {"lambda": path.lambdas[path.best]}
        held = fit.log_probs(splits.valid)

        def head() -> AffineHead:
            weight, bias = path.head.unscaled()
            return AffineHead.of(weight / heat, bias / heat).among(present, classes)

        return Fitted(fit.log_probs, held, chosen, facts, self._flags(path), head)

    def _numbers(self, backbone: Any, splits: SealedSplits, train: torch.Tensor) -> Adapted:
        import torch

        from zoobench.solvers.grid import grid
        from zoobench.solvers.ridge import ridge_path

        mean, std = standard(splits.train)
        truth = torch.from_numpy((numbers_of(splits.train) - mean) / std).to(train.device)
        path = ridge_path(train, truth[:, None], grid(self.lambdas, self.decades))

        def predict(split: Split) -> torch.Tensor:
            """(N,) float64 numbers in the target's unit, on the CPU."""
            features = backbone.features(split).to(backbone.device)
            return path.head.scores(features)[:, 0].double().cpu() * std + mean

        error = (path.head.scores(train)[:, 0].double() - truth).abs().mean()
        facts = {
            "train_mae": float(error) * std,
            "loo_error": path.loo_error[path.best].item() * std**2,
            "trainable_params": float(train.shape[1] + 1),
        }
        chosen = {"lambda": path.lambdas[path.best]}

        def head() -> AffineHead:
            weight, bias = path.head.unscaled()
            return AffineHead.of(weight * std, bias * std + mean)

        return Fitted(predict, predict(splits.valid), chosen, facts, self._flags(path), head)

    def _flags(self, path: RidgePath) -> tuple[str, ...]:
        edge = self.lambdas > 1 and path.best in (0, self.lambdas - 1)
        return ("lambda-on-edge",) if edge else ()
