"""Worker processes on this machine: one child a group, watched from outside.

A child that crashes, hangs past the cell's time limit or outgrows its memory
costs one failed record of the right kind; the rest of its group goes to a fresh
child. Each child beats: one that was stopped, or that is stuck where no Python runs,
is told from one that is merely long.

A worker that times its network gets the machine to itself: the others are stopped meanwhile
(SIGSTOP), and what they lose by it counts in none of their times.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import queue
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeAlias

from zoobench.schema import Cell, Record
from zoobench.workers.events import Begun, Event, Finished, Progressed
from zoobench.workers.oom_kills import oom_kills
from zoobench.workers.provenance import planned
from zoobench.workers.settings import Result, Settings
from zoobench.workers.starting import START_SECONDS, NotStarted, Starter, end, how
from zoobench.workers.turns import Turns
from zoobench.workers.worker import work

POLL_SECONDS = 0.25
SUSPENDED_SECONDS = 5.0
"""A turn of the parent that took longer was spent stopped (Ctrl-Z): no worker's fault."""

TOLD_SECONDS = 0.5
"""Within this long a signal to every process of a job reaches them all."""

LOG_TAIL = 4000
"""Characters of a dead worker's output that its record keeps."""

LOST = 255
"""The exit code that a child has for us whose fork server, its parent, died before it did."""

DEATHS_IN_A_ROW = 2
"""So many deaths of a group with no result between, and the rest of it fails at once."""


@dataclass(frozen=True)
class WorkerLimits:
    """`cell_seconds` a cell, `memory_bytes` of resident memory a worker (None: 90% of all).

    A worker that has not beaten for `silent_seconds` is stopped, its cell a timeout; before
    its first beat, while it starts, it may take `start_seconds` where that is longer.
    """

    cell_seconds: float = 3600.0
    memory_bytes: int | None = None
    silent_seconds: float = 120.0
    start_seconds: float = START_SECONDS


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
    kills: int | None = None
    """Of the system, for want of memory, before it began."""
    pipe: Connection | None = None
    device: str = ""
    stopped: float = 0.0
    """Seconds for which it was stopped, so that another one could be timed."""

    @property
    def cell(self) -> Cell:
        """The cell it is at: the one begun, or the first that it would begin."""
        return self.current or self.waiting[0]

    def forgive(self, lost: float) -> None:
        """So many seconds, which have passed, count against no limit of it."""
        now = time.monotonic()
        self.since = min(now, self.since + lost)
        self.beat = None if self.beat is None else min(now, self.beat + lost)


Inbox: TypeAlias = "queue.SimpleQueue[tuple[Worker, tuple[Any, ...]]]"


@dataclass
class LocalEngine:
    """Runs groups on `workers` processes; `events` yields as things happen."""

    settings: Settings
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    workers: int = 1
    preload: Sequence[str] = ()
    stopping: Callable[[], bool] = lambda: False
    devices: Sequence[str] = ()
    """Where there are several: a worker takes the one that the fewest others have."""
    _inbox: Inbox = field(default_factory=queue.SimpleQueue)
    _running: list[Worker] = field(default_factory=list)
    _pending: deque[tuple[deque[Cell], int]] = field(default_factory=deque)
    _turns: Turns = field(default_factory=Turns)
    _turned: float = 0.0
    _looked: float = 0.0
    _starter: Starter = field(init=False)

    def events(self, groups: Sequence[Sequence[Cell]]) -> Generator[Event, None, None]:
        """Every cell of `groups` ends in exactly one Finished. Closing it stops the children."""
        self._pending = deque((deque(group), 0) for group in groups if group)
        self._running = []
        self._turns = Turns()
        bound = self.limits.start_seconds
        self._starter = Starter(self.settings, self.preload, bound, self.stopping)
        with tempfile.TemporaryDirectory(prefix="zoobench-") as folder:
            logs = Path(folder)
            try:
                self._turned = time.monotonic()
                while self._pending or self._running:
                    if self.stopping():
                        raise KeyboardInterrupt
                    while self._has_room():
                        yield from self._start(*self._pending.popleft(), logs)
                    yield from self._turn()
            finally:
                for worker in self._running:
                    end(worker.process)

    def _has_room(self) -> bool:
        """Whether a worker may start: none does while another one is timed."""
        free = len(self._running) < self.workers
        return bool(self._pending) and free and self._turns.holder is None

    def _device(self) -> str:
        taken = [worker.device for worker in self._running]
        return min(self.devices or [self.settings.device], key=taken.count)

    def _start(self, cells: deque[Cell], deaths: int, logs: Path) -> Iterator[Event]:
        """A worker for `cells`; where none can be started their first one pays for it."""
        kills = oom_kills()
        cards = max(1, len(self.devices))
        settings = dataclasses.replace(self.settings, device=self._device(), cards=cards)
        try:
            started = self._starter.start(logs, work, True, tuple(cells), settings)
        except NotStarted as error:
            yield from self._fail(cells, deaths, error.status, error.reason)
            return
        process, pipe, log = started
        worker = Worker(process, log, cells, deaths, kills=kills, pipe=pipe, device=settings.device)
        self._running.append(worker)
        reader = threading.Thread(target=_read, args=(worker, pipe, self._inbox), daemon=True)
        reader.start()

    def _turn(self) -> Iterator[Event]:
        """Take what the workers sent, then look after each of them now and again."""
        for worker, message in self._messages():
            if worker not in self._running:
                continue  # said before it was stopped
            yield from self._take(worker, message)
            if message[0] == "died":
                cause = cause_of_death(worker)
                self._stop_if_all_are_told_to(worker)
                yield from self._bury(worker, *cause)
            elif message[0] == "end":
                self._remove(worker)
                if worker.waiting:  # it gave its card up
                    self._pending.appendleft((worker.waiting, worker.deaths))
                worker.process.join(timeout=5)  # it may go by itself, but not take for ever
                end(worker.process)
        self._turns.settle(self._running)
        now = time.monotonic()
        lost, self._turned = now - self._turned, now
        if lost > SUSPENDED_SECONDS:
            for worker in self._running:  # this process itself did not run
                worker.forgive(lost)
        if now - self._looked < POLL_SECONDS:
            return
        self._looked = now
        for worker in self._turns.going(self._running):
            verdict = self._overdue(worker)
            if verdict is not None:
                yield from self._bury(worker, *verdict)

    def _remove(self, worker: Worker) -> None:
        self._running.remove(worker)
        self._turns.leave(worker)

    def _stop_if_all_are_told_to(self, worker: Worker) -> None:
        """Raises KeyboardInterrupt where this process is told to end as well."""
        if wait_for_the_same(worker) and self.stopping():
            raise KeyboardInterrupt

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
        elif message[0] == "alone":
            self._turns.ask(worker) if message[1] else self._turns.leave(worker)
        elif message[0] == "result":
            worker.waiting.popleft()
            worker.current = None
            worker.deaths = 0
            worker.since = time.monotonic()
            yield Finished(message[1])

    def _overdue(self, worker: Worker) -> tuple[str, str] | None:
        """(status, reason) when the worker is past a limit."""
        starting = worker.beat is None
        silent = time.monotonic() - (worker.since if worker.beat is None else worker.beat)
        bound = self.limits.silent_seconds
        if silent > (max(bound, self.limits.start_seconds) if starting else bound):
            why = why_silent(worker.process.pid)
            since = " since it was started" if starting else ""
            return "timeout", f"no sign of life for {silent:.0f} s{since}: {why}"
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
        end(worker.process)
        self._remove(worker)
        if not worker.waiting:
            return
        tail = last_words(worker.log)
        seconds = round(time.monotonic() - worker.since, 3)
        yield from self._fail(worker.waiting, worker.deaths, status, reason, tail, seconds)

    def _fail(
        self, waiting: deque[Cell], deaths: int, status: str, reason: str,
        tail: str = "", seconds: float = 0.0,
    ) -> Iterator[Event]:  # fmt: skip
        """The first of `waiting` ends so; the rest waits for another worker, unless this was the
        last of too many."""
        yield Finished(Result(died(waiting.popleft(), status, reason, tail, seconds)))
        deaths += 1
        if waiting and deaths >= DEATHS_IN_A_ROW:
            again = f"{reason}; not tried, since this model's last {deaths} cells ended so"
            for cell in waiting:
                yield Finished(Result(died(cell, status, again, "", 0.0)))
        elif waiting:
            self._pending.appendleft((waiting, deaths))


def died(cell: Cell, status: str, reason: str, detail: str, seconds: float) -> Record:
    """The record of a cell whose worker did not live to write one."""
    error = {"message": reason, **({"detail": detail} if detail else {})}
    return Record(cell, status, error=error, provenance=planned(cell), seconds=seconds)


def wait_for_the_same(worker: Worker) -> bool:
    """Whether a signal ended `worker` that asks to end, after a moment in which this process may
    hear it too: Slurm and systemd send SIGTERM to all, and who heard it first did not fail."""
    if worker.process.exitcode not in (-signal.SIGTERM, -signal.SIGHUP, LOST):
        return False
    time.sleep(TOLD_SECONDS)
    return True


def cause_of_death(worker: Worker) -> tuple[str, str]:
    """(status, reason) from a dead child's exit code."""
    worker.process.join(timeout=10)
    code = worker.process.exitcode
    if code is None:
        return "crash", "the worker process sends nothing any more, and does not end"
    if code == -signal.SIGKILL:
        return who_killed(worker)
    if code == LOST:
        return "crash", f"the worker process ended with exit code {LOST}, or after its fork server"
    return "crash", f"the worker process {how(code)}"


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
