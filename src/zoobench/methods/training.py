"""Training a network in steps at each rate of a grid, whatever it reads and whatever it says.

A network has an `encoder`, which is a copy of a backbone's module, and a `decoder`, which is new.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Adapted, Backbone, SealedSplits, Split
from zoobench.methods.optimizers import adamw

if TYPE_CHECKING:
    import torch

POWER = 0.9
"""Of the decay: (1 - step / steps) ** POWER."""
LOOKED_AT = 20
"""Steps from one look at the losses to the next: to look at one is to wait for a GPU."""


class FiniteLosses:
    """Whether every loss of a training was a number, without waiting for each.

    A network that has lost its numbers does not find them again, so that a late look says the same
    as one at each step.
    """

    def __init__(self) -> None:
        self._added = 0
        self._finite: torch.Tensor | None = None

    def lost(self, loss: torch.Tensor) -> bool:
        """Add the loss of one step; whether one was no number, where this step looks."""
        import torch

        new = torch.isfinite(loss.detach())
        self._finite = new if self._finite is None else self._finite & new
        self._added += 1
        return self._added % LOOKED_AT == 0 and not self.all

    @property
    def all(self) -> bool:
        """Whether every loss so far was a number."""
        return self._finite is None or bool(self._finite)


def check_budget(recipe: Any) -> None:
    """Raises ValueError for a budget or rates of a recipe's that cannot be."""
    if recipe.steps < 1 or recipe.batch_size < 1 or not recipe.rates or min(recipe.rates) <= 0:
        raise ValueError("steps and batch_size must be at least 1, and rates above 0")
    if not getattr(recipe, "weight_decay", 0.0) >= 0:  # probes have none
        raise ValueError(f"weight_decay must be at least 0, not {recipe.weight_decay:g}")


class RateGrid:
    """Abstract: a recipe that trains all weights, with a new decoder, at each of its `rates`. A
    frozen dataclass of its hyper-parameters inherits it."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "module"
    random_weights: ClassVar[bool] = False
    warmup: ClassVar[float] = 0.0
    decay: ClassVar[str] = "poly"
    rates: tuple[float, ...]

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Train one copy of the backbone a rate; keep the best on `valid`.

        Raises NotFinite where the loss of every rate leaves the finite numbers, Unsupported for a
        backbone without what is trained on.
        """
        return best_of(self.rates, lambda rate: self.trained(backbone, splits, rate, seed))

    def trained(
        self, source: Any, splits: SealedSplits, rate: float, seed: int
    ) -> TrainedNetwork | None:
        """One rate of the grid, from the backbone as loaded; None where the loss is no number."""
        raise NotImplementedError


@dataclass
class TrainedNetwork:
    """An Adapted that was trained at one rate: an encoder and a decoder, which are its own.

    `whole` is the network as a Backbone, whose costs are those of what was judged; `quality` is
    what the rate is chosen by, on `valid`; `answer` what it says of a split.
    """

    whole: Backbone
    answer: Callable[[Split], Any]
    rate: float
    quality: float
    valid_scores: Any
    facts: dict[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def network(self) -> torch.nn.Module:
        return self.whole.module

    @property
    def chosen(self) -> dict[str, Any]:
        return {"rate": self.rate}

    def predict(self, split: Split) -> Any:
        return self.answer(split)


def best_of(
    rates: Sequence[float], train: Callable[[float], TrainedNetwork | None]
) -> TrainedNetwork:
    """The first of the best on `valid`, flagged where its rate is the least or the greatest.

    Raises NotFinite where `train` gives None for every rate.
    """
    best: TrainedNetwork | None = None
    for rate in rates:
        tuned = train(rate)
        if tuned is not None and (best is None or tuned.quality > best.quality):
            best = tuned
    if best is None:
        raise NotFinite(f"the training loss at every learning rate of {list(rates)}")
    best.flags += edge(best.rate, rates)
    return best


def edge(rate: float, rates: Sequence[float]) -> tuple[str, ...]:
    """The flag of a choice at an end of a grid."""
    outer = len(rates) > 1 and rate in (min(rates), max(rates))
    return ("rate-on-edge",) if outer else ()


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
    @property
    def warmup(self) -> float: ...
    @property
    def decay(self) -> str: ...


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
    encoder at a tenth of it, or not at all where it is frozen; its batch norms always are. The
    rate rises over the share `warmup` of the steps, and then falls to 0: by a "cosine", or from the
    first step on by the power of POWER ("poly").

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
    optimizer = adamw(groups, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(factor, recipe))
    train_mode(net)
    losses = FiniteLosses()
    for step, rows in enumerate(batches(n, recipe.steps, recipe.batch_size, seed)):
        value = loss(step, rows)
        if losses.lost(value):
            return None
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(f"train at {rate:g}", step + 1, recipe.steps)
    return float(sum(p.numel() for p in trained)) if losses.all else None


def factor(recipe: TrainingBudget, step: int) -> float:
    """The rate at `step`, as a share of its peak."""
    done, warm = min(1.0, step / recipe.steps), round(recipe.warmup * recipe.steps)
    if recipe.decay == "poly":
        return float((1 - done) ** POWER)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, recipe.steps - warm))))


def train_mode(net: Any) -> None:
    """Train mode, but for batch norms of the encoder, and all of it where it is frozen."""
    from torch.nn.modules.batchnorm import _BatchNorm

    net.train()
    if not any(p.requires_grad for p in net.encoder.parameters()):
        net.encoder.eval()
    for module in net.encoder.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
