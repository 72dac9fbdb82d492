"""Batches on their way from the host's memory to the device that computes.

A GPU copies the next batch while it computes this one, if it is told so on another stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoobench.machine import sent

if TYPE_CHECKING:
    import torch


class Incoming:
    """Hands batches to `device`: to a GPU on a stream of its own, beside what it computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = copy_stream(device)

    def take(self, batch: Any) -> Any:
        """`batch`, a tensor or a dict of such, for what the device is told from now on."""
        if self._stream is None:
            return to_device(batch, self._device)
        import torch

        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            moved = to_device(batch, self._device)
        computing.wait_stream(self._stream)
        for one in moved.values() if isinstance(moved, dict) else [moved]:
            one.record_stream(computing)  # its memory is not given away while it is read
        return moved


def to_device(batch: Any, device: torch.device) -> Any:
    """`batch` (a tensor or a dict of tensors) on `device`; (N, 3, H, W) in channels-last."""
    import torch

    moved = sent(batch, device)
    if isinstance(batch, torch.Tensor) and batch.ndim == 4 and batch.dtype != torch.uint8:
        moved = moved.contiguous(memory_format=torch.channels_last)
    return moved


def copy_stream(device: torch.device) -> Any:
    """A stream beside the one that computes; None where the device has no streams."""
    import torch

    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
