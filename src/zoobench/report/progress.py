"""What a person sees while a suite runs: a bar with the time left, on stderr.

On a terminal, two rich bars: the cells, and the stage that a worker is at. In a
pipe or a log, one plain line a finished cell.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from zoobench.escape import terminal
from zoobench.schema import Cell, Record
from zoobench.workers.events import Begun, Event, Finished, Progressed

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from zoobench.runs.session import Plan


class Watcher:
    """A context manager to hand to `session.execute`; counts what it has seen."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self.progress: Progress | None = None
        self.cells: TaskID | None = None
        self.stage: TaskID | None = None
        self.finished = 0
        self.left: int | None = None  # counted once: a plan may hold many thousand cells

    def __enter__(self) -> Watcher:
        if self.console.is_terminal:
            self.progress = self._bars()
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def _bars(self) -> Progress:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
        )
        return Progress(*columns, console=self.console, transient=True)

    def __call__(self, plan: Plan, event: Event) -> None:
        if self.left is None:
            self.left = len(plan.todo) + isinstance(event, Finished)
        if isinstance(event, Finished):
            self.finished += 1
            self.left -= 1
        if self.progress is None:
            if isinstance(event, Finished):
                print(terminal(self._line(plan, event.result.record)), file=sys.stderr, flush=True)  # noqa: T201
            return
        if self.cells is None:
            self.cells = self.progress.add_task("cells", total=self.left + self.finished)
            self.stage = self.progress.add_task("", total=None)
        self._show(event)

    def _show(self, event: Event) -> None:
        assert self.progress is not None
        assert self.cells is not None
        assert self.stage is not None
        if isinstance(event, Finished):
            record = event.result.record
            self.progress.advance(self.cells)
            if record.status != "ok":
                self.console.print(
                    terminal(failure(record)), style="red", markup=False, highlight=False
                )
        elif isinstance(event, Begun):
            self.progress.reset(self.stage, total=None, description=short(event.cell))
        elif isinstance(event, Progressed):
            self.progress.update(
                self.stage,
                description=f"{short(event.cell)}: {event.stage}",
                completed=event.done,
                total=event.total,
            )

    def _line(self, plan: Plan, record: Record) -> str:
        count = f"[{len(plan.cells) - (self.left or 0)}/{len(plan.cells)}]"
        if record.status != "ok":
            return f"{count} {failure(record)}"
        primary = record.measurements[0]
        return (
            f"{count} {record.cell.label}: {primary.metric} {primary.value:.4f} "
            f"({record.seconds:.1f} s)"
        )


def short(cell: Cell) -> str:
    """At most about 40 characters, for a bar in 80 columns."""
    text = f"{cell.model.name} {cell.dataset.name} {cell.method}"
    return terminal(text if len(text) <= 36 else f"{text[:35]}…")


def failure(record: Record) -> str:
    """One line: which cell failed, how, and why."""
    message = str((record.error or {}).get("message", "")).splitlines()
    return f"{record.cell.label}: {record.status}: {message[0] if message else 'no message'}"
