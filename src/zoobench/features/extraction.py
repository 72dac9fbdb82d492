"""The loop that turns a split into features: its batches, and the order in which they come.

On the CPU batch sizes follow a rule and no stopwatch, so that a run forms the same batches again;
of pictures on a GPU the size is measured, once a network.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.features import threads
from zoobench.features.batch_size import measured_batch
from zoobench.features.halving import Halving
from zoobench.features.incoming import Incoming
from zoobench.features.outgoing import Outgoing, Put
from zoobench.features.pixels import PixelCache, PixelRows, pixel_reader
from zoobench.features.stages import StageClock, StageSeconds
from zoobench.interfaces import Backbone, Split
from zoobench.machine import exact_float32, free_bytes, reads_pinned
from zoobench.models import graphs

if TYPE_CHECKING:
    import torch

TOKENS = {"cpu": 1024, "cuda": 32_768}
"""Tokens of a batch of texts, padding included."""
MOST = {"cpu": 64, "cuda": 1024}
"""Most pictures of a batch."""
UNMEASURED = 256
"""Most pictures of a batch on a GPU where nothing is measured: of a compiled network, and of fewer
than MEASURED_FROM pictures, which are done by then."""
MEASURED_FROM = 2048
ROWS = 512
"""Most texts of a batch."""
CHUNK = 4096
"""Texts that are tokenised before the shortest of them are computed."""
HEARD = {"cpu": 2**19, "cuda": 2**24}
"""Numbers that a network is fed of a batch of recordings, padding included: of Whisper two windows,
of a network of waves half a minute."""
DECODED = 64
"""Recordings that are decoded before the shortest of them are computed."""
CACHE_BYTES = 32 * 2**20
"""Size of the last cache level where the system does not tell it."""

MEMORY_LIMIT_BYTES = 2**30
"""Features kept in memory by one worker, besides those on disk."""


@dataclass(frozen=True)
class Job:
    """How a backbone is run: `prepare` is its own, `embed` that of the fast copy.

    `rows` is the number of examples of a batch, 0 for the rule's; `item_bytes` the size of
    a number in the precision that `fast` computes in. `compiled`, where there is one,
    computes instead of `fast`. `note` is told at the end what the seconds were spent on.
    """

    backbone: Backbone
    fast: Backbone
    device: torch.device
    rows: int = 0
    item_bytes: int = 4
    pixels: PixelCache | None = None
    compiled: Callable[[Any], torch.Tensor] | None = None
    note: Callable[[StageSeconds], None] | None = None


def extract(job: Job, split: Split, report: Callable[[int], None]) -> torch.Tensor:
    """(N, D) float32 features of every example of `split`, in order, in eval mode.

    `report` is told how many examples are done.
    """
    import torch

    out = torch.empty(len(split), job.backbone.feature_dim)

    def put(rows: Sequence[int], features: torch.Tensor) -> None:
        out[torch.as_tensor(rows)] = features

    extract_into(job, split, put, report)
    return out


def extract_into(job: Job, split: Split, put: Put, report: Callable[[int], None]) -> None:
    """`put` takes the rows of each batch and their features, as `extract` gives them.

    It is called in whatever thread has computed them, for each row once.
    """
    import torch

    cpu = job.device.type == "cpu"
    if cpu:
        keep_large_blocks()
    job.backbone.module.eval().to(job.device)
    reader = pixel_reader(job.backbone, split, job.pixels)

    def embed(inputs: Any) -> torch.Tensor:
        if reader is not None:
            inputs = reader.path.tensor(inputs)
        with torch.inference_mode():
            return (job.compiled or job.fast.embed)(inputs).float()

    def compute(decoded: tuple[Sequence[int], Any]) -> int:
        rows, batch = decoded
        begun = clock.mark()
        inputs = incoming.take(batch)
        copied = clock.mark()
        features, at_once = fitting(inputs)
        clock.batch(at_once, begun, copied)
        outgoing.send(rows, features)
        return len(rows)

    stream, clock, fitting = batches(job, split, reader), StageClock(job.device), Halving(embed)
    incoming, outgoing = Incoming(job.device), Outgoing(put)
    # A compiled network keeps to one thread: it is guarded by what it has seen.
    lanes = threads.LANES if job.compiled is None else 1
    counts = (
        threads.side_by_side(clock.preparing(stream), compute, lanes, clock)
        if cpu
        else threads.ahead(stream, compute, clock)
    )
    with (
        contextlib.closing(reader) if reader is not None else contextlib.nullcontext(),
        contextlib.closing(counts),
    ):
        for done in accumulate(counts):
            report(done)
    outgoing.close()
    if job.note is not None:
        job.note(clock.seconds())


def batches(job: Job, split: Split, reader: PixelRows | None) -> threads.Batches:
    """(rows, what gives their batch on the CPU) until every row was given once.

    Pictures come in their own order, and uint8 (B, H, W, 3) where there is a `reader`; texts
    sorted by length, so that a batch pads little, in batches of about as many tokens, recordings
    likewise, of as many numbers. What gives a batch may be called in any thread.
    """
    kind = "cuda" if job.device.type == "cuda" else "cpu"
    if job.backbone.input_spec.modality == "text":
        yield from _texts(job, split, TOKENS[kind])
        return
    if job.backbone.input_spec.modality == "audio":
        yield from _recordings(job, split, HEARD[kind])
        return
    measures = job.compiled is None and len(split) >= MEASURED_FROM
    step = job.rows or picture_batch(job.fast, job.device, job.item_bytes, measures)
    for start in range(0, len(split), step):
        rows = range(start, min(start + step, len(split)))
        yield rows, partial(_pictures, job, split, reader, rows)


def _pictures(job: Job, split: Split, reader: PixelRows | None, rows: Sequence[int]) -> Any:
    import torch

    if reader is None:
        return job.backbone.collate([job.backbone.prepare(split.read(i)) for i in rows])
    return torch.from_numpy(reader.batch(rows))


def _texts(job: Job, split: Split, budget: int) -> threads.Batches:
    lengths = [len(split.read(i)) for i in range(len(split))]
    order = sorted(range(len(split)), key=lengths.__getitem__)
    chunks = (order[start : start + CHUNK] for start in range(0, len(order), CHUNK))
    return _by_width(job, _prepared(job, split, chunks, 1), tokens, budget)


def _recordings(job: Job, split: Split, budget: int) -> threads.Batches:
    places = range(len(split))
    chunks = (places[start : start + DECODED] for start in range(0, len(split), DECODED))
    return _by_width(job, _prepared(job, split, chunks, threads.DECODERS), heard, budget)


Prepared = list[tuple[Any, int]]
"""Prepared examples, each with its row."""


def _prepared(
    job: Job, split: Split, chunks: Iterator[Sequence[int]], most: int
) -> Iterator[Prepared]:
    """The examples of each of `chunks`, prepared: for a GPU by at most `most` threads, chunks ahead
    of what it computes."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    one = job.backbone.prepare
    together = getattr(job.backbone, "prepare_all", lambda some: [one(raw) for raw in some])

    def whole(rows: Sequence[int]) -> Prepared:
        return list(zip(together([split.read(i) for i in rows]), rows, strict=True))

    if not reads_pinned(job.device):
        yield from map(whole, chunks)
        return
    workers = min(most, torch.get_num_threads())
    with ThreadPoolExecutor(workers, initializer=threads.alone) as pool:
        yield from threads.in_order(pool, whole, chunks, workers + 1)


def _by_width(
    job: Job, chunks: Iterator[Prepared], width: Callable[[Any], int], budget: int
) -> threads.Batches:
    """The examples of `chunks` in batches whose `width` together is at most `budget`."""
    for chunk in chunks:
        chunk.sort(key=lambda pair: (width(pair[0]), pair[1]))
        for part in packed([width(item) for item, _ in chunk], budget, job.rows or ROWS):
            some = chunk[part.start : part.stop]
            yield [i for _, i in some], partial(job.backbone.collate, [item for item, _ in some])


def packed(widths: Sequence[int], budget: int, most: int) -> Iterator[range]:
    """Consecutive ranges over ascending `widths` whose padded size is at most `budget`.

    A text that is longer than the budget is a batch of its own.
    """
    start = 0
    for end in range(1, len(widths) + 1):
        rows = end - start + 1
        if end == len(widths) or rows > most or rows * widths[end] > budget:
            yield range(start, end)
            start = end


def tokens(prepared: Any) -> int:
    """The number of tokens of one prepared text."""
    return len(prepared["input_ids"] if isinstance(prepared, dict) else prepared)


def heard(prepared: Any) -> int:
    """The numbers that a network is fed of one prepared recording."""
    return int(prepared["values"].numel())


def picture_batch(
    backbone: Backbone, device: torch.device, item_bytes: int = 4, measures: bool = False
) -> int:
    """Pictures a batch: on the CPU as many as keep the widest layer in the last cache level.

    A power of two from 8 to 64, by the largest input and output of one layer;
    `benchmarks/bench_extract.py --sweep` compares it with the others.
    On a GPU as many as its memory allows easily, or what is measured (batch_size.py) among them.
    """
    widest = item_bytes * widest_layer(backbone, device)
    on_gpu = reads_pinned(device)
    if on_gpu:
        room, least, most = free_bytes(device) // 16, 1, MOST["cuda"] if measures else UNMEASURED
    else:
        room, least, most = last_cache_bytes(), 8, MOST["cpu"]
    size = most
    while size > least and size * widest > room:
        size //= 2
    return measured_batch(backbone, device, size) if on_gpu and measures else size


def widest_layer(backbone: Backbone, device: torch.device) -> int:
    """Numbers in the input and output of the largest layer, for one example."""
    import torch

    if graphs.kind_of(backbone.module):
        return graphs.widest(backbone.module)
    sizes = [1]

    def measure(_: torch.nn.Module, given: Any, result: Any) -> None:
        ends = [t for t in (*given, result) if isinstance(t, torch.Tensor)]
        sizes.append(sum(t.numel() for t in ends))

    leaves = [m for m in backbone.module.modules() if not next(m.children(), None)]
    handles = [leaf.register_forward_hook(measure) for leaf in leaves]
    try:
        with torch.inference_mode():
            backbone.embed(torch.zeros(1, *(backbone.input_spec.size or (3, 224, 224))).to(device))
    finally:
        for handle in handles:
            handle.remove()
    return max(sizes)


@cache
def last_cache_bytes() -> int:
    """Size of the largest cache that Linux lists for the first core."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        unit = {"K": 2**10, "M": 2**20}.get(text[-1:])
        if unit and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * unit)
    return max(sizes, default=CACHE_BYTES)


@cache
def keep_large_blocks() -> None:
    """Keep freed memory: glibc gives large blocks back at each step, and faults them in again."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_max = -1, -4  # <malloc.h>
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):  # another C library: slower, not wrong
        return


def lay_out(backbone: Backbone, device: torch.device | str) -> None:
    """Moves the module to `device`, in channels-last layout where it reads pictures; there float32
    is exact from now on."""
    import torch

    exact_float32(device)
    backbone.module.to(device)
    if backbone.input_spec.modality == "image":
        backbone.module.to(memory_format=torch.channels_last)


def timed_on(device: torch.device) -> str:
    """The device and threads that a time was measured on."""
    import platform

    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.node()} {platform.machine()} with {torch.get_num_threads()} threads"
