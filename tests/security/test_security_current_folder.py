"""A folder full of modules that one stands in: no process of ours imports any of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from cells import GABOR, STRIPES, write_suite
from hostile import Canary, Said
from zoobench.costs import fresh_process
from zoobench.errors import CellError
from zoobench.schema import Cell, Ref
from zoobench.workers import starting, torchrun
from zoobench.workers.settings import Settings
from zoobench.workers.starting import Starter

pytestmark = pytest.mark.xdist_group("fork-server")

OURS = ("torch", "numpy", "timm", "transformers", "PIL", "msgspec", "psutil", "click", "rich")
STANDARD = (
    "random",
    "json",
    "logging",
    "pickle",
    "signal",
    "socket",
    "tempfile",
    "multiprocessing",
)
PYTHONS = ("zoobench", "sitecustomize", "usercustomize", "contextlib", "types", "functools")
"""What Python itself may import before any line of ours, or in our place."""

SOURCES = str(Path(starting.__file__).parents[2])


@pytest.fixture
def full(inside: Path, canary: Canary) -> Path:
    """The current folder, with a module of each name, which would leave the canary's mark."""
    for name in (*OURS, *STANDARD, *PYTHONS):
        (inside / f"{name}.py").write_text(f"{canary.python}\nraise SystemExit(1)\n")
    return inside


@pytest.fixture
def new_server() -> Iterator[None]:
    """A fork server is started by the test, and none is left that began in its folder."""
    starting.end_fork_server()
    yield
    starting.end_fork_server()


def test_a_run_and_an_advice(full: Path, new_server: None, zoobench: Callable[..., Said]) -> None:
    suite = write_suite(full / "s.toml")
    assert zoobench("run", suite, "--out", full / "run").code == 0
    advice = ("--models", GABOR, "--budget", "60s", "--no-fine-tune", "--device", "cpu")
    said = zoobench("recommend", "--data", STRIPES, *advice, "--out", full / "advice")
    assert said.code == 0, said.err


def test_a_similarity_and_a_profile(full: Path, zoobench: Callable[..., Said]) -> None:
    assert zoobench("similarity", GABOR, STRIPES, f"{STRIPES}&classes=3").code == 0
    assert zoobench("profile", GABOR).code == 0


def test_a_fresh_process_of_profile_and_compare(full: Path) -> None:
    assert fresh_process.call("zoobench.machine:threads", {"processes": 10_000}) == 1


def test_the_ranks_of_a_training(full: Path) -> None:
    cell = Cell(Ref("synthetic", "gabor"), Ref("nonesuch", "x"), "fine-tune", {"steps": 1})
    with pytest.raises(CellError, match="UnknownName"):  # it came as far as to look for it
        torchrun.Processes(cell, "cpu", 1).train(1e-3, 1)


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("entry", [None, ""])
def test_a_worker(
    device: str, entry: str | None, full: Path, new_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forked (cpu) and spawned (cuda), also where the parent itself imports from the folder."""
    starter = Starter(Settings(device=device))
    starter._loads = ("json", "random")
    if entry is not None:
        monkeypatch.setattr(sys, "path", [entry, *sys.path])
    process, pipe, _ = starter.start(full, tell, False)
    with pipe:
        assert pipe.poll(60)
        found = pipe.recv()
    starting.end(process)
    assert not {"", str(full)} & set(found["path"])
    assert found["safe"] == "1"


def tell(pipe: Connection, log: str) -> None:
    import pickle  # noqa: F401  one of those that lie there

    pipe.send({"path": sys.path, "safe": os.environ.get("PYTHONSAFEPATH")})


@pytest.mark.parametrize(
    ("command", "without"),
    [
        (["-P", "-m", "zoobench"], ()),
        (["-c", "import sys; sys.path.pop(0); from zoobench.cli.main import entry; entry()"], ()),
        (["-m", "zoobench"], PYTHONS),
    ],
)
def test_the_command_itself(command: list[str], without: tuple[str, ...], full: Path) -> None:
    """`python -m` looks into the folder before zoobench can say a word: what it needs itself is
    Python's to import, and the rest is not looked for there."""
    for name in without:
        (full / f"{name}.py").unlink()
    done = subprocess.run(
        [sys.executable, *command, "list", "methods"],
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "knn" in done.stdout
