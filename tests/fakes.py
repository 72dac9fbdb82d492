"""A synthetic run with known truth, written through the real store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobench.schema import Cell, Measurement, Outcomes, Record, Ref
from zoobench.store import Run as Run
from zoobench.store import Store, load

LICENSES = ("Apache-2.0", "MIT", "CC-BY-NC-4.0")


def kept(*arrays: NDArray[Any]) -> Outcomes:
    """The outcomes of a classification: label, predicted, rank, nll, confidence, calibrated."""
    names = ("label", "predicted", "rank", "nll", "confidence", "calibrated")
    return Outcomes(len(arrays[0]), dict(zip(names, arrays, strict=True)))


def make_outcomes(right: NDArray[np.bool_], labels: NDArray[np.int32], classes: int) -> Outcomes:
    """Outcomes that are right exactly where `right` (N,) says."""
    wrong = (labels + 1) % classes
    confidence = np.where(right, 0.9, 0.6).astype(np.float32)
    return kept(
        labels.astype(np.int32),
        np.where(right, labels, wrong).astype(np.int32),
        np.where(right, 0, 1).astype(np.int32),
        np.where(right, -np.log(0.9), -np.log(0.3)).astype(np.float32),
        confidence,
        confidence,
    )


def make_record(
    model: str,
    dataset: str,
    method: str = "linear-probe",
    *,
    right: NDArray[np.bool_] | None = None,
    seed: int = 0,
    shots: int | None = None,
    size: int = 1,
    **changes: Any,
) -> Record:
    """An ok record whose accuracy is the mean of `right` (N,); `size` scales its costs."""
    n = 0 if right is None else len(right)
    value = 0.0 if right is None else float(right.mean())
    spread = 1.96 * float(np.sqrt(value * (1 - value) / max(n, 1)))
    control = model.startswith("control/")
    quality = (
        Measurement(
            "accuracy", value, "", "higher", max(value - spread, 0), min(value + spread, 1), n
        ),
        Measurement("nll", 1.2 - value, "nat", "lower", n=n),
        Measurement("train_accuracy", min(1.0, value + 0.02), "", "none"),
    )
    costs = (
        Measurement("params", 1e6 * size, "", "lower"),
        Measurement("weights_bytes", 4e6 * size, "B", "lower"),
        Measurement("feature_dim", 64.0, "", "none"),
        Measurement("macs", 3e7 * size, "MAC", "lower"),
        Measurement("flops", 6e7 * size, "FLOP", "lower"),
        Measurement("latency_ms_p50", 2.0 + size, "ms", "lower"),
        Measurement("peak_memory_bytes", 1e7 * size, "B", "lower"),
        Measurement("extract_seconds", 0.5 * size, "s", "lower"),
        Measurement("fit_seconds", 0.2, "s", "lower"),
        Measurement("total_seconds", 1.0 + size, "s", "lower"),
    )
    ref = Ref.parse(model)
    fields: dict[str, Any] = {
        "status": "ok",
        "measurements": quality if control else quality + costs,
        "provenance": {
            "splits": {
                name: f"{Ref.parse(dataset).name}-{name}" for name in ("train", "valid", "test")
            },
            "sizes": {"train": 4 * n, "valid": n // 2, "test": n},
            "classes": 10,
            "nature": "real",
            "model": {
                "license": LICENSES[len(ref.name) % len(LICENSES)],
                "family": ref.name.rstrip("0123456789"),
                "pretrained_on": "imagenet-1k",
            },
        },
        "environment": {"device": "cpu", "device_name": "Test CPU", "threads": 2},
        "started": "2025-01-01T00:00:00+00:00",
        "seconds": 1.0 + size,
    }
    versions = {"protocol": 1, "task": 1, "dataset": 1, "method": 1, "precision": "fp32"}
    cell = Cell(ref, Ref.parse(dataset), method, {"k": 10}, seed, shots, versions)
    return Record(cell, **{**fields, **changes})


def failed_record(model: str, dataset: str, status: str, message: str, method: str) -> Record:
    return make_record(
        model,
        dataset,
        method,
        status=status,
        measurements=(),
        provenance={},
        error={"message": message, "detail": ""},
    )


def outcomes(
    truth: Mapping[str, float], n: int, rng: np.random.Generator, correlation: float = 0.7
) -> dict[str, NDArray[np.bool_]]:
    """model -> (N,) right or wrong, with chance truth[model], correlated through the example."""
    from scipy.stats import norm

    shared = rng.standard_normal(n)
    found = {}
    for model, p in truth.items():
        own = rng.standard_normal(n)
        mixed = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
        found[model] = mixed < norm.ppf(p)
    return found


def make_run(
    path: Path,
    models: Sequence[str],
    datasets: Sequence[str],
    truth: Mapping[tuple[str, str], float] | Mapping[str, float],
    seed: int = 0,
    *,
    methods: Sequence[str] = ("linear-probe",),
    seeds: int = 1,
    n: int = 400,
    controls: bool = True,
    failures: Mapping[tuple[str, str], tuple[str, str]] | None = None,
) -> Run:
    """A run directory in which `truth` (by model, or by (model, dataset)) is each accuracy.

    The k-th model costs k + 1 units. `failures` maps (model, dataset) to (status,
    message). With `controls`: chance, majority, raw input (50%) and every model's
    random weights (40%).
    """
    rng = np.random.default_rng(seed)
    lost = failures or {}
    known: Mapping[Any, float] = truth
    with Store(path, 'name = "fake"\nidentity = "fake"\n', "fake") as store:
        for dataset in datasets:
            labels = rng.integers(0, 10, n).astype(np.int32)
            for method in methods:
                for draw in range(seeds):
                    chances = {m: known.get((m, dataset), known.get(m, 0.5)) for m in models}
                    random = {str(Ref.parse(m).with_options(weights="random")): 0.4 for m in models}
                    every = {**chances, **random} if controls else chances
                    for model, right in outcomes(every, n, rng).items():
                        size = 1 + [Ref.parse(m).id for m in models].index(Ref.parse(model).id)
                        fault = lost.get((model, dataset))
                        if fault:
                            store.append(failed_record(model, dataset, *fault, method))
                            continue
                        record = make_record(
                            model, dataset, method, right=right, seed=draw, size=size
                        )
                        store.append(record, make_outcomes(right, labels, 10))
            if controls:
                levels = {"chance": 0.1, "majority": 0.12, "raw-input": 0.5}
                for name, right in outcomes(levels, n, rng).items():
                    record = make_record(f"control/{name}", dataset, name, right=right)
                    store.append(record, make_outcomes(right, labels, 10))
        store.write_environment({"device_name": "Test CPU", "torch": "2.15"})
    return load(path)
