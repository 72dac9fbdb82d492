"""The fork server's own imports: no garbage collection while it loads, and a quiet end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoobench.workers import preload


def test_the_fork_server_ends_without_complaints_of_its_bindings() -> None:
    """nanobind prints what is left at the end; frozen objects were, 600 lines of it."""
    pytest.importorskip("triton")
    code = """
import sys
import zoobench.workers.preload
import gc
assert "triton._C.libtriton" in sys.modules
assert gc.isenabled() and gc.get_freeze_count() > 10_000
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, preload.NAMES: "no_such_module,torch,triton._C.libtriton"},
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""


def test_what_libraries_log_while_they_are_imported_is_left_unsaid(tmp_path: Path) -> None:
    (tmp_path / "talks.py").write_text("import logging\nlogging.warning('will change')\n")
    code = "import logging, zoobench.workers.preload\nlogging.warning('of a cell')"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, preload.NAMES: "talks", "PYTHONPATH": path},
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "will change" not in done.stderr
    assert "of a cell" in done.stderr
