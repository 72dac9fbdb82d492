"""Worker processes on this machine: one child a group, watched from outside.

A child that crashes, hangs past the cell's time limit or outgrows its memory
costs one failed record of the right kind; the rest of its group goes to a fresh
child. Each child beats: one that was stopped, or that is stuck where no Python runs,
is told from one that is merely long. Children come from a forkserver that has
preloaded the heavy libraries (0.2 s each instead of 6 s); where CUDA is in use they
are spawned.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import queue
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from zoobench.schema import Cell, Record
from zoobench.workers.events import Begun, Event, Finished, Progressed
from zoobench.workers.oom_kills import oom_kills
from zoobench.workers.provenance import planned
from zoobench.workers.settings import Result, Settings
from zoobench.workers.worker import work

POLL_SECONDS = 0.25
SUSPENDED_SECONDS = 5.0
"""A turn of the parent that took longer was spent stopped (Ctrl-Z): no worker's fault."""

LOG_TAIL = 4000
"""Characters of a dead worker's output that its record keeps."""

PRELOAD = ("torch", "torch._dynamo", "PIL.ImageFile", "zoobench.workers.worker")
"""What every worker imports. torch loads `_dynamo` (900 modules, 2.4 s) when costs are counted."""

DEATHS_IN_A_ROW = 2
"""So many deaths of a group with no result between, and the rest of it fails at once."""


@dataclass(frozen=True)
class WorkerLimits:
    """`cell_seconds` a cell, `memory_bytes` of resident memory a worker (None: 90% of all).

    A worker that has not beaten for `silent_seconds` is stopped, its cell a timeout.
    """

    cell_seconds: float = 3600.0
    memory_bytes: int | None = None
    silent_seconds: float = 120.0


@dataclass
class Worker:
    """A child and what is known of it."""

    process: BaseProcess
    log: Path
    waiting: deque[Cell]
    deaths: int = 0
    current: Cell | None = None
    since: float = field(default_factory=time.monotonic)
    beat: float | None = None
    kills: int | None = field(default_factory=lambda: oom_kills())
    """Of the system, for want of memory, before it began."""

    @property
    def cell(self) -> Cell:
        """The cell it is at: the one begun, or the first that it would begin."""
        return self.current or self.waiting[0]


Inbox: TypeAlias = "queue.SimpleQueue[tuple[Worker, tuple[Any, ...]]]"


@dataclass
class LocalEngine:
    """Runs groups on `workers` processes; `events` yields as things happen."""

    settings: Settings
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    workers: int = 1
    preload: Sequence[str] = ()
    stopping: Callable[[], bool] = lambda: False
    _inbox: Inbox = field(default_factory=queue.SimpleQueue)
    _running: list[Worker] = field(default_factory=list)
    _pending: deque[tuple[deque[Cell], int]] = field(default_factory=deque)
    _turned: float = 0.0
    _looked: float = 0.0

    def events(self, groups: Sequence[Sequence[Cell]]) -> Generator[Event, None, None]:
        """Every cell of `groups` ends in exactly one Finished. Closing it stops the children."""
        self._pending = deque((deque(group), 0) for group in groups if group)
        self._running = []
        context = context_of(self.settings, self.preload)
        with tempfile.TemporaryDirectory(prefix="zoobench-") as folder:
            logs = Path(folder)
            try:
                self._turned = time.monotonic()
                while self._pending or self._running:
                    if self.stopping():
                        raise KeyboardInterrupt
                    while self._pending and len(self._running) < self.workers:
                        cells, deaths = self._pending.popleft()
                        self._running.append(self._start(context, cells, deaths, logs))
                    yield from self._turn()
            finally:
                for worker in self._running:
                    stop(worker)

    def _start(self, context: Any, cells: deque[Cell], deaths: int, logs: Path) -> Worker:
        receive, send = context.Pipe(duplex=False)
        process, log = launch(context, logs, work, send, tuple(cells), self.settings)
        worker = Worker(process, log, cells, deaths)
        reader = threading.Thread(target=_read, args=(worker, receive, self._inbox), daemon=True)
        reader.start()
        return worker

    def _turn(self) -> Iterator[Event]:
        """Take what the workers sent, then look after each of them now and again."""
        for worker, message in self._messages():
            if worker not in self._running:
                continue  # said before it was stopped
            yield from self._take(worker, message)
            if message[0] == "died":
                yield from self._bury(worker, *cause_of_death(worker))
            elif message[0] == "end":
                self._running.remove(worker)
                worker.process.join(timeout=5)  # it may go by itself, but not take for ever
                stop(worker)
        now = time.monotonic()
        lost, self._turned = now - self._turned, now
        if lost > SUSPENDED_SECONDS:
            _forgive(self._running, lost)
        if now - self._looked < POLL_SECONDS:
            return
        self._looked = now
        for worker in list(self._running):
            verdict = self._overdue(worker)
            if verdict is not None:
                yield from self._bury(worker, *verdict)

    def _messages(self) -> list[tuple[Worker, tuple[Any, ...]]]:
        """What has come in; waits for the first no longer than POLL_SECONDS."""
        found = []
        with contextlib.suppress(queue.Empty):
            found.append(self._inbox.get(timeout=POLL_SECONDS))
            while True:
                found.append(self._inbox.get_nowait())
        return found

    def _take(self, worker: Worker, message: tuple[Any, ...]) -> Iterator[Event]:
        worker.beat = time.monotonic()
        if message[0] == "begin":
            worker.current = worker.waiting[0]
            assert worker.current.key == message[1], "a worker does its cells in order"
            worker.since = time.monotonic()
            yield Begun(worker.current)
        elif message[0] == "progress" and worker.current is not None:
            yield Progressed(worker.current, *message[1:])
        elif message[0] == "result":
            worker.waiting.popleft()
            worker.current = None
            worker.deaths = 0
            worker.since = time.monotonic()
            yield Finished(message[1])

    def _overdue(self, worker: Worker) -> tuple[str, str] | None:
        """(status, reason) when the worker is past a limit."""
        silent = 0.0 if worker.beat is None else time.monotonic() - worker.beat
        if silent > self.limits.silent_seconds:
            why = why_silent(worker.process.pid)
            return "timeout", f"no sign of life for {silent:.0f} s: {why}"
        if not worker.waiting:
            return None  # every result is in: it only has to end
        spent = time.monotonic() - worker.since
        if spent > self.limits.cell_seconds:
            limit = self.limits.cell_seconds
            return "timeout", f"stopped after {spent:.0f} s: the limit is {limit:g} s a cell"
        if worker.current is None:
            return None  # between two cells: nobody to blame
        bound = self.limits.memory_bytes or default_memory_bytes(self.workers)
        return outgrown(worker, bound)

    def _bury(self, worker: Worker, status: str, reason: str) -> Iterator[Event]:
        """Record the cell that a worker died at, and hand the rest of its group on."""
        stop(worker)
        self._running.remove(worker)
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
            self._pending.appendleft((worker.waiting, deaths))


def context_of(settings: Settings, preload: Sequence[str]) -> Any:
    """How children are started: from a forkserver that has loaded `preload`, or spawned."""
    if settings.device.startswith("cuda"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    around = "zoobench.workers.preload_begin", "zoobench.workers.preload_end"
    context.set_forkserver_preload([around[0], *PRELOAD, *preload, around[1]])
    return context


def launch(
    context: Any, folder: Path, target: Callable[..., None], pipe: Connection, *args: Any
) -> tuple[BaseProcess, Path]:
    """A child that runs `target(pipe, *args, log)`, and `log`, a new file in `folder`.

    `pipe` is the child's end, and is closed on this side.
    """
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".log", delete=False) as file:
        log = Path(file.name)
    process: BaseProcess = context.Process(target=target, args=(pipe, *args, str(log)), daemon=True)
    with no_main():
        process.start()
    pipe.close()
    return process, log


@contextlib.contextmanager
def no_main() -> Iterator[None]:
    """Children that start meanwhile do not import this process's main module.

    They would run a user's script again, whose call of `zoobench.run` then starts children of
    its own. Nothing that a worker does stands in it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def died(cell: Cell, status: str, reason: str, detail: str, seconds: float) -> Record:
    """The record of a cell whose worker did not live to write one."""
    error = {"message": reason, **({"detail": detail} if detail else {})}
    return Record(cell, status, error=error, provenance=planned(cell), seconds=seconds)


def cause_of_death(worker: Worker) -> tuple[str, str]:
    """(status, reason) from a dead child's exit code."""
    worker.process.join(timeout=10)
    code = worker.process.exitcode
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            if -code == signal.SIGKILL:
                return who_killed(worker)
            return "crash", f"the worker process died of {name}"
    return "crash", f"the worker process ended by itself with exit code {code}"


def who_killed(worker: Worker) -> tuple[str, str]:
    """(status, reason) for SIGKILL: out of memory only where the kernel says so."""
    before, now = worker.kills, oom_kills()
    if before is None or now is None:
        return "crash", "killed by SIGKILL; this system does not say whether memory ran out"
    if now > before:
        return "oom", "killed by SIGKILL: the system ran out of memory while it ran"
    return "crash", "killed by SIGKILL from outside: the kernel counted no kill for want of memory"


def why_silent(pid: int | None) -> str:
    """In words, from the state the system gives a process that beats no more."""
    import psutil

    try:
        state = psutil.Process(pid).status()
    except psutil.Error:
        return "the worker process is gone"
    if state == psutil.STATUS_STOPPED:
        return "the worker process was stopped by a signal"
    return "the worker process lives, but runs no Python (stuck inside a library)"


def last_words(log: Path) -> str:
    """The end of a worker's output, a crash's stack included, its list of libraries not."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if not line.startswith("Extension modules:")]
    return "\n".join(kept)[-LOG_TAIL:].strip()


def _read(worker: Worker, pipe: Connection, inbox: Inbox) -> None:
    """Pass on what `worker` sends, until it dies: a message cut in half stops nobody else."""
    with pipe:
        try:
            while True:
                inbox.put((worker, pipe.recv()))
        except (EOFError, OSError, pickle.UnpicklingError):
            inbox.put((worker, ("died",)))


def _forgive(running: Sequence[Worker], lost: float) -> None:
    """Time in which this process itself did not run counts against no worker."""
    now = time.monotonic()
    for worker in running:
        worker.since = min(now, worker.since + lost)
        worker.beat = None if worker.beat is None else min(now, worker.beat + lost)


def stop(worker: Worker) -> None:
    """Kill the child, whatever it is at."""
    worker.process.kill()
    worker.process.join(timeout=10)


def outgrown(worker: Worker, bound: int) -> tuple[str, str] | None:
    """(status, reason) when the worker holds more than `bound` bytes of resident memory."""
    import psutil

    try:
        used, gib = psutil.Process(worker.process.pid).memory_info().rss, 2**30
    except psutil.Error:  # it is gone, and holds none
        return None
    if used <= bound:
        return None
    return "oom", f"stopped at {used / gib:.1f} GiB: the limit is {bound / gib:.1f} GiB"


def default_memory_bytes(workers: int) -> int:
    """Nine tenths of the machine's memory, shared out: we stop a worker before the system does."""
    import psutil

    return int(psutil.virtual_memory().total * 0.9 / workers)
