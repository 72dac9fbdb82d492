"""What a person sees while a suite runs, on stderr: a line a finished cell, with the time left.

On a terminal two rich bars stand below the lines: the cells, and the stage that a worker is at.
In a pipe, a log, a notebook or a dumb terminal there are the lines alone.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from zoobench.escape import terminal
from zoobench.metrics import fraction, written
from zoobench.quantities import duration
from zoobench.report.text import cell_labels
from zoobench.runs import forecast
from zoobench.schema import Cell, Record
from zoobench.workers.events import Begun, Event, Finished, Progressed

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from zoobench.runs.session import Plan

FEWEST = 3
"""Cells that must have ended before the time left is more than the forecast's guess."""


class Watcher:
    """A context manager to hand to `session.execute`; counts what it has seen.

    When `quiet`, only failed cells are told of.
    """

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console

        # A notebook's stderr takes lines: rich's widget for a bar would need ipywidgets.
        self.console = Console(stderr=True, force_jupyter=False)
        self.quiet = quiet
        self.plan: Plan | None = None
        self.finished = 0
        self._clock = Clock()
        self._names: dict[str, str] = {}
        self._left = 0
        self._bars: Progress | None = None
        self._tasks: tuple[TaskID, TaskID] | None = None

    def __enter__(self) -> Watcher:
        if self.console.is_terminal and not self.console.is_dumb_terminal and not self.quiet:
            self._bars = _two_bars(self.console)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def stopped(self, out: Path) -> str:
        """What a run that is broken off leaves behind, in a sentence."""
        if self.plan is None:
            return "Stopped before the first cell."
        done = len(self.plan.records)
        left = self._clock.left()
        rest = f", {self._left} are left{f' (about {left})' if left else ''}" if self._left else ""
        return f"Stopped. {done} of {len(self.plan.cells)} cells are recorded in {out}{rest}."

    def __call__(self, plan: Plan, event: Event) -> None:
        if self.plan is None:
            self._begin(plan, event)
        if isinstance(event, Finished):
            self.finished += 1
            self._left -= 1
            self._clock.end(event.result.record.key)
            self._say(plan, event.result.record)
        if self._bars is not None and self._tasks is not None:
            self._show(self._bars, *self._tasks, event)

    def _begin(self, plan: Plan, event: Event) -> None:
        """What is counted once: a plan may hold many thousand cells."""
        self.plan = plan
        left = {cell.key for cell in plan.todo}
        if isinstance(event, Finished):
            left.add(event.result.record.key)
        self._left = len(left)
        self._names = cell_labels(plan.cells)
        self._clock.start([cell for cell in plan.cells if cell.key in left])
        if self._bars is not None:
            cells = self._bars.add_task("cells", total=self._left)
            self._tasks = cells, self._bars.add_task("", total=None)

    def _say(self, plan: Plan, record: Record) -> None:
        """One line: on a terminal no longer than it is wide, the name cut and not the number."""
        if self.quiet and record.status == "ok":
            return
        head = f"[{len(plan.cells) - self._left}/{len(plan.cells)}] "
        name, tail = self._names[record.key], outcome(record)
        if self._left and not self.quiet and (left := self._clock.left()):
            tail += f"; {left} left"
        if self._bars is None:
            print(terminal(f"{head}{name}: {tail}"), file=sys.stderr, flush=True)  # noqa: T201
            return
        if record.status == "ok":
            name = _cut(name, self.console.width - len(head) - len(tail) - 2)
        style = None if record.status == "ok" else "red"
        self.console.print(
            terminal(f"{head}{name}: {tail}"), style=style, markup=False, highlight=False
        )

    def _show(self, bars: Progress, cells: TaskID, stage: TaskID, event: Event) -> None:
        if isinstance(event, Finished):
            bars.advance(cells)
        elif isinstance(event, Begun):
            bars.reset(stage, total=None, description=self._short(event.cell))
        elif isinstance(event, Progressed):
            text = f"{self._short(event.cell)}: {event.stage}"
            bars.update(stage, description=text, completed=event.done, total=event.total)

    def _short(self, cell: Cell) -> str:
        """For a bar in 80 columns."""
        return terminal(_cut(self._names[cell.key], 36))


class Clock:
    """The time left of a run: what its ended cells took over their forecast, for the others
    (forecast.rate)."""

    def __init__(self) -> None:
        self._guesses: dict[str, float] = {}
        self._ended: list[float] = []
        self._since = 0.0

    def start(self, cells: list[Cell]) -> None:
        guesses = forecast.seconds(cells)
        self._guesses = {cell.key: guess for cell, guess in zip(cells, guesses, strict=True)}
        self._since = time.monotonic()

    def end(self, key: str) -> None:
        self._ended.append(self._guesses.pop(key, 0.0))

    def left(self) -> str:
        """In words, "" before anything can be said."""
        if len(self._ended) < FEWEST or not sum(self._ended):
            return ""
        left = list(self._guesses.values())
        rate = forecast.rate(time.monotonic() - self._since, self._ended, left)
        return duration(rate * sum(left))


def outcome(record: Record) -> str:
    """The score and the seconds of a cell, or how it failed and why, in one line."""
    if record.status != "ok":
        message = str((record.error or {}).get("message", "")).splitlines()
        return f"{record.status}: {message[0] if message else 'no message'}"
    primary = record.measurements[0]
    percent = "%" if fraction(primary.metric) else ""
    score = f"{primary.metric} {written(primary.metric, primary.value)}{percent}"
    return f"{score} ({duration(record.seconds)})"


def _two_bars(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def _cut(text: str, width: int) -> str:
    width = max(width, 12)
    return text if len(text) <= width else f"{text[: width - 1]}…"
