"""A run of an original and its compressed variants with known truth, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fakes import make_outcomes, make_record
from zoobench.schema import Cell, Measurement, Record, Ref
from zoobench.store import Run, Store, load

NET = "timm/net@1"
DIGITS, WORDS = "packaged/digits@1", "packaged/words@1"


@dataclass(frozen=True)
class Planted:
    """A variant with one head: of the units that the original has right it loses `lost`, of the
    others it gains `gained`; its costs are the original's by `bytes_` and `time`. With `why` it is
    unsupported."""

    variant: str
    head: str
    lost: int = 0
    gained: int = 0
    bytes_: float = 0.25
    time: float = 0.6
    why: str = ""
    coverage: tuple[float, float] = (0.98, 0.95)

    @property
    def record(self) -> str:
        return f"{NET}?variant={self.variant}"


KINDS = (
    Planted("bf16", "carried", 1, 1, 0.5, 0.7),
    Planted("bf16", "anew", 2, 3, 0.5, 0.7),
    Planted("int8-weight", "carried", 8, 6),
    Planted("int8-weight", "anew", 40, 0),
    Planted("int8-static", "carried", why="it covers 4% of the parameters: [b]half[/b] is asked"),
    Planted("int8-static", "anew", why="it covers 4% of the parameters: [b]half[/b] is asked"),
)
"""One of every kind that a table shows."""


def with_costs(record: Record, kind: Planted | None) -> Record:
    """`record` with the costs of `kind`, or of the original."""
    size, time = (1.0, 1.0) if kind is None else (kind.bytes_, kind.time)
    setting = {"device": "cpu", "threads": 2, "batch": 1, "dtype": "bf16" if kind else "fp32"}
    costs = {
        "params": (5e6, {}),
        "macs": (4e8, {}),
        "weights_bytes": (20e6 * size, {}),
        "latency_ms_p50": (10.0 * time, setting),
        "peak_memory_bytes": (3e7 * size, setting),
    }
    kept = [m for m in record.measurements if m.metric not in costs]
    kept += [
        Measurement(name, value, "", "lower", detail=detail)
        for name, (value, detail) in costs.items()
    ]
    if kind is not None:
        share, macs = kind.coverage
        kept.append(Measurement("coverage", share, "fraction", detail={"macs": macs}))
    return make_changed(record, measurements=tuple(kept))


def make_changed(record: Record, **changes: Any) -> Record:
    import dataclasses

    return dataclasses.replace(record, **changes)


def _named(record: Record, head: str) -> Record:
    cell = record.cell
    params = {**cell.params, **({"head": head} if head else {})}
    changed = Cell(
        cell.model, cell.dataset, cell.method, params, cell.seed, cell.shots, cell.versions
    )
    return make_changed(record, cell=changed)


def variant_run(
    path: Path,
    kinds: Sequence[Planted] = KINDS,
    datasets: Sequence[str] = (DIGITS,),
    *,
    n: int = 1000,
    accuracy: float = 0.8,
    method: str = "linear-probe",
    seeds: int = 1,
    changes: Mapping[str, Any] | None = None,
    others: Sequence[str] = (),
) -> Run:
    """The original NET and `kinds` of it on each dataset, and `others` as good as it. `changes` are
    fields of the variants' records."""
    rng = np.random.default_rng(3)
    with Store(path, 'name = "compressed"\nidentity = "c"\n', "c") as store:
        for dataset in datasets:
            truth = rng.integers(0, 10, n).astype(np.int32)
            for seed in range(seeds):
                right = rng.permutation(n) < round(accuracy * n)
                whole = make_record(NET, dataset, method, right=right, seed=seed)
                store.append(with_costs(whole, None), make_outcomes(right, truth, 10))
                for model in others:
                    other = np.roll(right, 1)
                    record = make_record(model, dataset, method, right=other, seed=seed)
                    store.append(with_costs(record, None), make_outcomes(other, truth, 10))
                for kind in kinds:
                    own = right.copy()
                    own[np.flatnonzero(right)[: kind.lost]] = False
                    own[np.flatnonzero(~right)[: kind.gained]] = True
                    record = make_record(kind.record, dataset, method, right=own, seed=seed)
                    record = make_changed(_named(record, kind.head), **(changes or {}))
                    if kind.why:
                        error = {"message": kind.why, "detail": ""}
                        record = make_changed(
                            record, status="unsupported", measurements=(), provenance={},
                            error=error,
                        )  # fmt: skip
                        store.append(record)
                        continue
                    store.append(with_costs(record, kind), make_outcomes(own, truth, 10))
        store.write_environment({"device_name": "Test CPU"})
    return load(path)


def variant_ref(name: str) -> Ref:
    return Ref.parse(f"{NET}?variant={name}")
