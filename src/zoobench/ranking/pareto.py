"""Pareto fronts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from zoobench.ranking.nouns import SEVERAL, TIMED, Row
from zoobench.schema import Record
from zoobench.statistics.bootstrap import Floats

AXES = (
    "macs", "params", "weights_bytes", "latency_ms_p50", "peak_memory_bytes", "train_seconds",
)  # fmt: skip
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


def dominators(costs: Floats, value: Floats) -> list[int | None]:
    """Of each of M models the one that dominates it (all costs <=, value >=, one of them strict);
    None on the front. `costs` are (M, K), `value` (M,).

    It is the dominating one of the highest value, which stands on the front itself. What has a NaN
    is on no front and dominates nobody: it is told to dominate itself.
    """
    known = np.isfinite(costs).all(axis=1) & np.isfinite(value)
    found: list[int | None] = []
    for m in range(len(value)):
        no_worse = (costs <= costs[m]).all(axis=1) & (value >= value[m])
        better = (costs < costs[m]).any(axis=1) | (value > value[m])
        over = np.flatnonzero(known & no_worse & better)
        if not known[m]:
            found.append(m)
        elif len(over) == 0:
            found.append(None)
        else:  # of equal values the cheapest, by the costs in their order
            found.append(int(min(over, key=lambda i: (-value[i], *costs[i]))))
    return found


def front_of(rows: Sequence[AnyRow], axis: str) -> list[AnyRow]:
    """The rows on the front of value against `axis`, cheapest first.

    A timed axis is only ranked on one device: [] where the rows were measured on several.
    """
    if axis in TIMED and not one_device(rows):
        return []
    cost = np.array([row.costs.get(axis, np.nan) for row in rows], dtype=np.float64)
    value = np.array([row.value for row in rows], dtype=np.float64)
    return [rows[i] for i in front(cost, value)]


def noisy(records: Iterable[Record]) -> set[str]:
    """The costs of a model that are noisy in any of its `records`."""
    return {m.metric for r in records for m in r.measurements if m.detail.get("noisy")}


def one_device(rows: Sequence[Row]) -> bool:
    """Whether the timed costs of `rows` may be compared with each other."""
    devices = {row.device for row in rows}
    return len(devices) <= 1 and not any(name.startswith(SEVERAL) for name in devices)
