"""One worker process that answers one request at a time, and is killed when it is late.

Where the next piece of work depends on the last one's answer: a model that crashes, hangs
or outgrows the memory costs one answer, what is loaded already serves the next.
"""

from __future__ import annotations

import contextlib
import pickle
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from zoobench.workers.local import (
    POLL_SECONDS,
    Worker,
    cause_of_death,
    default_memory_bytes,
    last_words,
    outgrown,
    wait_for_the_same,
)
from zoobench.workers.oom_kills import oom_kills
from zoobench.workers.settings import Settings
from zoobench.workers.starting import NotStarted, Starter, end
from zoobench.workers.worker import begin_child

ENDING_SECONDS = 5.0
"""Within this long a child that is told to end has ended, or is killed."""

Answerer = Callable[[Any], Any]
"""Answers a request in the child; must not raise but for a programming error."""


class Died(Exception):
    """The child ended, or was ended, before it answered: a record's `status`, and why."""

    def __init__(self, status: str, reason: str, tail: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.tail = tail


def serve(
    pipe: Connection, make: Callable[[Settings], Answerer], settings: Settings, log: str
) -> None:
    """The child's main function."""
    begin_child(settings, log)
    answer = make(settings)
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        pipe.send(answer(request))


@dataclass
class RequestWorker:
    """A context manager over the child. `make`, called in it, gives what answers; picklable."""

    make: Callable[[Settings], Answerer]
    settings: Settings
    preload: Sequence[str] = ()
    memory_bytes: int = field(default_factory=lambda: default_memory_bytes(1))
    _folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="zoobench-")
    )
    _worker: tuple[Worker, Connection] | None = None

    def __enter__(self) -> RequestWorker:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._worker is not None and not any(raised):
            # One that is idle ends by itself, and so gives back what the system counts.
            process, pipe = self._worker[0].process, self._worker[1]
            with contextlib.suppress(OSError):
                pipe.close()
            process.join(ENDING_SECONDS)
        self._end()
        self._folder.cleanup()

    @property
    def alive(self) -> bool:
        """Whether a child holds what earlier requests made it load."""
        return self._worker is not None

    def ask(self, request: Any, seconds: float) -> Any:
        """The answer. Raises Died; the next request then goes to a fresh child."""
        worker, pipe = self._worker or self._start()
        deadline = time.monotonic() + seconds
        try:
            pipe.send(request)
            while not pipe.poll(POLL_SECONDS):
                self._check(worker, deadline, seconds)
            return pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            status, reason = cause_of_death(worker)
            wait_for_the_same(worker)  # a KeyboardInterrupt, if it comes
            tail = last_words(worker.log)
            self._end()
            raise Died(status, reason, tail) from None
        except KeyboardInterrupt:
            self._end()  # its answer would be taken for the next request's
            raise

    def _check(self, worker: Worker, deadline: float, seconds: float) -> None:
        """Raises Died when the child is past its time or its memory."""
        late = time.monotonic() > deadline
        overdue = ("timeout", f"stopped after {seconds:.0f} s") if late else None
        verdict = overdue or outgrown(worker, self.memory_bytes)
        if verdict is not None:
            self._end()
            raise Died(*verdict)

    def _start(self) -> tuple[Worker, Connection]:
        kills = oom_kills()
        starter = Starter(self.settings, self.preload)
        try:
            process, pipe, log = starter.start(
                Path(self._folder.name), serve, True, self.make, self.settings
            )
        except NotStarted as error:
            raise Died(error.status, error.reason) from None
        self._worker = Worker(process, log, deque(), kills=kills), pipe
        return self._worker

    def _end(self) -> None:
        if self._worker is not None:
            worker, pipe = self._worker
            self._worker = None
            end(worker.process)
            with contextlib.suppress(OSError):
                pipe.close()
