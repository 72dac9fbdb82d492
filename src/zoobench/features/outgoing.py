"""Features on their way from the device that computes them to memory.

A GPU is told what to do long before it is done. Whoever waits for each batch's features leaves
it without work meanwhile, so that of a GPU they are handed over some batches later, through
memory that it can write while it computes. N examples, D features.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

WAITING = 2
"""Batches whose features a GPU still computes, or copies, while the next are decoded."""
Put = Callable[[Sequence[int], "torch.Tensor"], None]
"""Takes the rows of a batch, and their float32 features (N, D) on the CPU."""


class Outgoing:
    """Hands features to `put`, in the order in which they were sent. From the CPU at once, in the
    thread that sends them; from a GPU once they are there, at the latest when it is closed."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._waiting: deque[tuple[Sequence[int], torch.Tensor, Any]] = deque()

    def send(self, rows: Sequence[int], features: torch.Tensor) -> None:
        if features.device.type == "cpu":
            self._put(rows, features)
            return
        host, copied = copied_out(features)
        self._waiting.append((rows, host, copied))
        if len(self._waiting) > WAITING:
            self._hand_over()

    def close(self) -> None:
        """Hand over all that is on its way."""
        while self._waiting:
            self._hand_over()

    def _hand_over(self) -> None:
        rows, host, copied = self._waiting.popleft()
        copied.synchronize()
        self._put(rows, host)


def copied_out(features: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """`features` in pinned memory, and an event of the GPU after which they are there."""
    import torch

    host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
    host.copy_(features, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(features.device))  # which may be of another card
    return host, event
