"""What a step will cost, from what steps have cost so far. Pure.

A step is extraction of new examples at the model's measured pace, and the rest (loading,
fitting), which grows with the examples. `MARGIN` is on top: a step that ends early costs
nothing, one that overruns breaks the promise.
"""

from __future__ import annotations

from zoobench.advise.nouns import Recipe, Stage, State

MARGIN = 1.05
FIRST_PACE = 6.0
"""Seconds allowed to load a model and try it on a few examples, before any has been."""
FIT = {"scores": (0.3, 0.001), "probe": (0.3, 0.002)}
"""Seconds of fitting before any was measured: (at once, an example)."""
BACKWARD = 4.5
"""Training on an example against extracting its features, before it was measured."""


def pace_seconds(state: State) -> float:
    """The first look at a model: what the slowest took so far."""
    seen = [d.seconds for d in state.done if d.stage == "pace" and d.status == "ok"]
    return MARGIN * max(seen) if seen else FIRST_PACE


def per_example(state: State, model: str) -> float:
    """Seconds that one example's features cost: the bulk measured, else the first look."""
    bulk = [d for d in state.done if d.model == model and d.new and d.stage != "pace"]
    if bulk:
        return sum(d.extract for d in bulk) / sum(d.new for d in bulk)
    look = state.find(model, "pace")
    assert look is not None, "a model's pace is measured before anything is predicted"
    return look.extract / look.new


def held(state: State, model: str) -> int:
    """The largest rung whose features `model` has, or -1."""
    rungs = [d.rung for d in state.done if d.model == model and d.stage in ("scores", "probe")]
    return max(rungs, default=-1)


def frozen_seconds(state: State, model: str, stage: Stage, rung: int) -> float:
    """Seconds of a `scores` or `probe` step of `model` at `rung`."""
    have = held(state, model)
    look = state.find(model, "pace")
    known = state.ladder[have].total if have >= 0 else look.new if look is not None else 0
    extraction = max(0, state.ladder[rung].total - known) * per_example(state, model)
    return MARGIN * (extraction + _rest(state, model, stage, rung))


def opening_seconds(state: State, model: str, rung: int) -> float:
    """Seconds of both `scores` and `probe` at `rung`, the first that `model` begins on."""
    return frozen_seconds(state, model, "scores", rung) + MARGIN * _rest(
        state, model, "probe", rung
    )


def _rest(state: State, model: str, stage: Stage, rung: int) -> float:
    """Fitting: this model's last such step scaled up, else the slowest other's."""
    own = [d for d in state.done if d.stage == stage and d.status == "ok" and d.model == model]
    other = [d for d in state.done if d.stage == stage and d.status == "ok"]
    total = state.ladder[rung].total
    if own or other:
        return max(
            (d.seconds - d.extract) * max(1.0, total / state.ladder[d.rung].total)
            for d in (own[-1:] or other)
        )
    at_once, each = FIT[stage]
    return at_once + each * total


def fine_tune_seconds(state: State, model: str, recipe: Recipe) -> float:
    """A fine-tune of `model` on all of the data by `recipe`, `valid` scored once a rate."""
    seen = [d for d in state.done if d.stage == "fine-tune" and d.status == "ok"]
    # Against what was predicted before any was measured, so that one correction serves all.
    ratio = max((d.seconds / _raw(state, d.model, d.recipe) for d in seen if d.recipe), default=1.0)
    return MARGIN * ratio * _raw(state, model, recipe)


def _raw(state: State, model: str, recipe: Recipe) -> float:
    """Seconds at the model's pace, before any fine-tune has been measured."""
    last = state.ladder[-1]
    scored = last.valid * len(recipe.rates) + last.test
    return (recipe.passes * BACKWARD + 1.5 * scored) * per_example(state, model)
