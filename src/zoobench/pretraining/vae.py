"""`vae`: a variational autoencoder (Kingma and Welling 2014), beta = 1.

The features give mean and log-variance of a latent of LATENT normal variables, a draw of which the
decoder turns into the means of pixels with one learned deviation. Pixels are 8 bits: uniform noise
of one level makes them continuous, so that the evidence lower bound in bits, with the 8 bits of a
level added, bounds what storing a picture takes (Theis et al. 2016, arXiv:1511.01844).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.machine import sent
from zoobench.pretraining.decoder import decoder
from zoobench.pretraining.objective import Learner, PretrainingObjective

if TYPE_CHECKING:
    import torch

LATENT = 32
LEVELS = 256
BETA = 1.0
LEAST_LOG_DEVIATION = -4.0


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """(N,) nats: KL of N(mean, variance) from N(0, 1), summed over the latent."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def log_likelihood(
    pixels: torch.Tensor, made: torch.Tensor, log_deviation: torch.Tensor
) -> torch.Tensor:
    """(N,) nats: density of `pixels` under normal variables around `made`, summed over them."""
    scaled = (pixels - made) / log_deviation.exp()
    each = -0.5 * scaled.square() - log_deviation - 0.5 * math.log(2 * math.pi)
    return each.flatten(1).sum(dim=1)


def bits_per_dim(bound: torch.Tensor, dims: int) -> torch.Tensor:
    """(N,) bits that each number of a picture takes, of `bound` (N,) nats of its density."""
    return math.log2(LEVELS) - bound / (dims * math.log(2))


class Variational(PretrainingObjective):
    about: ClassVar[str] = "the evidence lower bound, beta = 1"
    generates: ClassVar[bool] = True

    def heads(self, learner: Learner) -> torch.nn.ModuleDict:
        """To the latent, from it to pixels, and the one deviation of all pixels."""
        import torch
        from torch import nn

        made = nn.ModuleDict(
            {
                "latent": nn.Linear(learner.width, 2 * LATENT),
                "decoder": decoder(LATENT, learner.side),
            }
        )
        made["log_deviation"] = nn.ParameterList([torch.full((), -1.0)])
        return made

    def loss(
        self, learner: Learner, heads: Any, batch: Any, labels: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        return self._bits(learner, heads, batch).mean()

    def rebuilt(self, learner: Learner, heads: Any, batch: Any) -> torch.Tensor:
        mean, _ = self._posterior(learner, heads, batch)
        return self._pictures(heads, mean).clamp(0, 1)

    def judged(self, learner: Learner, heads: Any, batch: Any) -> Mapping[str, torch.Tensor]:
        return {"bits_per_dim": self._bits(learner, heads, batch)}

    def samples(self, learner: Learner, heads: Any, n: int) -> torch.Tensor:
        """The means of the pixels for draws of the latent, without the noise of their deviation."""
        import torch

        like = next(heads.parameters())
        return self._pictures(heads, torch.randn(n, LATENT).to(like.device)).clamp(0, 1)

    def _bits(self, learner: Learner, heads: Any, batch: torch.Tensor) -> torch.Tensor:
        """(N,) bits a number, by one draw of the noise of the pixels and of the latent."""
        import torch

        levels = (learner.pixels(batch) * (LEVELS - 1)).round()
        noisy = (levels + sent(torch.rand(levels.shape), levels.device).to(levels)) / LEVELS
        mean, log_variance = self._posterior(learner, heads, batch)
        normal = sent(torch.randn(mean.shape), mean.device).to(mean)
        drawn = mean + normal * (0.5 * log_variance).exp()
        log_deviation = heads["log_deviation"][0].clamp(min=LEAST_LOG_DEVIATION)
        seen = log_likelihood(noisy, self._pictures(heads, drawn), log_deviation)
        return bits_per_dim(seen - BETA * divergence(mean, log_variance), noisy[0].numel())

    def _posterior(
        self, learner: Learner, heads: Any, batch: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = heads["latent"](learner.embed(batch)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)

    def _pictures(self, heads: Any, latent: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = heads["decoder"](latent)
        return made.float()
