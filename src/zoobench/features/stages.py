"""What an extraction spent its seconds on: what bounded it.

A batch is decoded, copied and computed. On the CPU the threads that compute a batch have decoded it
themselves: their clock tells both. A GPU is told what to do long before it does it, so that its
own events tell: when it took up a batch, when the batch had been copied, and when its features were
computed. From the end of one batch to the taking up of the next it waited.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from zoobench import machine, worktime

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class StageSeconds:
    """Seconds of extractions by stage, and the most examples of a batch.

    `waited` is what computes nothing for lack of a batch: on the CPU the decoding threads' seconds,
    on a GPU its own from batch to batch. `host_waited` are the host's for decoders, 0 on the CPU.
    """

    waited: float = 0.0
    copied: float = 0.0
    computed: float = 0.0
    host_waited: float = 0.0
    batch: int = 0

    def __add__(self, other: StageSeconds) -> StageSeconds:
        ours, theirs = asdict(self), asdict(other)
        sums = {name: ours[name] + theirs[name] for name in ours if name != "batch"}
        return StageSeconds(**sums, batch=max(self.batch, other.batch))

    @property
    def waiting_share(self) -> float:
        """Of all stages' seconds those in which what computes had no batch."""
        total = self.waited + self.copied + self.computed
        return self.waited / total if total else 0.0

    @property
    def bound(self) -> str:
        """The longest stage: "decode", "copy", "compute"; or "host", where a GPU waited while
        batches were there: for the thread that tells it what to do."""
        stages = {"decode": self.waited, "copy": self.copied, "compute": self.computed}
        longest = max(stages, key=stages.__getitem__)
        if longest == "decode" and 0 < self.host_waited < self.waited / 2:
            return "host"
        return longest

    def facts(self) -> dict[str, Any]:
        """For a record and a cache's manifest."""
        seconds = {name: float(f"{value:.4g}") for name, value in asdict(self).items()}
        return {**seconds, "batch": self.batch}

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None) -> StageSeconds | None:
        """From `facts`; None where they were not kept."""
        names = [field.name for field in fields(cls)]
        if not isinstance(facts, Mapping) or not all(name in facts for name in names):
            return None
        return cls(**{name: type(getattr(cls, name))(facts[name]) for name in names})


NOTHING = StageSeconds()


class StageClock:
    """Notes the stages of an extraction's batches, in whatever thread they are done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._own = machine.reads_pinned(device)
        self._marks: list[tuple[Any, Any, Any]] = []
        self._sum = NOTHING
        self._turn = threading.Lock()

    def mark(self) -> Any:
        """Now: of the CPU its clock, of a GPU an event."""
        return marked(self._device) if self._own else worktime.now()

    def batch(self, rows: int, begun: Any, copied: Any) -> None:
        """A batch's `mark`s, when what computes it has been told to."""
        ended = self.mark()
        with self._turn:
            if self._own:
                self._marks.append((begun, copied, ended))
                self._sum += StageSeconds(batch=rows)
            else:
                self._sum += StageSeconds(
                    copied=copied - begun, computed=ended - copied, batch=rows
                )

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Around a batch's decoding in the thread that computes it."""
        began = worktime.now()
        yield
        with self._turn:
            self._sum += StageSeconds(waited=worktime.now() - began)

    def awaiting(self, decoded: Iterator[T]) -> Iterator[T]:
        """`decoded` as they come, the host's waiting for each noted."""
        for item, seconds in _timed(decoded):
            with self._turn:
                self._sum += StageSeconds(host_waited=seconds)
            yield item

    def preparing(self, stream: Iterator[T]) -> Iterator[T]:
        """`stream` as it comes on the CPU: what gives texts and recordings has prepared them, to
        sort them by their lengths, in the thread that asks."""
        for item, seconds in _timed(stream):
            with self._turn:
                self._sum += StageSeconds(waited=seconds)
            yield item

    def seconds(self) -> StageSeconds:
        """Of all batches, when a GPU has done them."""
        found, before = self._sum, None
        for begun, copied, ended in self._marks:
            waited = between(before, begun) if before is not None else 0.0
            found += StageSeconds(waited, between(begun, copied), between(copied, ended))
            before = ended
        return found


def _timed(items: Iterator[T]) -> Iterator[tuple[T, float]]:
    """Each of `items`, and the seconds that it took to come."""
    began = worktime.now()
    for item in items:
        yield item, worktime.now() - began
        began = worktime.now()


def marked(device: torch.device) -> Any:
    """An event of what the GPU has been told so far."""
    import torch

    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def between(first: Any, second: Any) -> float:
    """Seconds from one `marked` to another, when the GPU has done both."""
    milliseconds: float = first.elapsed_time(second)
    return max(0.0, milliseconds / 1000)
