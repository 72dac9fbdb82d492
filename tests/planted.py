"""Variants that a maker might ship: weights of few bits, int8 with one scale a tensor or a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from zoobench.models.variants.coverage import WHOLE, Coverage, twin


def symmetric(x: torch.Tensor, bits: int, by_row: bool) -> torch.Tensor:
    """`x` rounded to 2**bits - 1 levels about zero, its largest entry (of a row) kept."""
    most = 2 ** (bits - 1) - 1
    largest = x.abs().amax(dim=-1, keepdim=True) if by_row else x.abs().max()
    scale = (largest / most).clamp_min(1e-12)
    found: torch.Tensor = (x / scale).round().clamp(-most, most) * scale
    return found


def affine(x: torch.Tensor, bits: int) -> torch.Tensor:
    """`x` rounded to 2**bits levels from its least entry to its largest, zero among them."""
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp_min(1e-12)
    zero = (-low / scale).round()
    found: torch.Tensor = ((x / scale + zero).round().clamp(0, 2**bits - 1) - zero) * scale
    return found


def rounded(
    bits: int, by_row: bool, inputs: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> Callable[[Any], tuple[Any, Coverage]]:
    """What makes a variant: linear layers' weights of `bits`, computed with as float32; `inputs`
    rounds what comes into each layer."""

    def make(backbone: Any) -> tuple[Any, Coverage]:
        own = twin(backbone)
        for layer in own.module.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.data = symmetric(layer.weight.data, bits, by_row)
                if inputs is not None:
                    layer.register_forward_pre_hook(lambda _, given: (inputs(given[0]),))
        return own, WHOLE

    return make


THREE_BITS = rounded(3, by_row=False)
INT8_A_TENSOR = rounded(8, by_row=False, inputs=lambda x: affine(x, 7))
"""As torch.ao's quantize_dynamic does it on x86: one scale a tensor, and of inputs seven bits, lest
sums of products overflow 16."""
INT8_A_ROW = rounded(8, by_row=True, inputs=lambda x: symmetric(x, 8, by_row=True))
"""As torchao does it: a scale a row of the weights, and a token of the inputs."""
