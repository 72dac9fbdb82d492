"""What runs inside a worker process: one group of cells, its events sent to the parent."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection

from zoobench.runner import Settings, run_group
from zoobench.schema import Cell

PROGRESS_EVERY = 0.2
"""Seconds between two progress messages of one stage."""


def work(pipe: Connection, cells: Sequence[Cell], settings: Settings, log: str) -> None:
    """The worker's main function. Everything it prints goes into the file `log`."""
    _quiet(log)
    _die_with_parent()
    _keep_large_blocks()
    _share_cores(settings)
    current: list[Cell] = []
    sent = [0.0]

    def begin(cell: Cell) -> None:
        current[:] = [cell]
        pipe.send(("begin", cell.key))

    def progress(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if current and (done >= total or now - sent[0] > PROGRESS_EVERY):
            sent[0] = now
            pipe.send(("progress", current[0].key, stage, done, total))

    for result in run_group(cells, settings, begin, progress):
        pipe.send(("result", result))
    pipe.send(("end",))


def _quiet(log: str) -> None:
    """Output and a crash's stack go to a file: the terminal belongs to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, sys.stdout.fileno())
    os.dup2(handle, sys.stderr.fileno())
    os.close(handle)
    faulthandler.enable(sys.stderr)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _die_with_parent() -> None:
    """A SIGKILL of the parent must not leave workers behind that eat the machine."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def wait() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _keep_large_blocks() -> None:
    """Keep freed memory: glibc gives large blocks back at each step, and faults them in again."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_max = -1, -4  # <malloc.h>
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):  # another C library: slower, not wrong
        return


def _share_cores(settings: Settings) -> None:
    if settings.threads:
        import torch

        torch.set_num_threads(settings.threads)
