"""Child processes of tests that start in milliseconds: forks of one that has loaded torch.

A Python of a child's own takes seconds to import torch, and its fork server as many again, where
neither is what is tested. Here each child is a fork of one server, which has imported what no
environment variable changes, and nothing that knows a hub: HF_ENDPOINT and its like are read by
the child. Where a child starts a fork server (zoobench.workers.starting), that is a fork as well.

    done = forked.run("-m", "zoobench", "run", "smoke", env={**os.environ, "X": "1"})

What a fresh interpreter does (its path, its main module, what it loads) is not tested by these.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

LOADED = (
    "torch", "torch._dynamo", "torchvision", "PIL.ImageFile", "scipy.stats", "pandas",
    "sklearn.linear_model", "sklearn.preprocessing", "zoobench.workers.worker",
    "zoobench.runs.session", "zoobench.report.write", "zoobench.cli.main",
    "matplotlib.backends.backend_agg",
)  # fmt: skip

FORKSERVER = "from multiprocessing.forkserver import main"
"""So begins what the standard library has a fork server run."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}  # fmt: skip
"""What keeps libraries from starting threads while they load."""

LARGEST = 1 << 20
"""Bytes of a request: the arguments and the environment."""


class Child:
    """A started child, as subprocess.Popen has it; its parent is the server, which reaps it."""

    def __init__(self, pid: int, status: IO[bytes]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked child", timeout or 0)
            with self._status:
                self.returncode = int(self._status.read())
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that forks; it ends when this one does."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *filter(None, sys.path)],
                pass_fds=[theirs.fileno()], env={**os.environ, **ONE_THREAD},
            )  # fmt: skip
        atexit.register(self._end)

    def _end(self) -> None:
        self._ours.close()
        self._process.wait()

    def start(self, request: Mapping[str, Any], out: int, err: int) -> Child:
        reader, writer = os.pipe()
        body = json.dumps(request).encode()
        assert len(body) < LARGEST
        socket.send_fds(self._ours, [body], [out, err, writer])
        os.close(writer)
        return Child(int(self._ours.recv(64)), os.fdopen(reader, "rb", 0))


_servers: list[Server] = []


def start(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: IO[Any],
    stderr: IO[Any],
    largest_file: int = 0,
) -> Child:
    """Python with `arguments` (-m NAME or -c CODE, and more), in a session of its own.

    No file of it grows beyond `largest_file` bytes, where they are given.
    """
    if not _servers:
        _servers.append(Server())
    request = {
        "arguments": arguments, "env": dict(os.environ if env is None else env),
        "cwd": str(cwd or Path.cwd()), "largest_file": largest_file,
    }  # fmt: skip
    return _servers[0].start(request, stdout.fileno(), stderr.fileno())


def run(*arguments: str, timeout: float = 250, **options: Any) -> subprocess.CompletedProcess[str]:
    """As subprocess.run has it, with what was written as text. Options: those of `start`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = start(*arguments, stdout=out, stderr=err, **options)
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        told = []
        for file in (out, err):
            file.seek(0)
            told.append(file.read().decode())
    return subprocess.CompletedProcess(arguments, child.wait(), *told)


def serve(channel: socket.socket) -> None:
    """Fork for each request, and say how each child ended, until the other end is closed."""
    gc.disable()
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    assert "huggingface_hub" not in sys.modules, "it has read the environment"
    assert len(os.listdir("/proc/self/task")) == 1, "threads do not survive a fork"
    statuses: dict[int, int] = {}
    waking, woken = os.pipe()
    for end in (waking, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    watched: list[Any] = [channel, waking]
    while True:
        readable, _, _ = select.select(watched, [], [])
        if waking in readable:
            os.read(waking, 1024)
            _report(statuses)
        if channel in readable:
            body, fds, _, _ = socket.recv_fds(channel, LARGEST, 3)
            if not body:
                return
            pid = os.fork()
            if pid == 0:
                _end(_become(json.loads(body), *fds[:2]))
            for fd in fds[:2]:
                os.close(fd)
            statuses[pid] = fds[2]
            channel.send(b"%d" % pid)


def _report(statuses: dict[int, int]) -> None:
    """Of every child that has ended, the exit code."""
    while statuses:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        fd = statuses.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # nobody asks any more
            os.write(fd, b"%d" % os.waitstatus_to_exitcode(status))
        os.close(fd)


def _become(request: Mapping[str, Any], out: int, err: int) -> int:
    """In the fork: what a new Python would be and run. Returns the exit code."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for target, fd in enumerate((null, out, err)):
        os.dup2(fd, target)
    _reset_signals()
    os.closerange(3, 4096)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    tempfile.tempdir = None
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in own if path and path not in sys.path]
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    importlib.invalidate_caches()
    if request["largest_file"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"],) * 2)
    _fork_the_fork_server()
    kind, what, *rest = request["arguments"]
    sys.argv = [what if kind == "-m" else kind, *rest]
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(what, {"__name__": "__main__"})
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  as an interpreter does
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """As an interpreter ends, but for the second in which it frees what it has loaded."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _fork_the_fork_server() -> None:
    """Where multiprocessing would start its fork server, a fork of this process becomes it.

    Not while a thread works that may hold a lock: the one that watches the start holds none.
    """
    from multiprocessing import forkserver, util

    real: Any = util.spawnv_passfds

    def spawn(path: bytes, arguments: list[Any], passed: list[int]) -> int:
        code = str(arguments[-1])
        if not code.startswith(FORKSERVER) or threading.active_count() > 2:
            return int(real(path, arguments, passed))
        pid = os.fork()
        if pid:
            return pid
        try:
            _reset_signals()
            kept = sorted({0, 1, 2, *passed})
            for low, high in zip(kept, [*kept[1:], 4096], strict=True):
                os.closerange(low + 1, high)
            sys.modules.pop("zoobench.workers.preload", None)  # imported anew, it loads
            forkserver._forkserver._lock = threading.Lock()  # type: ignore[attr-defined]
            exec(code, {"__name__": "__main__"})
        finally:
            os._exit(0)

    util.spawnv_passfds = spawn  # type: ignore[assignment]


if __name__ == "__main__":
    sys.path[:] = sys.argv[2:]
    serve(socket.socket(fileno=int(sys.argv[1])))
