"""What the probes have in common whose problem is not convex, so that they are trained in steps:
of boxes, and of speech. D features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.methods.optimizers import adamw
from zoobench.methods.training import batches, check_budget

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SteppedProbe:
    """Abstract: a new layer on frozen features, by AdamW at each of `rates` with a cosine, over
    `steps` of `batch_size` examples; the rate is chosen on `valid`."""

    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    steps: int = 500
    batch_size: int = 16

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    seeded: ClassVar[bool] = True
    weight_decay: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        check_budget(self)


def fit_heads(
    heads: Sequence[tuple[float, torch.nn.Module]],
    losses: Callable[[NDArray[np.intp]], torch.Tensor],
    n: int,
    recipe: SteppedProbe,
    seed: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[bool]:
    """Train (rate, head)s on the same batches of n examples; whose loss is finite in every step.

    `losses(rows)` gives the loss (H,) of each head, of some examples.
    """
    import torch

    # Heads share no parameter, so that one optimizer of all is an optimizer of each.
    groups = [{"params": list(head.parameters()), "lr": rate} for rate, head in heads]
    optimizer = adamw(groups, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    finite = torch.ones(len(heads), dtype=torch.bool)
    for step, rows in enumerate(batches(n, recipe.steps, recipe.batch_size, seed)):
        found = losses(rows)
        # Kept where it is computed: to look at it is to wait for a GPU.
        finite = finite.to(found.device) & torch.isfinite(found.detach())
        optimizer.zero_grad(set_to_none=True)
        found.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress("fit", step + 1, recipe.steps)
    return [bool(one) for one in finite]


@dataclass(frozen=True)
class Standardised:
    """Features less their mean (D,), over their deviation (D,), those of train."""

    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def by(cls, blocks: Iterable[NDArray[np.floating[Any]]], device: torch.device) -> Standardised:
        """Of all rows of `blocks`, each (..., D), summed in double precision."""
        import torch

        rows, sums = 0, np.zeros((2, 1))
        for block in blocks:
            exact = np.asarray(block, dtype=np.float64).reshape(-1, block.shape[-1])
            rows += len(exact)
            sums = sums + np.stack([exact.sum(axis=0), (exact**2).sum(axis=0)])
        mean, square = sums / max(1, rows)
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        # A feature that is constant tells nothing; dividing by its rounding error would.
        scale = np.where(spread > 1e-4 * (np.abs(mean) + 1e-3), spread, np.inf)
        return cls(*(torch.as_tensor(a, dtype=torch.float32, device=device) for a in (mean, scale)))

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return (values - self.mean) / self.scale
