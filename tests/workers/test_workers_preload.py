"""The fork server's own imports: no garbage collection while it loads, and a quiet end."""

from __future__ import annotations

import os
import subprocess
import sys

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
