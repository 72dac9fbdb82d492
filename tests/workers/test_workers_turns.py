"""One worker at a time has the machine while it is timed; what the others lose counts nowhere."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cells import GABOR, cell
from zoobench import worktime
from zoobench.workers.events import Finished
from zoobench.workers.local import LocalEngine, Worker
from zoobench.workers.runner import groups
from zoobench.workers.settings import Settings
from zoobench.workers.turns import SUFFIX, Turn, Turns, stopped_seconds


class Sleeper:
    """What `Worker` has of a process: a group leader that does nothing."""

    def __init__(self) -> None:
        self.held = subprocess.Popen(["sleep", "60"], process_group=0)
        self.pid = self.held.pid

    @property
    def state(self) -> str:
        return str(psutil.Process(self.pid).status())


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Worker]]:
    found = []
    for number in range(3):
        process: Any = Sleeper()
        ours, _ = multiprocessing.Pipe()
        log = tmp_path / f"{number}.log"
        found.append(Worker(process, log, deque([cell()]), pipe=ours))
    yield found
    for worker in found:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.process.pid or 0, signal.SIGKILL)
        worker.process.held.wait()  # type: ignore[attr-defined]


def states(workers: list[Worker]) -> list[bool]:
    """Which of them are stopped."""
    time.sleep(0.05)
    return [one.process.state == psutil.STATUS_STOPPED for one in workers]  # type: ignore[attr-defined]


def test_the_others_stand_while_one_is_timed(workers: list[Worker]) -> None:
    turns = Turns()
    since = workers[0].since
    turns.settle(workers)
    assert states(workers) == [False, False, False]
    turns.ask(workers[1])
    turns.ask(workers[0])
    turns.settle(workers)
    assert turns.holder is workers[1]
    assert states(workers) == [True, False, True]
    assert turns.going(workers) == [workers[1]]
    turns.settle(workers)
    assert turns.holder is workers[1], "the machine is one worker's until it leaves"
    turns.leave(workers[1])
    turns.settle(workers)
    assert turns.holder is workers[0]
    assert states(workers) == [False, True, True]
    turns.leave(workers[0])
    turns.settle(workers)
    assert states(workers) == [False, False, False]
    assert workers[0].stopped > 0.05
    assert workers[0].since >= since + workers[0].stopped
    assert stopped_seconds(workers[2].log.with_suffix(SUFFIX)) == workers[2].stopped > 0.1


def test_who_dies_while_it_is_timed_or_waits_leaves_nobody_stopped(workers: list[Worker]) -> None:
    turns = Turns()
    for worker in workers[:2]:
        turns.ask(worker)
    turns.settle(workers)
    for worker in workers[1::-1]:  # the one that waits, then the one that is timed
        os.killpg(worker.process.pid or 0, signal.SIGKILL)
        turns.leave(worker)
    turns.settle(workers[2:])
    assert turns.holder is None
    assert states(workers[2:]) == [False]


def test_what_was_lost_is_in_no_time_of_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worktime, "_lost", [])
    ours, theirs = multiprocessing.Pipe()
    said: list[tuple[Any, ...]] = []

    def send(*message: Any) -> None:
        said.append(message)
        if message == ("alone", True):
            time.sleep(0.2)  # until others have ended
            ours.send("go")

    turn = Turn(theirs, send, str(tmp_path / "a.log"))
    began, wall = worktime.now(), time.perf_counter()
    with turn():
        pass
    assert said == [("alone", True), ("alone", False)]
    (tmp_path / f"a{SUFFIX}").write_text("3.5")
    assert worktime.now() - began == pytest.approx(time.perf_counter() - wall - 3.7, abs=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what the engine does in /proc")
def test_several_workers_time_their_networks_with_all_threads(tmp_path: Path) -> None:
    settings = Settings(threads=1, timed_threads=2, cost_seconds=0.1, workers=2)
    cells = [cell(f"{GABOR}?note={name}") for name in "ab"]
    engine = LocalEngine(settings, workers=2)
    found = [e.result.record for e in engine.events(groups(cells)) if isinstance(e, Finished)]
    assert [record.status for record in found] == ["ok", "ok"]
    for record in found:
        latency = record.get("latency_ms_p50")
        assert latency is not None
        assert latency.detail["threads"] == 2
        assert record.environment["threads"] == 1


CHILD = """
import time
from zoobench.workers import starting
starting.PRELOAD = ()
from zoobench.workers.request_worker import RequestWorker
from zoobench.workers.settings import Settings
asked = RequestWorker(print, Settings())  # kept: its folder goes with it
worker, _ = asked._start()
print(worker.process.pid, flush=True)
time.sleep(100)
"""
"""A parent, which says who its worker is."""


def test_a_stopped_worker_does_not_outlive_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    everyone = psutil.Process(parent.pid).children(recursive=True)
    log = ("/dev/null", "")  # until its output goes to its log, it is not begun
    while os.getpgid(worker.pid) != worker.pid or os.readlink(f"/proc/{worker.pid}/fd/1") in log:
        time.sleep(0.02)
    os.killpg(worker.pid, signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    assert not psutil.wait_procs(everyone, timeout=30)[1]
