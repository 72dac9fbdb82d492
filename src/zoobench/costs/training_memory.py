"""The memory that training takes, counted: the same on every machine, whatever its allocator does.

Weights, gradients, what the optimiser keeps of each, and what autograd keeps of one batch for its
backward pass; not the temporary results of single operators (PROTOCOL section 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def saved_for_backward(module: Any) -> Iterator[dict[int, int]]:
    """address -> bytes of each storage that autograd saves in the block, the module's own aside."""
    import torch

    own = {t.untyped_storage()._cdata for t in (*module.parameters(), *module.buffers())}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            sizes[storage._cdata] = int(storage.nbytes())
        return tensor  # which autograd holds, so that no other has its address before the backward

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def training_bytes(net: torch.nn.Module, optimizer: torch.optim.Optimizer, saved: int) -> float:
    """Of a network after a step, and of the bytes that a batch `saved`."""
    weights = sum(_bytes(t) for t in (*net.parameters(), *net.buffers()))
    gradients = sum(_bytes(p) for p in net.parameters() if p.requires_grad)
    kept = sum(_bytes(value) for state in optimizer.state.values() for value in state.values())
    return float(weights + gradients + kept + saved)


def _bytes(value: Any) -> int:
    return int(value.numel() * value.element_size()) if hasattr(value, "numel") else 0
