"""A batch that ends the memory, computed in parts that fit.

Features are the same but for their last bits: at another size a kernel may sum in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoobench.features.compiled import rows_of
from zoobench.machine import out_of_memory, release_memory

if TYPE_CHECKING:
    import torch


@dataclass
class Halving:
    """Computes batches by `embed`: whole, until memory ends; then this batch and those that follow
    in parts, half as large each time that it does.

    `most` is what a part's input may hold, in numbers, so that of short texts more are computed at
    once than of long ones; 0 while no memory has ended.
    """

    embed: Callable[[Any], torch.Tensor]
    most: int = 0

    def __call__(self, batch: Any) -> tuple[torch.Tensor, int]:
        """((N, ...) features of a batch of N, the most examples that were computed at once).

        Raises the error of memory where not even one example fits.
        """
        import torch

        rows = rows_of(batch)
        each = max(1, sum(one.numel() for one in tensors(batch)) // rows)
        while True:
            size = min(rows, max(1, self.most // each)) if self.most else rows
            try:
                if size == rows:
                    return self.embed(batch), rows
                return torch.cat([self.embed(part) for part in parts(batch, size)]), size
            except Exception as error:
                if size == 1 or not out_of_memory(error):
                    raise
            self.most = size // 2 * each
            release_memory()  # what was computed of the batch is held no more


def parts(batch: Any, size: int) -> Iterator[Any]:
    """`batch`, a tensor or a dict of such, cut along its first axis, at most `size` a part."""
    for start in range(0, rows_of(batch), size):
        cut = slice(start, start + size)
        if isinstance(batch, dict):
            yield {name: one[cut] for name, one in batch.items()}
        else:
            yield batch[cut]


def tensors(batch: Any) -> list[torch.Tensor]:
    """Of a tensor or a dict of such."""
    return list(batch.values()) if isinstance(batch, dict) else [batch]
