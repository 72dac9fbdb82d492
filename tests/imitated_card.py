"""A card that is imitated: tensors of a device of their own, whose work the CPU does.

They say that they lie on "meta", so that code takes the way that it takes for a GPU, and every
operation on them comes by here. So it is seen where the host would have waited for a GPU, or made
one wait: numbers read back, results whose size only the card knows, and copies of memory that a
GPU does not read by itself. The numbers are the CPU's own, to the last bit.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
CPU = torch.device("cpu")
SIZED_BY_VALUES = {
    "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount",
    "equal", "is_nonzero", "_local_scalar_dense",
}  # fmt: skip
"""Operations whose result the host must wait for."""


BETWEEN = {
    "copy_", "_to_copy", "to", "index", "index_put", "index_put_", "_index_put_impl_",
    "_ctc_loss", "_ctc_loss_backward",  # whose lengths are the host's
}  # fmt: skip
"""Operations that take tensors of both."""


class OnCard(torch.Tensor):
    """A tensor of the imitated card, over one of the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnCard:
        with torch.inference_mode(held.is_inference()):
            made: OnCard = torch.Tensor._make_wrapper_subclass(
                cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
                dtype=held.dtype, layout=held.layout, device=DEVICE,
            )  # fmt: skip
        made.held = held
        return made

    @property
    def data(self) -> torch.Tensor:
        return OnCard(self.held.data)

    @data.setter
    def data(self, other: torch.Tensor) -> None:
        torch.Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.held = other.held if isinstance(other, OnCard) else other

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(func, args, kwargs or {}, None)

    def tolist(self) -> Any:
        return self.cpu().tolist()


class Card(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered: the places of the package that waited, and how often."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: Counter[str] = Counter()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {}, self)

    def waited(self, what: str) -> None:
        self.waits[f"{place()}: {what}"] += 1


def place() -> str:
    """The innermost line of the package, or of the test, that is being run."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if "zoobench/" in path and "site-packages" not in path:
            return f"{path.rpartition('zoobench/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _computed(func: Any, args: Any, kwargs: Any, card: Card | None) -> Any:
    """What `func` gives, computed by the CPU, on the card where its arguments lie there."""
    on_card = any(isinstance(one, OnCard) for one in tree_leaves((args, kwargs)))
    to = _asked(args, kwargs)
    there = to.type == DEVICE.type if to is not None else on_card
    if on_card:
        _same_device(func, args, kwargs)
    a, k = tree_map(_on_cpu, args), tree_map(_on_cpu, kwargs)
    if card is not None:
        card.operations += on_card or there
        reason = _waits(func, args, kwargs, on_card, there)
        if reason:
            card.waited(reason)
    out = func(*a, **k)
    if func._schema.is_mutable:
        for before, inside in zip(args, a, strict=True):
            if out is inside:
                return before
    if to is not None and on_card and not there and isinstance(out, torch.Tensor):
        return out.clone() if out is a[0] else out  # a copy of another device shares nothing
    return tree_map(_on_card, out) if there else out


def _same_device(func: Any, args: Any, kwargs: Any) -> None:
    """Raises what a GPU does where an operation is given tensors of its own and of the host's,
    but for copies, single numbers and places to read from or write to."""
    if func._schema.name.partition("::")[2] in BETWEEN:
        return
    for one in tree_leaves((args, kwargs)):
        if isinstance(one, torch.Tensor) and not isinstance(one, OnCard) and one.ndim:
            raise RuntimeError(f"Expected all tensors to be on the same device: {func}")


def _on_cpu(one: Any) -> Any:
    if isinstance(one, torch.device):
        return CPU if one.type == DEVICE.type else one
    return one.held if isinstance(one, OnCard) else one


def _on_card(one: Any) -> Any:
    plain = isinstance(one, torch.Tensor) and not isinstance(one, OnCard)
    return OnCard(one) if plain else one


def _asked(args: Any, kwargs: Any) -> torch.device | None:
    """The device that an operation is told to leave its result on. (While nothing is recorded for
    a gradient, `to` comes by whole, with its device among the places.)"""
    named: torch.device | None = kwargs.get("device")
    return named or next((one for one in args if isinstance(one, torch.device)), None)


def _waits(func: Any, args: Any, kwargs: Any, on_card: bool, there: bool) -> str:
    """Why a GPU and its host would wait for each other here, or "" where they do not."""
    name: str = func._schema.name.partition("::")[2]
    if on_card and name in SIZED_BY_VALUES:
        return name
    if name == "copy_" and isinstance(args[0], OnCard) != isinstance(args[1], OnCard):
        slow = not (len(args) > 2 and args[2]) or not _pinned(args[1])
        return "copy" if slow and args[1].ndim else ""
    if name in ("_to_copy", "to") and on_card != there:
        if on_card:
            return "to the host"
        at_once = kwargs.get("non_blocking") or (name == "to" and args[3:4] == (True,))
        return "" if at_once and _pinned(args[0]) else "from the host"
    if on_card and name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        kinds = [(one.dtype, isinstance(one, OnCard)) for one in args[1] if one is not None]
        if any(kind is torch.bool for kind, _ in kinds):
            return f"{name} by what is true"
        if not all(here for _, here in kinds):
            return f"{name} by the host's numbers"
    if on_card and name == "repeat_interleave" and kwargs.get("output_size") is None:
        return name
    return ""


def _pinned(one: torch.Tensor) -> bool:
    return isinstance(one, OnCard) or getattr(one, "imitates_pinned", False)


class _Mark:
    """An event by which a GPU says when it was done with something: here at once."""

    def __init__(self) -> None:
        self._at = time.perf_counter()

    def elapsed_time(self, later: _Mark) -> float:
        return 1000 * (later._at - self._at)

    def synchronize(self) -> None:
        """It is done."""


class _Event:
    """After which features are in the host's memory: not before."""

    def __init__(self, host: torch.Tensor, features: torch.Tensor) -> None:
        self._host, self._features = host, features

    def synchronize(self) -> None:
        with torch.inference_mode():
            self._host.copy_(self._features)


def _pin(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: _pin(one) for name, one in batch.items()}
    batch.imitates_pinned = True
    return batch


def _copied_out(features: Any) -> tuple[torch.Tensor, Any]:
    host = torch.full(features.shape, 77, dtype=features.dtype)
    return host, _Event(host, features.held)


@contextmanager
def imitated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    """The card, while the package believes in it: memory is pinned and events are real."""
    from zoobench import machine
    from zoobench.features import extraction, outgoing, stages, threads
    from zoobench.features.source import Features

    made, listed = torch.tensor, torch.as_tensor
    card = Card()

    def tensor(build: Any, data: Any, *args: Any, device: Any = None, **more: Any) -> Any:
        there = device is not None and torch.device(device).type == DEVICE.type
        if isinstance(data, torch.Tensor) or not there:
            return build(data, *args, **more, **({} if device is None else {"device": device}))
        card.waited("from the host")
        return OnCard(build(data, *args, **more))

    monkeypatch.setattr(torch, "tensor", lambda *a, **k: tensor(made, *a, **k))
    monkeypatch.setattr(torch, "as_tensor", lambda *a, **k: tensor(listed, *a, **k))
    for asking in (machine, extraction):
        monkeypatch.setattr(asking, "reads_pinned", lambda device: device.type == DEVICE.type)
    for asking in (machine, extraction):
        monkeypatch.setattr(asking, "free_bytes", lambda device: 2**30)
    for module in (machine, threads):
        monkeypatch.setattr(module, "pinned", _pin)
    monkeypatch.setattr(outgoing, "copied_out", _copied_out)
    monkeypatch.setattr(stages, "marked", lambda device: _Mark())
    monkeypatch.setattr(Features, "autocast", lambda self, kind="": nullcontext())
    with card:
        yield card
