"""How worker processes start, and end with all that they started.

They come from a fork server that has loaded the heavy libraries (0.2 s each instead of 6 s); where
CUDA is in use they are spawned. The fork server is a process like the workers: one that dies or
does not answer is ended with its group, and the next one loads less, down to nothing. What a
library does to it is then done to the worker that needs that library, and costs that one's cell.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver, util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from zoobench.machine import SAFE_PATH
from zoobench.workers import preload
from zoobench.workers.settings import Settings

START_SECONDS = 300.0
"""How long a start may take: the libraries may lie on a slow disk."""

PRELOAD = (
    "torch", "torch._dynamo", "PIL.ImageFile", "pydantic.dataclasses", "pydantic.type_adapter",
    "scipy.sparse", "scipy.special", "zoobench.workers.worker", "zoobench.costs.counter",
    "zoobench.solvers.calibration", "zoobench.tasks.classification",
)  # fmt: skip
"""What every worker imports. torch loads `_dynamo` (900 modules, 2.4 s) when costs are counted."""

LOOK_SECONDS = 0.1
LONGEST_TMPDIR = 70
"""Bytes, which leave room for the names that multiprocessing adds."""


class NotStarted(Exception):
    """No child could be started, whatever the fork server loads: a record's `status`, and why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass
class Starter:
    """Starts children with `preload` loaded beside PRELOAD, each within `seconds`."""

    settings: Settings
    preload: Sequence[str] = ()
    seconds: float = START_SECONDS
    stopping: Callable[[], bool] = lambda: False
    _context: Any = field(init=False)
    _loads: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        spawned = self.settings.device.startswith("cuda")
        self._context = multiprocessing.get_context("spawn" if spawned else "forkserver")
        self._loads = (*PRELOAD, *self.preload)

    def start(
        self, folder: Path, target: Callable[..., None], duplex: bool, *args: Any
    ) -> tuple[BaseProcess, Connection, Path]:
        """A child that runs `target(pipe, *args, log)`, our end of the pipe, and `log`, a new file
        in `folder`. Raises NotStarted, and KeyboardInterrupt where it is to stop meanwhile."""
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".log", delete=False) as file:
            log = Path(file.name)
        ours, theirs = self._context.Pipe(duplex=duplex)
        with theirs:
            while True:
                process: BaseProcess = self._context.Process(
                    target=target, args=(theirs, *args, str(log)), daemon=True
                )
                was_up = fork_server_pid() is not None
                try:
                    self._start(process)
                except NotStarted:
                    if self.stopping():
                        raise KeyboardInterrupt from None
                    if was_up:
                        continue  # what it loads is not to blame
                    if not self._loads:
                        ours.close()
                        raise
                    self._loads = () if self._loads == PRELOAD else PRELOAD
                else:
                    return process, ours, log

    def _start(self, process: BaseProcess) -> None:
        """Raises NotStarted where the fork server dies, or has to be ended."""
        forkserver.set_forkserver_preload([preload.__name__])
        shorten_sockets()
        started = threading.Event()
        late = threading.Event()

        def watch() -> None:
            until = time.monotonic() + self.seconds
            while not started.wait(LOOK_SECONDS):
                if self.stopping() or time.monotonic() > until:
                    late.set()
                    end_group(fork_server_pid())  # `process.start()` then reads the end of its pipe
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            with nothing_of_ours(self._loads):
                process.start()
        except (EOFError, OSError) as error:
            end = end_fork_server(dying=not late.is_set())
            if late.is_set():
                reason = f"no worker process had started after {self.seconds:g} s"
                raise NotStarted("timeout", reason) from error
            reason = f"no worker process could be started: the fork server {end or error}"
            raise NotStarted("crash", reason) from error
        finally:
            started.set()
            watcher.join()


def shorten_sockets() -> None:
    """Lets the fork server's socket lie in /tmp where TMPDIR is long, as clusters have it: its path
    has 107 bytes at most. (Python does so itself from 3.14 on.)"""
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if "tempdir" in config or len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TMPDIR:
        return
    config["tempdir"] = tempfile.mkdtemp(prefix="pymp-", dir="/tmp")
    util.Finalize(None, shutil.rmtree, args=(config["tempdir"], True), exitpriority=-100)


@contextlib.contextmanager
def nothing_of_ours(loads: Sequence[str]) -> Iterator[None]:
    """Children that start meanwhile import neither this process's main module nor anything from
    the folder that it stands in; a fork server imports `loads`.

    They would run a user's script again, whose call of `zoobench.run` then starts children of
    its own; and a torch.py or json.py of that folder in the place of the real one.
    """
    main, path = sys.modules["__main__"], sys.path
    own = {**SAFE_PATH, preload.NAMES: ",".join(loads)}
    before = {name: os.environ.get(name) for name in own}
    sys.modules["__main__"] = ModuleType("__main__")
    sys.path = [entry for entry in path if entry]
    os.environ.update(own)
    try:
        yield
    finally:
        sys.modules["__main__"], sys.path = main, path
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def fork_server_pid() -> int | None:
    """None where there is none. The standard library has no name for it."""
    server: Any = forkserver
    pid: int | None = server._forkserver._forkserver_pid
    return pid


def leave_fork_server() -> None:
    """In a child: let the fork server end when its parent has.

    It lives as long as anybody holds its pipe, and a child that is stopped (workers/turns.py)
    would hold it for ever; when it ends, the kernel sends its stopped children SIGHUP.
    """
    server: Any = forkserver
    one = server._forkserver
    if one._forkserver_alive_fd is not None:
        os.close(one._forkserver_alive_fd)
        one._forkserver_alive_fd = None


def end_fork_server(dying: bool = False) -> str:
    """End it and its group, so that the next child has a new one; how it had died, or "".

    One that is `dying` gets a second to say how.
    """
    server: Any = forkserver
    one, pid = server._forkserver, fork_server_pid()
    if pid is None:
        return ""
    died = _reaped(pid, 1.0 if dying else 0.0)
    end_group(pid)
    if died is None:
        _reaped(pid, 10.0)
    with contextlib.suppress(OSError):
        os.close(one._forkserver_alive_fd)
    one._forkserver_pid = one._forkserver_alive_fd = one._forkserver_address = None
    return "" if died is None else how(died)


def _reaped(pid: int, seconds: float) -> int | None:
    """The exit code of our child `pid`, if it ends within `seconds`."""
    until = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > until:
                return None
            time.sleep(0.01)
    return None


def how(code: int) -> str:
    """A process's exit code in words: "died of SIGSEGV", or "ended by itself with ..."."""
    with contextlib.suppress(ValueError):
        return f"died of {signal.Signals(-code).name}"
    return f"ended by itself with exit code {code}"


def end_group(pid: int | None) -> None:
    """SIGKILL to a child and, where it leads a group, to all that it started."""
    if pid is None:
        return
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def end(process: BaseProcess) -> None:
    """Kill a worker and all that it started, whatever it is at, or has been."""
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it leads outlives it
    process.kill()
    process.join(timeout=10)
