"""What runs inside a worker process: one group of cells, its events sent to the parent."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from zoobench import machine, network
from zoobench.features.extraction import keep_large_blocks
from zoobench.schema import Cell
from zoobench.workers.runner import run_group
from zoobench.workers.settings import Settings
from zoobench.workers.starting import leave_fork_server
from zoobench.workers.turns import Turn

BEAT_EVERY = 1.0
"""Seconds between two heartbeats, sent by a thread of their own while the cells run."""

PROGRESS_EVERY = 0.2
"""Seconds between two progress messages of one stage."""


def work(pipe: Connection, cells: Sequence[Cell], settings: Settings, log: str) -> None:
    """The worker's main function. Everything it prints goes into the file `log`."""
    begin_child(settings, log)
    sent = [0.0]
    turn = threading.Lock()  # two threads write to one pipe

    def send(*message: Any) -> None:
        with turn:
            pipe.send(message)

    _beat(send)

    def begin(cell: Cell) -> None:
        send("begin", cell.key)

    def progress(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - sent[0] > PROGRESS_EVERY:
            sent[0] = now
            send("progress", stage, done, total)

    alone = Turn(pipe, send, log) if settings.workers > 1 else contextlib.nullcontext
    for result in run_group(cells, settings, begin, progress, alone):
        send("result", result)
        if result.record.status != "ok" and machine.lost(settings.device):
            break  # another process does the rest
    send("end")


def _beat(send: Callable[..., None]) -> None:
    """Tell the parent that this process gets to run Python, as often as BEAT_EVERY says.

    A process that was stopped does not beat, nor does one that is stuck inside a library
    which never gives the interpreter's lock back; a cell that is merely long does.
    """

    def beat() -> None:
        with contextlib.suppress(OSError):  # the parent is gone: its watcher ends us
            while True:
                send("beat")
                time.sleep(BEAT_EVERY)

    threading.Thread(target=beat, daemon=True).start()


def begin_child(settings: Settings, log: str) -> None:
    """What every worker process does first.

    It leads a group of its own, which ends with it: a library's children must not outlive it.
    """
    os.setpgrp()
    leave_fork_server()
    _quiet(log)
    _die_with_parent()
    keep_large_blocks()
    network.begin(settings.unreachable)
    if settings.cache:  # the fork server may be older than the variable
        os.environ["ZOOBENCH_CACHE"] = str(Path(settings.cache).parent)
    if settings.threads:
        import torch  # a worker on all cores takes it when a model does

        torch.set_num_threads(settings.threads)
    if settings.device.startswith("cuda"):
        import torch

        torch.cuda.set_device(settings.device)  # what is asked without naming one means it, too


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
        os.killpg(0, signal.SIGKILL)  # our own: this process and all that it started

    threading.Thread(target=wait, daemon=True).start()
