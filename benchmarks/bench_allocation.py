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
from dataclasses import replace

import numpy as np

from zoobench.advise import decide
from zoobench.advise.answer import verdicts
from zoobench.advise.nouns import Action, Candidate, Done, State, packed

OWN = 0.35
"""The share of examples on which a model's outcome has nothing to do with the others'."""
CROSSING = 0.2
"""Models differ in how far their accuracy rises by this share of it (standard deviation)."""
SHARE = 1 / 3

Rule = Callable[[State, int, Sequence[str]], list[str]]
significant: Rule = decide.going_on


def nobody_leaves(state: State, rung: int, group: Sequence[str]) -> list[str]:
    return decide.by_chance(state, rung, group)


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


class Race:
    """`k` models on `n` examples; seconds and accuracies are drawn from `rng`."""

    def __init__(self, k: int, n: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.n = n
        self.sizes = (int(0.72 * n), int(0.08 * n), n - int(0.72 * n) - int(0.08 * n))
        gap = rng.uniform(0.005, 0.05)
        behind = np.array([0.0, gap, *(gap * rng.uniform(1, 6, k - 2))])
        names = [f"m{i:02}" for i in range(k)]
        self.truth = dict(zip(names, rng.permutation(rng.uniform(0.8, 0.95) - behind), strict=True))
        self.decay = rng.uniform(0.4, 0.8)
        rises = rng.uniform(0.08, 0.25) * (1 + CROSSING * rng.standard_normal(k))
        self.rise = dict(zip(names, rises, strict=True))
        self.pace = dict(zip(names, rng.uniform(0.008, 0.014, k), strict=True))
        self.hard = rng.random(n)
        self.own = {name: (rng.random(n) < OWN, rng.random(n)) for name in names}

    def right(self, model: str, total: int) -> np.ndarray:
        """(total,) bool outcomes out of fold."""

        def missing(many: float) -> float:
            return (many / 150) ** -self.decay

        left = (missing(total) - missing(self.n)) / (1 - missing(self.n))
        own, luck = self.own[model]
        reach = np.where(own, luck, self.hard)[:total]
        return reach < self.truth[model] - self.rise[model] * left

    def do(self, state: State, action: Action) -> Done:
        pace = self.pace[action.model] * self.rng.uniform(0.95, 1.05)
        step = Done(action.model, action.stage, action.rung, 0.6 + 32 * pace, among=action.among)
        if action.stage == "pace":
            return replace(step, new=32, extract=32 * pace)
        total = state.ladder[action.rung].total
        mine = [d.rung for d in state.done if d.model == action.model and d.stage != "pace"]
        new = max(0, total - (state.ladder[max(mine)].total if mine else 32))
        fit = 0.25 if action.stage == "scores" else 0.1 + 0.0012 * total
        step = replace(step, new=new, extract=new * pace, seconds=new * pace + fit, value=0.5)
        if action.stage == "probe":
            right = self.right(action.model, total)
            step = replace(step, right=packed(right), value=float(right.mean()))
        return step

    def run(self) -> State:
        exhaustive = sum(pace * self.n + 2.5 for pace in self.pace.values())
        candidates = tuple(Candidate(name, "MIT", "f", 0.5) for name in self.truth)
        rungs = decide.ladder(self.sizes, 10)
        state = State(candidates, rungs, SHARE * exhaustive, 1.0, fine_tune=False)
        while isinstance(action := decide.next_action(state), Action):
            one = self.do(state, action)
            state = replace(state, done=(*state.done, one), spent=state.spent + one.seconds)
        return state


def judged(race: Race, state: State) -> tuple[float, float, bool]:
    """(regret, P(best) of the pick, whether it is the best)."""
    rungs = range(len(state.ladder))
    untried = len(race.truth) - len({d.model for d in state.done if d.stage == "probe"})
    found = verdicts(
        [state.outcomes(r) for r in rungs], [state.share(r) for r in rungs], untried=untried
    )
    assert found is not None
    regret = max(race.truth.values()) - race.truth[found.models[0]]
    return float(regret), float(found.first[0]), regret == 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--races", type=int, default=90, help="of each size")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    every: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in RULES}
    for k in (3, 5, 10):
        for n in (1800, 5000):
            for name, rule in RULES.items():
                decide.going_on = rule
                found = []
                for number in range(given.races):
                    race = Race(k, n, np.random.default_rng([given.seed, k, n, number]))
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
