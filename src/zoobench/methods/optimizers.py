"""Which parameters a recipe trains, at which rate, and by what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from zoobench.methods.finetune import FineTune


def parameter_groups(net: torch.nn.Module, recipe: FineTune, rate: float) -> list[dict[str, Any]]:
    """Groups by depth: biases and norms without decay, the rate falling away from the head.

    A block is a run of parameters that share their name's first part with a
    number in it, or the first part alone.
    """
    depth = depths(net)
    groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        level = depth[block_of(name)]
        if recipe.freeze == "all-but-last" and level > 1:
            parameter.requires_grad_(False)
            continue
        groups.setdefault((level, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": rate * recipe.layer_decay**level,
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (level, decays), parameters in groups.items()
    ]


def block_of(name: str) -> str:
    """The block a parameter belongs to: its path up to the first or second number.

    "body.blocks.3.1.conv.weight" -> "body.blocks.3"; "head.bias" -> "head".
    """
    parts = name.split(".")[:-1]
    for i, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: i + 1])
    return ".".join(parts[:2]) if parts[0] == "body" else parts[0]


def depths(net: torch.nn.Module) -> dict[str, int]:
    """block -> how many blocks lie above it; the head is 0.

    A block without a matrix, such as a transformer's last norm, counts with the block
    before it: alone it would be no layer worth training.
    """
    heavy = {block_of(name) for name, p in net.named_parameters() if p.ndim > 1}
    blocks = list(dict.fromkeys(block_of(name) for name, _ in net.named_parameters()))
    found: dict[str, int] = {}
    level = -1
    for name in reversed(blocks):
        level += name in heavy
        found[name] = level if name in heavy else level + 1
    return found


def make_optimizer(recipe: FineTune, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    import torch

    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=0.9)
    return adamw(groups)


def adamw(
    groups: list[dict[str, Any]], rate: float = 1e-3, weight_decay: float = 0.01
) -> torch.optim.Optimizer:
    """AdamW of what the groups do not say otherwise: on a GPU one kernel moves all of them."""
    import torch

    fused = on_cuda(groups) or None
    return torch.optim.AdamW(groups, lr=rate, weight_decay=weight_decay, fused=fused)


def on_cuda(groups: list[dict[str, Any]]) -> bool:
    """Whether all parameters of an optimiser lie on a GPU."""
    return all(one.is_cuda for group in groups for one in group["params"])
