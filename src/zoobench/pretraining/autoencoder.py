"""`autoencoder` and `denoising`: the picture again, from its features alone.

Loss: the mean squared error of pixels in [0, 1]. `denoising` reads the picture with Gaussian noise
of deviation NOISE added to its pixels, and rebuilds it without (Vincent et al. 2008).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.machine import sent
from zoobench.pretraining.decoder import decoder
from zoobench.pretraining.objective import Learner, PretrainingObjective

if TYPE_CHECKING:
    import torch

NOISE = 0.25


class Autoencoder(PretrainingObjective):
    about: ClassVar[str] = "the picture again, from its features"

    def heads(self, learner: Learner) -> torch.nn.ModuleDict:
        from torch import nn

        return nn.ModuleDict({"decoder": decoder(learner.width, learner.side)})

    def seen(self, learner: Learner, batch: torch.Tensor) -> torch.Tensor:
        """What the encoder reads of the pictures."""
        return batch

    def loss(
        self, learner: Learner, heads: Any, batch: Any, labels: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        import torch.nn.functional as F

        return F.mse_loss(self._made(learner, heads, batch), learner.pixels(batch))

    def rebuilt(self, learner: Learner, heads: Any, batch: Any) -> torch.Tensor:
        return self._made(learner, heads, batch).clamp(0, 1)

    def _made(self, learner: Learner, heads: Any, batch: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = heads["decoder"](learner.embed(self.seen(learner, batch)))
        return made.float()


class Denoising(Autoencoder):
    about: ClassVar[str] = "the picture again, from one with noise of 0.25"

    def seen(self, learner: Learner, batch: torch.Tensor) -> torch.Tensor:
        import torch

        pixels = learner.pixels(batch)
        noise = sent(torch.randn(pixels.shape), pixels.device).to(pixels)
        return learner.read((pixels + NOISE * noise).clamp(0, 1))
