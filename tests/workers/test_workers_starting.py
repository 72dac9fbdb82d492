"""The fork server is a process like the workers: killed, hung or dead at birth, a run goes on."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from cells import GABOR, cell, settings
from zoobench.costs import fresh_process
from zoobench.errors import UserError
from zoobench.schema import Cell, Record
from zoobench.workers import local, starting
from zoobench.workers.events import Finished
from zoobench.workers.local import LocalEngine, WorkerLimits
from zoobench.workers.request_worker import Died, RequestWorker
from zoobench.workers.runner import groups
from zoobench.workers.settings import Settings
from zoobench.workers.starting import Starter

pytestmark = pytest.mark.xdist_group("fork-server")

PLANTED = {
    "hangs": "import time; time.sleep(600)",
    "stuck": "import ctypes; ctypes.PyDLL(None).sleep(600)",  # holds the interpreter's lock
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "illegal": "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
    "exits": "import os; os._exit(3)",
    "stopped": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "raises": "raise RuntimeError('built for another numpy')",
    "leaves": "raise SystemExit(4)",
}
"""Modules that do to the process that imports them what libraries have done."""


TARGET = """
import os

def main(pipe, log):
    pipe.send(os.getppid())
"""
"""A worker that imports nothing, and tells who its parent is."""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of PLANTED on the path of children; the fork server is the test's own, and light."""
    for name, body in {**PLANTED, "target": TARGET}.items():
        (tmp_path / f"planted_{name}.py").write_text(body + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setattr(starting, "PRELOAD", ("zoobench.workers.settings",))
    starting.end_fork_server()
    yield tmp_path
    starting.end_fork_server()


def parent_of_one(starter: Starter, folder: Path) -> int:
    """Who starts a worker of `starter`."""
    target = importlib.import_module("planted_target")
    process, pipe, _ = starter.start(folder, target.main, False)
    with pipe:
        assert pipe.poll(60)
        found: int = pipe.recv()
    starting.end(process)
    return found


def run(
    engine: LocalEngine, cells: list[Cell], between: Callable[[], object] = lambda: None
) -> dict[str, Record]:
    """Records of `cells`; `between` is called after each."""
    found: dict[str, Record] = {}
    for event in engine.events(groups(cells)):
        if isinstance(event, Finished):
            found[event.result.record.key] = event.result.record
            between()
    return found


@pytest.mark.parametrize("fate", sorted(PLANTED))
def test_a_library_that_the_fork_server_cannot_load_stops_no_worker(
    fate: str, planted: Path
) -> None:
    seconds = 5 if fate in ("hangs", "stuck", "stopped") else 60
    starter = Starter(settings(), (f"planted_{fate}",), seconds)
    first = parent_of_one(starter, planted)
    assert first == parent_of_one(starter, planted) == starting.fork_server_pid()


def test_where_cuda_is_used_workers_are_spawned(planted: Path) -> None:
    """CUDA does not outlive a fork: who starts such a worker is this process, not a fork server."""
    starter = Starter(settings(device="cuda:1"))
    assert parent_of_one(starter, planted) == os.getpid()
    assert starting.fork_server_pid() is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_fork_server_that_ends_or_hangs_later_is_replaced(
    number: signal.Signals, planted: Path
) -> None:
    starter = Starter(settings(), seconds=5)
    first = parent_of_one(starter, planted)
    os.kill(first, number)
    assert parent_of_one(starter, planted) not in (first, os.getpid())
    assert starter._loads == starting.PRELOAD  # which were not to blame


def test_a_run_outlives_its_fork_server() -> None:
    """Killed at the first result: that worker may go on, and the next has another parent."""
    starting.end_fork_server()
    cells = [cell(f"{GABOR}?mean={mean}") for mean in (0.4, 0.5)]
    killed: list[int] = []

    def kill() -> None:
        pid = starting.fork_server_pid()
        if pid is not None and not killed:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    found = run(LocalEngine(settings()), cells, kill)
    assert killed
    assert killed[0] != starting.fork_server_pid()
    assert {record.status for record in found.values()} == {"ok"}


def test_where_no_worker_can_be_started_the_cells_say_so(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start fails at once: two a group are tried, and the run ends."""
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    multiprocessing.resource_tracker.ensure_running()
    cells = [cell(seed=seed) for seed in range(4)]
    found = run(LocalEngine(settings()), cells)
    assert [found[c.key].status for c in cells] == ["crash"] * 4
    messages = [str((found[c.key].error or {})["message"]) for c in cells]
    assert all("no worker process could be started" in message for message in messages)
    assert [("not tried" in message) for message in messages] == [False, False, True, True]
    with RequestWorker(answering, settings()) as worker, pytest.raises(Died, match="no worker"):
        worker.ask(None, 10)


def test_a_run_that_is_to_stop_does_not_wait_for_a_start(planted: Path) -> None:
    begun = time.monotonic()
    engine = LocalEngine(
        settings(), preload=("planted_hangs",), stopping=lambda: time.monotonic() > begun + 3
    )
    with pytest.raises(KeyboardInterrupt):
        run(engine, [cell()])
    assert time.monotonic() - begun < 60  # of 300
    assert starting.fork_server_pid() is None


def test_a_fork_server_ends_with_what_its_libraries_started(planted: Path) -> None:
    note = planted / "pid"
    (planted / "planted_daemon.py").write_text(
        "import subprocess, pathlib\n"
        f"pathlib.Path({str(note)!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid))\n"
    )
    parent_of_one(Starter(settings(), ("planted_daemon",)), planted)
    starting.end_fork_server()
    assert gone(int(note.read_text()))


@pytest.mark.parametrize(
    ("silent_seconds", "age", "beat", "said"),
    [
        (120.0, 290.0, None, None),
        (120.0, 310.0, None, "since it was started: the worker process is gone"),
        (900.0, 310.0, None, None),  # who waits that long for a beat waits for the first too
        (120.0, 310.0, 110.0, None),
        (120.0, 310.0, 130.0, "for 130 s: the worker process is gone"),
    ],
)
def test_a_worker_that_never_beats_is_silent_too(
    silent_seconds: float, age: float, beat: float | None, said: str | None, tmp_path: Path
) -> None:
    engine = LocalEngine(settings(), WorkerLimits(silent_seconds=silent_seconds))
    now = time.monotonic()
    process = multiprocessing.Process()
    process._popen = SimpleNamespace(pid=2**30)  # type: ignore[attr-defined]
    worker = local.Worker(process, tmp_path / "log", deque([cell()]), since=now - age)
    worker.beat = None if beat is None else now - beat
    found = engine._overdue(worker)
    assert (found is None) == (said is None)
    if said is not None:
        assert found is not None
        assert found[0] == "timeout"
        assert found[1].endswith(said)


def answering(settings: Settings) -> Callable[[object], int]:
    """Starts what outlives it, in the shell's way, and answers its process id."""
    return lambda request: subprocess.Popen(["sleep", "600"]).pid


@pytest.mark.parametrize("how", ["ended", "killed", "crashed"])
def test_what_a_worker_started_ends_with_it(how: str) -> None:
    with RequestWorker(answering, settings()) as worker:
        child = worker.ask(None, 60)
        assert psutil.pid_exists(child)
        assert worker._worker is not None
        own = worker._worker[0].process.pid or 0
        if how != "ended":
            os.kill(own, signal.SIGKILL if how == "killed" else signal.SIGSEGV)
            with pytest.raises(Died):
                worker.ask(None, 60)
    assert gone(child)


def test_what_a_fresh_process_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "pid"
    (tmp_path / "starts_and_hangs.py").write_text(
        "import subprocess, pathlib, time\n"
        "def main():\n"
        f"    pathlib.Path({str(note)!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid))\n"
        "    time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    with pytest.raises(UserError, match="within 5 s"):
        fresh_process.call("starts_and_hangs:main", {}, timeout=5)
    assert gone(int(note.read_text()))


def gone(pid: int) -> bool:
    """Whether a process ends within seconds; one that nobody waits for counts as ended."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False
