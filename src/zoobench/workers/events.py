"""Where groups of cells run. An engine takes groups and yields events; the parent alone writes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from zoobench.schema import Cell
from zoobench.workers.settings import Result


@dataclass(frozen=True)
class Begun:
    """A cell has started on a worker."""

    cell: Cell


@dataclass(frozen=True)
class Progressed:
    """A worker is `done` of `total` examples (or steps) into `stage` of `cell`."""

    cell: Cell
    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """A cell has its result, ok or failed."""

    result: Result


Event = Begun | Progressed | Finished


class Engine(Protocol):
    """Runs groups of cells somewhere; `events` yields as things happen."""

    def events(self, groups: Sequence[Sequence[Cell]]) -> Generator[Event, None, None]:
        """Every cell of `groups` ends in exactly one Finished. Closing it stops the workers."""
