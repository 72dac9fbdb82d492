"""Low-rank adaptation: the weights stay, and small updates of every layer are trained.

Each matrix W of the network becomes W + (alpha / rank) B A, with A (rank, in) and B (out, rank)
trained and B = 0 at the start (Hu et al. 2021, arXiv:2106.09685). What was trained is added into
the weights at the end, so that the network is the size and the speed that it was.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.errors import Unsupported, missing_extra
from zoobench.methods.finetune import FineTune
from zoobench.methods.optimizers import parameter_groups

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Lora(FineTune):
    """The recipe of `fine-tune`, with updates of `rank` in place of the weights; `alpha` over
    `rank` scales them. The head is new, and trained whole.

    Linear layers, attentions and convolutions that mix channels are adapted; all else, batch norms
    with it, stays as it was loaded.
    """

    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    rank: int = 8
    alpha: float = 16.0

    random_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1 or not self.alpha > 0:
            raise ValueError("rank must be at least 1, and alpha above 0")
        if self.freeze != "none" or self.layer_decay != 1.0:
            raise ValueError("lora trains no weights that freeze or layer_decay could speak of")

    def prepared(self, net: Any, rate: float) -> list[dict[str, Any]]:
        """Put the updates into `net.body`, and give the optimiser's groups.

        Raises Unsupported where it has no layer to adapt, MissingExtra without peft.
        """
        adapt(net.body, self.rank, self.alpha)
        net.head.requires_grad_(True)
        return [
            {**group, "params": trained}
            for group in parameter_groups(net, self, rate)
            if (trained := [p for p in group["params"] if p.requires_grad])
        ]

    def finished(self, net: Any) -> None:
        """Add the updates into the weights of `net.body`: plain layers again."""
        merge(net.body)


def adapt(body: torch.nn.Module, rank: int, alpha: float) -> None:
    """Make the matrices of `body` low-rank updatable, in place; nothing else takes a gradient."""
    try:
        import peft
    except ImportError as error:
        raise missing_extra("peft", "lora", "the method lora") from error

    names = adaptable(body)
    if not names:
        raise Unsupported(f"lora: a {type(body).__name__} has no linear layer or convolution")
    scale: Any = alpha  # peft's type is int, and what it does is divide it
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=scale,
        lora_dropout=0.0,
        bias="none",
        target_modules="|".join(map(re.escape, names)),  # a list would match endings of names
    )
    with warnings.catch_warnings():
        # GPT-2's layers hold their matrices turned: peft says that it has seen it.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        peft.inject_adapter_in_model(config, body)


def adaptable(body: torch.nn.Module) -> list[str]:
    """The names of the layers that are adapted: those that mix features by a matrix."""
    import torch
    from transformers.pytorch_utils import Conv1D

    within = [
        f"{name}." for name, part in body.named_modules()
        if isinstance(part, torch.nn.MultiheadAttention)
    ]  # fmt: skip
    found = []
    for name, part in body.named_modules():
        mixes = isinstance(part, torch.nn.Conv2d) and part.groups == 1
        matrix = isinstance(part, (torch.nn.Linear, Conv1D, torch.nn.MultiheadAttention))
        # An attention of torch's own calls no layer that it holds.
        if name and (mixes or matrix) and not any(name.startswith(one) for one in within):
            found.append(name)
    return found


def merge(body: torch.nn.Module) -> None:
    """Each adapted layer as the plain one whose weights hold its update, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [name for name, one in body.named_modules() if isinstance(one, BaseTunerLayer)]
    for name in adapted:
        if any(name.startswith(f"{other}.") for other in adapted):
            continue  # a part of another, which merges it
        part: Any = body.get_submodule(name)
        if hasattr(
            part, "unload_and_optionally_merge_module"
        ):  # attentions have a way of their own
            plain = part.unload_and_optionally_merge_module(
                merge=True, safe_merge=False, adapter_names=None
            )
        else:
            part.merge()
            plain = part.get_base_layer()
        parent, _, last = name.rpartition(".")
        setattr(body.get_submodule(parent), last, plain)
    body.requires_grad_(True)
