"""A race of models under the advisor's own decisions, on a clock that is not waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from zoobench.advise import policy
from zoobench.advise.nouns import Action, Candidate, Done, Rung, State, packed
from zoobench.advise.verdict import verdicts

SHARE = 1 / 3
"""The budget, as a part of the exhaustive run's seconds."""
LOOK = 32
START = 1.0
"""Seconds before the first step."""
LOAD = 0.6
"""Seconds in which a model is loaded."""
WHOLE_FIT = 2.5
"""Seconds in which the exhaustive run loads a model and fits its probe."""


OWN = 0.35
"""The share of examples on which a model's outcome has nothing to do with the others'."""


def hardness(k: int, n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """For each of `k` models (n,) in [0, 1): it is right on an example that lies below its
    accuracy. On most examples models share how hard it is."""
    hard = rng.random(n)
    return [np.where(rng.random(n) < OWN, rng.random(n), hard) for _ in range(k)]


class Race:
    """Models with a `truth` (accuracy on all of the data) and a `pace` (seconds an example), on
    data of `sizes` (train, valid, test); the noise of the clock is drawn from `rng`."""

    def __init__(
        self,
        truth: Mapping[str, float],
        pace: Mapping[str, float],
        sizes: tuple[int, int, int],
        rng: np.random.Generator,
    ) -> None:
        self.truth = truth
        self.pace = pace
        self.sizes = sizes
        self.rng = rng

    def right(self, model: str, rung: Rung) -> np.ndarray:
        """(rung.total,) bool outcomes out of fold."""
        raise NotImplementedError

    def do(self, state: State, action: Action) -> Done:
        """The step's outcome and what it took."""
        pace = self.pace[action.model] * self.rng.uniform(0.95, 1.05)
        step = Done(action.model, action.stage, action.rung, LOAD + LOOK * pace, among=action.among)
        if action.stage == "pace":
            return replace(step, new=LOOK, extract=LOOK * pace)
        rung = state.ladder[action.rung]
        mine = [d.rung for d in state.done if d.model == action.model and d.stage != "pace"]
        new = max(0, rung.total - (state.ladder[max(mine)].total if mine else LOOK))
        fit = 0.25 if action.stage == "scores" else 0.1 + 0.0012 * rung.total
        step = replace(step, new=new, extract=new * pace, seconds=new * pace + fit, value=0.5)
        if action.stage == "probe":
            right = self.right(action.model, rung)
            step = replace(step, right=packed(right), value=float(right.mean()))
        return step

    def run(self, classes: int = 10) -> State:
        """From the start until the budget or the questions end."""
        exhaustive = sum(pace * sum(self.sizes) + WHOLE_FIT for pace in self.pace.values())
        candidates = tuple(Candidate(name, "MIT", "f", 0.5) for name in self.truth)
        rungs = policy.ladder(self.sizes, classes)
        state = State(candidates, rungs, SHARE * exhaustive, START, fine_tune=False)
        while isinstance(action := policy.next_action(state), Action):
            one = self.do(state, action)
            state = replace(state, done=(*state.done, one), spent=state.spent + one.seconds)
        return state

    def judge(self, state: State) -> tuple[str, float, bool]:
        """The pick, its P(best), and whether it is the best."""
        rungs = range(len(state.ladder))
        untried = len(self.truth) - len({d.model for d in state.done if d.stage == "probe"})
        found = verdicts(
            [state.outcomes(r) for r in rungs], [state.share(r) for r in rungs], untried=untried
        )
        assert found is not None
        pick = found.models[0]
        return pick, float(found.first[0]), self.truth[pick] == max(self.truth.values())
