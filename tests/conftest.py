"""What every test has: its own cache, no network, one thread, no colour."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis  # loaded late, as its own plugin does, it warns of other plug-ins
import pytest

from hostile import DOCUMENTED, Said
from zoobench.cli import main as cli

# Read when numpy and scipy are loaded: two threads of theirs on the one core of a test crawl.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The same examples each time, and no clock: these machines are shared.
hypothesis.settings.register_profile(
    "zoobench", deadline=None, derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)  # fmt: skip
hypothesis.settings.load_profile("zoobench")

OF_A_GPU = ("mark.gpu", "from devices import")
"""What stands in files with checks of a GPU."""

LOOPBACK = ("127.", "::1", "localhost")


def pytest_configure(config: pytest.Config) -> None:
    """A GPU machine has its own versions of the libraries: what they warn of is not asked there."""
    if config.option.markexpr == "gpu":
        config.addinivalue_line("filterwarnings", "default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs first: they are the longest, and one that ends alone leaves a core idle."""
    items.sort(key=lambda item: len(item.path.parts))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of `pytest -m gpu` only files that hold such checks: a GPU machine has few of the extras that
    others import, and one that cannot be imported would stop all."""
    if config.option.markexpr != "gpu":
        return None
    files = [collection_path] if collection_path.is_file() else collection_path.rglob("test_*.py")
    held = (any(mark in one.read_text(encoding="utf-8") for mark in OF_A_GPU) for one in files)
    return None if any(held) else True


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting anywhere but to this machine is an error, not a slow test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if not host.startswith(LOOPBACK):
                raise OSError(f"a test tried to reach {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The tests run side by side, each on a core of its own with the processes that it starts.

    Threads of torch that wait for a core which another test holds would crawl.
    """
    import torch

    torch.set_num_threads(1)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the test's own; returns it. Child processes inherit it."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ZOOBENCH_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # or each child compiles us again
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return cache


@pytest.fixture
def zoobench(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Runs the command as the console script does, in this process; any undocumented code fails."""

    def run(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["zoobench", *map(str, arguments)])
        capfd.readouterr()
        try:
            cli.entry()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, err = capfd.readouterr()
        assert code in DOCUMENTED, f"exit code {code}: {err}"
        return Said(code, out, err)

    return run
