"""How much memory one example takes, counted on the meta device before anything is allocated.

What is alive at once is summed at torch's dispatcher: each storage from the operator that
makes it until nothing refers to it. Attention is taken as fused, as it is run. Workspaces
of kernels are not seen, so a count is a lower bound; docs/protocol.md states how near it is.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoobench.costs import architectures
from zoobench.costs.counter import no_fastpath, training_mode
from zoobench.schema import Ref


class LiveMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of the storages that operators made and that are still referred to.

    `known` are tensors that were there before: they and views of them count nothing.
    """

    def __init__(self, known: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live, self.peak = 0, 0
        self._seen = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._seen:
            self._seen.add(storage)
            size = int(storage.nbytes())
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, size).atexit = False

    def _drop(self, size: int) -> None:
        self.live -= size


def peak_bytes(
    run: Callable[..., Any], args: Sequence[Any], module: torch.nn.Module, train: bool = False
) -> int:
    """Most bytes alive at once in `run(*args)`, weights and inputs among them.

    With `train` a backward follows, and two moments of each weight (AdamW) are there. Whatever
    the model raises on the meta device passes through.
    """
    own = [*module.parameters(), *module.buffers()]
    given = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
    static: int = sum(tensor.numel() * tensor.element_size() for tensor in (*own, *given))
    mode = LiveMode((*own, *given))
    with mode, fused_attention():
        if not train:
            with torch.no_grad():
                run(*args)
            return static + mode.peak
        with training_mode(module):
            ends = [leaf for leaf in tree_leaves(run(*args)) if isinstance(leaf, torch.Tensor)]
            weights = [p for p in module.parameters() if p.is_floating_point()]
            torch.autograd.grad([end.sum() for end in ends], weights, allow_unused=True)
    moments = 2 * sum(weight.numel() * weight.element_size() for weight in weights)
    return static + moments + mode.peak


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention without its table of weights, on the meta device too, which has the maths alone."""
    functional = torch.nn.functional
    written_out = functional.scaled_dot_product_attention

    def fused(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if query.ndim != 4 or query.shape[1] != key.shape[1] or query.shape[-1] != value.shape[-1]:
            return written_out(query, key, value, *args, **kwargs)
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out: torch.Tensor = attend(query, key, value)[0]
        return out

    with no_fastpath(), mock.patch.object(functional, "scaled_dot_product_attention", fused):
        yield


def needed(ref: str, train: bool) -> int:
    """`peak_bytes` of the model `ref` at the size that it asks for. Nothing is downloaded.

    Networks that are built without weights are counted at that size; any other is run at its
    own, and what it needs beside its weights grows with the pixels or tokens, which is what
    the thriftiest network does. Raises UserError for a name that is nobody's, and whatever a
    model raises that can be run neither way.
    """
    named = Ref.parse(ref)
    side, length = named.option("input_size"), named.option("length")
    with architectures.quiet():
        if named.source in architectures.NETWORKS:
            size = (int(side), int(side)) if isinstance(side, int) else None
            shape = architectures.architecture(named, size)
            return shape.built(
                lambda module, at: peak_bytes(module, shape.inputs(at), module, train)
            )
        shape = architectures.architecture(named.without("input_size", "length"))
        module, args = shape.build(), shape.inputs(torch.device("cpu"))
        peak = peak_bytes(shape.call or module, args, module, train)
    static = sum(p.numel() * p.element_size() for p in module.parameters())
    own = max(max(leaf.shape[1:]) for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor))
    growth = (side / own) ** 2 if isinstance(side, int) else int(length or own) / own
    return static + int((peak - static) * growth)
