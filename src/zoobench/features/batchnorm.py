"""Fold batch norms into the convolutions before them: the same function, fewer passes over memory.

Exact up to rounding (2e-6 on the networks tried), and checked on every network: a
folded copy whose features differ on a probe batch is thrown away.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Backbone

TOLERANCE = 1e-4
"""Largest difference of the features allowed, relative to their largest entry."""


def folded(backbone: Backbone) -> Backbone:
    """A copy of `backbone` for inference with its batch norms folded in, or `backbone` itself.

    It is returned itself where there is nothing to fold, where the network is not in eval
    mode, and where the copy does not compute the same features.
    """
    import torch

    size = backbone.input_spec.size
    parameter = next(backbone.module.parameters(), None)
    if size is None or parameter is None or backbone.module.training:
        return backbone
    own: Any = copy.copy(backbone)
    object.__setattr__(own, "module", copy.deepcopy(backbone.module))
    probe = torch.linspace(-2, 2, 2 * size[0] * size[1] * size[2], device=parameter.device)
    probe = probe.reshape(2, *size).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        pairs = _pairs(own, probe)
        if not pairs:
            return backbone
        expected = backbone.embed(probe)
        for convolution, norm in pairs:
            _fold(own.module, convolution, norm)
        got = own.embed(probe)
    scale = expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return own if bool((got - expected).abs().max() <= TOLERANCE * scale) else backbone


def _pairs(backbone: Backbone, probe: torch.Tensor) -> list[tuple[str, str]]:
    """(convolution, norm) names where the norm's input is the very tensor the other made.

    Found by watching one forward pass, since networks with Python control flow cannot be
    traced; a module that is called twice is left alone.
    """
    import torch

    made: dict[int, str] = {}
    alive: list[torch.Tensor] = []  # an id is only unique while its tensor lives
    calls: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []

    def watch(name: str, module: torch.nn.Module) -> Any:
        def hook(_: torch.nn.Module, given: Any, result: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            if isinstance(module, torch.nn.Conv2d):
                made[id(result)] = name
                alive.append(result)
            elif id(given[0]) in made:
                pairs.append((made[id(given[0])], name))

        return module.register_forward_hook(hook)

    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d)
    modules = [(n, m) for n, m in backbone.module.named_modules() if isinstance(m, kinds)]
    handles = [watch(name, module) for name, module in modules]
    try:
        backbone.embed(probe)
    finally:
        for handle in handles:
            handle.remove()
    return [pair for pair in pairs if all(calls[name] == 1 for name in pair)]


def _fold(module: torch.nn.Module, convolution: str, norm: str) -> None:
    """Scale and shift the convolution's weights in place; of the norm, keep its activation."""
    import torch

    conv: Any = module.get_submodule(convolution)
    old: Any = module.get_submodule(norm)
    if old.running_var is None or old.running_mean is None:
        return
    gain = (old.running_var + old.eps).rsqrt()
    gain = gain * old.weight if old.weight is not None else gain
    shift = old.bias if old.bias is not None else torch.zeros_like(gain)
    bias = conv.bias if conv.bias is not None else torch.zeros_like(gain)
    conv.weight = torch.nn.Parameter(
        (conv.weight * gain[:, None, None, None]).contiguous(memory_format=torch.channels_last)
    )
    conv.bias = torch.nn.Parameter((bias - old.running_mean) * gain + shift)
    # timm's norm carries the activation that follows it.
    module.set_submodule(norm, getattr(old, "act", None) or torch.nn.Identity())
