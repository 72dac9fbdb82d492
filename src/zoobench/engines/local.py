"""Worker processes on this machine: one child a group, watched from outside.

A child that crashes, hangs past the cell's time limit or outgrows its memory
costs one failed record of the right kind; the rest of its group goes to a fresh
child. Children come from a forkserver that has preloaded the heavy libraries
(0.2 s each instead of 6 s); where CUDA is in use they are spawned.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from zoobench.engines import Begun, Event, Finished, Progressed
from zoobench.engines.worker import work
from zoobench.runner import Result, Settings
from zoobench.schema import Cell, Record

POLL_SECONDS = 0.25
LOG_TAIL = 4000
"""Characters of a dead worker's output that its record keeps."""

DEATHS_IN_A_ROW = 2
"""So many deaths of a group with no result between, and the rest of it fails at once."""


@dataclass(frozen=True)
class Limits:
    """`cell_seconds` a cell, `memory_bytes` of resident memory a worker (None: 90% of all)."""

    cell_seconds: float = 3600.0
    memory_bytes: int | None = None


@dataclass
class Worker:
    """A child and what is known of it."""

    process: BaseProcess
    pipe: Connection
    log: Path
    waiting: deque[Cell]
    deaths: int = 0
    current: Cell | None = None
    since: float = field(default_factory=time.monotonic)
    started: float = field(default_factory=time.time)

    @property
    def cell(self) -> Cell:
        """The cell it is at: the one begun, or the first that it would begin."""
        return self.current or self.waiting[0]


class LocalEngine:
    """Runs groups on `workers` processes; `events` yields as things happen."""

    def __init__(
        self,
        settings: Settings,
        limits: Limits | None = None,
        workers: int = 1,
        preload: Sequence[str] = (),
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings = settings
        self.limits = limits or Limits()
        self.workers = max(1, workers)
        self.preload = tuple(preload)
        self.stopping = stopping

    def events(self, groups: Sequence[Sequence[Cell]]) -> Iterator[Event]:
        """Every cell of `groups` ends in exactly one Finished. Closing it stops the children."""
        pending: deque[tuple[deque[Cell], int]] = deque((deque(g), 0) for g in groups if g)
        running: list[Worker] = []
        context = self._context()
        with tempfile.TemporaryDirectory(prefix="zoobench-") as folder:
            logs = Path(folder)
            try:
                while pending or running:
                    if self.stopping():
                        raise KeyboardInterrupt
                    while pending and len(running) < self.workers:
                        cells, deaths = pending.popleft()
                        running.append(self._start(context, cells, deaths, logs))
                    yield from self._turn(running, pending)
            finally:
                for worker in running:
                    _stop(worker)

    def _context(self) -> Any:
        if self.settings.device.startswith("cuda"):
            return multiprocessing.get_context("spawn")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "zoobench.engines.worker", *self.preload])
        return context

    def _start(self, context: Any, cells: deque[Cell], deaths: int, logs: Path) -> Worker:
        receive, send = context.Pipe(duplex=False)
        with tempfile.NamedTemporaryFile(dir=logs, suffix=".log", delete=False) as file:
            log = Path(file.name)
        process = context.Process(
            target=work, args=(send, tuple(cells), self.settings, str(log)), daemon=True
        )
        process.start()
        send.close()
        return Worker(process, receive, log, cells, deaths)

    def _turn(
        self, running: list[Worker], pending: deque[tuple[deque[Cell], int]]
    ) -> Iterator[Event]:
        """Wait for a message or a death, then look after every worker once."""
        handles = [w.pipe for w in running]
        ready = multiprocessing.connection.wait(handles, timeout=POLL_SECONDS)
        for worker in list(running):
            ended = False
            if worker.pipe in ready:
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    message = ("died",)
                yield from self._take(worker, message)
                ended = message[0] == "end"
                if message[0] == "died":
                    status, reason = cause_of_death(worker)
                    yield from self._bury(worker, running, pending, status, reason)
                    continue
            if ended:
                worker.process.join()
                worker.pipe.close()
                running.remove(worker)
                continue
            verdict = self._overdue(worker)
            if verdict is not None:
                yield from self._bury(worker, running, pending, *verdict)

    def _take(self, worker: Worker, message: tuple[Any, ...]) -> Iterator[Event]:
        if message[0] == "begin":
            worker.current = worker.waiting[0]
            assert worker.current.key == message[1], "a worker does its cells in order"
            worker.since = time.monotonic()
            yield Begun(worker.current)
        elif message[0] == "progress" and worker.current is not None:
            yield Progressed(worker.current, *message[2:])
        elif message[0] == "result":
            worker.waiting.popleft()
            worker.current = None
            worker.deaths = 0
            worker.since = time.monotonic()
            yield Finished(message[1])

    def _overdue(self, worker: Worker) -> tuple[str, str] | None:
        """(status, reason) when the worker is past a limit."""
        if not worker.waiting:
            return None  # every result is in: it only has to end
        spent = time.monotonic() - worker.since
        if spent > self.limits.cell_seconds:
            limit = self.limits.cell_seconds
            return "timeout", f"stopped after {spent:.0f} s: the limit is {limit:g} s a cell"
        if worker.current is None:
            return None  # between two cells: nobody to blame
        used = resident_bytes(worker.process.pid)
        bound = self.limits.memory_bytes or default_memory_bytes(self.workers)
        if used > bound:
            gib = 2**30
            return "oom", f"stopped at {used / gib:.1f} GiB: the limit is {bound / gib:.1f} GiB"
        return None

    def _bury(
        self,
        worker: Worker,
        running: list[Worker],
        pending: deque[tuple[deque[Cell], int]],
        status: str,
        reason: str,
    ) -> Iterator[Event]:
        """Record the cell that a worker died at, and hand the rest of its group on."""
        _stop(worker)
        running.remove(worker)
        if not worker.waiting:
            return
        tail = last_words(worker.log)
        seconds = round(time.monotonic() - worker.since, 3)
        first = worker.waiting.popleft()
        yield Finished(Result(died(first, status, reason, tail, seconds)))
        deaths = worker.deaths + 1
        if worker.waiting and deaths >= DEATHS_IN_A_ROW:
            again = f"{reason}; not tried, since this model's last {deaths} cells ended so"
            for cell in worker.waiting:
                yield Finished(Result(died(cell, status, again, "", 0.0)))
        elif worker.waiting:
            pending.appendleft((worker.waiting, deaths))


def died(cell: Cell, status: str, reason: str, detail: str, seconds: float) -> Record:
    """The record of a cell whose worker did not live to write one."""
    error = {"message": reason, **({"detail": detail} if detail else {})}
    return Record(cell, status, error=error, seconds=seconds)


def cause_of_death(worker: Worker) -> tuple[str, str]:
    """(status, reason) from a dead child's exit code."""
    worker.process.join(timeout=10)
    code = worker.process.exitcode
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            if -code == signal.SIGKILL:
                return "oom", f"killed by {name}: most likely the system ran out of memory"
            return "crash", f"the worker process died of {name}"
    return "crash", f"the worker process ended by itself with exit code {code}"


def last_words(log: Path) -> str:
    """The end of a worker's output, a crash's stack included, its list of libraries not."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if not line.startswith("Extension modules:")]
    return "\n".join(kept)[-LOG_TAIL:].strip()


def _stop(worker: Worker) -> None:
    worker.process.kill()
    worker.process.join(timeout=10)
    worker.pipe.close()


def resident_bytes(pid: int | None) -> int:
    """Resident memory of a process, 0 when it is gone."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def default_memory_bytes(workers: int) -> int:
    """Nine tenths of the machine's memory, shared out: we stop a worker before the system does."""
    import psutil

    return int(psutil.virtual_memory().total * 0.9 / workers)
