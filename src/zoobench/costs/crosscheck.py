"""fvcore beside our own count, and which operators explain the difference (PROTOCOL section 4).

fvcore traces with torch.jit and has a table of its own, so agreement means something. What
it calls a flop is a MAC. It skips operators that it has no handle for (fused attention,
recurrent layers), and adds work for norms, pooling and interpolation, which are no MACs
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from zoobench.costs.architectures import Architecture, quiet
from zoobench.costs.counter import OpCount
from zoobench.errors import one_line

DISAGREES = 0.05
"""A relative difference above this is reported as a disagreement."""
THEIR_PRODUCTS = frozenset({"linear", "matmul", "bmm", "einsum", "addmm", "mm", "baddbmm"})
ARITHMETIC = ("attention", "conv", "lstm", "gru", "rnn", "baddbmm", "fft", "grid_sampler", "cumsum",
              "deform_conv2d", "mv", "dot", "bilinear", "cdist", "multi_head", "transformer",
              "roi_align", "nms")  # fmt: skip
"""Parts of the names of operators that fvcore skips and that do more than cheap work."""


def cross_check(shape: Architecture, ours: OpCount) -> dict[str, Any]:
    """fvcore's MACs, their ratio to ours, and the difference by class of operator.

    `explained` has "convolutions", "products" (linear layers, matrix products, attention,
    recurrent layers) and "other" (fvcore's norms, pooling, interpolation); each is ours
    minus theirs, and they sum to the whole difference. `skipped` are operators that
    fvcore met and has no handle for, with how often. Where fvcore cannot trace the model,
    `error` says why and there is nothing else.
    """
    try:
        by_operator, skipped = shape.built(partial(_analyse, shape))
    except Exception as error:  # noqa: BLE001 - tracing fails in as many ways as models are written
        return {"error": one_line(error)}
    theirs = sum(by_operator.values())
    return {
        "fvcore_macs": theirs,
        "ratio": theirs / ours.macs if ours.macs else None,
        "disagrees": abs(theirs - ours.macs) > DISAGREES * max(ours.macs, 1),
        "explained": explain(ours.by_operator, by_operator),
        "skipped": skipped,
    }


def explain(ours: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    """Ours minus theirs by class; the three values sum to the whole difference."""
    our_convolutions = sum(n for name, n in ours.items() if "conv" in name)
    their_convolutions = theirs.get("conv", 0)
    their_products = sum(n for name, n in theirs.items() if name in THEIR_PRODUCTS)
    return {
        "convolutions": our_convolutions - their_convolutions,
        "products": sum(ours.values()) - our_convolutions - their_products,
        "other": their_convolutions + their_products - sum(theirs.values()),
    }


def _analyse(
    shape: Architecture, module: torch.nn.Module, device: torch.device
) -> tuple[dict[str, int], dict[str, int]]:
    """(operator -> MACs, skipped arithmetic operator -> times met)."""
    with quiet(), torch.no_grad():
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(module, shape.inputs(device))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        counted = {str(name): int(n) for name, n in analysis.by_operator().items()}
        skipped = {
            str(name).removeprefix("aten::"): int(n)
            for name, n in analysis.unsupported_ops().items()
            if any(part in name for part in ARITHMETIC)
        }
    return counted, skipped
