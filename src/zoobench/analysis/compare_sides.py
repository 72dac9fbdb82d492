"""What the two words after --measure mean: an environment, a folder of sources, a revision.

A git revision is checked out beside the working tree, which stays as it is, and is run by
this interpreter with PYTHONPATH on its sources: same libraries, other code. An environment
is run as it is installed, without this process's PYTHONPATH: other libraries.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoobench.costs.fresh_process import Side
from zoobench.errors import UserError


@contextmanager
def side(text: str) -> Iterator[Side]:
    """The side that `text` names, for as long as the block runs. Raises UserError.

    Tried in this order: a folder with bin/python (an environment), another folder (a source
    tree: its src/, or itself), an executable file (an interpreter), a git revision of the
    repository that one stands in.
    """
    path = Path(text)
    python = path / "bin" / "python"
    if path.is_dir():
        yield Side(text, str(python), "") if python.exists() else Side(text, path=sources(path))
    elif path.is_file() and os.access(path, os.X_OK):
        yield Side(text, str(path.absolute()), "")
    else:
        with checkout(text) as tree:
            yield Side(text, path=sources(tree))


def sources(tree: Path) -> str:
    """What PYTHONPATH must hold for the packages of a source tree."""
    inside = tree / "src"
    return str((inside if inside.is_dir() else tree).absolute())


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A worktree of `revision`, removed at the end. Raises UserError where there is no such."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if commit is None:
        raise UserError(
            f"--measure: {revision!r} is neither a Python environment (a folder with bin/python, "
            "or an interpreter), nor a folder of sources, nor a revision of the git repository here"
        )
    with tempfile.TemporaryDirectory(prefix="zoobench-") as folder:
        tree = Path(folder) / "tree"
        if _git("worktree", "add", "--detach", str(tree), commit) is None:
            raise UserError(f"--measure: git could not check {revision} out into {tree}")
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> str | None:
    """What git printed, or None where it failed or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)  # noqa: S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
