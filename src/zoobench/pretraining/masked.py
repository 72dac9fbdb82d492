"""`masked`: the hidden patches of a picture, from the others (SimMIM, Xie et al. 2022).

SHARE of the patches, drawn anew for each picture and step, are replaced by one learned colour; the
loss is the mean absolute error of the pixels of those patches alone. A patch is a seventh of the
picture's side: 4 pixels of 28, 32 of 224. The encoder is whole, and may be a convolutional one: it
reads the colour where a patch is hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.machine import sent
from zoobench.pretraining.decoder import decoder, patch_of
from zoobench.pretraining.objective import Learner, PretrainingObjective

if TYPE_CHECKING:
    import torch

SHARE = 0.6


def hidden(n: int, side: tuple[int, int]) -> torch.Tensor:
    """(n, 1, H, W) bool, true where a pixel is hidden: of each picture's P patches exactly
    round(SHARE P) are. Drawn from torch's global generator."""
    import torch

    patch = patch_of(side)
    rows, columns = (-(-length // patch) for length in side)
    order = torch.rand(n, rows * columns).argsort(dim=1)
    mask = torch.zeros(n, rows * columns, dtype=torch.bool)
    mask.scatter_(1, order[:, : round(SHARE * rows * columns)], True)
    grid = mask.view(n, 1, rows, columns)
    whole = grid.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)
    return whole[:, :, : side[0], : side[1]]


def masked_error(made: torch.Tensor, pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean absolute error over the hidden pixels and their channels."""
    apart = (made - pixels).abs() * mask
    return apart.sum() / (mask.sum() * pixels.shape[1])


class Masked(PretrainingObjective):
    about: ClassVar[str] = "60% of the patches, from the others (SimMIM)"

    def heads(self, learner: Learner) -> torch.nn.ModuleDict:
        """The decoder, and the colour that stands where a patch is hidden."""
        import torch
        from torch import nn

        made = nn.ModuleDict({"decoder": decoder(learner.width, learner.side)})
        made["colour"] = nn.ParameterList([torch.zeros(3)])
        return made

    def loss(
        self, learner: Learner, heads: Any, batch: Any, labels: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        made, mask = self._guessed(learner, heads, batch)
        return masked_error(made, learner.pixels(batch), mask)

    def rebuilt(self, learner: Learner, heads: Any, batch: Any) -> torch.Tensor:
        """The hidden patches as guessed, among the others as they are."""
        made, mask = self._guessed(learner, heads, batch)
        pixels = learner.pixels(batch)
        return pixels.where(~mask, made.clamp(0, 1))

    def _guessed(
        self, learner: Learner, heads: Any, batch: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        mask = sent(hidden(len(batch), learner.side), batch.device)
        colour = heads["colour"][0].to(batch)[:, None, None]
        made = heads["decoder"](learner.embed(batch.where(~mask, colour)))
        return made.float(), mask
