"""What a worker is told beside its cells, and what it gives back for each."""

from __future__ import annotations

from dataclasses import dataclass

from zoobench.schema import Outcomes, Record


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know beside its cells; none of it changes a quality number."""

    device: str = "cpu"
    threads: int = 0
    cache: str = ""
    measure_costs: bool = True
    cost_seconds: float = 3.0
    workers: int = 1
    cards: int = 1
    """That the workers share, where they compute on cards."""
    ranks: int = 1
    compile: bool = False
    unreachable: str = ""
    """Why the hub cannot be reached, as the run's parent found it: no worker waits for it again."""
    timed_threads: int = 0
    """Of a network that is timed, with the machine to itself; 0 is `threads`."""


@dataclass(frozen=True)
class Result:
    """A record, and the arrays that the store keeps beside it."""

    record: Record
    outcomes: Outcomes | None = None
