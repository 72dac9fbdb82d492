"""The clock of bench_gpu.py, which waits for the device, and how much is measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """How much is computed: `pictures` cached, `files` of JPEG, `batch` of the bare forward,
    `steps` of training, a probe's examples and features, the side of a matrix product."""

    pictures: int
    files: int
    batch: int
    steps: int
    probe: tuple[int, int, int]
    matrix: int
    turns: int


WHOLE = Sizes(4096, 2048, 256, 20, (50_000, 2_048, 100), 8192, 3)
QUICK = Sizes(16, 4, 4, 2, (400, 32, 4), 256, 1)


@dataclass
class Bench:
    """A device, how much is measured on it, and the clock that waits for it."""

    device: Any
    sizes: Sizes

    def seconds(self, call: Callable[[], Any]) -> float:
        self.wait()
        started = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def warm(self, call: Callable[[], Any]) -> None:
        """Half a second of `call`: a card that had nothing to do has its clock turned down."""
        until = time.perf_counter() + (0.5 if self.device.type == "cuda" else 0.0)
        while time.perf_counter() < until:
            call()
            self.wait()

    def best(self, call: Callable[[], Any]) -> float:
        """Median seconds of `call`, after one that is not counted."""
        call()
        return statistics.median(self.seconds(call) for _ in range(self.sizes.turns))

    def turns(self, *calls: Callable[[], Any]) -> list[float]:
        """Median seconds of each of `calls`, which take turns, after one that is not counted."""
        for call in calls:
            call()
        taken = [[self.seconds(call) for call in calls] for _ in range(self.sizes.turns)]
        return [statistics.median(row) for row in zip(*taken, strict=True)]


class StepClock:
    """Takes the reports of a training: the seconds from its first step's end to its last's."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._ends: list[float] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        if done in (1, total):
            self._bench.wait()
            self._ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        return self._ends[-1] - self._ends[0]
