"""What the harness costs over a plain script, and how it bears 10,000 cells.

    python benchmarks/bench_engine.py [--repeats 5] [--cells 10000]

First: the cells of a small suite by a plain script (one process, nothing kept), and by
`session`'s own path: worker processes, heartbeats, feature cache, records and predictions on the
disk. Both do the work whose results a user reads: load, features, adapt, predict, bootstrap
intervals, counted costs, transferability scores, the fixed probe batch. Neither measures latency,
throughput or memory, which take as long as they are given. Both must give the same predictions,
byte for byte. They take turns; CPU seconds count every process that was started, workers included.

Second: planning, appending and resuming a suite of trivial cells.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

SUITE = """
name = "overhead"
models = [
    "packaged/efficientnet-lite0?input_size=96", "packaged/efficientnet-lite1?input_size=96",
    "packaged/minilm-l6-v2?length=32", "packaged/minilm-l6-v2?length=24",
]
datasets = [
    "packaged/mnist-5k?max_train={train}&max_valid=200&max_test={test}",
    "packaged/word-polarity?max_train={train}&max_valid=200&max_test={test}",
]
methods = ["knn", "ridge", "linear-probe"]
controls = false
"""

SIDES = ("harness", "plain")

MANY = """
name = "many"
models = ["synthetic/gabor"]
datasets = ["synthetic/stripes"]
methods = ["knn"]
controls = false
shots = {shots}
draws = {draws}
"""


def plain(suite_file: str) -> dict[str, str]:
    """Predictions digest by cell, as a script without a harness would get them."""
    import torch

    from zoobench import datasets, methods, models
    from zoobench.costs import counted
    from zoobench.features import fingerprint
    from zoobench.features.extraction import lay_out
    from zoobench.features.source import Features, View
    from zoobench.methods.transferability import foresee
    from zoobench.runs import planning, suite
    from zoobench.schema import digest
    from zoobench.store import pack
    from zoobench.tasks import task
    from zoobench.tasks.evaluate import evaluate, seed_for
    from zoobench.workers.runner import groups

    found = {}
    for group in groups(planning.plan(suite.read(suite_file))):
        ref = group[0].model
        backbone = models.load(ref)
        lay_out(backbone, "cpu")
        features = Features(backbone, View(str(ref)))
        counted.static_costs(backbone)
        fingerprint.fingerprint(features)
        splits = datasets.load(group[0].dataset)
        for cell in group:
            seed = int(digest([cell.key, "seed"], 8), 16)
            torch.manual_seed(seed)
            adapted = methods.build(cell.method, cell.params).adapt(features, splits, cell.seed)
            scores = adapted.predict(splits.test).numpy()
            asked = task(splits.task)
            calibration = (adapted.valid_scores.numpy(), splits.valid)
            outcomes = asked.judge(scores, splits.test, calibration)
            evaluate(asked, outcomes, splits, seed_for(cell.dataset, asked))
            found[cell.key] = hashlib.sha256(pack(outcomes)).hexdigest()[:16]
        foresee(features, splits.train)
    return found


def harnessed(suite_file: str) -> dict[str, str]:
    """The same by the harness, in a new run directory with an empty cache.

    Latency and throughput are not measured: they take as long as they are given.
    """
    from zoobench.runs import planning, session, suite
    from zoobench.store import Store
    from zoobench.workers.events import Finished
    from zoobench.workers.local import LocalEngine
    from zoobench.workers.runner import groups
    from zoobench.workers.settings import Settings

    spec = suite.read(suite_file)
    cells = planning.plan(spec)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(threads=1, cache=f"{folder}/features", measure_costs=False)
        engine = LocalEngine(settings, preload=session.preload(cells))
        with Store(Path(folder) / "run", suite.to_toml(spec), spec.identity) as store:
            store.write_environment(session.environment("cpu"))
            for event in engine.events(groups(cells)):
                if isinstance(event, Finished):
                    record = store.append(event.result.record, event.result.outcomes)
                    assert record.status == "ok", record.error
                    found[record.key] = record.predictions
    return found


def timed(side: str, suite_file: str) -> tuple[float, dict[str, str]]:
    """(CPU seconds, answers) of one fresh process and all that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, __file__, "--side", side, "--suite", suite_file]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    while True:  # the fork server outlives its parent for a moment; it is ours to wait for
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, json.loads(done.stdout.splitlines()[-1])


def overhead(repeats: int) -> None:
    """The harness's CPU time over the plain script's, taking turns."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "suite.toml"
        file.write_text(SUITE.format(train=100, test=100))
        timed("plain", str(file))  # files into the page cache
        file.write_text(SUITE.format(train=1000, test=400))
        rows: list[dict[str, float]] = []
        print(f"{'repeat':>6}" + "".join(f"{side + ' CPU s':>16}" for side in SIDES))
        for repeat in range(repeats):
            print(f"{repeat:>6}", end="", flush=True)
            cpu, found = {}, {}
            for side in SIDES:
                cpu[side], found[side] = timed(side, str(file))
                print(f"{cpu[side]:>16.2f}", end="", flush=True)
            assert found["harness"] == found["plain"], "other predictions"
            rows.append(cpu)
            print()
        ratio = statistics.median(cpu["harness"] / cpu["plain"] for cpu in rows)
        print(f"{len(found['plain'])} cells, same predictions; median ratio of CPU: {ratio:.3f}")


def measure(what: str, call: Callable[[], Any]) -> Any:
    """Run it once; print its CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    answer = call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"{what:<28} CPU {cpu:6.2f} s   wall {wall:6.2f} s", flush=True)
    return answer


def scale(count: int) -> None:
    """Plan, append, resume, guess: `count` cells with records as large as the runner's."""
    from zoobench.metrics import METRICS, measured
    from zoobench.runs import session, suite
    from zoobench.schema import Record
    from zoobench.store import RECORDS, Store

    draws = max(1, count // 10)
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "suite.toml", Path(folder) / "run"
        file.write_text(MANY.format(shots=list(range(1, 11)), draws=draws))
        options = session.RunOptions(out, device="cpu")
        spec = suite.read(str(file))
        made = measure(f"plan {10 * draws} cells", lambda: session.make_plan(spec, options))
        measure("predict their time", partial(session.predicted, made))
        numbers = tuple(
            measured(name, 0.5, low=0.4, high=0.6, n=100, detail={"resamples": 1000})
            for name in list(METRICS)[:28]
        )
        with Store(out, suite.to_toml(spec), spec.identity) as store:
            store.write_environment({})
            for tenth in range(10):
                part = made.cells[tenth * draws : (tenth + 1) * draws]
                cpu = time.process_time()
                for cell in part:
                    store.append(Record(cell, "ok", numbers, provenance={"sizes": {"test": 100}}))
                cpu = (time.process_time() - cpu) / draws
                print(f"  append, tenth {tenth + 1:>2}: {1e6 * cpu:7.0f} us of CPU a record")
        print(f"  records.jsonl: {(out / RECORDS).stat().st_size / 2**20:.0f} MiB")
        resumed = measure(
            "resume the finished run",
            lambda: session.execute(suite.read(str(file)), options, lambda plan, event: None),
        )
        assert not resumed.todo
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the parent: {peak:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--suite", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        answers = (harnessed if given.side == "harness" else plain)(given.suite)
        print(json.dumps(answers, sort_keys=True))
        return
    if given.cells:
        scale(given.cells)
    if given.repeats:
        overhead(given.repeats)


if __name__ == "__main__":
    main()
