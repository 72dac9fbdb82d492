"""Run directories for the tests of comparisons: every kind of record, without a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fakes import kept
from zoobench.schema import Cell, Measurement, Outcomes, Record, Ref
from zoobench.store import PREDICTIONS, pack
from zoobench.store import encode as encode_line

ENVIRONMENT = {
    "device": "cpu",
    "device_name": "EPYC",
    "threads": 2,
    "precision": "fp32",
    "torch": "2.15",
    "timm": "1.0.31",
}
MODEL = {
    "license": "Apache-2.0",
    "family": "efficientnet",
    "input_size": [3, 224, 224],
    "pooling": "avg",
    "weights": "w" * 16,
    "preprocessing": "spec",
    "probe_batch": 1,
    "pixels": {"digest": "pixels", "sketch": [1.0, -2.0, 3.0]},
    "features": {"sketch": [5.0, 0.5, -4.0]},
}
OTHER_PIXELS = {"digest": "other", "sketch": [1.1, -2.0, 3.0]}
OTHER_FEATURES = {"sketch": [5.0, 1.5, -4.0]}
ROUNDED_FEATURES = {"sketch": [5.0, 0.500002, -4.0]}
COSTS = {"params": 4_652_008.0, "macs": 4e8, "weights_bytes": 18e6, "feature_dim": 1280.0}
LITE0 = "packaged/efficientnet-lite0@0.1.0"
MNIST = "packaged/mnist-5k@1"


def answers(n: int, wrong: Sequence[int] | NDArray[np.intp] = (), classes: int = 10) -> Outcomes:
    """N examples, right but for the rows in `wrong`."""
    label = (np.arange(n) % classes).astype(np.int32)
    predicted, rank = label.copy(), np.zeros(n, dtype=np.int32)
    rows = np.asarray(wrong, dtype=np.intp)
    predicted[rows] = (label[rows] + 1) % classes
    rank[rows] = 1
    nll = np.where(rank > 0, 2.0, 0.1).astype(np.float32)
    sure = np.full(n, 0.9, dtype=np.float32)
    return kept(label, predicted, rank, nll, sure, sure)


def record(
    predictions: Outcomes | None = None,
    *,
    model: str = LITE0,
    dataset: str = MNIST,
    method: str = "knn",
    seed: int = 0,
    status: str = "ok",
    **changes: Any,
) -> tuple[Record, Outcomes | None]:
    """A record and its arrays. `changes`: params, versions, costs, model_facts, environment,
    splits, latency (ms samples), memory, error, started, nll."""
    versions = {"protocol": 1, "task": 1, "dataset": 1, "method": 1, "precision": "fp32"}
    cell = Cell(
        Ref.parse(model), Ref.parse(dataset), method, changes.get("params", {"k": 10}), seed,
        versions=versions | changes.get("versions", {}),
    )  # fmt: skip
    measured: list[Measurement] = []
    if predictions is not None:
        n = len(predictions.arrays["label"])
        accuracy = float((predictions.arrays["predicted"] == predictions.arrays["label"]).mean())
        measured.append(Measurement("accuracy", changes.get("accuracy", accuracy), n=n))
        nll = float(predictions.arrays["nll"].mean())
        measured.append(Measurement("nll", nll, "nats", "lower", n=n))
    costs = COSTS | changes.get("costs", {})
    measured += [Measurement(name, value, "", "lower") for name, value in costs.items()]
    detail = {"device": "cpu", "dtype": "float32", "threads": 2, "batch": 1}
    samples = changes.get("latency", [10.0, 10.1, 9.9, 10.05, 9.95])
    middle = float(np.median(samples))
    timed = Measurement(
        "latency_ms_p50", middle, "ms", "lower", detail={**detail, "samples_ms": list(samples)}
    )
    memory = float(changes.get("memory", 200 * 2**20))
    measured += [timed, Measurement("peak_memory_bytes", memory, "bytes", "lower", detail=detail)]
    provenance = {
        "splits": {"train": "t1", "valid": "v1", "test": f"s1 of {cell.dataset.short}"}
        | changes.get("splits", {}),
        "sizes": {"test": 0 if predictions is None else len(predictions.arrays["label"])},
        "classes": 10,
        "model": MODEL | changes.get("model_facts", {}),
    }
    ok = status == "ok"
    found = Record(
        cell, status, tuple(measured) if ok else (),
        environment=ENVIRONMENT | changes.get("environment", {}), provenance=provenance,
        started=changes.get("started", "2026-01-01T00:00:00+00:00"),
        error=None if ok else {"message": changes.get("error", "killed")},
    )  # fmt: skip
    return found, predictions if ok else None


@dataclass
class Folder:
    """Writes a run directory; `line` appends any text to records.jsonl."""

    path: Path
    suite: str = "smoke"
    lines: list[str] = field(default_factory=list)

    def add(self, found: tuple[Record, Outcomes | None], keep: bool = True) -> Folder:
        one, arrays = found
        if arrays is not None:
            blob = pack(arrays)
            import hashlib

            one = dataclasses.replace(one, predictions=hashlib.sha256(blob).hexdigest()[:16])
            if keep:
                (self.path / PREDICTIONS).mkdir(parents=True, exist_ok=True)
                (self.path / PREDICTIONS / f"{one.key}.npz").write_bytes(blob)
        self.lines.append(encode_line(one).decode())
        return self

    def write(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "records.jsonl").write_text("".join(self.lines), encoding="utf-8")
        if self.suite:
            (self.path / "suite.toml").write_text(f'name = "{self.suite}"\n', encoding="utf-8")
        return self.path
