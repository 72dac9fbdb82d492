"""A run as far as a comparison looks at it; `compare_load` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from zoobench.schema import Cell, Measurement, Outcomes
from zoobench.store import PREDICTIONS, read_outcomes

EXACT = ("params", "macs", "weights_bytes", "feature_dim")
TIMED = ("latency_ms_p50", "throughput", "peak_memory_bytes")
COSTS = frozenset((*EXACT, *TIMED))


class Slim(msgspec.Struct, gc=False, frozen=True):
    """What a comparison keeps of a `schema.Record`: fields that it reads, without intervals and
    samples. `costs` are the measurements of COSTS, one object for all cells of a model
    that repeat them; `quality` those of the metrics that were asked for.
    """

    cell: Cell
    status: str
    quality: tuple[Measurement, ...] = ()
    costs: tuple[Measurement, ...] = ()
    predictions: str = ""
    environment: Mapping[str, Any] = msgspec.field(default_factory=dict)
    provenance: Mapping[str, Any] = msgspec.field(default_factory=dict)
    started: str = ""
    error: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        return self.cell.key

    def value(self, metric: str) -> float | None:
        """Of `metric`; None where it was not measured."""
        found = self.get(metric)
        return found.value if found else None

    def get(self, metric: str) -> Measurement | None:
        return next((m for m in (*self.quality, *self.costs) if m.metric == metric), None)


@dataclass(frozen=True)
class SlimRun:
    """As `store.Run`, of slim records."""

    path: Path
    records: tuple[Slim, ...]
    suite: Mapping[str, Any]

    def outcomes(self, record: Slim) -> Outcomes | None:
        """What was kept of the test units of `record`, or None where nothing was."""
        return read_outcomes(self.path / PREDICTIONS / f"{record.key}.npz")
