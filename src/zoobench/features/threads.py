"""The threads of an extraction: on the CPU each decodes and computes whole batches, for a GPU they
decode ahead of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

from zoobench.features.stages import StageClock
from zoobench.machine import pinned

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")

LANES = 8
"""Most threads that each compute a batch: Python leads them all, one call at a time."""
DECODERS = 16
"""Most threads that decode batches for a GPU."""
AHEAD = 2
"""Batches that are decoded before they are asked for, beside one a thread."""

Batches = Iterator[tuple[Sequence[int], Callable[[], Any]]]
"""The rows of a batch, and what gives it, on the CPU, in whatever thread it is called."""
Compute = Callable[[tuple[Sequence[int], Any]], int]
"""Takes the rows of a batch, and the batch; gives their number."""


def side_by_side(
    stream: Batches, compute: Compute, most: int, clock: StageClock
) -> Generator[int, None, None]:
    """At most `most` threads that each decode and compute whole batches, with their share of
    the cores.

    Cores that share every operation of a batch wait for one another hundreds of times a
    batch, and all of them wait for the one that decodes.
    """
    from concurrent.futures import ThreadPoolExecutor

    import torch

    def whole(item: tuple[Sequence[int], Callable[[], Any]]) -> int:
        with clock.decoding():
            decoded = _decoded(item)
        return compute(decoded)

    threads = torch.get_num_threads()
    # A lane that finds no batch would waste its cores.
    first = list(islice(stream, threads // -(-threads // most)))
    stream, lanes = chain(first, stream), len(first)
    if lanes <= 1:
        yield from map(whole, stream)
        return
    torch.set_num_threads(threads // lanes)  # new threads take it over
    try:
        with ThreadPoolExecutor(lanes) as pool:
            yield from in_order(pool, whole, stream, lanes + AHEAD)
    finally:
        torch.set_num_threads(threads)


def ahead(stream: Batches, compute: Compute, clock: StageClock) -> Generator[int, None, None]:
    """The batches in order on a GPU, while threads decode the next ones."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    workers = min(DECODERS, torch.get_num_threads())
    with ThreadPoolExecutor(workers, initializer=alone) as decoders:
        decoded = in_order(decoders, _pinned, stream, workers + AHEAD)
        yield from map(compute, clock.awaiting(decoded))


def _decoded(item: tuple[Sequence[int], Callable[[], Any]]) -> tuple[Sequence[int], Any]:
    rows, load = item
    return rows, load()


def _pinned(item: tuple[Sequence[int], Callable[[], Any]]) -> tuple[Sequence[int], Any]:
    rows, batch = _decoded(item)
    return rows, pinned(batch)


def in_order(
    pool: Executor, call: Callable[[Any], T], items: Iterator[Any], most: int
) -> Iterator[T]:
    """`call` of each of `items` by `pool`, which has at most `most` of them in hand."""
    waiting = deque(pool.submit(call, item) for item in islice(items, most))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(call, item) for item in islice(items, 1))


def alone() -> None:
    """Keep the calling thread's own tensor operations on that thread.

    Each decoding thread would get a team of OpenMP threads, and teams that wait for each
    other's cores are slower than one.
    """
    import torch
    from threadpoolctl import ThreadpoolController

    torch.get_num_threads()  # torch sets its count at a thread's first use: let it be past
    ThreadpoolController().select(user_api="openmp").limit(limits=1)
