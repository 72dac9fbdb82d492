"""The machine to one worker at a time: latency is measured with nothing else of ours running.

A worker asks, its parent stops the others (SIGSTOP to their process groups), lets it begin, and
lets them go on when it has ended, or died. Nobody waits for a cell to end, and a time is the same
whatever the number of workers: measured at work, two workers made each other's latencies noisy.
A parent that is killed leaves no stopped worker: the kernel sends SIGHUP to an orphaned group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from zoobench import worktime

if TYPE_CHECKING:
    from zoobench.workers.local import Worker

SUFFIX = ".stopped"
"""Of the file beside a worker's log that says for how many seconds it was stopped in all."""


class Turn:
    """In the worker: gives contexts in which the others are stopped.

    What this process itself loses by them, stopped or waiting, is left out of `worktime`.
    """

    def __init__(self, pipe: Connection, send: Callable[..., None], log: str) -> None:
        self._pipe = pipe
        self._send = send
        self._file = Path(log).with_suffix(SUFFIX)
        self._waited = 0.0
        worktime.leave_out(lambda: self._waited + stopped_seconds(self._file))

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        asked = worktime.now()
        self._send("alone", True)
        self._pipe.recv()
        self._waited += worktime.now() - asked
        try:
            yield
        finally:
            self._send("alone", False)


def stopped_seconds(file: Path) -> float:
    """As the parent writes them before it lets the worker go on."""
    try:
        return float(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0.0


@dataclass
class Turns:
    """In the parent: who has the machine, who asked for it, and who is stopped since when."""

    holder: Worker | None = None
    _asking: deque[Worker] = field(default_factory=deque)
    _stopped: list[tuple[Worker, float]] = field(default_factory=list)

    def ask(self, worker: Worker) -> None:
        self._asking.append(worker)

    def leave(self, worker: Worker) -> None:
        """It has been timed, or has ended."""
        if worker in self._asking:
            self._asking.remove(worker)
        if worker is self.holder:
            self.holder = None

    def settle(self, running: Sequence[Worker]) -> None:
        """Hand the machine to who asked first, if nobody has it; without any, wake the others."""
        if self.holder is not None:
            return
        self._wake()
        if not self._asking:
            return
        self.holder = self._asking.popleft()
        for worker in running:
            if worker is not self.holder:
                _signal(worker, signal.SIGSTOP)
                self._stopped.append((worker, time.monotonic()))
        if self.holder.pipe is not None:
            with contextlib.suppress(OSError):  # it died: its reader says so
                self.holder.pipe.send("go")

    def going(self, running: Sequence[Worker]) -> list[Worker]:
        """Those that are not stopped."""
        stopped = [worker for worker, _ in self._stopped]
        return [worker for worker in running if worker not in stopped]

    def _wake(self) -> None:
        for worker, since in self._stopped:
            lost = time.monotonic() - since
            worker.stopped += lost
            worker.forgive(lost)
            with contextlib.suppress(OSError):  # a full disk costs a time, not the run
                worker.log.with_suffix(SUFFIX).write_text(repr(worker.stopped), encoding="ascii")
            _signal(worker, signal.SIGCONT)
        self._stopped = []


def _signal(worker: Worker, number: signal.Signals) -> None:
    """To a worker and all that it started; to itself alone where it leads no group yet."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(worker.process.pid or 0, number)
            return
