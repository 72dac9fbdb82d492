"""The linear probe's path against scikit-learn; equality first, then the ratio.

    python benchmarks/bench_probe.py [--only NAME] [--repeats N]

Each side has one thread (scikit-learn with two was 4 to 20 times slower on fits of this size),
gets the same train features, and is timed in CPU seconds of the process, interleaved.
`LogisticRegressionCV` is as documented: 10 strengths by 5 folds of train + valid. The cold
grid is the loop that users write: 45 lambdas at tol 1e-6, the best by validation NLL, a refit.

The slow ones are timed in part and scaled: of the grid every k-th lambda, our choice among
them, and of the 5 folds the first, without the refit. The table says how many.

`gap` is the worst and the median distance to the optimum over the timed lambdas down to a
decade below our choice, relative, against the lower bound of a float64 solution; ours is at
our choice, by its objective in float64. `NLL` is the validation NLL of the choice, `test` its
accuracy, refitted on train + valid.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoobench.solvers.basis import scaling
from zoobench.solvers.grid import grid
from zoobench.solvers.logistic import logistic_path
from zoobench.tasks.classification import Labels, labels_of

Array = NDArray[np.float32]
LAMBDAS = grid()
NEAR = 2
"""The reference NLL is the best of float64 solutions this many grid points around our choice."""
PARTS = {"digits": (5, 5), "mnist": (9, 1), "documents": (15, 1), "mixture": (9, 1),
         "flat": (9, 1)}  # fmt: skip
"""What is timed of the slow references: every k-th lambda of the grid, and folds of the 5."""


@dataclass(frozen=True)
class Data:
    name: str
    x: dict[str, Array]
    y: dict[str, NDArray[np.int64]]

    @property
    def classes(self) -> int:
        return int(self.y["train"].max()) + 1


@dataclass
class Outcome:
    """`heads` maps positions in the grid to (W, b) in standardised coordinates; `scaled` says
    of what part of the work `cpu` was computed, "" where all was done."""

    cpu: float
    nll: float
    accuracy: float
    heads: dict[int, tuple[Array, Array]]
    scaled: str = ""


def mixture(n: int = 12_000, d: int = 512, classes: int = 100) -> Data:
    """Gaussian classes in features whose variances fall as k^-1.2, as those of lite0 and MiniLM
    do (the 64th is 0.7 to 2% of the first); 70 / 10 / 20 per cent."""
    rng = np.random.default_rng(0)
    k = np.arange(1.0, d + 1.0)
    means = rng.standard_normal((classes, d)) * 0.8 * k**-0.85
    y = rng.permutation(np.arange(n) % classes)
    return cut("mixture", means[y] + rng.standard_normal((n, d)) * k**-0.6, y, (0.7, 0.8))


def flat(n: int = 12_000, d: int = 512, classes: int = 100) -> Data:
    """The same with variances all of one order: no network's features, and the easiest for
    scikit-learn, whose solver has no preconditioner."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((classes, d)) * np.linspace(0.36, 0.04, d)
    y = rng.permutation(np.arange(n) % classes)
    x = means[y] + rng.standard_normal((n, d)) * np.linspace(1.5, 0.2, d)
    return cut("flat", x, y, (0.7, 0.8))


def packaged(name: str, model: str, dataset: str) -> Data:
    """Features of a packaged model on a packaged dataset, through the product's own loaders."""
    from zoobench import datasets, models
    from zoobench.features.cache import FeatureCache
    from zoobench.features.source import Features, View
    from zoobench.machine import cache_dir

    ref = models.resolve(model)
    splits = datasets.load(datasets.resolve(dataset))
    source = Features(models.load(ref), View(str(ref)), FeatureCache(cache_dir() / "features"))
    parts = {s.name: s for s in (splits.train, splits.valid, splits.test)}
    names = dict(zip(("train", "valid", "test"), parts.values(), strict=True))
    x = {key: source.features(split).numpy() for key, split in names.items()}
    return Data(name, x, {key: labels_of(split) for key, split in names.items()})


def digits() -> Data:
    return packaged("digits", "packaged/efficientnet-lite0", "packaged/digits")


def mnist() -> Data:
    return packaged("mnist", "packaged/efficientnet-lite0", "packaged/mnist-5k")


LANGUAGES = (
    "am", "ar", "az", "be", "bg", "bn", "ca", "cs", "cy", "da", "de", "el", "en",
    "es", "et", "eu", "fa", "fi", "fr", "ga", "gu", "he", "hi", "hr", "hu", "hy",
    "id", "is", "it", "ja", "ka", "kk", "kn", "ko", "lt", "lv", "ml", "mr", "nl",
    "pl", "pt", "ro", "ru", "sk", "sl", "sv", "th", "tr", "uk", "vi",
)  # fmt: skip
PER_LANGUAGE = 240


def documents() -> Data:
    """CLDR's names of languages, countries, scripts, currencies and zones (Babel) in 50
    languages, embedded by the packaged MiniLM; the label is the language. Languages with
    fewer than 240 names of their own have fewer."""
    from babel import localedata

    from zoobench import models
    from zoobench.datasets.ids import text_id
    from zoobench.datasets.readers import Texts
    from zoobench.features.cache import FeatureCache
    from zoobench.features.source import Features, View
    from zoobench.interfaces import Split
    from zoobench.machine import cache_dir

    tables = ("languages", "territories", "scripts", "variants")
    known = {}
    for code in LANGUAGES:
        locale = localedata.load(code)
        names = {str(name) for table in tables for name in locale[table].values()}
        names |= {str(name) for name in locale["currency_names"].values()}
        zones = locale["time_zones"].values()
        names |= {str(zone["city"]) for zone in zones if "city" in zone}
        known[code] = {name for name in names if len(name) >= 2}
    shared = Counter(name for names in known.values() for name in names)
    pairs = [
        (name, label)
        for label, names in enumerate(known.values())
        for name in sorted(n for n in names if shared[n] == 1)
    ]
    kept: list[tuple[str, int]] = []
    count = Counter[int]()
    for i in np.random.default_rng(0).permutation(len(pairs)):
        name, label = pairs[i]
        if count[label] < PER_LANGUAGE:
            kept.append((name, label))
            count[label] += 1
    texts, labels = [name for name, _ in kept], np.asarray([label for _, label in kept])
    split = Split("train", tuple(map(text_id, texts)), Labels(labels), Texts(tuple(texts)))
    ref = models.resolve("packaged/minilm-l6-v2")
    source = Features(models.load(ref), View(str(ref)), FeatureCache(cache_dir() / "features"))
    return cut("documents", source.features(split).numpy(), labels, (0.72, 0.8))


def cut(name: str, x: Array, y: NDArray[np.int64], at: tuple[float, float]) -> Data:
    """Rows in order: train up to `at[0]` of them, valid up to `at[1]`, then test."""
    cuts = tuple(int(part * len(x)) for part in at)
    names = ("train", "valid", "test")
    xs = dict(zip(names, np.split(x.astype(np.float32), cuts), strict=True))
    ys = dict(zip(names, np.split(y.astype(np.int64), cuts), strict=True))
    return Data(name, xs, ys)


SETS: dict[str, Callable[[], Data]] = {
    "digits": digits, "mnist": mnist, "documents": documents, "mixture": mixture, "flat": flat,
}  # fmt: skip


def objective(w: Any, b: Any, z: Array, y: NDArray[np.int64], lam: float) -> float:
    """PROTOCOL section 2 in float64, for standardised z."""
    scores = torch.from_numpy(z).double() @ torch.as_tensor(w).double().t() + torch.as_tensor(b)
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(y))
    return float(loss + 0.5 * lam * torch.as_tensor(w).double().square().sum())


def evaluate(w: Any, b: Any, z: Array, y: NDArray[np.int64]) -> tuple[float, float]:
    """(NLL, accuracy)."""
    scores = torch.from_numpy(z).double() @ torch.as_tensor(w).double().t() + torch.as_tensor(b)
    truth = torch.from_numpy(y)
    hits = (scores.argmax(dim=1) == truth).double().mean()
    return float(torch.nn.functional.cross_entropy(scores, truth)), float(hits)


class Bench:
    """One data set, standardised once for the peers: not counted against them."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.scaling = scaling(torch.from_numpy(data.x["train"]))
        self.z = {k: self.scaling.apply(torch.from_numpy(v)).numpy() for k, v in data.x.items()}
        self.y = data.y

    def ours(self) -> tuple[Outcome, int]:
        """And the position of the choice in the grid."""
        x, y = self.data.x, self.y
        train, valid = torch.from_numpy(x["train"]), torch.from_numpy(x["valid"])
        labels, valid_labels = torch.from_numpy(y["train"]), torch.from_numpy(y["valid"])
        start = time.process_time()
        path = logistic_path(train, labels, valid, valid_labels, self.data.classes)
        cpu = time.process_time() - start
        assert path.fit.converged, "the certificate must hold before anything is timed"
        assert path.refit.converged, "the certificate must hold before anything is timed"
        test = path.refit.head.log_probs(torch.from_numpy(x["test"])).argmax(dim=1).numpy()
        spot = min(range(len(LAMBDAS)), key=lambda i: abs(math.log(LAMBDAS[i] / path.fit.lam)))
        head = path.fit.head
        w, b = head.weight.numpy(), head.bias.numpy()
        nll, _ = evaluate(w, b, self.z["valid"], y["valid"])
        return Outcome(cpu, nll, float((test == y["test"]).mean()), {spot: (w, b)}), spot

    def grid(self, every: int, spot: int) -> Outcome:
        """scikit-learn at every `every`-th lambda, `spot` among them; the sum is scaled."""
        from sklearn.linear_model import LogisticRegression

        def fit(x: Array, y: NDArray[np.int64], lam: float) -> tuple[Array, Array]:
            # scikit-learn sums the loss where we take its mean: C = 1 / (lambda n).
            model = LogisticRegression(C=1.0 / (lam * len(x)), tol=1e-6, max_iter=1000).fit(x, y)
            return model.coef_, model.intercept_

        positions = range(spot % every, len(LAMBDAS), every)
        nlls, heads = {}, {}
        start = time.process_time()
        for i in positions:
            heads[i] = fit(self.z["train"], self.y["train"], LAMBDAS[i])
            nlls[i], _ = evaluate(*heads[i], self.z["valid"], self.y["valid"])
        points = time.process_time() - start
        best = min(nlls, key=lambda i: nlls[i])
        refit = fit(*self.both(), LAMBDAS[best])
        cpu = time.process_time() - start - points + points * len(LAMBDAS) / len(positions)
        accuracy = evaluate(*refit, self.z["test"], self.y["test"])[1]
        scaled = f"{len(positions)} of {len(LAMBDAS)} lambdas"
        return Outcome(cpu, nlls[best], accuracy, heads, scaled)

    def both(self) -> tuple[Array, NDArray[np.int64]]:
        return (
            np.concatenate([self.z["train"], self.z["valid"]]),
            np.concatenate([self.y["train"], self.y["valid"]]),
        )

    def cross_validated(self, folds: int) -> Outcome:
        """LogisticRegressionCV on the first `folds` of 5 folds; with all 5 it refits, too."""
        from sklearn.linear_model import LogisticRegressionCV
        from sklearn.model_selection import StratifiedKFold

        x, y = self.both()
        cv = list(StratifiedKFold(5).split(x, y))[:folds]
        whole = folds == 5
        start = time.process_time()
        model = LogisticRegressionCV(
            Cs=10, max_iter=1000, scoring="neg_log_loss", cv=cv, refit=whole
        ).fit(x, y)
        cpu = (time.process_time() - start) * 5 / folds
        accuracy = evaluate(model.coef_, model.intercept_, self.z["test"], self.y["test"])[1]
        return Outcome(cpu, math.nan, accuracy, {}, "" if whole else f"{folds} of 5 folds")


def optima(bench: Bench, positions: list[int]) -> dict[int, tuple[float, float]]:
    """Position -> (a lower bound of the optimum, validation NLL), from float64 solutions.

    The same maths in float64, strong to weak, to a bound of 1e-5 or 600 evaluations.
    """
    from zoobench.solvers.basis import Scaling, eigenbasis
    from zoobench.solvers.lbfgs import Pairs, minimise
    from zoobench.solvers.softmax import SoftmaxProblem, certify

    z = torch.from_numpy(bench.z["train"]).double()
    y = torch.from_numpy(bench.y["train"])
    basis = eigenbasis(z, torch.float64)
    rows = torch.cat([torch.ones(len(z), 1, dtype=torch.float64), z @ basis.basis], dim=1)
    curvature = torch.cat([torch.ones(1, dtype=torch.float64), basis.eigenvalues])
    at = torch.zeros(bench.data.classes, rows.shape[1], dtype=torch.float64)
    pairs, found = Pairs(), {}
    plain = Scaling(z.new_zeros(z.shape[1]), 1.0)
    for i in range(max(positions) + 1):
        if i not in positions and i % 2:
            continue
        problem = SoftmaxProblem(rows, y, bench.data.classes, LAMBDAS[i], curvature)
        problem.strict = i in positions
        at = minimise(problem, at, pairs, 1e-5 if problem.strict else 1e-3, 600).at
        if problem.strict:
            weight = at[:, 1:] @ basis.basis.t()
            known, bias = certify(z, y, plain, weight, at[:, 0], LAMBDAS[i])
            low = known.objective - known.relative_gap * max(known.objective, 1e-3)
            nll, _ = evaluate(weight.numpy(), bias.numpy(), bench.z["valid"], bench.y["valid"])
            found[i] = (low, nll)
    return found


def gaps(bench: Bench, outcome: Outcome, best: dict[int, tuple[float, float]]) -> str:
    """Worst and median relative distance to the optimum over the points that have one."""
    found = []
    for i, (w, b) in outcome.heads.items():
        if i in best:
            f = objective(w, b, bench.z["train"], bench.y["train"], LAMBDAS[i])
            found.append(max(0.0, f - best[i][0]) / best[i][0])
    return f"{max(found):.0e} / {statistics.median(found):.0e}" if found else "-"


def compete(name: str, repeats: int) -> list[str]:
    bench = Bench(SETS[name]())
    every, folds = PARTS[name]
    mine, spot = bench.ours()
    wanted = {i for i in range(len(LAMBDAS)) if abs(i - spot) <= NEAR}
    wanted |= {i for i in range(spot % every, len(LAMBDAS), every) if i <= spot + 4}
    best = optima(bench, sorted(wanted))
    reference = min(best[i][1] for i in wanted if abs(i - spot) <= NEAR)
    assert mine.nll <= reference + 1e-3, f"NLL {mine.nll} against {reference}"

    runs = [bench.ours()[0] for _ in range(repeats)]
    outcomes = {"LogisticRegressionCV": bench.cross_validated(folds)}
    runs += [bench.ours()[0] for _ in range(repeats)]
    outcomes["scikit-learn grid, cold, tol 1e-6"] = bench.grid(every, spot)
    runs += [bench.ours()[0] for _ in range(repeats)]
    mine.cpu = statistics.median(run.cpu for run in runs)

    n, d = bench.z["train"].shape
    lines = [
        f"{name} (N {n:,}, D {d:,}, C {bench.data.classes}); lambda {LAMBDAS[spot]:.1e}; best "
        f"float64 NLL near it {reference:.4f}",
        f"  {'':34}{'CPU s':>8}{'gap worst / median':>20}{'NLL':>8}{'test':>7}{'ratio':>7}  timed",
    ]
    for who, outcome in {"zoobench path": mine, **outcomes}.items():
        nll = "-" if math.isnan(outcome.nll) else f"{outcome.nll:.4f}"
        lines.append(
            f"  {who:34}{outcome.cpu:>8.2f}{gaps(bench, outcome, best):>20}{nll:>8}"
            f"{outcome.accuracy:>7.3f}{outcome.cpu / mine.cpu:>7.1f}  {outcome.scaled or 'all'}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    usual = [name for name in SETS if name != "flat"]
    parser.add_argument(
        "--only", choices=sorted(SETS), action="append", help="by default all but flat"
    )
    parser.add_argument("--repeats", type=int, default=1, help="of ours, before, between, after")
    asked = parser.parse_args()
    import sklearn
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    print(f"{platform.machine()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}")
    torch.set_num_threads(1)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what does not converge shows in the gap
        for name in asked.only or usual:
            print("\n".join(compete(name, asked.repeats)), flush=True)


if __name__ == "__main__":
    main()
