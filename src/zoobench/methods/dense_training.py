"""What the recipes that train on maps have in common, whatever they train for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

POWER = 0.9
"""Of the decay: (1 - step / steps) ** POWER."""


def batches(n: int, steps: int, size: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """`steps` batches: a new permutation each epoch; a short last batch is left out."""
    rng = np.random.default_rng([seed, 1])
    size = min(size, n)
    waiting = np.zeros(0, dtype=np.intp)
    for _ in range(steps):
        if len(waiting) < size:
            waiting = rng.permutation(n)
        yield waiting[:size]
        waiting = waiting[size:]


class TrainingBudget(Protocol):
    """The budget of one run of a grid of rates."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def freeze(self) -> str: ...


def fit(
    net: Any,
    loss: Callable[[int, NDArray[np.intp]], torch.Tensor],
    n: int,
    recipe: TrainingBudget,
    rate: float,
    seed: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> float | None:
    """Train `net`, which has an `encoder` and a `decoder`, by AdamW: the decoder at `rate`, the
    encoder at a tenth of it, or not at all where it is frozen; its batch norms always are.

    `loss(step, rows)` is of some of n examples. The number of trained parameters, or None where
    the loss is no number.
    """
    import torch

    encoder, decoder = list(net.encoder.parameters()), list(net.decoder.parameters())
    for parameter in encoder:
        parameter.requires_grad_(recipe.freeze == "none")
    trained = [p for p in (*encoder, *decoder) if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": decoder, "lr": rate}]
    if recipe.freeze == "none":
        groups.append({"params": encoder, "lr": rate / 10})
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 - min(step, recipe.steps) / recipe.steps) ** POWER
    )
    train_mode(net)
    for step, rows in enumerate(batches(n, recipe.steps, recipe.batch_size, seed)):
        value = loss(step, rows)
        if not bool(torch.isfinite(value)):
            return None
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(f"train at {rate:g}", step + 1, recipe.steps)
    return float(sum(p.numel() for p in trained))


def train_mode(net: Any) -> None:
    """Train mode, but for batch norms of the encoder, and all of it where it is frozen."""
    from torch.nn.modules.batchnorm import _BatchNorm

    net.train()
    if not any(p.requires_grad for p in net.encoder.parameters()):
        net.encoder.eval()
    for module in net.encoder.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
