"""`contrastive`: two views of a picture are each other's nearest (SimCLR, Chen et al. 2020).

Each view is a crop of 40% to 100% of the picture, resized, with other brightness and contrast. No
view is mirrored: of letters and digits a mirror makes another class. Loss: NT-Xent, the
cross-entropy of a view's partner among all 2 N - 1 other views, by cosine over TAU, of what two
layers make of the features; those layers are thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.machine import sent, unrounded
from zoobench.pretraining.objective import Learner, PretrainingObjective

if TYPE_CHECKING:
    import torch

TAU = 0.2
LEAST_CROP = 0.4
"""Of the picture's area."""
JITTER = 0.4
"""Brightness is moved by up to half of it, contrast multiplied by 1 - JITTER to 1 + JITTER."""
PROJECTED = 64


def nt_xent(views: torch.Tensor, tau: float = TAU) -> torch.Tensor:
    """The loss of `views` (2 N, P), of which rows i and i + N are of one picture."""
    import torch
    import torch.nn.functional as F

    with unrounded(views.device):  # cosines have more than 8 bits
        rows = F.normalize(views.float(), dim=1)
        logits = rows @ rows.t() / tau
    logits = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), -1e9)
    partner = torch.arange(len(rows), device=rows.device).roll(len(rows) // 2)
    return F.cross_entropy(logits, partner)


def view(pixels: torch.Tensor) -> torch.Tensor:
    """A random view of each picture (N, 3, H, W) in [0, 1], by torch's global generator."""
    import torch
    import torch.nn.functional as F

    n = len(pixels)
    drawn: torch.Tensor = sent(torch.rand(5, n), pixels.device).to(pixels)
    side = (LEAST_CROP + (1 - LEAST_CROP) * drawn[0]).sqrt()
    turn = torch.zeros(n, 2, 3, device=pixels.device)
    turn[:, 0, 0] = turn[:, 1, 1] = side
    turn[:, 0, 2], turn[:, 1, 2] = ((2 * drawn[1:3] - 1) * (1 - side)).unbind()
    with unrounded(pixels.device):  # and so have places in a picture
        grid = F.affine_grid(turn, list(pixels.shape), align_corners=False)
        cut = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    brightness = ((drawn[3] - 0.5) * JITTER)[:, None, None, None]
    contrast = (1 + (2 * drawn[4] - 1) * JITTER)[:, None, None, None]
    middle = cut.mean(dim=(1, 2, 3), keepdim=True)
    return ((cut - middle) * contrast + middle + brightness).clamp(0, 1)


class Contrastive(PretrainingObjective):
    about: ClassVar[str] = "two views are each other's nearest (SimCLR), tau = 0.2"
    views: ClassVar[int] = 2

    def heads(self, learner: Learner) -> torch.nn.ModuleDict:
        from torch import nn

        width = learner.width
        layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, PROJECTED))
        return nn.ModuleDict({"projection": layers})

    def loss(
        self, learner: Learner, heads: Any, batch: Any, labels: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        import torch

        pixels = learner.pixels(batch)
        both = torch.cat([view(pixels), view(pixels)])
        return nt_xent(heads["projection"](learner.embed(learner.read(both))))
