"""Function calls in processes beside this one, one call each."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from zoobench.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def helpers(count: int, preload: Sequence[str] = ()) -> Iterator[Helpers]:
    """`count` processes for the time of a `with` block, at the end of which they are gone.

    They begin with importing the modules `preload`, while the caller goes on. They are spawned:
    a script that uses them needs the usual `if __name__ == "__main__":`.
    """
    context = get_context("spawn")
    started, idle = [], []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, tuple(preload)), daemon=True)
            process.start()
            theirs.close()  # so that its end is heard of
            started.append(process)
            idle.append(ours)
        yield Helpers(idle)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.join()


class Helpers:
    """Processes that wait for a call each, by the connections to them."""

    def __init__(self, idle: list[Connection]) -> None:
        self._idle = idle

    def call(
        self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs
    ) -> Callable[[], T]:
        """Begin `function(...)` in an idle process; the returned function waits for its result.

        Where none is idle, or it dies (of the memory that there isn't), the call is made here,
        when its result is asked for. Raises what `function` raises.
        """
        here = partial(function, *arguments, **named)
        if not self._idle:
            return here
        connection = self._idle.pop()
        try:
            connection.send(here)
        except BrokenPipeError:
            return here
        return partial(_result, connection, here)


def _result(connection: Connection, here: Callable[[], T]) -> T:
    try:
        found, error = connection.recv()
    except (EOFError, ConnectionResetError):
        return here()
    if error is not None:
        raise error
    result: T = found
    return result


def _serve(connection: Connection, preload: Sequence[str]) -> None:
    """Make the one call that comes, and send (result, the user's mistake or None)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: the caller alone has something to say
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unfinished files are cleared away
    for module in preload:
        import_module(module)
    answer: tuple[Any, UserError | None]
    try:
        answer = (connection.recv()(), None)
    except UserError as error:
        answer = (None, error)
    connection.send(answer)
