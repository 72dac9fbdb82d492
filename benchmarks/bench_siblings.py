"""Ridge, kNN and the transferability scores against the usual code; equality first.

    python benchmarks/bench_siblings.py [--only SET] [--repeats 2]

One thread each, the same train features, CPU seconds of the process, medians of interleaved
repeats. The peers: scikit-learn's RidgeClassifierCV (leave-one-out over the same 45 lambdas),
its brute-force KNeighborsClassifier with cosine distance (four values of k, as an example
would loop over them), and LogME and the H-score written straight from their papers: LogME by
an SVD and the fixed point class by class, the H-score with scikit-learn's LedoitWolf.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_probe import LAMBDAS, SETS, Bench
from numpy.typing import NDArray

from zoobench.solvers import transferability
from zoobench.solvers.knn import knn_log_probs, normalised
from zoobench.solvers.ridge import ridge_path

KS = (1, 5, 10, 20)
Array = NDArray[np.float64]


class Ridge:
    """Both: the position of the chosen lambda, and the leave-one-out errors where both have
    them. scikit-learn has no s, and penalises the sum, not the mean: alpha = lambda n."""

    name = "ridge, 45 lambdas, leave-one-out"
    peer = "RidgeClassifierCV"

    def ours(self, bench: Bench) -> Any:
        x, y = (torch.from_numpy(part["train"]) for part in (bench.z, bench.y))
        path = ridge_path(x, torch.nn.functional.one_hot(y, bench.data.classes), LAMBDAS)
        return path.best

    def peers(self, bench: Bench) -> Any:
        from sklearn.linear_model import RidgeClassifierCV

        x, y = bench.z["train"].astype(np.float64), bench.y["train"]
        model = RidgeClassifierCV(alphas=[lam * len(x) for lam in LAMBDAS]).fit(x, y)
        return int(np.argmin([abs(math.log(model.alpha_ / (lam * len(x)))) for lam in LAMBDAS]))

    def check(self, ours: Any, peers: Any, bench: Bench) -> str:
        assert ours == peers, f"other lambdas were chosen: {ours} and {peers}"
        return f"both chose lambda {LAMBDAS[ours]:.1e}"


class Neighbours:
    """Both: the votes' winner for every test row and k, votes weighted by exp(s / 0.07).

    Where the k-th neighbour is as similar as the next one, either may vote, and the answers of
    such rows are not compared: many short texts have the same tokens, and so the same features.
    """

    name = "kNN, k = 1, 5, 10, 20"
    peer = "KNeighborsClassifier, brute"

    def ours(self, bench: Bench) -> Any:
        x, asked = (torch.from_numpy(bench.z[part]) for part in ("train", "test"))
        labels = torch.from_numpy(bench.y["train"])
        found = knn_log_probs(x, labels, asked, bench.data.classes, KS)
        return found.argmax(dim=2).numpy()

    def peers(self, bench: Bench) -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        def weights(distance: Array) -> Array:
            return np.asarray(np.exp((1.0 - distance) / 0.07))

        models = [
            KNeighborsClassifier(k, weights=weights, algorithm="brute", metric="cosine") for k in KS
        ]
        x, y, asked = bench.z["train"], bench.y["train"], bench.z["test"]
        return np.stack([model.fit(x, y).predict(asked) for model in models])

    def check(self, ours: Any, peers: Any, bench: Bench) -> str:
        rows = {part: normalised(torch.from_numpy(bench.z[part])) for part in ("train", "test")}
        similar = (rows["test"] @ rows["train"].t()).topk(max(KS) + 1, dim=1).values
        gaps = torch.stack([similar[:, k - 1] - similar[:, k] for k in KS])
        clear = (gaps > 1e-6).numpy()
        same = float((ours == peers)[clear].mean())
        assert same > 0.999, f"only {same:.4f} of the answers agree"
        return f"{same:.2%} of the answers agree, {1.0 - clear.mean():.1%} are ties"


class Foresight:
    """Both: (LogME, H-score)."""

    name = "LogME and H-score"
    peer = "the papers' formulas"

    def ours(self, bench: Bench) -> Any:
        x, y = (torch.from_numpy(part["train"]) for part in (bench.data.x, bench.y))
        spectrum = transferability.spectrum(x, y)
        return transferability.logme(spectrum), transferability.h_score(spectrum)

    def peers(self, bench: Bench) -> Any:
        from sklearn.covariance import LedoitWolf

        x, y = bench.data.x["train"].astype(np.float64), bench.y["train"]
        estimate = LedoitWolf().fit(x)
        centred = x - x.mean(axis=0)
        means = np.stack([centred[y == c].mean(axis=0) for c in range(bench.data.classes)])
        rows = means[y]
        between = rows.T @ rows / len(rows)
        inverse = np.linalg.pinv(estimate.covariance_, hermitian=True)
        h = (1.0 - estimate.shrinkage_) * float(np.trace(inverse @ between))
        return logme_by_class(x, y, bench.data.classes), h

    def check(self, ours: Any, peers: Any, bench: Bench) -> str:
        assert np.allclose(ours, peers, rtol=1e-3), f"{ours} and {peers}"
        return f"LogME {ours[0]:.4f} and {peers[0]:.4f}, H-score {ours[1]:.3f} and {peers[1]:.3f}"


def logme_by_class(x: Array, y: NDArray[np.int64], classes: int) -> float:
    """You et al. 2021, algorithm 3: an SVD of the features, then each class' fixed point."""
    n, d = x.shape
    u, singular, _ = np.linalg.svd(x, full_matrices=False)
    values, total = singular**2, 0.0
    for c in range(classes):
        target = (y == c).astype(np.float64)
        explained = (u.T @ target) ** 2
        outside = max(float(target @ target - explained.sum()), 0.0)
        alpha = beta = 1.0
        for _ in range(500):
            ratio = alpha / beta
            gamma = float((values / (values + ratio)).sum())
            weight = float((values * explained / (values + ratio) ** 2).sum())
            residual = float((ratio**2 * explained / (values + ratio) ** 2).sum()) + outside
            alpha, beta = gamma / weight, (n - gamma) / residual
            if abs(alpha / beta / ratio - 1.0) < 1e-10:
                break
        log_det = float(np.log(alpha + beta * values).sum()) + (d - len(values)) * math.log(alpha)
        total += 0.5 / n * (
            n * math.log(beta) + d * math.log(alpha) - n * math.log(2.0 * math.pi)
            - beta * residual - alpha * weight - log_det
        )  # fmt: skip
    return total / classes


def timed(work: Callable[[Bench], Any], bench: Bench) -> tuple[float, Any]:
    started = time.process_time()
    found = work(bench)
    return time.process_time() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(SETS), action="append")
    parser.add_argument("--repeats", type=int, default=2)
    asked = parser.parse_args()
    import sklearn
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    print(f"{platform.machine()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for name in asked.only or ("mnist", "documents"):
            bench = Bench(SETS[name]())
            n, d = bench.z["train"].shape
            print(f"{name} (N {n:,}, D {d:,}, C {bench.data.classes})")
            print(f"  {'':34}{'zoobench':>9}{'peer':>8}{'ratio':>7}")
            for case in (Ridge(), Neighbours(), Foresight()):
                word = case.check(timed(case.ours, bench)[1], timed(case.peers, bench)[1], bench)
                pairs = [
                    (timed(case.ours, bench)[0], timed(case.peers, bench)[0])
                    for _ in range(asked.repeats)
                ]
                mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
                print(
                    f"  {case.name:34}{mine:>9.2f}{theirs:>8.2f}{theirs / mine:>7.1f}  "
                    f"{case.peer}; {word}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
