"""Exit codes: 1 is a regression and nothing else, and 70 what nobody foresaw."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from compare_runs import Folder, answers, record
from zoobench.cli.endings import finish
from zoobench.errors import StoreError, Unsupported, UserError

ENDINGS: dict[str, tuple[Callable[[], Any], int, str]] = {
    "nothing": (lambda: None, 0, ""),
    "click's code": (lambda: 1, 1, ""),
    "exit 3": (lambda: sys.exit(3), 3, ""),
    "a library's exit": (lambda: sys.exit(1), 70, "fault of zoobench"),
    "a library's exit with words": (lambda: sys.exit("bye"), 70, "fault of zoobench"),
}
RAISED: dict[str, tuple[BaseException, int, str]] = {
    "user error": (UserError("no such thing"), 2, "Error: no such thing"),
    "store error": (StoreError("damaged"), 2, "Error: damaged"),
    "cell error": (Unsupported("no"), 2, "Error: no"),
    "usage": (click.UsageError("what?"), 2, "Error: what?"),
    "click's own": (click.FileError("x", "gone"), 2, "gone"),
    "aborted": (click.Abort(), 130, "Stopped"),
    "ctrl-c": (KeyboardInterrupt(), 130, "Stopped"),
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "a/b"), 2, "a/b: No space left"),
    "no number": (OSError("odd"), 2, "Error: odd"),
    "no words": (OSError(), 2, "Error: OSError"),
    "too long": (OSError(errno.ENAMETOOLONG, "File name too long", "n"), 2, "n: File name too"),
    "closed pipe": (BrokenPipeError(errno.EPIPE, "Broken pipe"), 2, "Broken pipe"),
    "no memory": (MemoryError(), 2, "not enough memory"),
    "not utf-8": (
        UnicodeEncodeError("utf-8", "pets/b\udce9", 6, 7, "surrogates not allowed"), 2,
        "'pets/b\\udce9': holds a name that is not UTF-8",
    ),
    "other encodings": (UnicodeEncodeError("latin-1", "€", 0, 1, "no"), 70, "fault of zoobench"),
    "recursion": (RecursionError("deep"), 70, "fault of zoobench"),
    "bug": (KeyError("boom"), 70, "KeyError: 'boom'"),
    "assertion": (AssertionError(), 70, "fault of zoobench"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDINGS)
def test_what_a_command_returns(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, code, says = ENDINGS[case]
    assert finish(command) == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("case", RAISED)
def test_every_exception_has_its_code(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, code, says = RAISED[case]

    def command() -> None:
        raise error

    assert finish(command) == code
    said = capsys.readouterr().err
    assert says in said
    assert ("Traceback" in said) == (code == 70)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs a and b, of which b is worse."""
    folder = tmp_path_factory.mktemp("runs")
    for run, wrong in (("a", 10), ("b", 100)):
        Folder(folder / run).add(record(answers(200, range(wrong)))).write()
    return folder


@pytest.mark.parametrize(
    ("shell", "code", "says"),
    [
        ("{zb} compare a b | head -c 1 >/dev/null", 1, ""),
        ("{zb} compare a b | true", 1, ""),
        ("{zb} compare a a | true", 0, ""),
        ("{zb} compare a b >/dev/full", 2, "standard output: cannot be written"),
        ("{zb} compare a b >&-", 1, ""),
        ("{zb} compare a b <&- >&- 2>&-", 1, ""),
        ("{zb} compare a nowhere 2>/dev/full", 2, ""),
        ("{zb} compare a nowhere 2>&-", 2, ""),
        ("{zb} report a | true", 0, ""),
        ("{zb} --help | true", 0, ""),
        ("{zb} --help >/dev/full", 2, "standard output"),
        ("{zb} list tasks --json >/dev/full", 2, "standard output"),
        ("PYTHONIOENCODING=ascii {zb} list tasks", 0, ""),
    ],
)
def test_streams_that_nobody_reads(shell: str, code: int, says: str, runs: Path) -> None:
    command = shell.format(zb=f"'{sys.executable}' -m zoobench")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=runs, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (runs / "b" / "records.jsonl").read_text(encoding="utf-8").count("\n") == 1
