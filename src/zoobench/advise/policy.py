"""Which step comes next, and whether it may begin. Pure: a `State` in, an `Action` out.

Every model is looked at (pace), then scored and probed on the first rung, those that are being
downloaded as they come, which is waited for within the same share of the budget. Those that are
not significantly worse go on to rungs of more and more examples, and the finalists are
fine-tuned. A step begins only if it is predicted to end within the budget. Where a larger
rung does not fit for all, those with the least probability of being best leave the race:
successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943), but only as far as the
budget forces it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoobench.advise.nouns import Action, Candidate, Recipe, Rung, Stage, State
from zoobench.advise.seconds import fine_tune_seconds, frozen_seconds, opening_seconds, pace_seconds
from zoobench.advise.verdict import beaten, verdicts
from zoobench.quantities import duration

FIRST_TRAIN, FIRST_TEST, FIRST_VALID = 200, 200, 50
PER_CLASS = 10
SMALLER = 4
"""The first rung of a small budget may be so many times smaller."""
GROWTH = 2 ** (1 / 16)
CLIMB = 2.0
"""A rung holds so many times the examples of the one before; the last, what the budget allows."""
WORTH = 1.15
"""A rung that holds fewer than so many times the examples is not worth its probes."""
FINALISTS = 2
FEW = 3
RUNG_SHARE = 0.5
"""Most of what is left that one rung may take while more than a few are in the race."""
OPENING_SHARE = 0.5
FINE_TUNE_SHARE = 0.5
"""Most of the budget that is set aside for fine-tuning while probes still run."""
AFTER = 1.5
"""So much further it must be able to go for a climb not to go as far as it can at once."""

RECIPES = (
    Recipe(500, 64, (1e-4, 3e-4, 1e-3)),
    Recipe(200, 64, (1e-4, 3e-4, 1e-3)),
    Recipe(200, 32, (3e-4,)),
    Recipe(100, 32, (3e-4,)),
    Recipe(50, 32, (3e-4,)),
)
"""From the best to the cheapest; below the last a fine-tune says little."""


def ladder(sizes: tuple[int, int, int], classes: int) -> tuple[Rung, ...]:
    """Rungs of (train, valid, test) that grow by GROWTH up to all of the data.

    A rung takes the same share of each split, but enough of `test` to tell models apart.
    """
    train, valid, test = sizes
    rungs = []
    size = max(FIRST_TRAIN, PER_CLASS * classes) / SMALLER
    while size < train / 1.1:  # a last step of less than a tenth is not worth a rung
        count = round(size)
        share = count / train
        rungs.append(
            Rung(
                count,
                min(valid, max(min(count, FIRST_VALID), 2 * classes, round(share * valid))),
                min(test, max(min(count, FIRST_TEST), round(share * test))),
            )
        )
        size *= GROWTH
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


def here(state: State) -> list[Candidate]:
    """Those of `running` that can be loaded."""
    return [one for one in running(state) if one.model not in state.absent]


def next_action(state: State) -> Action | str:
    """The next step, or why there is none."""
    if any(d.stage == "fine-tune" for d in state.done):
        return _final(state, "the finalists were fine-tuned") if state.fine_tune else "done"
    for one in here(state):
        step = _opening(state, one)
        if step is not None:
            return step
    if state.coming and opening_left(state) > 0:
        return Action(state.coming[0], "download", 0, min(state.arrival, opening_left(state)))
    scored = [one for one in running(state) if state.find(one.model, "scores")]
    if not scored:
        return "the budget is too small for a first look at any model"
    probe = _climb(state)
    if isinstance(probe, Action):
        return probe
    return _final(state, probe) if state.fine_tune else probe


def opening_left(state: State) -> float:
    """Seconds that are left for downloads and first rungs once a few models are scored."""
    return state.left - (1 - OPENING_SHARE) * state.budget


def _opening(state: State, one: Candidate) -> Action | None:
    """The look at `one`, then its scores and its first probe, where they are missing and fit.

    Once a few are scored the rest may only take half of the budget: of a hundred models
    the worst by published results are not worth the probes of the best.
    """
    if state.find(one.model, "pace") is None:
        return _if_fits(state, one, "pace", 0, pace_seconds(state))
    first = _first_rung(state, one)
    stages: tuple[Stage, ...] = ("scores", "probe")
    for stage in stages:
        if state.find(one.model, stage) is None:
            cost = frozen_seconds(state, one.model, stage, first)
            return _if_fits(state, one, stage, first, cost)
    return None


def _if_fits(
    state: State, one: Candidate, stage: Stage, rung: int, predicted: float
) -> Action | None:
    scored = {d.model for d in state.done if d.stage == "scores" and d.status == "ok"}
    begun = len(scored) >= FEW and one.model not in scored
    room = opening_left(state) if begun else state.left
    return Action(one.model, stage, rung, predicted) if predicted <= room else None


def _first_rung(state: State, one: Candidate) -> int:
    """The rung that all begin on: FIRST_TRAIN, or the largest on which all fit in their share.

    Told from the pace of the first model that was looked at; the others are taken to be alike.
    """
    if state.first is not None:
        return state.first
    rung = min(round(math.log(SMALLER, GROWTH)), len(state.ladder) - 1)
    many = len(here(state)) + len(state.coming)
    room = opening_left(state)
    while rung and many * opening_seconds(state, one.model, rung) > room:
        rung -= 1
    return rung


def _climb(state: State) -> Action | str:
    """The next probe of the rung that was begun, or of the one to begin; or why there is none."""
    assert state.first is not None
    rung = state.first
    alive = {one.model for one in running(state)}
    while True:
        later = [d for d in state.done if d.stage == "probe" and d.rung > rung]
        if not later:
            return _begin(state, rung, list(state.outcomes(rung)))
        below, rung = rung, min(d.rung for d in later)
        begun = [d for d in later if d.rung == rung]
        among = tuple(model for model in begun[0].among if model in alive)
        tried = {d.model for d in begun}
        waiting = [model for model in among if model not in tried]
        for model in waiting:
            cost = frozen_seconds(state, model, "probe", rung)
            if cost <= state.left:
                return Action(model, "probe", rung, cost, among=among)
        if waiting:  # it took longer than predicted: they meet on a smaller one
            least = _at_least(state, below, WORTH)
            for lower in range(rung - 1, least - 1, -1):
                costs = [frozen_seconds(state, model, "probe", lower) for model in among]
                if sum(costs) <= state.left:
                    return Action(among[0], "probe", lower, costs[0], among=among)


def _begin(state: State, rung: int, group: list[str]) -> Action | str:
    """The first probe of a rung above `rung`, for as many of `group` as the budget allows."""
    if len(group) < 2:
        return "there is nothing left to compare"
    if state.ladder[rung].whole:
        return "all of the data was used"
    group = going_on(state, rung, group)
    if len(group) < 2:
        return "every other model is significantly worse"
    spare = state.left - _reserve(state)
    for many in range(len(group), 1, -1):
        room = spare * (RUNG_SHARE if many > FEW else 1.0)
        above = _above(state, rung, group[:many], room)
        if above is not None:
            cost = frozen_seconds(state, group[0], "probe", above)
            return Action(group[0], "probe", above, cost, among=tuple(group[:many]))
    least = _at_least(state, rung, WORTH)
    cost = sum(frozen_seconds(state, model, "probe", least) for model in group[:2])
    total = state.ladder[least].total
    return f"probes of {FINALISTS} models on {total} examples would take {duration(cost)} more"


def _at_least(state: State, rung: int, factor: float) -> int:
    """The first rung above `rung` of `factor` times its examples, or the last of all."""
    total = factor * state.ladder[rung].total
    last = len(state.ladder) - 1
    return next((i for i in range(rung + 1, last) if state.ladder[i].total >= total), last)


def _above(state: State, rung: int, group: Sequence[str], room: float) -> int | None:
    """The rung that `group` climbs to from `rung` in `room` seconds; None where none is worth it.

    CLIMB times the examples; where little would then be left of the room, at once as far as
    it goes.
    """

    def fits(above: int) -> bool:
        costs = (frozen_seconds(state, model, "probe", above) for model in group)
        return sum(costs) <= room

    least = _at_least(state, rung, WORTH)
    if not fits(least):
        return None
    next_one = _at_least(state, rung, CLIMB)
    last = len(state.ladder) - 1
    if next_one < last and fits(_at_least(state, rung, CLIMB * AFTER)):
        return next_one
    return max(above for above in range(least, last + 1) if fits(above))


def going_on(state: State, rung: int, group: Sequence[str]) -> list[str]:
    """Those of `group` that may yet be the best, the likeliest first by all probes so far."""
    worse = set(beaten(state.outcomes(rung), state.share(rung)))
    rungs = range(rung + 1)
    found = verdicts([state.outcomes(one) for one in rungs], [state.share(one) for one in rungs])
    assert found is not None
    chance = dict(zip(found.models, found.first.tolist(), strict=True))
    order = {model: place for place, model in enumerate(found.models)}
    left = (model for model in group if model not in worse)
    return sorted(left, key=lambda model: (-chance[model], order[model]))


def finalists(state: State) -> list[Candidate]:
    """The best by the furthest probe, and the static favourite."""
    alive = here(state)
    far = {one: d for one in alive if (d := state.find(one.model, "probe")) is not None}
    order = sorted(far, key=lambda one: (-far[one].rung, -(far[one].value or 0.0)))
    chosen = order[:FINALISTS]
    favourite = alive[:1]  # the static ranker's
    return chosen + [one for one in favourite if one not in chosen and one in far]


def _reserve(state: State) -> float:
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
    return f"{why}; fine-tuning {len(chosen)} finalists would take {duration(sum(costs))} at least"
