"""The maps of transformers' image encoders, from the hidden states of the model that was loaded.

Its AutoBackbone would build a second network, for 32 model types only, and gives the same maps
(a test compares them). Tokens become a map by the model's own counts: of the tokens that are no
patches, and of the patches.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zoobench.errors import Unsupported
from zoobench.models.dense import padded
from zoobench.views import MapReader

if TYPE_CHECKING:
    import torch

TOKENS = ("cls_token", "class_embedding", "distillation_token", "register_tokens")
"""Names of the embeddings that are put before the patches."""
NORMS = ("layernorm", "post_layernorm", "norm")
"""Names of a model's last norm."""
NOT_NORMED = ("CLIPVisionModel", "ChineseCLIPVisionModel")
"""Models that end before their last norm: they put the pooled token alone through it."""
COARSEST = 32
"""Stride of the last stage of a network of stages, to which pictures are padded."""


def reader(module: torch.nn.Module, size: tuple[int, int]) -> MapReader:
    """How the maps of an input of `size`, or the next that fits, are read.

    Raises Unsupported where it cannot be told which token lies where.
    """
    import torch

    own: Any = copy.deepcopy(module)
    patch = _patch(own.config)
    fitted = padded(size, patch or COARSEST)
    grid = (fitted[0] // patch, fitted[1] // patch) if patch else None
    known = inspect.signature(own.forward).parameters
    arguments: dict[str, Any] = {"output_hidden_states": True}
    if "interpolate_pos_encoding" in known:
        arguments["interpolate_pos_encoding"] = fitted != _sides(own.config)
    if "noise" in known and grid is not None:  # ViT-MAE puts patches in the order of a noise
        arguments["noise"] = torch.arange(grid[0] * grid[1], dtype=torch.float32)
    state = partial(_states, arguments, grid)
    blank = torch.zeros(1, 3, *fitted, device=next(own.parameters()).device)
    with torch.no_grad():
        n = len(state(own, blank))
    first = 1 if grid else 0  # of a plain ViT the state 0 is no layer's, but the embeddings
    taps = tuple(f"hidden_states.{i}" for i in range(first, first + n))
    return MapReader(own, fitted, taps, partial(_read, state))


def _patch(config: Any) -> int | None:
    """Side of a patch in pixels, of a network whose layers all have the same patches."""
    patch = getattr(config, "patch_size", None)
    if hasattr(config, "depths") or hasattr(config, "hidden_sizes"):
        return None
    sides = set(patch) if isinstance(patch, (list, tuple)) else {patch}
    only = sides.pop() if len(sides) == 1 else None
    return only if isinstance(only, int) else None


def _sides(config: Any) -> tuple[int, int] | None:
    side = getattr(config, "image_size", None)
    if isinstance(side, (list, tuple)):
        return (int(side[0]), int(side[-1]))
    return (int(side), int(side)) if side else None


def prefix(module: torch.nn.Module) -> int:
    """Tokens that the model puts before those of its patches: its own embeddings, counted."""
    found = {}
    for name, parameter in module.named_parameters():
        last = name.rpartition(".")[2]
        if last in TOKENS:
            found[last] = parameter.shape[1] if parameter.ndim == 3 else 1
    return sum(found.values())


def _read(
    state: Any, module: torch.nn.Module, batch: torch.Tensor, wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    found = state(module, batch)
    return [found[i] for i in wanted]


def _states(
    arguments: Mapping[str, Any],
    grid: tuple[int, int] | None,
    module: torch.nn.Module,
    batch: torch.Tensor,
) -> list[torch.Tensor]:
    """The state after each layer in order, (B, C, h, w) each, the last one as the model ends."""
    if "noise" in arguments:
        order = arguments["noise"].to(batch.device).expand(len(batch), -1)
        arguments = {**arguments, "noise": order}
    output = module(pixel_values=batch, **arguments)
    states = list(getattr(output, "reshaped_hidden_states", None) or output.hidden_states or ())
    last = output.last_hidden_state
    if len(states) < 2:  # the embeddings alone, or not even they
        raise Unsupported(f"transformers' {type(module).__name__} tells no hidden states")
    if states[-1].ndim == 4:
        return [*states[:-1], _shaped(last, states[-1])]
    norm = _norm(module)
    if type(module).__name__ in NOT_NORMED:
        last = norm(last)
    layers = [*map(norm, states[1:-1]), last]
    return [_map(one, prefix(module), grid) for one in layers]


def _norm(module: torch.nn.Module) -> Any:
    """The model's last norm, which timm too puts over the layers inside; else nothing."""
    children = dict(module.named_children())
    inner = children.get("vision_model")
    children |= dict(inner.named_children()) if inner is not None else {}
    return next((children[name] for name in NORMS if name in children), lambda x: x)


def _shaped(last: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The model's end (B, h w, C) or (B, C, h, w) as the map `like`, which it is under a norm."""
    return last.transpose(1, 2).reshape(like.shape) if last.ndim == 3 else last


def _map(tokens: torch.Tensor, before: int, grid: tuple[int, int] | None) -> torch.Tensor:
    """(B, C, h, w) from (B, L, C): `before` tokens of the model's own, then the patches by rows."""
    n, length, channels = tokens.shape
    h, w = grid or (0, 0)
    if grid is None or length != before + h * w:
        raise Unsupported(
            f"{length} tokens, where {before} of the model's own and {h} x {w} patches were due"
        )
    return tokens[:, before:].transpose(1, 2).reshape(n, channels, h, w)
