"""The linear probe's path against the ways users fit one today; equality first, then the ratio.

    python benchmarks/bench_probe.py [--quick] [--only NAME] [--repeats N]

Every contestant gets the same train features and the same 45 lambdas (LogisticRegressionCV:
its own cross-validation on its default grid of 10), and its best number of threads, found
beforehand on one fit. Runs are interleaved; seconds are medians of wall time. `gap` is the
worst and the median relative distance to the float64 optimum over a sample of each
contestant's grid points; `NLL` the validation NLL of its choice; `test` its accuracy refitted
on train + valid at that choice.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoobench.solvers.basis import scaling
from zoobench.solvers.grid import grid
from zoobench.solvers.logistic import logistic_path

Array = NDArray[np.float32]
LAMBDAS = grid()
SAMPLED = (8, 12, 16, 20)
"""Positions in the grid at which the objective is compared with the float64 optimum."""


@dataclass(frozen=True)
class Data:
    name: str
    x: dict[str, Array]
    y: dict[str, NDArray[np.int64]]

    @property
    def classes(self) -> int:
        return int(self.y["train"].max()) + 1

    def joined(self) -> tuple[Array, NDArray[np.int64]]:
        return (
            np.concatenate([self.x["train"], self.x["valid"]]),
            np.concatenate([self.y["train"], self.y["valid"]]),
        )


@dataclass
class Outcome:
    """`heads` maps positions in the grid to (W, b) in standardised coordinates."""

    seconds: float
    cpu: float
    nll: float
    accuracy: float
    heads: dict[int, tuple[Array, Array]]
    lam: float


class Clock:
    """Wall and CPU seconds since it was made; the latter hold on a busy machine too."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def mixture(n: int = 12_000, d: int = 512, classes: int = 100) -> Data:
    """Gaussian classes in features of falling scale; 70 / 10 / 20 per cent."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((classes, d)) * np.linspace(0.36, 0.04, d)
    y = rng.permutation(np.arange(n) % classes)
    x = means[y] + rng.standard_normal((n, d)) * np.linspace(1.5, 0.2, d)
    cuts = (int(0.7 * n), int(0.8 * n))
    names = ("train", "valid", "test")
    xs = dict(zip(names, np.split(x.astype(np.float32), cuts), strict=True))
    ys = dict(zip(names, np.split(y.astype(np.int64), cuts), strict=True))
    return Data("mixture", xs, ys)


def packaged(name: str, model: str, dataset: str) -> Data:
    """Features of a packaged model on a packaged dataset, through the product's own loaders."""
    from zoobench import datasets, models
    from zoobench.methods.features import FeatureCache, Features, View, cache_dir

    ref = models.resolve(model)
    splits = datasets.load(datasets.resolve(dataset))
    source = Features(models.load(ref), View(str(ref)), FeatureCache(cache_dir() / "features"))
    parts = {s.name: s for s in (splits.train, splits.valid, splits.test)}
    names = dict(zip(("train", "valid", "test"), parts.values(), strict=True))
    x = {key: source.features(split).numpy() for key, split in names.items()}
    return Data(name, x, {key: split.labels for key, split in names.items()})


def digits() -> Data:
    return packaged("digits / lite0", "packaged/efficientnet-lite0", "packaged/digits")


def mnist() -> Data:
    return packaged("mnist-5k / lite0", "packaged/efficientnet-lite0", "packaged/mnist-5k")


def texts() -> Data:
    return packaged("languages / MiniLM", "packaged/minilm-l6-v2", "packaged/language-id")


SETS: dict[str, Callable[[], Data]] = {
    "digits": digits, "mnist": mnist, "texts": texts, "mixture": mixture,
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

    def ours(self) -> Outcome:
        x, y = self.data.x, self.y
        train, valid = torch.from_numpy(x["train"]), torch.from_numpy(x["valid"])
        labels, valid_labels = torch.from_numpy(y["train"]), torch.from_numpy(y["valid"])
        clock = Clock()
        path = logistic_path(train, labels, valid, valid_labels, self.data.classes)
        seconds, cpu = clock.read()
        test = path.refit.head.log_probs(torch.from_numpy(x["test"])).argmax(dim=1).numpy()
        point = path.points[path.chosen]
        spot = min(range(len(LAMBDAS)), key=lambda i: abs(math.log(LAMBDAS[i] / point.lam)))
        head = path.fit.head
        assert path.fit.converged, "the certificate must hold before anything is timed"
        assert path.refit.converged, "the certificate must hold before anything is timed"
        heads = {spot: (head.weight.numpy(), head.bias.numpy())}
        accuracy = float((test == y["test"]).mean())
        return Outcome(seconds, cpu, point.valid_nll, accuracy, heads, point.lam)

    def choose(
        self, fit: Callable[[Array, NDArray[np.int64], float, Any], tuple[Array, Array, Any]],
        warm: bool,
    ) -> Outcome:  # fmt: skip
        """The loop that users write: every lambda, the best by validation NLL, a refit."""
        clock = Clock()
        best, heads, state = (math.inf, 0), {}, None
        for i, lam in enumerate(LAMBDAS):
            w, b, state = fit(self.z["train"], self.y["train"], lam, state if warm else None)
            if i in SAMPLED:
                heads[i] = (w, b)
            nll, _ = evaluate(w, b, self.z["valid"], self.y["valid"])
            if nll < best[0]:
                best = (nll, i)
                heads[i] = (w, b)
        both = np.concatenate([self.z["train"], self.z["valid"]])
        labels = np.concatenate([self.y["train"], self.y["valid"]])
        w, b, _ = fit(both, labels, LAMBDAS[best[1]], None)
        seconds, cpu = clock.read()
        accuracy = evaluate(w, b, self.z["test"], self.y["test"])[1]
        return Outcome(seconds, cpu, best[0], accuracy, heads, LAMBDAS[best[1]])

    def sklearn_cold(self) -> Outcome:
        return self.choose(sklearn_fit, warm=False)

    def torch_lbfgs(self) -> Outcome:
        return self.choose(torch_fit, warm=True)

    def sklearn_cv(self) -> Outcome:
        """LogisticRegressionCV as documented: 10 strengths, 5 folds of train + valid."""
        from sklearn.linear_model import LogisticRegressionCV

        x = np.concatenate([self.z["train"], self.z["valid"]])
        y = np.concatenate([self.y["train"], self.y["valid"]])
        clock = Clock()
        model = LogisticRegressionCV(max_iter=1000, scoring="neg_log_loss", cv=5).fit(x, y)
        seconds, cpu = clock.read()
        accuracy = evaluate(model.coef_, model.intercept_, self.z["test"], self.y["test"])[1]
        strength = float(np.atleast_1d(model.C_)[0])
        return Outcome(seconds, cpu, math.nan, accuracy, {}, 1.0 / (strength * len(x)))


def sklearn_fit(z: Array, y: NDArray[np.int64], lam: float, state: Any) -> tuple[Array, Array, Any]:
    """scikit-learn sums the loss where we take its mean: C = 1 / (lambda n)."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0 / (lam * len(z)), tol=1e-6, max_iter=1000).fit(z, y)
    return model.coef_, model.intercept_, None


def torch_fit(z: Array, y: NDArray[np.int64], lam: float, state: Any) -> tuple[Array, Array, Any]:
    """torch.optim.LBFGS with a strong Wolfe search, from the lambda before."""
    classes = int(y.max()) + 1
    rows, truth = torch.from_numpy(z), torch.from_numpy(y)
    start = state if state is not None else torch.zeros(classes, z.shape[1] + 1)
    at = start.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        [at], max_iter=500, tolerance_grad=1e-6, tolerance_change=1e-9, history_size=10,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(rows @ at[:, 1:].t() + at[:, 0], truth)
        loss = loss + 0.5 * lam * at[:, 1:].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    found = at.detach()
    return found[:, 1:].numpy(), found[:, 0].numpy(), found


def optimum(bench: Bench, lam: float) -> tuple[float, float, float]:
    """(f, a lower bound of the optimum, validation NLL) of a float64 solution.

    The same maths in float64, to a gap of 1e-5 or 600 evaluations; the lower
    bound, not the value, is what the others are measured against.
    """
    from zoobench.solvers.basis import eigenbasis
    from zoobench.solvers.lbfgs import Pairs, minimise
    from zoobench.solvers.softmax import SoftmaxProblem, certify

    z = torch.from_numpy(bench.z["train"]).double()
    y = torch.from_numpy(bench.y["train"])
    basis = eigenbasis(z, torch.float64)
    rows = torch.cat([torch.ones(len(z), 1, dtype=torch.float64), z @ basis.basis], dim=1)
    curvature = torch.cat([torch.ones(1, dtype=torch.float64), basis.eigenvalues])
    at = torch.zeros(bench.data.classes, rows.shape[1], dtype=torch.float64)
    pairs = Pairs()
    for step in [*[s for s in LAMBDAS if s > lam * 1.01][::2], lam]:
        problem = SoftmaxProblem(rows, y, bench.data.classes, step, curvature)
        problem.strict = step == lam
        at = minimise(problem, at, pairs, 1e-5 if step == lam else 1e-3, 600).at
    weight = at[:, 1:] @ basis.basis.t()
    same = scaling(torch.from_numpy(bench.z["train"]))
    found, bias = certify(z, y, type(same)(same.mean * 0, 1.0), weight, at[:, 0], lam)
    nll, _ = evaluate(weight.numpy(), bias.numpy(), bench.z["valid"], bench.y["valid"])
    return found.objective, found.objective * (1.0 - found.relative_gap), nll


def best_threads(fit: Callable[[], object], limit: int) -> int:
    """The number of threads with which one typical fit is fastest."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    seconds = {}
    for threads in sorted({1, limit}):
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            fit()
            start = time.perf_counter()
            fit()
            seconds[threads] = time.perf_counter() - start
    return min(seconds, key=lambda k: seconds[k])


def gaps(bench: Bench, outcome: Outcome, optima: dict[int, float]) -> str:
    """Worst and median relative distance to the optimum over the sampled points."""
    found = []
    for i, (w, b) in outcome.heads.items():
        if i in optima:
            f = objective(w, b, bench.z["train"], bench.y["train"], LAMBDAS[i])
            found.append(max(0.0, f - optima[i]) / optima[i])
    if not found:
        return "-"
    return f"{max(found):.0e} / {statistics.median(found):.0e}"


def compete(data: Data, repeats: int, quick: bool, fixed: int) -> list[str]:
    from threadpoolctl import threadpool_limits

    bench = Bench(data)
    contestants: dict[str, Callable[[], Outcome]] = {
        "zoobench path": bench.ours,
        "LogisticRegressionCV": bench.sklearn_cv,
        "scikit-learn grid, cold, tol 1e-6": bench.sklearn_cold,
        "torch L-BFGS a point, warm": bench.torch_lbfgs,
    }
    if quick:
        del contestants["torch L-BFGS a point, warm"]
    cores = os.cpu_count() or 1
    z, y = bench.z["train"], bench.y["train"]
    probes: dict[str, Callable[[], object]] = {
        "zoobench path": bench.ours,
        "torch L-BFGS a point, warm": lambda: torch_fit(z, y, 1e-2, None),
    }
    threads = {
        name: fixed or best_threads(probes.get(name, lambda: sklearn_fit(z, y, 1e-2, None)), cores)
        for name in contestants
    }
    runs: dict[str, list[Outcome]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            torch.set_num_threads(threads[name])
            with threadpool_limits(threads[name]), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what does not converge shows in the gap
                runs[name].append(run())

    ours = runs["zoobench path"][0]
    _, _, reference_nll = optimum(bench, ours.lam)
    assert ours.nll <= reference_nll + 1e-3, f"NLL {ours.nll} against {reference_nll}"
    positions = sorted({i for r in runs.values() for i in r[0].heads})
    optima = {i: optimum(bench, LAMBDAS[i])[1] for i in positions}
    base = statistics.median(o.seconds for o in runs["zoobench path"])
    base_cpu = statistics.median(o.cpu for o in runs["zoobench path"])
    shape = f"N {len(z):,}, D {z.shape[1]:,}, C {data.classes}"
    lines = [f"{data.name} ({shape}); float64 reference NLL at our lambda {reference_nll:.4f}"]
    lines.append(
        f"  {'':36}{'threads':>8}{'seconds':>9}{'CPU':>8}{'gap worst / median':>21}"
        f"{'valid NLL':>11}{'test':>8}{'CPU ratio':>11}{'ratio':>8}"
    )
    for name, outcomes in runs.items():
        seconds = statistics.median(o.seconds for o in outcomes)
        cpu = statistics.median(o.cpu for o in outcomes)
        first = outcomes[0]
        lines.append(
            f"  {name:36}{threads[name]:>8}{seconds:>9.2f}{cpu:>8.2f}"
            f"{gaps(bench, first, optima):>21}{first.nll:>11.4f}{first.accuracy:>8.3f}"
            f"{cpu / base_cpu:>11.1f}{seconds / base:>8.1f}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sets, one repeat, no torch")
    parser.add_argument("--only", choices=sorted(SETS), action="append")
    parser.add_argument("--repeats", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="for all, instead of the best")
    asked = parser.parse_args()
    import sklearn

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}"
    )
    names = asked.only or (["digits", "mnist"] if asked.quick else list(SETS))
    repeats = asked.repeats or (1 if asked.quick else 3)
    for name in names:
        print("\n".join(compete(SETS[name](), repeats, asked.quick, asked.threads)), flush=True)


if __name__ == "__main__":
    main()
