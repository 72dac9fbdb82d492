"""The linear probe on words against scikit-learn, at 200,000 words of train; equality, then ratio.

    python benchmarks/bench_tagging.py [--words 200000] [--every 15]

Words have 384 features after each of three layers, kept in fp16 on the disk as `Features.words`
keeps them, and 20 tags; the layers differ by their noise. Ours is the whole path: the choice of
the layer, 45 lambdas, the refit with its certificates, entity F1 on valid and the tags of test.
scikit-learn's is the loop that users write, on the layer that was chosen, standardised for it: 45
lambdas at tol 1e-6, the best by validation NLL. Of them every k-th is timed, our choice among them,
in turn with ours, and the sum is scaled. One thread each, in CPU seconds of the process. At our
choice both objectives are computed in float64 and must agree.

Memory is the greatest anonymous memory of the process (Linux) above what it had before: pages of
the mapped file, which the system may drop, are none of it.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from zoobench.interfaces import Split, Splits
from zoobench.methods.word_probe import Rows, WordProbe
from zoobench.solvers.basis import scaling
from zoobench.solvers.grid import grid
from zoobench.tasks.token_classification import Tags, entity_f1, tags_of
from zoobench.views import WordFeatures

D, TAGS, LENGTH, LAYERS = 384, 20, 20, (3, 5, 6)
NOISE = (1.0, 0.7, 1.4)
"""Of each layer: the second is the best."""
LAMBDAS = grid()


@dataclass(frozen=True)
class Kept:
    """As much of a FeatureSource as the probe needs."""

    held: dict[str, WordFeatures]
    device = torch.device("cpu")

    def words(self, split: Split) -> WordFeatures:
        return self.held[split.name]


def made(words: int, folder: Path) -> tuple[Splits, Kept]:
    """Words of tags that follow each other as entities do, in features whose variances fall as
    k^-1.2, as those of networks do."""
    rng = np.random.default_rng(0)
    names = ("O", *(f"{letter}-t{k}" for k in range(10) for letter in "BI"))[:TAGS]
    k = np.arange(1.0, D + 1.0)
    means = rng.standard_normal((TAGS, D)) * 0.45 * k**-0.85
    splits, held = {}, {}
    for name, share in (("train", 1.0), ("valid", 0.1), ("test", 0.1)):
        n = int(words * share) // LENGTH
        tags = np.where(rng.random((n, LENGTH)) < 0.6, 0, rng.integers(1, TAGS, (n, LENGTH)))
        flat = tags.ravel().astype(np.int32)
        starts = np.arange(n + 1, dtype=np.int64) * LENGTH
        values = np.memmap(
            folder / f"{name}.f2", dtype="<f2", mode="w+", shape=(len(flat), len(LAYERS), D)
        )
        for at in range(0, len(flat), 4096):
            part = flat[at : at + 4096]
            for layer, noise in enumerate(NOISE):
                drawn = rng.standard_normal((len(part), D)) * k**-0.6
                values[at : at + 4096, layer] = means[part] + noise * drawn
        values.flush()
        kept = np.memmap(folder / f"{name}.f2", dtype="<f2", mode="r", shape=values.shape)
        held[name] = WordFeatures(kept, starts, LAYERS)
        ids = tuple(f"{name}-{i}" for i in range(n))
        splits[name] = Split(name, ids, Tags(flat, starts, names), tuple)
    made_of = (splits["train"], splits["valid"], splits["test"])
    return Splits(*made_of, names, "text", task="token-classification"), Kept(held)


@contextlib.contextmanager
def peak() -> Iterator[list[float]]:
    """The greatest anonymous memory meanwhile, above what there was, in bytes."""
    found, ended = [0.0], threading.Event()

    def anonymous() -> float:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(1024.0 * int(line.split()[1]) for line in file if "RssAnon" in line)

    before = anonymous()

    def watch() -> None:
        while not ended.wait(0.02):
            found[0] = max(found[0], anonymous() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def ours(splits: Splits, source: Kept) -> tuple[float, Any, float]:
    """(CPU seconds, what was adapted, entity F1 on test)."""
    start = time.process_time()
    fitted = WordProbe().adapt(source, splits.sealed(), 0)
    said = fitted.predict(splits.test)
    cpu = time.process_time() - start
    assert "not-converged" not in fitted.flags, "the certificate must hold before it counts"
    return cpu, fitted, entity_f1(said, tags_of(splits.test))


def every(splits: Splits) -> NDArray[np.intp]:
    """All sentences of train."""
    return np.arange(len(splits.train), dtype=np.intp)


@dataclass
class Peer:
    """scikit-learn on one layer, standardised: not counted against it."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]

    @classmethod
    def of(cls, splits: Splits, source: Kept, layer: int) -> Peer:
        words = source.words(splits.train), source.words(splits.valid)
        rows = Rows.of(source, splits.sealed(), *words, layer, every(splits))
        return cls(scaling(rows.train).apply(rows.train).numpy(), rows.labels.numpy())

    def fit(self, lam: float) -> tuple[float, float]:
        """(CPU seconds, objective in float64) at one lambda."""
        from sklearn.linear_model import LogisticRegression

        start = time.process_time()
        with threadpool_limits(1):
            # It sums the loss where we take its mean: C = 1 / (lambda n).
            model = LogisticRegression(C=1.0 / (lam * len(self.x)), tol=1e-6, max_iter=1000)
            model.fit(self.x, self.y)
        return time.process_time() - start, self.objective(model.coef_, model.intercept_, lam)

    def objective(self, w: Any, b: Any, lam: float) -> float:
        """PROTOCOL section 2 in float64."""
        weight, bias = (torch.as_tensor(np.asarray(one)).double() for one in (w, b))
        loss = 0.0
        for at in range(0, len(self.x), 8192):
            scores = torch.from_numpy(self.x[at : at + 8192]).double() @ weight.t() + bias
            truth = torch.from_numpy(self.y[at : at + 8192])
            loss += float(torch.nn.functional.cross_entropy(scores, truth, reduction="sum"))
        return loss / len(self.x) + 0.5 * lam * float(weight.square().sum())


def compared(splits: Splits, source: Kept, step: int) -> list[str]:
    with peak() as memory:
        first, fitted, score = ours(splits, source)
    spot = min(range(45), key=lambda i: abs(math.log(LAMBDAS[i] / fitted.chosen["lambda"])))
    peer = Peer.of(splits, source, fitted.chosen["layer"])
    mine = optimum(splits, source, fitted.chosen["layer"], LAMBDAS[spot])
    times, seconds = [first], []
    for i in range(spot % step, 45, step):
        spent, value = peer.fit(LAMBDAS[i])
        seconds.append(spent)
        if i == spot:
            at_choice, theirs = spent, value
        times.append(ours(splits, source)[0])
    apart = (mine - theirs) / theirs
    assert abs(apart) < 1e-3, f"objectives {mine} and {theirs}: another optimum"
    cpu, grid_of_45 = statistics.median(times), sum(seconds) * 45 / len(seconds)
    r = len(tags_of(splits.train).values)
    return [
        f"{r:,} words of train, D {D}, {TAGS} tags, {len(LAYERS)} layers; layer "
        f"{fitted.chosen['layer']}, lambda {fitted.chosen['lambda']:.1e}, entity F1 {score:.3f}",
        f"zoobench, whole path: {cpu:.1f} CPU s (of {len(times)}), "
        f"{memory[0] / 1e9:.2f} GB at its peak",
        f"scikit-learn, 45 lambdas on one layer: {grid_of_45:.0f} CPU s ({len(seconds)} of 45), "
        f"{grid_of_45 / cpu:.1f} times; one fit, at our lambda: {at_choice:.1f} CPU s, "
        f"{at_choice / cpu:.2f} times",
        f"objective at that lambda: ours is {apart:+.0e} of theirs",
    ]


def optimum(splits: Splits, source: Kept, layer: int, lam: float) -> float:
    """Our objective at one lambda, certified in float64."""
    from zoobench.solvers.logistic import PathOptions, logistic_path

    words = source.words(splits.train), source.words(splits.valid)
    rows = Rows.of(source, splits.sealed(), *words, layer, every(splits))
    path = logistic_path(*rows.arguments, PathOptions(stop_early=True))
    assert abs(math.log(path.fit.lam / lam)) < 1e-6
    return path.fit.certificate.objective


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=200_000)
    parser.add_argument("--every", type=int, default=15)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    import sklearn

    print(f"{platform.machine()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        splits, source = made(asked.words, Path(folder))
        print("\n".join(compared(splits, source, asked.every)))


if __name__ == "__main__":
    main()
