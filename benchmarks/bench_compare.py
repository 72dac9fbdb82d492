"""How long `zoobench compare` takes over two large runs, and how much memory.

    python benchmarks/bench_compare.py [RECORDS ...] [--changed 1]

The bars: 10,000 records a side within 5 s and 500 MB, 100,000 within 60 s and 3 GiB, for the
whole command, which writes the verdicts and the proposed baseline too. Each side's records
name 200 models, 50 datasets and 10 few-shot draws; `--changed` of the candidate's cells have
other predictions (1,000 examples each) than the baseline's. A record is as long as the runner
writes one with all costs, and its numbers are its own: 7 kB.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from zoobench.schema import Cell, Measurement, Outcomes, Record, Ref
from zoobench.store import encode, pack

BARS = {10_000: (5.0, 500e6), 100_000: (60.0, 3 * 2**30)}
"""Records a side -> (seconds, bytes)."""
EXAMPLES = 1000
ENVIRONMENT = {
    "device": "cpu", "device_name": "AMD EPYC", "threads": 2, "workers": 1, "precision": "fp32",
    "python": "3.11.9", "torch": "2.15.0", "zoobench": "0.1.0",
}  # fmt: skip
QUALITY = (
    "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "nll", "ece",
    "ece_calibrated",
)  # fmt: skip
COUNTS = ("params", "weights_bytes", "feature_dim", "macs", "flops")
SECONDS = ("fit_seconds", "predict_seconds", "extract_seconds", "total_seconds")
SOLVED = (
    "train_accuracy", "valid_nll", "valid_accuracy", "iterations", "path_points", "grid_extended",
    "objective", "relative_gradient_norm", "relative_gap", "valid_relative_gap",
    "trainable_params", "logme", "h_score", "transrate", "leep", "nce",
)  # fmt: skip


def quality(rng: np.random.Generator) -> Iterator[Measurement]:
    """Of one cell, with intervals; accuracies are counts."""
    widths = (rng.random((8, 2)) / 30).tolist()
    for name, value, width in zip(QUALITY, rng.random(8).tolist(), widths, strict=True):
        near = round(value, 3) if name == "accuracy" else value
        yield Measurement(
            name, near, "fraction", "higher", near - width[0], near + width[1], EXAMPLES,
            {"resamples": 1000},
        )  # fmt: skip


def costs(model: int, side: int) -> Iterator[Measurement]:
    """Of one model: counts are the same in both runs, times were measured in each."""
    how = {"counter": "zoobench 1", "convention": "1 MAC = 2 FLOPs", "attention": "none"}
    for name in COUNTS:
        detail = {"input_shape": [1, 3, 224, 224], **how} if name in ("macs", "flops") else {}
        yield Measurement(name, float(1_000_000 + model), better="lower", detail=detail)
    rng = np.random.default_rng((model, side))
    setting = {
        "device": "cpu", "dtype": "float32", "layout": "channels_last", "threads": 2, "batch": 1,
    }  # fmt: skip
    for name, unit, samples in (
        ("latency_ms_p50", "ms", 40), ("latency_ms_p95", "ms", 0), ("throughput", "examples/s", 72),
    ):  # fmt: skip
        taken = {"samples_ms": (10 + rng.random(samples)).round(2).tolist()} if samples else {}
        detail = {**setting, **taken, "warmups": 10, "spread": 0.0655, "noisy": False}
        better = "higher" if name == "throughput" else "lower"
        yield Measurement(name, 10 + float(rng.random()), unit, better, 10.0, 11.0, 40, detail)
    peak = {**setting, "how": "VmHWM, reset before", "over": "memory with the model loaded"}
    yield Measurement("peak_memory_bytes", 25e6 + model, "bytes", "lower", detail=peak)


def provenance(model: int, dataset: int, variant: int) -> dict[str, object]:
    return {
        "nature": "real",
        "classes": 10,
        "model": {
            "license": "Apache-2.0", "family": "resnet", "pretrained_on": "ImageNet-1k",
            "modality": "image", "pooling": "avg", "input_size": [3, 224, 224],
            "preprocessing": "e" * 16, "state": f"{model:032x}", "weights": "pretrained",
            "weights_sha256": f"{model:064x}",
            "file": f"resnet-{model:08x}.pth", "parameters": 1_000_000 + model,
            "libraries": {"torch": "2.15.0", "pillow": "13.0.0", "timm": "1.0.31"},
            "probe_batch": 1,
            "pixels": {"digest": "f" * 16, "sketch": [0.1234567 * k for k in range(16)]},
            "features": {"sketch": [model + 0.1234567 * k for k in range(16)]},
        },
        # A few-shot draw has a train split of its own: no two tables of a model are equal.
        "splits": {
            "train": f"{10 * dataset + variant:016x}", "valid": "b" * 16, "test": f"{dataset:016x}",
        },
        "sizes": {"train": 160, "valid": 1000, "test": EXAMPLES},
        "notes": {},
    }  # fmt: skip


def records(total: int, side: int) -> Iterator[Record]:
    """`total` records as the runner writes them."""
    for i in range(total):
        model, rest = divmod(i, max(1, total // 200))
        dataset, variant = rest % 50, rest // 50
        cell = Cell(
            Ref("timm", f"model-{model}", "1"), Ref("hf", f"dataset-{dataset}", "1"),
            "linear-probe", {"lambdas": 45, "decades": 11.0, "refit": True}, variant, 16,
            versions={"protocol": 1, "task": 1, "dataset": 1, "method": 1, "precision": "fp32"},
        )  # fmt: skip
        # Answers are the same in both runs, what a clock said isn't.
        own, clock = np.random.default_rng(i), np.random.default_rng((i, side))
        took = clock.random(5).round(6).tolist()
        measured = (
            *quality(own),
            Measurement("load_seconds", took[4], "s", "lower"),
            *costs(model, side),
            *(Measurement(n, t, "s", "lower") for n, t in zip(SECONDS, took, strict=False)),
            *(
                Measurement(n, v)
                for n, v in zip(SOLVED, own.random(len(SOLVED)).tolist(), strict=True)
            ),
        )
        yield Record(
            cell, "ok", measured, {"lambda": 0.03162277660168379}, f"{i:016x}",
            ("derived-test", "derived-valid"), ENVIRONMENT, provenance(model, dataset, variant),
            f"2026-01-0{side + 1}T00:{i // 60 % 60:02}:{i % 60:02}+00:00", took[3],
        )  # fmt: skip


def answers(rng: np.random.Generator, accuracy: float) -> Outcomes:
    label = (np.arange(EXAMPLES) % 10).astype(np.int32)
    rank = (rng.random(EXAMPLES) > accuracy).astype(np.int32)
    sure = rng.random(EXAMPLES).astype(np.float32)
    predicted = ((label + rank) % 10).astype(np.int32)
    arrays = {"label": label, "predicted": predicted, "rank": rank}
    return Outcomes(EXAMPLES, {**arrays, "nll": sure, "confidence": sure, "calibrated": sure})


def write(folder: Path, total: int, changed: int, side: int) -> None:
    """A run directory; the `changed` records' predictions depend on `side`."""
    (folder / "predictions").mkdir(parents=True)
    every = max(1, total // changed) if changed else total + 1
    rng = np.random.default_rng(side)
    with (folder / "records.jsonl").open("wb") as lines:
        for i, record in enumerate(records(total, side)):
            if i % every == 0 and changed:
                kept = answers(rng, 0.9)
                blob = pack(kept)
                stamp = hashlib.sha256(blob).hexdigest()[:16]
                right = float((kept.arrays["rank"] == 0).mean())
                first = dataclasses.replace(record.measurements[0], value=right)
                measured = (first, *record.measurements[1:])
                record = dataclasses.replace(record, predictions=stamp, measurements=measured)
                (folder / "predictions" / f"{record.key}.npz").write_bytes(blob)
            lines.write(encode(record))


def command(base: Path, candidate: Path) -> tuple[float, float, float]:
    """Seconds, the processor's, and peak bytes of a `zoobench compare` of its own."""
    asked = [sys.executable, "-m", "zoobench", "compare", str(base), str(candidate)]
    start = time.perf_counter()
    process = subprocess.Popen(asked, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"zoobench compare ended with status {status}")
    spent = used.ru_utime + used.ru_stime
    return time.perf_counter() - start, spent, used.ru_maxrss * 1024


def measure(total: int, changed: int) -> None:
    """Two runs of `total` records: made, compared, and held to their bar."""
    with tempfile.TemporaryDirectory() as scratch:
        sides = Path(scratch, "baseline"), Path(scratch, "candidate")
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(write, sides, [total] * 2, [changed] * 2, range(2)))
        size = (sides[0] / "records.jsonl").stat().st_size / 2**20
        seconds, spent, peak = command(*sides)
    told = f"{total:,} records a side of {size:.0f} MiB, {changed:,} changed: "
    told += f"{seconds:.1f} s ({spent:.1f} of a processor), {peak / 2**20:.0f} MiB"
    if total in BARS:
        most, memory = BARS[total]
        kept = seconds <= most and peak <= memory
        told += f"; bar {most:.0f} s, {memory / 2**20:.0f} MiB: {'kept' if kept else 'MISSED'}"
    print(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("records", nargs="*", type=int, default=list(BARS))
    parser.add_argument("--changed", type=int, default=1)
    options = parser.parse_args()
    for total in options.records:
        measure(total, total * options.changed // 100)


if __name__ == "__main__":
    main()
