"""From nothing to a table: a suite against the script that one writes from the documentation.

    python benchmarks/bench_suite.py [--size 64] [--written] [--ours]

Three packaged models, MNIST-5k, the linear probe over 45 lambdas. The script is timm's loop
(create_model, its transform, DataLoader, no_grad) and scikit-learn's LogisticRegression for
45 values of C, the best by validation NLL, refitted on train + valid. Both read the same
pictures, splits and weights, start cold in a process of their own, and end with a table;
ours also counts what each model costs, scores its transfer, and writes records and a report;
costs are not timed, since the script times none, so a worker a core does no harm. The script
runs with its best threads (two for the network, one for scikit-learn, found beforehand) and,
with `--written`, as written. Pictures are 28 pixels wide and are read at 64: at 224 the script
needs an hour. Times are wall seconds: leave both cores to it. Last, the command line against
`python -c pass`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MODELS = {f"efficientnet-lite{i}": f"tf_efficientnet_lite{i}" for i in range(3)}
DATASET = "packaged/mnist-5k"

SUITE = """
name = "bench"
precision = "fp32"
models = {models}
datasets = ["{dataset}"]
methods = ["linear-probe"]
controls = false
limits = {{ cost_seconds = 0 }}
"""

SCRIPT = """
import contextlib
import sys

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from timm.data import create_transform, resolve_model_data_config
from torch.utils.data import DataLoader, Dataset

folder, size, threads = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if threads == "best":
    from threadpoolctl import threadpool_limits
    one_thread = threadpool_limits
else:
    one_thread = lambda limits: contextlib.nullcontext()
data = np.load(f"{folder}/data.npz")


class Pictures(Dataset):
    def __init__(self, pixels, transform):
        self.pixels, self.transform = pixels, transform

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.pixels[i]))


for name in sys.argv[4:]:
    model = timm.create_model(name, num_classes=0).eval()
    model.load_state_dict(torch.load(f"{folder}/{name}.pth", weights_only=True))
    config = resolve_model_data_config(model)
    transform = create_transform(**{**config, "input_size": (3, size, size)}, is_training=False)
    x, y = {}, {}
    with torch.no_grad():
        for split in ("train", "valid", "test"):
            loader = DataLoader(Pictures(data[f"{split}_x"], transform), batch_size=64)
            x[split] = torch.cat([model(batch) for batch in loader]).numpy()
            y[split] = data[f"{split}_y"]
    scaler = StandardScaler().fit(x["train"])
    x = {split: scaler.transform(rows) for split, rows in x.items()}
    with one_thread(1):
        best, chosen = float("inf"), None
        for C in np.logspace(-6, 5, 45):
            probe = LogisticRegression(C=C, max_iter=1000).fit(x["train"], y["train"])
            loss = log_loss(y["valid"], probe.predict_proba(x["valid"]))
            if loss < best:
                best, chosen = loss, C
        probe = LogisticRegression(C=chosen, max_iter=1000).fit(
            np.concatenate([x["train"], x["valid"]]), np.concatenate([y["train"], y["valid"]])
        )
        print(name, probe.score(x["test"], y["test"]), flush=True)
"""


def prepare(folder: Path) -> None:
    """The pictures of each split and the weights, as the script reads them; not timed."""
    import torch

    from zoobench import datasets, models

    splits = datasets.load(datasets.resolve(DATASET))
    arrays = {}
    from zoobench.tasks.classification import labels_of

    for split in (splits.train, splits.valid, splits.test):
        pixels = np.stack([np.asarray(split.read(i)) for i in range(len(split))])
        arrays[f"{split.name}_x"], arrays[f"{split.name}_y"] = pixels, labels_of(split)
    np.savez(folder / "data.npz", **arrays)
    for name, architecture in MODELS.items():
        module = models.load(models.resolve(f"packaged/{name}")).module
        torch.save(module.state_dict(), folder / f"{architecture}.pth")
    (folder / "script.py").write_text(SCRIPT)


def timed(command: list[str], **environment: str) -> tuple[float, float, str]:
    """(wall seconds, CPU seconds of all its processes, standard output)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def ours(
    folder: Path, size: int, cache: str, out: str, workers: int = 1
) -> tuple[float, dict[str, float], str]:
    """(wall, accuracy by model, where the time went) of one run with a cache below `folder`."""
    names = [f"packaged/{name}?input_size={size}" for name in MODELS]
    suite = folder / "suite.toml"
    suite.write_text(SUITE.format(models=json.dumps(names), dataset=DATASET))
    command = [sys.executable, "-m", "zoobench", "run", str(suite), "--out", str(folder / out)]
    command += ["--device", "cpu", "--workers", str(workers)]
    wall, _, _ = timed(command, ZOOBENCH_CACHE=str(folder / cache))
    accuracy, stages = {}, {"extract_seconds": 0.0, "fit_seconds": 0.0, "load_seconds": 0.0}
    cells = 0.0
    for line in (folder / out / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["status"] == "ok", record
        assert "not-converged" not in record.get("flags", []), record["flags"]
        values = {m["metric"]: m["value"] for m in record["measurements"]}
        name = re.sub(r".*/|@.*", "", record["cell"]["model"])
        accuracy[MODELS[name]] = values["accuracy"]
        cells += record["seconds"]
        for stage in stages:
            stages[stage] += values.get(stage, 0.0)
    shown = ", ".join(f"{k.removesuffix('_seconds')} {v:.1f}" for k, v in stages.items())
    return wall, accuracy, f"cells {cells:.1f} s: {shown}"


def users(folder: Path, size: int, threads: str) -> tuple[float, dict[str, float]]:
    command = [sys.executable, str(folder / "script.py"), str(folder), str(size), threads]
    wall, _, printed = timed([*command, *MODELS.values()])
    pairs = [line.split() for line in printed.splitlines()]
    return wall, {name: float(value) for name, value in pairs}


def command_line(repeats: int = 7) -> list[str]:
    """Medians of CPU seconds, as ratios to an interpreter that does nothing; interleaved."""
    contestants = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "zoobench --help": [sys.executable, "-m", "zoobench", "--help"],
        "zoobench list models 'resnet*'": [
            sys.executable, "-m", "zoobench", "list", "models", "resnet*",
        ],
    }  # fmt: skip
    for command in contestants.values():
        timed(command)  # the index is built, the files are in memory
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, command in contestants.items():
            runs[name].append(timed(command)[:2])
    middle = {
        n: [statistics.median(r[i] for r in found) for i in (0, 1)] for n, found in runs.items()
    }
    base = middle["python -c pass"][1]
    lines = [f"  {'':44}{'wall ms':>9}{'CPU ms':>9}{'ratio':>8}"]
    for name, (wall, cpu) in middle.items():
        lines.append(f"  {name:44}{1000 * wall:>9.0f}{1000 * cpu:>9.0f}{cpu / base:>8.1f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="pictures' size in pixels")
    parser.add_argument("--written", action="store_true", help="the script as written, too")
    parser.add_argument("--ours", action="store_true", help="neither of the script's runs")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        workers = os.cpu_count() or 1
        cold = ours(folder, asked.size, "one", "cold")
        warm = ours(folder, asked.size, "one", "warm")
        more = ours(folder, asked.size, "more", "cold-more", workers)
        more_warm = ours(folder, asked.size, "more", "warm-more", workers)
        assert cold[1] == warm[1] == more[1] == more_warm[1], "caches and workers change nothing"
        rows = [
            ("zoobench run, cold", *cold[:2]),
            ("  features cached", *warm[:2]),
            (f"zoobench run --workers {workers}, cold", *more[:2]),
            ("  features cached", *more_warm[:2]),
        ]
        kinds = [] if asked.ours else ["best", "written"] if asked.written else ["best"]
        for kind in kinds:
            label = "script, best threads" if kind == "best" else "script as written"
            rows.append((label, *users(folder, asked.size, kind)))
    print(f"{os.cpu_count()} cores; accuracy by model: " + ", ".join(MODELS))
    print(f"  {'':31}{'accuracy':>22}{'wall s':>9}{'ratio':>7}")
    for label, wall, accuracy in rows:
        shown = " ".join(f"{accuracy[a]:.3f}" for a in MODELS.values())
        print(f"  {label:31}{shown:>22}{wall:>9.1f}{wall / cold[0]:>7.1f}")
    print(f"  cold: {cold[2]}")
    print(f"  warm: {warm[2]}")
    print("\n".join(command_line()), flush=True)


if __name__ == "__main__":
    main()
