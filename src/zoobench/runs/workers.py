"""How many workers a run takes where nobody says: the number with which it ends soonest.

Measured on two cores, two workers of one thread end a suite 1.2 to 1.6 times sooner than one
worker of two threads: libraries spend part of the time on one thread whatever they are given.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from zoobench import machine
from zoobench.costs.known import network
from zoobench.errors import UserError
from zoobench.methods import method_class
from zoobench.runs import forecast
from zoobench.schema import PRETRAIN, Cell
from zoobench.workers.runner import groups

AUTO = 0
"""Workers: as many as end soonest."""

GAIN = 0.6
"""n threads do the work of n ** GAIN: 1.5 of two, as two workers' 1.2 to 1.6 says."""

BASE_BYTES = 1.5e9
"""Of a worker with the libraries and a small model loaded, at most."""

UNKNOWN_PARAMS = 1e8
TRAINED_BYTES = 16
"""A weight that is trained, with its gradient and two moments; one that is only used has 4."""

ACTIVATION_BYTES = 0.025
"""Kept for the backward pass, a multiply-accumulate of an example: a ResNet-50's 100 MB."""


def parse_workers(asked: int | str) -> int:
    """ "auto" or a number, also as text; AUTO for the first. Raises UserError."""
    if asked == "auto":
        return AUTO
    number = int(asked) if str(asked).isdecimal() else 0
    if number < 1:
        raise UserError(f"--workers: must be auto or a number of at least 1, got {asked}")
    return number


def best(cells: Sequence[Cell], device: str, bound: int | None = None) -> int:
    """Workers for `cells`: on cards one each, on the CPU by the forecast, as memory allows.

    `device` as it was asked for. `bound` is the memory in bytes beyond which a worker is stopped.
    """
    found, devices = groups(cells), machine.cards(device)
    if devices[0] != "cpu":
        return max(1, min(len(found), len(devices)))
    import psutil

    need = max((memory(group) for group in found), default=BASE_BYTES)
    need = min(need, bound) if bound else need
    room = int(0.9 * psutil.virtual_memory().available / need)
    most = max(1, min(machine.cores(), len(found), room))
    costs = [sum(forecast.seconds(group)) for group in forecast.longest_first(found)]
    # Other numbers leave cores idle: 5 workers on 8 cores have one thread each, as 8 have.
    numbers = {min(most, machine.cores() // each) for each in range(1, machine.cores() + 1)}
    return min(
        sorted(numbers - {0}), key=lambda n: round(makespan(costs, n, machine.threads(n)), 6)
    )


def makespan(costs: Sequence[float], workers: int, threads: int) -> float:
    """Seconds until the last of `workers` ends, each group to the first that is free."""
    ends = [0.0] * workers
    speed = threads**GAIN
    for cost in costs:
        heapq.heapreplace(ends, ends[0] + cost / speed)
    return max(ends)


def memory(group: Sequence[Cell]) -> float:
    """Bytes that a worker takes for `group`, roughly and at once."""
    most = 0.0
    for cell in group:
        if cell.model.source in ("control", "synthetic"):
            continue
        row = network(cell.model.source, cell.model.name.partition(".")[0])
        params = row.params if row else UNKNOWN_PARAMS
        need = 4 * params
        if cell.method == PRETRAIN or method_class(cell.method).needs == "module":
            batch = int(cell.params.get("batch_size", cell.params.get("batch", 64)))
            need = TRAINED_BYTES * params
            need += ACTIVATION_BYTES * batch * forecast.macs(cell.model)
        most = max(most, need)
    return BASE_BYTES + most
