"""The fork server's own imports: no garbage collection while it loads, and a quiet end."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_the_fork_server_ends_without_complaints_of_its_bindings() -> None:
    """nanobind prints what is left at the end; frozen objects were, 600 lines of it."""
    pytest.importorskip("triton")
    code = """
import zoobench.workers.preload_begin
import gc
assert not gc.isenabled()
import torch, triton._C.libtriton
import zoobench.workers.preload_end
assert gc.isenabled() and gc.get_freeze_count() > 10_000
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
