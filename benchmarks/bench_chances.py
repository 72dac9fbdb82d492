"""Are the advisor's P(best) and expected loss right? In drawn worlds where the best is known.

    python benchmarks/bench_chances.py [--worlds N]

2, 3, 5 or 10 models whose true accuracies spread by 0.3 to 6 points and whose learning curves
cross, mildly or strongly; all are seen on a seventh of 1,500 or 5,000 examples, then the better
half on a third. After each: what is said of the pick against how often it was the best, the
Brier and the log score of P(best) over all models, expected loss against the true one. Each with
other prior weights of "all are alike" too.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping

import numpy as np
from races import hardness

from zoobench.advise.verdict import Outcomes, verdicts
from zoobench.statistics import plausible

EQUAL = (plausible.EQUAL, 0.0, 0.03, 0.3)
SHARES = (0.14, 0.33)


def world(
    k: int, spread: float, crossing: float, rng: np.random.Generator
) -> tuple[dict[str, float], list[Outcomes]]:
    """model -> true accuracy, and the outcomes of each level."""
    n = int(rng.choice([1500, 5000]))
    truth = rng.normal(0.85, spread, k)
    rise = rng.uniform(0.05, 0.15) * (1 + crossing * rng.standard_normal(k))
    decay = rng.uniform(0.3, 0.7)
    hard = hardness(k, n, rng)

    def seen(share: float) -> dict[str, np.ndarray]:
        left = (share**-decay - 1) / (0.1**-decay - 1)  # of the rise from a tenth on
        many = int(share * n)
        return {
            f"m{i}": (own[:many] < truth[i] - rise[i] * left).astype(float)
            for i, own in enumerate(hard)
        }

    first, then = map(seen, SHARES)
    kept = sorted(first, key=lambda name: -first[name].mean())[: max(2, k // 2)]
    names = [f"m{i}" for i in range(k)]
    return dict(zip(names, truth.tolist(), strict=True)), [first, {m: then[m] for m in kept}]


def scores(truth: Mapping[str, float], levels: list[Outcomes]) -> list[list[float]]:
    """After each level: P(best) of the pick, whether it is, Brier, log, said and true loss."""
    best = max(truth, key=lambda name: truth[name])
    rows = []
    for end in range(1, len(levels) + 1):
        found = verdicts(levels[:end], SHARES[:end])
        assert found is not None
        chance = dict(zip(found.models, found.first.tolist(), strict=True))
        pick = found.models[0]
        brier = sum((p - (name == best)) ** 2 for name, p in chance.items())
        log = -np.log(max(chance[best], 1e-4))
        lost = truth[best] - truth[pick]
        rows.append([chance[pick], pick == best, brier, log, 100 * found.loss, 100 * lost])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=40, help="of each kind")
    given = parser.parse_args()
    every: dict[float, list[np.ndarray]] = {equal: [] for equal in EQUAL}
    kinds = itertools.product((2, 3, 5, 10), (0.003, 0.01, 0.03, 0.06), (0.1, 0.3))
    for k, spread, crossing in kinds:
        seeds = ([k, int(1000 * spread), int(10 * crossing), i] for i in range(given.worlds))
        worlds = [world(k, spread, crossing, np.random.default_rng(seed)) for seed in seeds]
        for equal in EQUAL:
            plausible.EQUAL = equal
            rows = [row for one in worlds for row in scores(*one)]
            every[equal].append(np.array(rows, dtype=float))
            if equal == EQUAL[0]:
                show(f"{k:2} models, spread {100 * spread:g}, crossing {crossing}", rows)
    for equal, parts in every.items():
        show(f"all, alike with probability {equal:g}", np.concatenate(parts))
        gaps = [part[:, 0].mean() - part[:, 1].mean() for part in parts]
        print(f"  too sure by {max(gaps):.2f} at most, too shy by {-min(gaps):.2f}")


def show(what: str, rows: list[list[float]] | np.ndarray) -> None:
    said, was, brier, log, loss, lost = np.mean(np.array(rows, dtype=float), axis=0)
    print(
        f"{what}: said {said:.2f}, was {was:.2f}, Brier {brier:.3f}, log {log:.3f}; "
        f"loss said {loss:.2f}, was {lost:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
