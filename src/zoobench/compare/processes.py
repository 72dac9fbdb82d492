"""Function calls in processes beside this one, one call each."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from zoobench.compare.baseline import SUPERSEDED
from zoobench.compare.lines import Span, spans_of_models
from zoobench.compare.match import short
from zoobench.compare.reading import Share
from zoobench.errors import UserError
from zoobench.store import located

P = ParamSpec("P")
T = TypeVar("T")

LARGE = 2**25
"""Bytes of records that are worth a process: reading them takes about as long as starting it."""
MOST = 4
"""Processes: each holds a tenth of a gibibyte of libraries, and one alone finds the lines."""


@contextmanager
def helpers(count: int, preload: Sequence[str] = ()) -> Iterator[Helpers]:
    """`count` processes for the time of a `with` block, at the end of which they are gone.

    They begin with importing the modules `preload`, while the caller goes on. They are spawned:
    a script that uses them needs the usual `if __name__ == "__main__":`.
    """
    context = get_context("spawn")
    started: list[tuple[BaseProcess, Connection]] = []
    try:
        # A daemon may have no children; where a process can't be had, calls are made here.
        with suppress(OSError):
            for _ in range(0 if current_process().daemon else count):
                ours, theirs = context.Pipe()
                one = context.Process(target=_serve, args=(theirs, tuple(preload)), daemon=True)
                one.start()
                theirs.close()  # so that its end is heard of
                started.append((one, ours))
        yield Helpers([connection for _, connection in started])
    finally:
        for process, connection in started:
            process.terminate()
            connection.close()
        for process, _ in started:
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
        except ConnectionError:
            return here
        return partial(_result, connection, here)


def _result(connection: Connection, here: Callable[[], T]) -> T:
    try:
        found, error = connection.recv()
    except (EOFError, OSError):  # also where it dies in the middle of its answer
        return here()
    if error is not None:
        raise error
    result: T = found
    return result


def _serve(connection: Connection, preload: Sequence[str]) -> None:
    """Make the one call that comes, and send (result, the user's mistake or None)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the caller will terminate this
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unfinished files are cleared away
    for module in preload:
        import_module(module)
    with suppress(EOFError, ConnectionError):  # the caller is gone
        call = connection.recv()
        answer: tuple[Any, UserError | None]
        try:
            answer = (call(), None)
        except UserError as error:
            answer = (None, error)
        connection.send(answer)


def worthwhile(baseline: Path, candidate: Path, processes: int) -> int:
    """How many of `processes` to share the two sides' records among. Raises StoreError."""
    size = sum(located(path)[1].stat().st_size for path in (baseline, candidate))
    return max(1, min(processes, MOST, size // LARGE))


def shares(baseline: Path, candidate: Path, count: int) -> list[Share]:
    """The models of both sides in `count` shares of about equal size, or in fewer where there are
    fewer models. Empty where a line doesn't say its model: whose it is has to be read first."""
    sides = [spans_of_models(located(path)[1]) for path in (baseline, candidate)]
    older = located(baseline)[0] / SUPERSEDED  # may bring back models that nothing else has
    size: Counter[str] = Counter()
    for side in (*sides, spans_of_models(older) if older.exists() else {}):
        for model, spans in side.items():
            if not model:
                return []
            size[short(model)] += sum(span.stop - span.start for span in spans)
    groups: list[tuple[int, list[str]]] = [(0, []) for _ in range(min(count, len(size)))]
    for model, held in size.most_common():  # the largest first, each to the smallest group
        least = min(range(len(groups)), key=lambda i: groups[i][0])
        groups[least] = (groups[least][0] + held, [*groups[least][1], model])
    chosen = [frozenset(models) for _, models in groups]
    return [Share(models, *(_theirs(side, models) for side in sides)) for models in chosen]


def _theirs(side: Mapping[str, Iterable[Span]], models: frozenset[str]) -> list[Span]:
    """The lines of `models`, in the file's order, in as few spans as may be."""
    found = sorted(s for model, spans in side.items() if short(model) in models for s in spans)
    joined: list[Span] = []
    for span in found:
        if joined and joined[-1].stop == span.start:
            joined[-1] = joined[-1]._replace(stop=span.stop)
        else:
            joined.append(span)
    return joined
