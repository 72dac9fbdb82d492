"""Who should go on to more examples? The advisor's own decisions in simulated races.

    python benchmarks/bench_allocation.py [--races N] [--seed S]

Each race draws models whose true accuracies on all of the data lie apart (the best two by 0.5
to 5 points) and whose learning curves cross mildly; outcomes share how hard an example is.
Loading, features and probes take simulated seconds; the budget is a third of the exhaustive
run's. Prints the mean regret of each rule, with its standard error, and P(best) of the pick
against how often it was the best.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from races import Race, hardness

from zoobench.advise import policy
from zoobench.advise.nouns import Rung, State
from zoobench.advise.verdict import verdicts

CROSSING = 0.2
"""Models differ in how far their accuracy rises by this share of it (standard deviation)."""

Rule = Callable[[State, int, Sequence[str]], list[str]]
significant: Rule = policy.going_on


def nobody_leaves(state: State, rung: int, group: Sequence[str]) -> list[str]:
    return policy.by_chance(state, rung, group)


def half_leaves(state: State, rung: int, group: Sequence[str]) -> list[str]:
    kept = significant(state, rung, group)
    return kept[: max(2, (len(group) + 1) // 2)]


def unlikely_leave(least: float) -> Rule:
    """Also those whose P(best) is below `least`, but two go on."""

    def rule(state: State, rung: int, group: Sequence[str]) -> list[str]:
        rungs = range(rung + 1)
        found = verdicts([state.outcomes(r) for r in rungs], [state.share(r) for r in rungs])
        assert found is not None
        chance = dict(zip(found.models, found.first.tolist(), strict=True))
        kept = significant(state, rung, group)
        return [model for i, model in enumerate(kept) if i < 2 or chance[model] >= least]

    return rule


RULES: dict[str, Rule] = {
    "nobody": nobody_leaves,
    "significantly worse": significant,
    "and P(best) < 0.05": unlikely_leave(0.05),
    "and P(best) < 0.1": unlikely_leave(0.1),
    "the worse half": half_leaves,
}


class Drawn(Race):
    """`k` models on `n` examples; seconds, accuracies and outcomes are drawn from `rng`."""

    def __init__(self, k: int, n: int, rng: np.random.Generator) -> None:
        self.n = n
        gap = rng.uniform(0.005, 0.05)
        behind = np.array([0.0, gap, *(gap * rng.uniform(1, 6, k - 2))])
        names = [f"m{i:02}" for i in range(k)]
        truth = dict(zip(names, rng.permutation(rng.uniform(0.8, 0.95) - behind), strict=True))
        self.decay = rng.uniform(0.4, 0.8)
        rises = rng.uniform(0.08, 0.25) * (1 + CROSSING * rng.standard_normal(k))
        self.rise = dict(zip(names, rises, strict=True))
        pace = dict(zip(names, rng.uniform(0.008, 0.014, k), strict=True))
        self.hard = dict(zip(names, hardness(k, n, rng), strict=True))
        train, valid = int(0.72 * n), int(0.08 * n)
        super().__init__(truth, pace, (train, valid, n - train - valid), rng)

    def right(self, model: str, rung: Rung) -> np.ndarray:
        def missing(many: float) -> float:
            return (many / 150) ** -self.decay

        left = (missing(rung.total) - missing(self.n)) / (1 - missing(self.n))
        return self.hard[model][: rung.total] < self.truth[model] - self.rise[model] * left


def judged(race: Race, state: State) -> tuple[float, float, bool]:
    """(regret, P(best) of the pick, whether it is the best)."""
    pick, said, was = race.judge(state)
    return max(race.truth.values()) - race.truth[pick], said, was


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--races", type=int, default=90, help="of each size")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    every: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in RULES}
    for k in (3, 5, 10):
        for n in (1800, 5000):
            for name, rule in RULES.items():
                policy.going_on = rule
                found = []
                for number in range(given.races):
                    race = Drawn(k, n, np.random.default_rng([given.seed, k, n, number]))
                    found.append(judged(race, race.run()))
                every[name] += found
                show(f"{k:2} models, {n} examples, {name}", found)
    for name, found in every.items():
        show(f"all, {name}", found)


def show(what: str, found: list[tuple[float, float, bool]]) -> None:
    regret, said, was = np.array(found, dtype=float).T
    error = regret.std() / len(regret) ** 0.5
    print(
        f"{what}: regret {100 * regret.mean():.2f} +- {100 * error:.2f} points, "
        f"P(best) {said.mean():.2f}, best {was.mean():.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
