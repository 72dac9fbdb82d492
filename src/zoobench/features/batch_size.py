"""How many pictures a GPU computes at once: the least number that computes about as many a second
as any, of those that fit its memory.

It is measured once a network, before its first split of many pictures, on pictures of zeros.
Features depend on it by their last bits alone, and a record says it (`batch` of
`extract_waiting_share`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from zoobench.features import stages
from zoobench.machine import out_of_memory

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Backbone

LEAST = 32
"""Where the search begins."""
GAIN = 1.05
"""A larger batch that computes less than this factor more a second is not worth its memory."""
TURNS = 2
"""Batches of each size that are timed, after one that is not."""

_known: WeakKeyDictionary[torch.nn.Module, dict[tuple[str, int], int]] = WeakKeyDictionary()


def measured_batch(backbone: Backbone, device: torch.device, most: int) -> int:
    """The knee of `backbone` on `device` among powers of two up to `most`, measured at its first
    use."""
    known = _known.setdefault(backbone.module, {})
    key = (str(device), most)
    if key not in known:
        known[key] = knee(rates(lambda size: _rate(backbone, device, size), most))
    return known[key]


def rates(rate: Callable[[int], float], most: int) -> dict[int, float]:
    """Batch -> `rate` of it, examples a second: doubled from LEAST to `most`, until memory ends, or
    two doublings in a row gained nothing. Where LEAST does not fit it is halved until one does.

    Raises the error of memory where not even one example fits.
    """
    found: dict[int, float] = {}
    size, falling = min(LEAST, most), False
    while 1 <= size <= most:
        try:
            found[size] = rate(size)
        except Exception as error:
            if not out_of_memory(error) or (not found and size == 1):
                raise
            if found:
                break
            size, falling = size // 2, True
            continue
        if falling or _flat(list(found.values())):
            break
        size *= 2
    return found


def knee(found: Mapping[int, float]) -> int:
    """The least batch whose rate is within GAIN of the best."""
    enough = max(found.values()) / GAIN
    return min(size for size, rate in found.items() if rate >= enough)


def _flat(values: list[float]) -> bool:
    return len(values) > 2 and max(values[-2:]) < GAIN * max(values[:-2])


def _rate(backbone: Backbone, device: torch.device, size: int) -> float:
    """Examples a second of `backbone`, of `size` at once."""
    import torch

    shape = backbone.input_spec.size or (3, 224, 224)
    batch: Any = torch.zeros(size, *shape, device=device)
    if shape[0] == 3:  # pictures, not frames, whose colours are last
        batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        backbone.embed(batch)
        begun = stages.marked(device)
        for _ in range(TURNS):
            backbone.embed(batch)
        ended = stages.marked(device)
    ended.synchronize()
    return TURNS * size / max(1e-9, stages.between(begun, ended))
