"""How long two runs of 100,000 records take to compare, and how much memory.

    python benchmarks/bench_compare.py [RECORDS] [--changed 1000]

Each side's records name 200 models, 50 datasets and 10 few-shot draws; `--changed` of the
candidate's cells have other predictions (1,000 examples each) than the baseline's.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import resource
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from zoobench.analysis.compare import compare, load_both
from zoobench.analysis.compare_baseline import propose
from zoobench.report import gate
from zoobench.schema import Cell, Measurement, Predictions, Record
from zoobench.store import encode, no_collection, pack_predictions

EXAMPLES = 1000
ENVIRONMENT = {
    "device": "cpu", "device_name": "AMD EPYC", "threads": 2, "precision": "fp32",
    "python": "3.11.9", "torch": "2.15.0", "zoobench": "0.1.0",
}  # fmt: skip
QUALITY = (
    "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "nll", "ece",
    "ece_calibrated",
)  # fmt: skip


def records(count: int) -> Iterator[Record]:
    """`count` records of the size that the runner writes, costs and samples included."""
    for i in range(count):
        model, rest = divmod(i, max(1, count // 200))
        dataset, variant = rest % 50, rest // 50
        cell = Cell(
            f"timm/model-{model}@1", f"hf/dataset-{dataset}@1", "linear-probe",
            {"decades": 11, "points": 40}, variant, 16,
            versions={"protocol": 1, "task": 1, "dataset": 1, "method": 1, "precision": "fp32"},
        )  # fmt: skip
        measured = [
            Measurement(
                q,
                0.7 + 0.001 * (i * k % 251),
                "fraction",
                "higher",
                n=EXAMPLES,
                low=0.68,
                high=0.98,
                detail={"resamples": 1000},
            )
            for k, q in enumerate(QUALITY, 7)
        ]
        for name in ("params", "macs", "weights_bytes", "feature_dim"):
            measured.append(Measurement(name, float(1_000_000 + model), better="lower"))
        samples = {"samples_ms": [3.0 + 0.01 * k for k in range(40)], "batch": 1, "threads": 2}
        measured.append(Measurement("latency_ms_p50", 3.2, "ms", "lower", detail=samples))
        provenance = {
            # A few-shot draw has a train split of its own: no two tables of a model are equal.
            "splits": {"train": f"{i:016x}", "valid": "b" * 16, "test": f"{dataset:016x}"},
            "sizes": {"train": 160, "valid": 1000, "test": EXAMPLES},
            "classes": 10,
            "model": {
                "license": "MIT", "family": "resnet", "input_size": [3, 224, 224],
                "weights": f"{model:064x}", "preprocessing": "e" * 16, "probe_batch": 1,
                "pixels": {"digest": "f" * 16, "sketch": [0.1234567 * k for k in range(16)]},
                "features": {"sketch": [model + 0.1234567 * k for k in range(16)]},
            },
        }  # fmt: skip
        yield Record(
            cell, "ok", tuple(measured), {"lambda": 0.1}, f"{i:016x}", environment=ENVIRONMENT,
            provenance=provenance, started="2026-01-01T00:00:00+00:00", seconds=1.0,
        )  # fmt: skip


def answers(rng: np.random.Generator, accuracy: float) -> Predictions:
    label = (np.arange(EXAMPLES) % 10).astype(np.int32)
    rank = (rng.random(EXAMPLES) > accuracy).astype(np.int32)
    sure = rng.random(EXAMPLES).astype(np.float32)
    predicted = ((label + rank) % 10).astype(np.int32)
    return Predictions(label, predicted, rank, sure, sure, sure)


def write(folder: Path, count: int, changed: int, seed: int) -> None:
    """A run directory; the `changed` records' predictions depend on `seed`."""
    (folder / "predictions").mkdir(parents=True)
    every = max(1, count // changed) if changed else count + 1
    rng = np.random.default_rng(seed)
    with (folder / "records.jsonl").open("wb") as lines:
        for i, record in enumerate(records(count)):
            if i % every == 0 and changed:
                blob = pack_predictions(answers(rng, 0.9))
                stamp = hashlib.sha256(blob).hexdigest()[:16]
                record = dataclasses.replace(record, predictions=stamp)
                (folder / "predictions" / f"{record.key}.npz").write_bytes(blob)
            lines.write(encode(record))


def measure(base: str, candidate: str, changed: int) -> None:
    """Compare the two sides, as the command does, and print what each part took."""
    sides = Path(base), Path(candidate)
    size = (sides[0] / "records.jsonl").stat().st_size / 2**20
    with no_collection():  # as the command has it
        clocks = [(time.perf_counter(), time.process_time())]

        def lap() -> None:
            clocks.append((time.perf_counter(), time.process_time()))

        loaded = load_both(*sides)
        lap()
        found = compare(*loaded)
        lap()
        gate.write(found, sides[1] / "gate")
        lap()
        propose(loaded[1], loaded[0], "bench", sides[1] / "gate" / "baseline")
        lap()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(loaded[0].records):,} records a side of {size:.0f} MiB, {changed:,} changed")
    for part, one, other in zip(
        ("load", "compare", "write the verdicts", "propose a baseline"),
        clocks, clocks[1:], strict=False,
    ):  # fmt: skip
        print(f"{part:20} {other[0] - one[0]:5.1f} s, processor {other[1] - one[1]:5.1f} s")
    print(f"load and compare     {clocks[2][0] - clocks[0][0]:5.1f} s; peak memory {peak:.2f} GiB")
    print({name: count for name, count in found.counts.items() if count})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("records", nargs="?", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sides = [str(Path(scratch, name)) for name in ("baseline", "candidate")]
        for seed, side in enumerate(sides):
            write(Path(side), options.records, options.changed, seed)
        # In a process of its own, as a user's: what made the records leaves its heap in pieces.
        child = get_context("spawn").Process(target=measure, args=(*sides, options.changed))
        child.start()
        child.join()
    raise SystemExit(child.exitcode)


if __name__ == "__main__":
    main()
