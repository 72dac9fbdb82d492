"""The k-nearest-neighbour classifier on frozen features (PROTOCOL section 2, `knn`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.head import Fitted
from zoobench.tasks.classification import labels_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Knn:
    """Cosine, weighted vote exp(s/T); k chosen on `valid` by accuracy, then by NLL.

    A k above the number of train examples means all of them. The neighbours of test
    examples are train examples only, as in DINOv2: `valid` chooses and is not voted with.
    """

    k: tuple[int, ...] = (10, 20, 100, 200)
    temperature: float = 0.07

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    view: ClassVar[str] = "embed"

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k must be one or more whole numbers from 1 up, not {self.k!r}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature!r}")

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` is a FeatureSource; `seed` changes nothing."""
        import torch

        from zoobench.solvers.knn import knn_log_probs

        device = backbone.device
        train = backbone.features(splits.train).to(device)
        labels = torch.from_numpy(labels_of(splits.train)).to(device)
        ks = sorted({min(k, len(train)) for k in self.k})
        classes = len(splits.classes)

        def score(split: Split, wanted: list[int]) -> torch.Tensor:
            queries = backbone.features(split).to(device)
            found = knn_log_probs(train, labels, queries, classes, wanted, self.temperature)
            return found.cpu()

        scores = score(splits.valid, ks)
        truth = torch.from_numpy(labels_of(splits.valid))
        hits = (scores.argmax(dim=2) == truth).sum(dim=1).tolist()
        losses = [-s.gather(1, truth[:, None]).double().mean().item() for s in scores]
        best = min(range(len(ks)), key=lambda i: (-hits[i], losses[i], ks[i]))
        facts = {
            "valid_accuracy": hits[best] / len(truth),
            "valid_nll": losses[best],
            "trainable_params": 0.0,
        }
        k = ks[best]
        return Fitted(lambda split: score(split, [k])[0], scores[best], {"k": k}, facts)
