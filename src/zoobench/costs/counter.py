"""Exact operation counts, taken at torch's dispatcher (PROTOCOL section 4).

Every tensor operation passes there, however the model's code called it, so functional
calls and fused attention count. On the meta device nothing is computed: no weights, no
memory, a fraction of a second. While counting, attention uses its maths form and
`nn.MultiheadAttention`'s fast path is off, so both decompose into products that the
formulas know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoobench.costs.counter_formulas import CHEAP, FORMULAS, Formula
from zoobench.costs.training_memory import saved_for_backward


@dataclass(frozen=True)
class OpCount:
    """MACs of one run. `by_operator` is operator -> MACs, largest first.

    `uncounted` names every executed operator that does floating-point arithmetic, has no
    formula and is not cheap; with one of them `lower_bound` is True. `attention` is
    "none", "full", "causal" or "mixed", as asked of scaled_dot_product_attention (an
    attention written out in products is not recognised, though counted).
    `activation_bytes` is what autograd kept for the backward, where one was counted.
    """

    macs: int
    by_operator: Mapping[str, int]
    uncounted: tuple[str, ...]
    lower_bound: bool
    attention: str = "none"
    activation_bytes: int | None = None


class CountMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operator that reaches the dispatcher while it is entered."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: Counter[str] = Counter()
        self.uncounted: set[str] = set()
        self.whole: set[Any] = set()  # operators known not to decompose

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        # Else reading a shape below would pass through AttentionMode, slowly.
        with torch._C.DisableTorchFunction():
            return self._counted(func, args, kwargs or {})

    def _counted(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        name, formula, cheap = _known(func)
        if formula is None and func not in self.whole and hasattr(func, "decompose"):
            # Under inference_mode composite operators arrive whole.
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
            self.whole.add(func)
        out = func(*args, **kwargs)
        if formula is not None:
            self.macs[name] += formula(args, kwargs, out)
        elif not cheap and _arithmetic(args, out):
            self.uncounted.add(name)
        return out


class AttentionMode(TorchFunctionMode):
    """Sees whether attention was asked to be causal; the products do not show it."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        functional = torch.nn.functional
        if func is functional.scaled_dot_product_attention:
            causal = args[5] if len(args) > 5 else kwargs.get("is_causal", False)
            self.kinds.add("causal" if causal else "full")
        elif func is functional.multi_head_attention_forward:
            # What it calls inside is hidden from this mode.
            self.kinds.add("causal" if kwargs.get("is_causal") else "full")
        return func(*args, **kwargs)


@cache
def _known(func: Any) -> tuple[str, Formula | None, bool]:
    """An operator's name ("aten::mm"), its formula, and whether it is cheap."""
    schema = getattr(func, "_schema", None)  # a higher-order operator has none
    name = str(schema.name if schema is not None else func)
    cheap = name in CHEAP or name.removesuffix("_").removesuffix("_backward") in CHEAP
    pointwise = torch.Tag.pointwise in getattr(func, "tags", ())
    return name, FORMULAS.get(name), cheap or pointwise or getattr(func, "is_view", False)


def _arithmetic(args: Any, out: Any) -> bool:
    """Whether any tensor among arguments and results is floating or complex."""
    return any(t.is_floating_point() or t.is_complex() for t in _tensors((args, out)))


def _tensors(value: Any) -> list[torch.Tensor]:
    """Every tensor in nested tuples, lists, dictionaries and registered outputs."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


@contextmanager
def no_fastpath() -> Iterator[None]:
    """The fast path of MultiheadAttention off."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Attention in its maths form, the fast path of MultiheadAttention off."""
    with no_fastpath(), sdpa_kernel(SDPBackend.MATH):
        yield


def count(
    run: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    train: bool = False,
) -> OpCount:
    """MACs of `run(*args, **kwargs)` on whichever device its tensors lie, meta included.

    `run` is a module or any callable. With `train` it must be a module whose parameters
    take gradients; then the forward and the backward of the sum of its outputs are
    counted: what one training step does beside its loss and its optimiser. The module's
    weights, gradients and mode are left as they were. `activation_bytes` then says what
    autograd kept, parameters and buffers aside, each storage once, with the attention's
    weights (fused attention keeps less). Whatever the model raises passes
    through (on meta, a model that reads values raises: count it on the CPU instead).
    """
    counting, attention = CountMode(), AttentionMode()
    with ExitStack() as stack:
        stack.enter_context(plain_kernels())
        stack.enter_context(torch.set_grad_enabled(train))
        if train:
            stack.enter_context(training_mode(run))
            kept = stack.enter_context(saved_for_backward(run))
        stack.enter_context(attention)
        stack.enter_context(counting)
        out = run(*args, **(kwargs or {}))
        if train:
            _backward(run, out)
    uncounted = tuple(sorted(counting.uncounted))
    kinds = attention.kinds
    return OpCount(
        macs=sum(counting.macs.values()),
        by_operator=dict(counting.macs.most_common()),
        uncounted=uncounted,
        lower_bound=bool(uncounted),
        attention="mixed" if len(kinds) > 1 else next(iter(kinds), "none"),
        activation_bytes=sum(kept.values()) if train else None,
    )


@contextmanager
def training_mode(module: Any) -> Iterator[None]:
    """`module` in training mode, its batch norms in inference mode; the RNG is put back.

    Batch norm cannot train on one example of one pixel, and has no MACs in either mode.
    """
    before = {name: part.training for name, part in module.named_modules()}
    state = torch.get_rng_state()
    module.train()
    for part in module.modules():
        if isinstance(part, (_BatchNorm, _NormBase)):
            part.eval()
    try:
        yield
    finally:
        torch.set_rng_state(state)
        for name, part in module.named_modules():
            part.training = before[name]


def _backward(module: Any, out: Any) -> None:
    """Gradients of all that takes them, from ones at every floating output."""
    ends = [t for t in _tensors(out) if t.requires_grad]
    wanted = [p for p in module.parameters() if p.requires_grad]
    if not ends or not wanted:
        raise ValueError("no gradient flows from the outputs to a parameter")
    torch.autograd.grad(ends, wanted, [torch.ones_like(t) for t in ends], allow_unused=True)


def params_by_block(module: torch.nn.Module) -> dict[str, int]:
    """Top-level child (or own parameter) -> parameters; a shared one counts where first met."""
    totals: Counter[str] = Counter()
    for name, parameter in module.named_parameters():  # shared ones appear once
        totals[name.partition(".")[0]] += parameter.numel()
    return dict(totals)
