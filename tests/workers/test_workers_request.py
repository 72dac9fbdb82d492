"""A worker that hears SIGTERM before its parent does: the parent's end, no model's crash."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from zoobench.workers import interrupts
from zoobench.workers.local import Worker
from zoobench.workers.request_worker import Died, RequestWorker
from zoobench.workers.settings import Settings


def dead(tmp_path: Path, code: int) -> RequestWorker:
    """A request worker whose child has ended with `code`."""
    log = tmp_path / "log"
    log.write_text("")
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    process = SimpleNamespace(
        exitcode=code, pid=None, join=lambda timeout=None: None, is_alive=lambda: False,
        kill=lambda: None, close=lambda: None,
    )  # fmt: skip
    asked = RequestWorker(lambda settings: None, Settings("cpu", 1, ""))  # type: ignore[arg-type,return-value]
    asked._worker = Worker(process, log, deque()), ours  # type: ignore[arg-type]
    return asked


@pytest.fixture(autouse=True)
def nothing_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoobench.workers.request_worker.end", lambda process: None)


@pytest.fixture(autouse=True)
def nobody_elses() -> Iterator[None]:
    """Ray leaves a handler of its own behind where it ran in this process."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in interrupts.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_both_hear_ends_the_command(tmp_path: Path, number: signal.Signals) -> None:
    later = threading.Timer(0.05, os.kill, (os.getpid(), number))
    with interrupts.for_a_command(), dead(tmp_path, -number) as worker:
        later.start()
        with pytest.raises(KeyboardInterrupt) as ended:
            worker.ask("x", 5.0)
    assert interrupts.exit_code(ended.value) == 128 + number


def test_a_signal_that_the_worker_alone_hears_is_its_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoobench.workers.local.TOLD_SECONDS", 0.01)
    with dead(tmp_path, -signal.SIGTERM) as worker, pytest.raises(Died) as ended:
        worker.ask("x", 5.0)
    assert (ended.value.status, "SIGTERM" in ended.value.reason) == ("crash", True)
