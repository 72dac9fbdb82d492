"""Deciding, without doing: a simulated world says what each step costs and finds."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from zoobench.advise.nouns import Action, Candidate, Done, State, packed, unpacked
from zoobench.advise.policy import RECIPES, finalists, ladder, next_action, static_order
from zoobench.advise.seconds import BACKWARD, frozen_seconds

SIZES = (3600, 400, 1000)
FIRST = 32
"""The rung of 200 training examples."""


def candidate(name: str, prior: float | None = None, params: float | None = None) -> Candidate:
    return Candidate(name, "MIT", "f", prior, params)


@dataclass
class World:
    """True seconds an example and accuracy by model; steps take up to 8% more or less."""

    pace: dict[str, float]
    quality: dict[str, float]
    seed: int = 0

    def run(self, state: State) -> tuple[State, str]:
        rng = np.random.default_rng(self.seed)
        for _ in range(1000):
            action = next_action(state)
            if isinstance(action, str):
                return state, action
            assert state.spent + action.predicted <= state.budget
            one = self.do(state, action, rng)
            state = dataclasses.replace(
                state, done=(*state.done, one), spent=state.spent + one.seconds
            )
        raise AssertionError("it never ended")

    def do(self, state: State, action: Action, rng: np.random.Generator) -> Done:
        pace = self.pace[action.model] * rng.uniform(0.93, 1.07)
        step = Done(action.model, action.stage, action.rung, 0.0, predicted=action.predicted)
        if action.stage == "pace":
            return dataclasses.replace(step, new=32, extract=32 * pace, seconds=1 + 32 * pace)
        rung = state.ladder[action.rung]
        value = self.quality[action.model]
        if action.recipe is not None:
            scored = rung.valid * len(action.recipe.rates) + rung.test
            seconds = (action.recipe.passes * BACKWARD + 1.5 * scored) * pace
            return dataclasses.replace(step, value=value, seconds=seconds, recipe=action.recipe)
        have = [d.rung for d in state.done if d.model == action.model and d.stage != "pace"]
        new = rung.total - (state.ladder[max(have)].total if have else 32)
        facts = {"logme": value, "h_score": value}
        right = self.right(action.model, rung.total) if action.stage == "probe" else None
        return dataclasses.replace(
            step, new=max(0, new), extract=max(0, new) * pace, facts=facts,
            seconds=max(0, new) * pace + 0.5 + 0.001 * rung.train, among=action.among,
            value=value if right is None else float(right.mean()),
            right="" if right is None else packed(right),
        )  # fmt: skip

    def right(self, model: str, n: int) -> np.ndarray:
        """Outcomes that mostly depend on how hard an example is, the same for all models."""
        hard = np.random.default_rng([self.seed, 9]).random(n)
        own = np.random.default_rng([self.seed, sorted(self.pace).index(model)])
        return np.where(own.random(n) < 0.5, own.random(n), hard) < self.quality[model]


def start(world: World, budget: float, fine_tune: bool = True) -> State:
    names = sorted(world.pace)
    found = static_order([candidate(name, 0.5 + 0.01 * i) for i, name in enumerate(names)])
    return State(found, ladder(SIZES, 10), budget, 5.0, fine_tune=fine_tune)


def test_rungs_grow_within_the_data_and_end_with_all_of_it() -> None:
    rungs = ladder(SIZES, 10)
    assert [r.train for r in rungs[::16]] == [50, 100, 200, 400, 800, 1600, 3200]
    assert [r.test for r in rungs[::16]] == [50, 100, 200, 200, 222, 444, 889]
    assert [r.train for r in rungs[FIRST:][:17:4]] == [200, 238, 283, 336, 400]
    assert [r.whole for r in rungs] == [False] * 97 + [True]
    for small, large in itertools.pairwise(rungs):
        assert small.valid <= large.valid
        assert small.test <= large.test
    assert [r.train for r in ladder((54, 10, 60), 4)] == [54]
    assert ladder((5000, 500, 500), 100)[FIRST].train == 1000, "ten a class"


def test_outcomes_survive_the_journal() -> None:
    right = np.random.default_rng(0).random(1003) < 0.7
    assert np.array_equal(unpacked(packed(right), 1003), right.astype(float))


def test_the_static_order_is_by_published_accuracy_then_by_size() -> None:
    given = [candidate("a", None, 1e6), candidate("b", 0.4), candidate("c", 0.6),
             candidate("d", None, 9e6)]  # fmt: skip
    assert [one.model for one in static_order(given)] == ["c", "b", "d", "a"]


@pytest.mark.parametrize("budget", [20.0, 60.0, 200.0, 600.0, 3000.0, 50_000.0])
@pytest.mark.parametrize("seed", range(5))
def test_no_budget_is_overrun_by_a_tenth(budget: float, seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    names = [f"m{i:02}" for i in range(12)]
    world = World(
        {name: float(rng.uniform(0.001, 0.1)) for name in names},
        {name: float(rng.uniform(0.5, 0.9)) for name in names},
        seed,
    )
    state, _ = world.run(start(world, budget))
    assert state.spent <= 1.1 * budget
    if budget >= 3000:
        best = max(world.quality.values())
        assert world.quality[finalists(state)[0].model] > best - 0.02


def test_a_step_that_would_overrun_never_begins() -> None:
    world = World({"a": 1.0, "b": 1.0}, {"a": 0.9, "b": 0.8})
    state, why = world.run(start(world, 100.0))
    assert {d.stage for d in state.done} == {"pace"}, "120 examples at 1 s each do not fit"
    assert "too small" in why


def test_the_favourite_is_fine_tuned_with_the_best_probes() -> None:
    world = World(
        dict.fromkeys("abcdef", 0.001),
        {"a": 0.9, "b": 0.89, "c": 0.8, "d": 0.7, "e": 0.6, "f": 0.5},
    )
    state, _ = world.run(start(world, 2000.0))
    tuned = [d for d in state.done if d.stage == "fine-tune"]
    assert [d.model for d in tuned] == ["a", "b", "f"], "f has the best published results"
    assert {d.recipe for d in tuned} <= set(RECIPES)
    assert len({d.recipe for d in tuned}) == 1, "one recipe for all"


def probed(state: State) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for one in state.done:
        if one.stage == "probe":
            found.setdefault(one.rung, set()).add(one.model)
    return found


def test_who_is_significantly_worse_leaves_and_near_ties_go_on() -> None:
    quality = {"a": 0.9, "b": 0.9, "c": 0.9, "d": 0.5, "e": 0.45}
    world = World(dict.fromkeys(quality, 0.001), quality)
    state, why = world.run(start(world, 3000.0, fine_tune=False))
    seen = probed(state)
    assert seen.pop(FIRST) == set(quality)
    assert set(map(frozenset, seen.values())) == {frozenset("abc")}
    assert why == "all of the data was used"


def test_no_more_is_spent_once_one_is_significantly_better() -> None:
    world = World({"a": 0.001, "b": 0.001}, {"a": 0.9, "b": 0.4})
    state, why = world.run(start(world, 3000.0, fine_tune=False))
    assert list(probed(state)) == [FIRST]
    assert why == "every other model is significantly worse"


def test_near_ties_share_the_budget_and_use_it() -> None:
    """Three near-ties where all of the data fits for none: all see the same, until time is up."""
    world = World(dict.fromkeys("abc", 0.01), dict.fromkeys("abc", 0.9))
    state, why = world.run(start(world, 60.0, fine_tune=False))
    seen = probed(state)
    assert seen[max(seen)] == set("abc")
    assert "probes of 2 models" in why
    assert state.spent > 0.9 * 60


def test_the_budget_forces_out_the_least_likely() -> None:
    quality = {"a": 0.95, "b": 0.93, "c": 0.92, "d": 0.84, "e": 0.83, "f": 0.82}
    world = World(dict.fromkeys(quality, 0.01), quality)
    state, _ = world.run(start(world, 60.0, fine_tune=False))
    seen = probed(state)
    assert 2 <= len(seen[max(seen)]) < 6
    assert seen[max(seen)] <= {"a", "b", "c"}


def test_a_rung_that_took_too_long_is_met_lower() -> None:
    """One is probed on a rung that no longer fits for the others: all meet on a smaller one."""
    world = World(dict.fromkeys("abc", 0.01), {"a": 0.9, "b": 0.89, "c": 0.9})
    whole, _ = world.run(start(world, 120.0, fine_tune=False))
    cut = next(i for i, d in enumerate(whole.done) if d.stage == "probe" and d.rung > FIRST) + 1
    begun = whole.done[cut - 1]
    late = dataclasses.replace(whole, done=whole.done[:cut])
    cost = frozen_seconds(late, "c", "probe", begun.rung)
    late = dataclasses.replace(late, spent=120.0 - 0.95 * cost)
    again = next_action(late)
    assert isinstance(again, Action)
    assert FIRST < again.rung < begun.rung
    assert set(again.among) == set(begun.among)
    ended = late
    rng = np.random.default_rng(0)
    while isinstance(again, Action):
        one = world.do(ended, again, rng)
        done, spent = (*ended.done, one), ended.spent + one.seconds
        ended = dataclasses.replace(ended, done=done, spent=spent)
        again = next_action(ended)
    seen = probed(ended)
    assert any(seen[rung] == set(begun.among) for rung in seen if FIRST < rung < begun.rung)
    assert ended.spent <= 1.05 * 120


def test_a_small_budget_begins_on_fewer_examples() -> None:
    firsts: list[int] = []
    for budget in (20.0, 35.0, 200.0):
        world = World(dict.fromkeys("abc", 0.01), {"a": 0.9, "b": 0.7, "c": 0.5})
        state, _ = world.run(start(world, budget, fine_tune=False))
        scored = [d for d in state.done if d.stage == "scores"]
        assert len(scored) == 3
        assert {d.rung for d in scored} == {state.first}
        assert state.first is not None
        firsts.append(state.first)
    assert firsts == sorted(firsts)
    assert firsts[0] < firsts[-1] == FIRST


def test_a_rung_that_was_begun_goes_on_with_the_same_models() -> None:
    world = World(dict.fromkeys("abc", 0.01), {"a": 0.9, "b": 0.88, "c": 0.89})
    whole, _ = world.run(start(world, 120.0, fine_tune=False))
    cut = next(i for i, d in enumerate(whole.done) if d.stage == "probe" and d.rung > FIRST) + 1
    again = next_action(dataclasses.replace(whole, done=whole.done[:cut], spent=30.0))
    assert isinstance(again, Action)
    begun = whole.done[cut - 1]
    assert (again.rung, again.among) == (begun.rung, begun.among)
    assert again.model != begun.model


def test_of_many_models_the_best_published_are_tried_and_probes_are_left_their_time() -> None:
    names = [f"m{i:03}" for i in range(100)]
    world = World(dict.fromkeys(names, 0.01), {n: 0.5 + i / 300 for i, n in enumerate(names)})
    state, _ = world.run(start(world, 120.0, fine_tune=False))
    tried = [d.model for d in state.done if d.stage == "scores"]
    assert tried == names[::-1][: len(tried)]
    assert 3 <= len(tried) < 30
    seen = probed(state)
    assert max(seen) >= 12
    assert 2 <= len(seen[max(seen)]) < len(tried)


def test_what_failed_or_broke_a_limit_is_not_tried_again() -> None:
    world = World({"a": 0.001, "b": 0.001, "c": 0.001}, {"a": 0.9, "b": 0.8, "c": 0.7})
    broken = Done("a", "pace", 0, 1.0, "crash", "it died")
    state = dataclasses.replace(
        start(world, 500.0), done=(broken,), ruled_out={"b": "params 9 is above 1"}
    )
    ended, _ = world.run(state)
    assert {d.model for d in ended.done[1:]} == {"c"}


def test_features_that_are_held_are_not_paid_for_again() -> None:
    world = World({"a": 0.01}, {"a": 0.9})
    state, why = world.run(start(world, 60.0, fine_tune=False))
    assert state.first == FIRST
    assert why == "there is nothing left to compare"
    probe = frozen_seconds(state, "a", "probe", FIRST)
    assert probe < 450 * 0.01
    assert frozen_seconds(state, "a", "probe", FIRST + 16) > probe + 190 * 0.01


def test_what_is_coming_is_waited_for_in_the_first_half_only() -> None:
    """Those that are here are tried meanwhile; what is absent is never asked for anything."""
    world = World(dict.fromkeys("ab", 0.001), {"a": 0.9, "b": 0.89})
    state = dataclasses.replace(
        start(world, 600.0, fine_tune=False),
        absent=frozenset("a"), coming=("a",), arrival=30.0,
    )  # fmt: skip
    seen = []
    rng = np.random.default_rng(0)
    while not isinstance(action := next_action(state), str) and action.stage != "download":
        seen.append(action.model)
        one = world.do(state, action, rng)
        state = dataclasses.replace(state, done=(*state.done, one), spent=state.spent + one.seconds)
    assert seen == ["b", "b", "b"]
    assert action == Action("a", "download", 0, 30.0)
    late = dataclasses.replace(state, spent=299.0)
    assert next_action(late) == Action("a", "download", 0, 1.0)
    over = dataclasses.replace(state, spent=300.0)
    assert next_action(over) == "there is nothing left to compare"
    given_up = dataclasses.replace(state, coming=())
    assert next_action(given_up) == "there is nothing left to compare"
    here = dataclasses.replace(state, absent=frozenset(), coming=())
    step = next_action(here)
    assert isinstance(step, Action)
    assert (step.model, step.stage) == ("a", "pace"), "it came: it is tried like the others"


def test_what_is_coming_has_its_place_on_the_first_rung() -> None:
    names = [f"m{i:02}" for i in range(20)]
    world = World(dict.fromkeys(names, 0.02), dict.fromkeys(names, 0.9))
    state, step = start(world, 120.0), next_action(start(world, 120.0))
    rungs: list[int] = []
    for absent in ((), names[1:], names[1:]):
        coming = tuple(absent) if len(rungs) == 1 else ()
        one = dataclasses.replace(state, absent=frozenset(absent), coming=coming)
        step = next_action(one)
        assert isinstance(step, Action)
        looked = world.do(one, step, np.random.default_rng(0))
        step = next_action(dataclasses.replace(one, done=(looked,), spent=looked.seconds))
        assert isinstance(step, Action)
        rungs.append(step.rung)
    assert rungs[0] == rungs[1] < rungs[2], "what is on its way counts, what is given up does not"
