"""Signals that ask a process to end, or to pause: SIGTERM and SIGHUP end a command like Ctrl-C.

A KeyboardInterrupt's argument is the signal, and none is Ctrl-C's. What a program of the user's
own does at SIGTERM or SIGHUP, or ignores as `nohup` does, is left to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGHUP)


def exit_code(error: BaseException) -> int:
    """128 and the signal, as of a process that the signal killed."""
    told = isinstance(error, KeyboardInterrupt) and error.args
    return 128 + (error.args[0] if told else signal.SIGINT)


@contextlib.contextmanager
def for_a_command() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, the first time; Ctrl-Z pauses the workers too,
    which lead process groups of their own."""
    asked: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        if not asked:  # what cleans up after the first must not be broken off
            asked.append(number)
            raise KeyboardInterrupt(number)

    with _handled(dict.fromkeys(ENDING, end) | {signal.SIGTSTP: _pause}):
        yield


@contextlib.contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, or another signal asked to end; a second Ctrl-C raises
    KeyboardInterrupt where it falls.

    The first must not: raised in the middle of a write, or of an object's end, an
    exception can be lost, and a run that should stop would go on.
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        asked.append(number)

    with _handled(dict.fromkeys((*ENDING, signal.SIGINT), note)):
        try:
            yield lambda: bool(asked)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(*asked[:1]) from None


@contextlib.contextmanager
def _handled(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    """These handlers, where nobody else has one; signals are the main thread's."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            held = signal.getsignal(number)
            ours = getattr(held, "__module__", None) == __name__
            if number == signal.SIGINT or held == signal.SIG_DFL or ours:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pause(number: int, frame: FrameType | None) -> None:
    """Stop the workers, then this process; go on together."""
    import multiprocessing  # 10 ms, which `--help` need not wait for

    workers = [child.pid for child in multiprocessing.active_children() if child.pid]
    _send(workers, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    _send(workers, signal.SIGCONT)


def _send(groups: list[int], number: signal.Signals) -> None:
    for pid in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)
