"""From outcomes at several levels to who is best: paired, chained, calibrated."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from zoobench.advise.verdict import Verdicts, beaten, verdicts
from zoobench.ranking.choice import choose
from zoobench.statistics.bootstrap import Floats
from zoobench.statistics.plausible import posterior


def right(rng: np.random.Generator, share: float, n: int = 300) -> Floats:
    return (rng.random(n) < share).astype(np.float64)


def test_a_clear_winner_is_sure_and_near_ties_are_not() -> None:
    rng = np.random.default_rng(0)
    base = right(rng, 0.9)
    twin = base.copy()
    for outcome in (0.0, 1.0):  # one example more, one fewer
        at = int(np.flatnonzero(base == outcome)[0])
        twin[at] = 1 - outcome
    found = verdicts([{"a": base, "b": twin, "c": right(rng, 0.5)}], [1.0])
    assert found is not None
    assert found.models[-1] == "c"
    assert found.tied == (True, True, False)
    assert found.first[-1] < 0.01
    assert 0.2 < found.first[0] < 0.8


def test_who_left_on_few_examples_is_not_taken_for_as_good_as_the_best() -> None:
    """All three are right on the same 30 of 30; two of them on 300, too."""
    few, more = np.ones(30), np.ones(300)
    found = verdicts([{"a": few, "b": few, "c": few}, {"a": more, "b": more}], [0.1, 1.0])
    assert found is not None
    assert choose(found.scores, np.array([3.0, 2.0, 1.0]), 0.01).cheapest is None


def test_who_left_early_keeps_a_chance_that_shrinks_with_the_difference() -> None:
    rng = np.random.default_rng(1)
    early = {"a": right(rng, 0.8), "b": right(rng, 0.79), "c": right(rng, 0.4)}
    late = {"a": right(rng, 0.9, 1000), "b": right(rng, 0.85, 1000)}
    found = verdicts([early, late], [0.3, 1.0])
    assert found is not None
    assert found.models == ("a", "b", "c")
    chance = dict(zip(found.models, found.first, strict=True))
    assert chance["c"] < 0.01
    near = early["a"].copy()
    near[np.flatnonzero(near == 1)[:4]] = 0
    near[np.flatnonzero(early["a"] == 0)[:2]] = 1
    left_near = verdicts([{"a": early["a"], "c": near}, {"a": late["a"]}], [0.3, 1.0])
    assert left_near is not None
    assert min(left_near.first) > 0.1, "the level before is all that tells the two apart"
    twice = verdicts(
        [{"c": early["a"], "a": near}, {"a": late["a"]}, {"a": late["a"]}], [0.3, 0.6, 1]
    )
    assert twice is not None
    assert twice.models == ("c", "a"), "two levels of one model alone say no more than one"


def loss_of(found: Verdicts) -> float:
    """The first's expected shortfall."""
    return float((found.scores.max(axis=1) - found.scores[:, 0]).mean())


def test_one_model_alone_and_none() -> None:
    rng = np.random.default_rng(2)
    found = verdicts([{"a": right(rng, 0.7)}], [0.1])
    assert found is not None
    assert found.models == ("a",)
    assert found.first.tolist() == [1.0]
    assert loss_of(found) == 0.0
    assert verdicts([{}, {}], [0.1, 1.0]) is None


def test_three_models_are_not_taken_to_be_alike_for_want_of_more() -> None:
    """Their spread cannot be estimated: the likeliest is often none, which would make the
    chances equal and the expected loss nothing."""
    rng = np.random.default_rng(8)
    early = {"a": right(rng, 0.75, 156), "b": right(rng, 0.71, 156), "c": right(rng, 0.62, 156)}
    late = {"a": right(rng, 0.88, 422), "b": right(rng, 0.85, 422)}
    found = verdicts([early, late], [0.09, 0.23])
    assert found is not None
    assert found.models == ("a", "b", "c")
    assert found.first[0] > 0.4
    assert found.first[2] < 0.2
    assert loss_of(found) > 0.002


def test_near_copies_are_no_proof_that_all_models_are_alike() -> None:
    """a and b are right on the same examples; c is significantly worse than both."""
    perfect, c, d = np.ones(200), np.ones(200), np.ones(200)
    c[:8] = 0
    d[20:26] = 0
    found = verdicts([{"a": perfect, "b": perfect.copy(), "c": c, "d": d}], [1.0])
    assert found is not None
    chance = dict(zip(found.models, found.first.tolist(), strict=True))
    assert chance["a"] == pytest.approx(chance["b"], abs=0.03)
    assert chance["a"] > 0.4
    assert chance["c"] < 0.06
    assert loss_of(found) < 0.002


def test_draws_without_spread_are_exact_ties() -> None:
    rng = np.random.default_rng(9)
    value = np.array([0.8, 0.79, 0.8, 0.795])
    draws = value + 0.03 * rng.standard_normal((2000, 4)) @ rng.uniform(0.5, 1, (4, 4))
    plausible = posterior(value, draws)
    equal = np.ptp(plausible, axis=1) < 1e-6
    assert equal.mean() > 0.05
    assert (np.ptp(plausible[equal], axis=1) < 1e-12).all()


def test_nobody_who_left_passes_the_best_of_the_last_level() -> None:
    rng = np.random.default_rng(3)
    early = {"a": right(rng, 0.6), "b": right(rng, 0.6), "c": right(rng, 0.95)}
    found = verdicts([early, {"a": right(rng, 0.9, 900), "b": right(rng, 0.8, 900)}], [0.3, 1.0])
    assert found is not None
    assert found.models[0] == "a"
    assert found.first[found.models.index("c")] > 0.5, "but the probability says it"


@pytest.mark.parametrize("crossing", [0.1, 0.3])
def test_the_probability_of_the_pick_is_calibrated(crossing: float) -> None:
    """Drawn worlds of five models whose learning curves cross: how often the pick of a seventh
    of the data is the best on all of it, against what was said; and of a third, where two are
    seen."""
    rng = np.random.default_rng(4)
    said, was = [], []
    for _ in range(150):
        truth = rng.normal(0.85, 0.03, 5)
        rise = rng.uniform(0.05, 0.15) * (1 + crossing * rng.standard_normal(5))
        decay = rng.uniform(0.3, 0.7)
        names = [f"m{i}" for i in range(5)]

        def seen(share: float, n: int, truth: Floats, rise: Floats, decay: float) -> list[Floats]:
            left = (share**-decay - 1) / (0.1**-decay - 1)  # of the rise from a tenth on
            return [right(rng, p, n) for p in truth - rise * left]

        first = dict(zip(names, seen(0.14, 250, truth, rise, decay), strict=True))
        kept = sorted(names, key=lambda n: -first[n].mean())[:2]
        then = dict(zip(names, seen(0.33, 600, truth, rise, decay), strict=True))
        early = verdicts([first], [0.14])
        later = verdicts([first, {n: then[n] for n in kept}], [0.14, 0.33])
        assert early is not None
        assert later is not None
        said.append([early.first[0], later.first[0]])
        best = names[int(np.argmax(truth))]
        was.append([best == early.models[0], best == later.models[0]])
    gap = np.mean(said, axis=0) - np.mean(was, axis=0)
    assert (gap < 0.08).all(), "not too sure"
    assert (gap > -0.125).all(), "nor too shy"


def test_an_early_probability_leaves_the_untried_their_share() -> None:
    rng = np.random.default_rng(5)
    level = {"a": right(rng, 0.9), "b": right(rng, 0.5)}
    found = verdicts([level], [1.0], untried=6)
    assert found is not None
    assert abs(found.first[0] - 2 / 8) < 0.01, "a is the best of two, and each of 8 was as likely"
    alone = verdicts([{"a": level["a"]}], [1.0], untried=3)
    assert alone is not None
    assert alone.first.tolist() == [0.25]


def test_part_of_the_data_makes_nobody_as_sure_as_all_of_it() -> None:
    rng = np.random.default_rng(6)
    level = {"a": right(rng, 0.9, 20_000), "b": right(rng, 0.885, 20_000)}
    part, whole = verdicts([level], [0.2]), verdicts([level], [1.0])
    assert part is not None
    assert whole is not None
    assert whole.first[0] > 0.99
    assert 0.8 < part.first[0] < 0.98


def test_who_is_beaten_is_seldom_the_best() -> None:
    """400 races of five models on 450 examples: the true best is dropped in under 1%."""
    rng = np.random.default_rng(7)
    lost = gone = 0
    for _ in range(400):
        truth = rng.normal(0.8, 0.05, 5)
        hard = rng.random(450)
        level = {
            f"m{i}": (np.where(rng.random(450) < 0.5, rng.random(450), hard) < p).astype(float)
            for i, p in enumerate(truth)
        }
        worse = beaten(level, 1.0)
        gone += len(worse)
        lost += f"m{int(np.argmax(truth))}" in worse
    assert lost < 4
    assert gone > 400, "and many others are"
    assert beaten({"a": np.ones(9)}, 1.0) == []
    assert beaten({"a": np.ones(9), "b": np.ones(9)}, 1.0) == []


def test_no_verdict_waits_for_scipy_stats() -> None:
    code = (
        "import sys, numpy as np; from zoobench.advise.verdict import beaten, verdicts;"
        "level = {'a': np.ones(50), 'b': np.arange(50) % 2.0, 'c': np.zeros(50)};"
        "assert beaten(level, 1.0) == ['b', 'c'] and verdicts([level], [1.0]).tied[0];"
        "bad = {'torch', 'pandas', 'scipy.stats'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("examples", "sure"), [(10, False), (1000, True)])
def test_near_copies_seen_on_few_examples_may_differ_on_others(examples: int, sure: bool) -> None:
    right = np.ones(examples)
    found = verdicts([{"a": right, "b": right.copy()}], [1.0])
    assert found is not None
    picked = choose(found.scores, np.array([2.0, 1.0]), 0.01)
    assert (picked.cheapest is not None) == sure
