"""What an objective is: a loss of a batch, the layers that it needs, what it can be judged by.

N examples, D features; pictures (N, 3, H, W) as the encoder reads them, and in [0, 1] as `pixels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.machine import constant
from zoobench.schema import Modality

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Split
    from zoobench.statistics.bootstrap import Floats


@dataclass(frozen=True)
class Learner:
    """What an objective is given: `encoder`, a FeatureSource that is trained, and the number of
    `classes` of the data."""

    encoder: Any
    classes: int

    def embed(self, batch: Any) -> torch.Tensor:
        """(N, D)."""
        features: torch.Tensor = self.encoder.embed(batch)
        return features

    @property
    def width(self) -> int:
        """D."""
        return int(self.encoder.feature_dim)

    @property
    def side(self) -> tuple[int, int]:
        """(H, W) of its pictures."""
        _, height, width = self.encoder.input_spec.size
        return height, width

    def pixels(self, batch: torch.Tensor) -> torch.Tensor:
        """The pictures of a batch, in [0, 1]."""
        mean, std = self._scale(batch)
        return (batch * std + mean).clamp(0, 1)

    def read(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1] as the encoder reads them."""
        mean, std = self._scale(pixels)
        return (pixels - mean) / std

    def _scale(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spec = self.encoder.input_spec
        mean, std = (constant(part, like.device) for part in (spec.mean, spec.std))
        return mean[:, None, None], std[:, None, None]


class PretrainingObjective:
    """Abstract. A member is a class without state; what is drawn comes from torch's global
    generator, which training sets anew for each step.

    `version` changes when the encoders that it makes may change; `views` is how often an example
    is embedded in a step; `trains` is False of a control without training, `generates` True where
    new pictures can be drawn; `about` is a clause for people.
    """

    about: ClassVar[str]
    version: ClassVar[int] = 1
    modalities: ClassVar[tuple[Modality, ...]] = ("image",)
    views: ClassVar[int] = 1
    trains: ClassVar[bool] = True
    generates: ClassVar[bool] = False

    def heads(self, learner: Learner) -> torch.nn.ModuleDict:
        """The layers beside the encoder, with weights drawn from torch's global generator."""
        raise NotImplementedError

    def loss(
        self, learner: Learner, heads: Any, batch: Any, labels: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        """A scalar; `labels` (N,) are read by `supervised` alone."""
        raise NotImplementedError

    def rebuilt(self, learner: Learner, heads: Any, batch: Any) -> torch.Tensor | None:
        """What it makes again of pictures, in [0, 1]; None where it rebuilds none."""
        return None

    def judged(self, learner: Learner, heads: Any, batch: Any) -> Mapping[str, torch.Tensor]:
        """Metrics of its own on examples that were not learned from: (N,) each, one an example."""
        return {}

    def judged_whole(self, learner: Learner, heads: Any, split: Split) -> Mapping[str, Floats]:
        """The same where a batch would not hold the whole of an example: (N, 2) each,
        a numerator and a denominator of each example, whose sums are divided."""
        return {}

    def samples(self, learner: Learner, heads: Any, n: int) -> torch.Tensor:
        """`n` new pictures in [0, 1], where it `generates`."""
        raise NotImplementedError
