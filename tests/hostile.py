"""What hostile cases are checked by: canaries, snapshots, and what a command said."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from zoobench import models
from zoobench.errors import MissingWeights, Unsupported, UserError

DOCUMENTED = frozenset({0, 1, 2, 3, 4, 5, 129, 130, 143})
"""Exit codes that a hostile input may have; 70 is a fault of ours."""


@dataclass(frozen=True)
class Canary:
    """A file that hostile code would make: there after a test, something was executed."""

    path: Path

    @property
    def python(self) -> str:
        return f"open({str(self.path)!r}, 'w').close()"

    @property
    def shell(self) -> str:
        return f"touch {self.path}"


@dataclass(frozen=True)
class Said:
    """A finished command: its exit code, and all that it wrote."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a user's mistake; fails the test where there is a traceback or more."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, self.err
        return lines[0]


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """path -> (digest of the content or target of the link, modification time in ns)."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        content = os.readlink(path).encode() if path.is_symlink() else b""
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
        found[name] = (hashlib.sha256(content).hexdigest(), path.lstat().st_mtime_ns)
    return found


def refused_model(name: str) -> str:
    """Why the model `name` is refused, when it is named or loaded: a line that colours nothing."""
    with pytest.raises((UserError, Unsupported, MissingWeights)) as caught:
        models.load(models.resolve(name))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    return str(caught.value)
