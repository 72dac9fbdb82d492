"""Which kernel computes a Linear in float32 on the CPU: torch's own or oneDNN's, by measurement.

On some processors torch.mm takes a slow path (MKL on AMD with AVX-512: 200 GFLOP/s against
oneDNN's 480), on others both reach the same. The result is the same up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from zoobench.features.precision import time_ratio

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Backbone

ROWS = 1024
"""Rows of the trial product: about one batch of tokens."""
GAIN = 1.15
"""How much faster oneDNN must be, so that a busy moment does not decide."""
TOLERANCE = 1e-4
"""Largest difference of the features allowed, relative to their largest entry."""


def quick_linears(backbone: Backbone) -> Backbone:
    """`backbone` with Linears that run through oneDNN, or itself where that gains nothing.

    The weights are shared (oneDNN keeps a packed copy beside them). It is returned itself
    on a GPU, where torch's own product is as fast, and where the features would differ.
    """
    import torch

    linears = [m for m in backbone.module.modules() if type(m) is torch.nn.Linear]
    if not linears or linears[0].weight.device.type != "cpu":
        return backbone
    largest = max(linears, key=lambda m: m.weight.numel())
    if gain(*largest.weight.shape) < GAIN:
        return backbone
    own: Any = copy.copy(backbone)
    shared = {id(t): t for t in (*backbone.module.parameters(), *backbone.module.buffers())}
    object.__setattr__(own, "module", copy.deepcopy(backbone.module, shared))
    batch = trial_batch(backbone)
    with torch.inference_mode():
        for module in own.module.modules():
            if type(module) is torch.nn.Linear:
                object.__setattr__(module, "forward", through_onednn(module))
        expected, got = backbone.embed(batch), own.embed(batch)
    scale = expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return own if bool((got - expected).abs().max() <= TOLERANCE * scale) else backbone


def through_onednn(linear: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """x (..., K) -> (..., N): the same product and bias, the weight packed once."""
    import torch

    weight, bias = linear.weight.detach(), linear.bias
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)

    def forward(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        return result

    return forward


def available() -> bool:
    """Whether this torch has oneDNN and the operators by which inductor calls it."""
    import torch

    names = ("_linear_pointwise", "_reorder_linear_weight")
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and all(hasattr(torch.ops.mkldnn, name) for name in names)


@cache
def gain(outputs: int, inputs: int) -> float:
    """Seconds of torch's product over those of oneDNN's, best of five each; 0 without oneDNN."""
    import torch

    if not available():
        return 0.0
    linear = torch.nn.Linear(inputs, outputs)
    x = torch.randn(ROWS, inputs, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        packed = through_onednn(linear)
        runs = {"torch": lambda: linear.forward(x), "onednn": lambda: packed(x)}
        return time_ratio(runs, repeats=5)


def trial_batch(backbone: Backbone) -> Any:
    """Two examples made up, on the CPU."""
    import torch

    spec = backbone.input_spec
    if spec.modality == "text":
        texts = ("a few words", "a text of rather more words, and a number such as 7")
        return backbone.collate([backbone.prepare(text) for text in texts])
    size = spec.size or (3, 224, 224)
    batch = torch.linspace(-2, 2, 2 * size[0] * size[1] * size[2]).reshape(2, *size)
    return batch.contiguous(memory_format=torch.channels_last)
