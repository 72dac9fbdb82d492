"""Pareto fronts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from zoobench.ranking.nouns import SEVERAL, TIMED, Row
from zoobench.statistics.bootstrap import Floats

AXES = ("macs", "params", "latency_ms_p50", "peak_memory_bytes", "train_seconds")
AnyRow = TypeVar("AnyRow", bound=Row)


def front(cost: Floats, value: Floats) -> list[int]:
    """Indices not dominated (no other has cost <= and value >= with one strict), by cost.

    `cost` and `value` are (M,); a NaN in either keeps a model off the front.
    """
    usable = np.flatnonzero(np.isfinite(cost) & np.isfinite(value))
    kept: list[int] = []
    best = -np.inf
    for i in sorted(usable.tolist(), key=lambda i: (cost[i], -value[i])):
        if value[i] > best or (kept and cost[i] == cost[kept[-1]] and value[i] == best):
            kept.append(i)
            best = float(value[i])
    return kept


def front_of(rows: Sequence[AnyRow], axis: str) -> list[AnyRow]:
    """The rows on the front of value against `axis`, cheapest first.

    A timed axis is only ranked on one device: [] where the rows were measured on several.
    """
    if axis in TIMED and not one_device(rows):
        return []
    cost = np.array([row.costs.get(axis, np.nan) for row in rows], dtype=np.float64)
    value = np.array([row.value for row in rows], dtype=np.float64)
    return [rows[i] for i in front(cost, value)]


def one_device(rows: Sequence[Row]) -> bool:
    """Whether the timed costs of `rows` may be compared with each other."""
    devices = {row.device for row in rows}
    return len(devices) <= 1 and not any(name.startswith(SEVERAL) for name in devices)
