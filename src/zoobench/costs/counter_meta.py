"""Results of operators on the meta device, remembered.

A meta kernel computes only shapes, but most are Python and take a fifth of a millisecond;
networks repeat the same few hundred calls thousands of times. A result here is described
by its shapes, strides and dtypes, and made anew each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_PLAIN = (int, float, bool, str, type(None))
LARGEST = 200_000
"""Results held at most, about 100 MB; then all are forgotten."""


class MetaCache:
    """Calls an operator, or makes what it gave when it was called with such arguments.

    Only operators that neither view nor mark any of their arguments, whose tensors all lie
    on meta and whose result is a tensor or a tuple of those. One that changes its first
    argument in place, element by element, gives that argument back.
    """

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._kinds: dict[Any, str] = {}
        self._known: dict[Any, Any] = {}

    def __call__(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        kind = self._kinds.get(func)
        if kind is None:
            kind = self._kinds[func] = _kind(func)
        if kind == "other":
            return func(*args, **kwargs)
        try:
            key = (func, self._described(args), self._described(tuple(kwargs.items())))
            known = self._known.get(key)
        except TypeError:  # something that cannot be described: no meta tensor, or a generator
            return func(*args, **kwargs)
        if known is not None:
            return args[0] if kind == "in place" else self._made(known)
        out = func(*args, **kwargs)
        plan = self._plan(out)
        if plan is not None:
            if len(self._known) >= LARGEST:
                self._known.clear()
            self._known[key] = plan
        return out

    def _described(self, value: Any) -> Any:
        """A hashable description of an argument; raises TypeError where there is none."""
        torch = self._torch
        if isinstance(value, torch.Tensor):
            if (
                value.device.type != "meta"
                or value.dtype.is_complex
                or value.layout != torch.strided
            ):
                raise TypeError
            return value.shape, value.stride(), value.dtype
        if isinstance(value, (list, tuple)):
            return tuple(map(self._described, value))
        if isinstance(value, _PLAIN):
            return type(value), value  # 1, 1.0 and True are equal, and not the same
        if isinstance(value, (torch.dtype, torch.device, torch.memory_format, torch.layout)):
            return value
        raise TypeError

    def _plan(self, out: Any) -> Any:
        """How to make `out` again, or None where that cannot be told."""
        if isinstance(out, (list, tuple)):
            parts = [self._plan(item) for item in out]
            return None if None in parts else (type(out), parts)
        if isinstance(out, self._torch.Tensor) and out.device.type == "meta":
            return out.shape, out.stride(), out.dtype
        return None

    def _made(self, plan: Any) -> Any:
        if isinstance(plan[0], type) and isinstance(plan[1], list):
            return plan[0](self._made(part) for part in plan[1])
        shape, stride, dtype = plan
        made: torch.Tensor = self._torch.empty_strided(shape, stride, dtype=dtype, device="meta")
        return made


def _kind(func: Any) -> str:
    """ "fresh" where only new tensors result, "in place" where the first argument does."""
    import torch

    schema = getattr(func, "_schema", None)
    if schema is None or not schema.returns or not schema.arguments:
        return "other"
    first, *rest = schema.arguments
    if any(item.alias_info is not None for item in rest):
        return "other"
    if first.alias_info is None:
        aliased = any(item.alias_info is not None for item in schema.returns)
        return "other" if aliased else "fresh"
    pointwise = torch.Tag.pointwise in func.tags
    return "in place" if first.alias_info.is_write and pointwise else "other"


@cache
def shared() -> MetaCache:
    """One for the process: a sweep's networks share most of their calls."""
    return MetaCache()
