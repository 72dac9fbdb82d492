"""One training step shared: over processes (DDP), and over pieces that fit the memory.

Both leave the step what it is: the gradient of the mean loss over the same global batch
(Li et al. 2020, arXiv:2006.15704; gradient accumulation). Only sums are taken in another
order, and batch norm sees the rows of its own piece (on CUDA those of all processes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Share:
    """Process `rank` of `ranks` that train one network; `pieces` of each step's rows in turn."""

    rank: int = 0
    ranks: int = 1
    pieces: int = 1

    def wrap(self, net: torch.nn.Module) -> torch.nn.Module:
        """`net` whose gradients are averaged over the ranks; itself where there is one."""
        if self.ranks == 1:
            return net
        from torch.nn.parallel import DistributedDataParallel

        if next(net.parameters()).is_cuda:
            net = synchronised(net)
        # The network's own classifier may take no part in the loss.
        return DistributedDataParallel(net, find_unused_parameters=True)

    def split(self, rows: list[int]) -> list[list[int]]:
        """This rank's rows of a global batch of at least `ranks`, in at most `pieces` pieces.

        Every rank gets as many pieces as every other: the ranks meet in each forward pass.
        """
        own = rows[self.rank :: self.ranks]
        count = min(self.pieces, len(rows) // self.ranks)
        return [own[i::count] for i in range(count)]

    def weight(self, piece: list[int], rows: list[int]) -> float:
        """What a piece's mean loss counts for, so that the ranks' average is the batch's mean."""
        return len(piece) * self.ranks / len(rows)

    def passes(
        self, model: Any, rows: list[int]
    ) -> Iterator[tuple[list[int], AbstractContextManager[Any]]]:
        """(piece, context): gradients are exchanged after the last piece alone."""
        pieces = self.split(rows)
        for i, piece in enumerate(pieces):
            waits = self.ranks > 1 and i + 1 < len(pieces)
            yield piece, model.no_sync() if waits else nullcontext()

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of `value` over the ranks, in place."""
        if self.ranks > 1:
            import torch.distributed

            torch.distributed.all_reduce(value)
        return value


def synchronised(net: torch.nn.Module) -> torch.nn.Module:
    """`net` whose batch norms see the rows of all ranks, their own activations kept."""
    # torch's converter drops the activation of a norm that has one, as many of timm's do.
    from timm.layers import convert_sync_batchnorm

    found: torch.nn.Module = convert_sync_batchnorm(net)
    return found
