"""Which step comes next, and whether it may begin. Pure: a `State` in, an `Action` out.

Every model is looked at (pace), then scored on the first rung; the better half is probed
on twice the examples again and again (successive halving, Jamieson and Talwalkar 2016,
arXiv:1502.07943), and the finalists are fine-tuned. A step begins only if it is predicted
to end within the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoobench.advise.nouns import Action, Candidate, Recipe, Rung, Stage, State
from zoobench.advise.predict import fine_tune_seconds, frozen_seconds, pace_seconds

FIRST_TRAIN, FIRST_TEST, FIRST_VALID = 200, 200, 50
PER_CLASS = 10
GROWTH = 2
FINALISTS = 2
FEW = 3
OPENING_SHARE = 0.5
FINE_TUNE_SHARE = 0.5
"""Most of the budget that is set aside for fine-tuning while probes still run."""

RECIPES = (
    Recipe(500, 64, (1e-4, 3e-4, 1e-3)),
    Recipe(200, 64, (1e-4, 3e-4, 1e-3)),
    Recipe(200, 32, (3e-4,)),
    Recipe(100, 32, (3e-4,)),
    Recipe(50, 32, (3e-4,)),
)
"""From the best to the cheapest; below the last a fine-tune says little."""


def ladder(sizes: tuple[int, int, int], classes: int) -> tuple[Rung, ...]:
    """Rungs of (train, valid, test) that double `train` up to all of the data.

    A rung takes the same share of each split, but enough of `test` to tell models apart.
    """
    train, valid, test = sizes
    rungs = []
    count = max(FIRST_TRAIN, PER_CLASS * classes)
    while count < train / 1.5:  # a last step of less than half is not worth a rung
        share = count / train
        rungs.append(
            Rung(
                count,
                min(valid, max(FIRST_VALID, 2 * classes, round(share * valid))),
                min(test, max(FIRST_TEST, round(share * test))),
            )
        )
        count *= GROWTH
    return (*rungs, Rung(train, valid, test, whole=True))


def static_order(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """By published accuracy, then (where there is none) by parameters: the static ranker."""

    def key(one: Candidate) -> tuple[bool, float, float, str]:
        return (one.prior is None, -(one.prior or 0.0), -(one.params or 0.0), one.model)

    return tuple(sorted(candidates, key=key))


def running(state: State) -> list[Candidate]:
    """Candidates that neither failed nor broke a limit."""
    return [
        one
        for one in state.candidates
        if one.model not in state.ruled_out and state.failed(one.model) is None
    ]


def favourite(state: State) -> Candidate | None:
    """The static ranker's first choice among those still running."""
    return next(iter(running(state)), None)


def next_action(state: State) -> Action | str:
    """The next step, or why there is none."""
    if any(d.stage == "fine-tune" for d in state.done):
        return _final(state, "the finalists were fine-tuned") if state.fine_tune else "done"
    for one in running(state):
        step = _opening(state, one)
        if step is not None:
            return step
    scored = [one for one in running(state) if state.find(one.model, "scores")]
    if not scored:
        return "the budget is too small for a first look at any model"
    probe = _halving(state, survivors_of_scores(state, scored))
    if isinstance(probe, Action):
        return probe
    return _final(state, probe) if state.fine_tune else probe


def _opening(state: State, one: Candidate) -> Action | None:
    """The look at `one`, then its scores, where they are missing and fit.

    Once a few are scored the rest may only take half of the budget: of a hundred models
    the worst by published results are not worth the probes of the best.
    """
    scored = {d.model for d in state.done if d.stage == "scores" and d.status == "ok"}
    room = state.left
    if len(scored) >= FEW:
        room -= (1 - OPENING_SHARE) * state.budget
    stage: Stage = "pace" if state.find(one.model, "pace") is None else "scores"
    if stage == "scores" and one.model in scored:
        return None
    predicted = (
        pace_seconds(state) if stage == "pace" else frozen_seconds(state, one.model, stage, 0)
    )
    return Action(one.model, stage, 0, predicted) if predicted <= room else None


def survivors_of_scores(state: State, scored: Sequence[Candidate]) -> list[Candidate]:
    """The better half (at least 3, the favourite always) by mean rank over kNN, LogME, H-score."""
    facts = {}
    for one in scored:
        found = state.find(one.model, "scores")
        assert found is not None
        facts[one.model] = {"knn": found.value or 0.0, **found.facts}
    names = ("knn", "logme", "h_score")

    def place(one: Candidate) -> float:
        mine = facts[one.model]
        return sum(
            sum(other.get(name, -math.inf) > mine.get(name, -math.inf) for other in facts.values())
            for name in names
        )

    kept = sorted(scored, key=place)[: max(FEW, math.ceil(len(scored) / 2))]
    first = favourite(state)
    if first in scored and first not in kept and first is not None:
        kept.append(first)
    return kept


def halve(state: State, group: Sequence[Candidate], rung: int) -> list[Candidate]:
    """The better half, at least two, by the probe at `rung`; ties in the static order."""
    order = {one.model: place for place, one in enumerate(state.candidates)}

    def key(one: Candidate) -> tuple[float, int]:
        found = state.find(one.model, "probe", rung)
        return (-(found.value or 0.0) if found else math.inf, order[one.model])

    return sorted(group, key=key)[: max(FINALISTS, math.ceil(len(group) / 2))]


def _halving(state: State, group: list[Candidate]) -> Action | str:
    """The next probe; a rung begins only if all of its probes fit."""
    for rung in range(len(state.ladder)):
        missing = [one for one in group if state.find(one.model, "probe", rung) is None]
        costs = {one: frozen_seconds(state, one.model, "probe", rung) for one in missing}
        room = state.left - (_reserve(state, group) if rung else 0.0)
        if rung == 0:  # the features are there: each that fits is worth having
            for one, cost in costs.items():
                if cost <= room:
                    return Action(one.model, "probe", 0, cost)
            group = [one for one in group if one not in costs] or group
        elif missing:
            if sum(costs.values()) <= room:
                return Action(missing[0].model, "probe", rung, costs[missing[0]])
            train = state.ladder[rung].train
            need = sum(costs.values())
            return f"probes on {train} examples would take {need:.0f} s more"
        group = halve(state, group, rung)
    return "all of the data was used"


def finalists(state: State) -> list[Candidate]:
    """The best by the furthest probe, and the static favourite."""
    alive = running(state)
    far = {one: d for one in alive if (d := state.find(one.model, "probe")) is not None}
    order = sorted(far, key=lambda one: (-far[one].rung, -(far[one].value or 0.0)))
    chosen = order[:FINALISTS]
    first = favourite(state)
    if first is not None and first not in chosen and first in far:
        chosen.append(first)
    return chosen


def _reserve(state: State, group: Sequence[Candidate]) -> float:
    """What the cheapest fine-tune of the finalists would take, where it is within reason."""
    if not state.fine_tune:
        return 0.0
    cost = sum(fine_tune_seconds(state, one.model, RECIPES[-1]) for one in finalists(state))
    return cost if cost <= FINE_TUNE_SHARE * state.budget else 0.0


def _final(state: State, why: str) -> Action | str:
    """The next fine-tune: the best recipe that fits for every finalist, or the one begun."""
    stage: Stage = "fine-tune"
    begun = [d for d in state.done if d.stage == stage]
    chosen = finalists(state)
    if len(chosen) < 2 and not begun:
        return why
    if begun:
        recipe = begun[0].recipe
        waiting = [c for c in chosen if not any(d.model == c.model for d in begun)]
        for one in waiting:
            assert recipe is not None
            cost = fine_tune_seconds(state, one.model, recipe)
            if cost <= state.left:
                return Action(one.model, stage, len(state.ladder) - 1, cost, recipe)
        return why if not waiting else f"{why}; the budget ended among the finalists"
    for recipe in RECIPES:
        costs = [fine_tune_seconds(state, one.model, recipe) for one in chosen]
        if sum(costs) <= state.left:
            last = len(state.ladder) - 1
            return Action(chosen[0].model, stage, last, costs[0], recipe)
    return f"{why}; fine-tuning {len(chosen)} finalists would take {sum(costs):.0f} s at least"
