"""From how many examples of a class a probe beats zero-shot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cells import write_suite
from tinypairs import tiny_pair
from zoobench import store
from zoobench.ranking.nouns import Lead
from zoobench.ranking.outcomes import Kept
from zoobench.ranking.rank import rank
from zoobench.ranking.untrained import _first, lead
from zoobench.report.transfer import transfer_tables
from zoobench.runs import session, suite
from zoobench.statistics.bootstrap import Floats


def kept(rows: Floats) -> Kept:
    return Kept("accuracy", np.arange(rows.shape[1], dtype=np.uint64), True, rows, ())


def test_the_interval_holds_the_true_lead_as_often_as_it_says() -> None:
    """Both sources of luck: which examples were drawn to learn from, and which to be judged by."""
    drawn = np.random.default_rng(0)
    n, draws, rounds, held = 120, 5, 200, 0
    for _ in range(rounds):
        hard = drawn.normal(0, 0.15, n)  # an example is hard for both
        of_draw = drawn.normal(0, 0.05, draws)[:, None]
        probe = drawn.random((draws, n)) < (0.7 + of_draw + hard).clip(0, 1)
        plain = drawn.random((1, n)) < (0.6 + hard).clip(0, 1)
        found = lead(kept(probe.astype(float)), kept(plain.astype(float)))
        assert found.value == pytest.approx(probe.mean() - plain.mean())
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.1 <= found.high
    assert 0.9 * rounds <= held <= 0.99 * rounds, held


def test_few_groups_are_few_and_one_draw_or_group_says_nothing() -> None:
    """Examples of a group are hard together: 20 in each of 5 groups, and no lead."""
    drawn = np.random.default_rng(1)
    units, held, rounds = np.repeat(np.arange(5, dtype=np.uint64), 20), 0, 300
    for _ in range(rounds):
        hard = drawn.normal(0, 0.2, (2, 5)).repeat(20, axis=1)
        probe = drawn.random((4, 100)) < (0.6 + hard[0]).clip(0, 1)
        plain = drawn.random((1, 100)) < (0.6 + hard[1]).clip(0, 1)
        one, other = (Kept("accuracy", units, True, x.astype(float), ()) for x in (probe, plain))
        found = lead(one, other)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert held >= 0.92 * rounds, held
    of_one = Kept("accuracy", np.zeros(100, dtype=np.uint64), True, one.rows, ())
    assert lead(of_one, of_one).low is None
    lone = Kept("accuracy", units, True, other.rows, ())
    assert lead(lone, other).low is None


def test_it_beats_from_where_all_that_follow_do() -> None:
    def leads(*lows: float) -> dict[int, Lead]:
        return {2**i: Lead(low + 0.1, low, low + 0.2, 5) for i, low in enumerate(lows)}

    assert _first(leads(-0.1, 0.01, 0.05)) == 2
    assert _first(leads(0.1, -0.01, 0.05)) == 4
    assert _first(leads(0.1, 0.2, 0.0)) is None
    assert _first(leads(0.1)) == 1


def test_a_run_says_it_of_each_model_and_probe(tmp_path: Path) -> None:
    tiny_pair("clip", tmp_path / "clip")
    file = write_suite(
        tmp_path / "s.toml",
        models=[f"hf/clip?weights={tmp_path / 'clip'}"],
        datasets=["synthetic/stripes?test=60&train=80&noise=20"],
        methods=["ridge", "as-is", '{ name = "as-is", templates = ["a {}"] }'],
        rest="shots = [1, 8]\ndraws = 3\n[limits]\ncost_seconds = 0\n",
    )
    options = session.RunOptions(tmp_path / "run", device="cpu")
    session.execute(suite.read(str(file)), options, lambda plan, event: None)
    run = store.load(tmp_path / "run")
    assert {r.status for r in run.records} == {"ok"}
    ranking = rank([run])
    (found,) = ranking.crossings
    untouched = [r for r in run.records if r.cell.method == "as-is"]
    assert len(untouched) == 2
    most = max(untouched, key=lambda r: len(r.chosen["templates"]))
    assert found.untouched == pytest.approx(most.value("accuracy"))
    for k, one in found.leads.items():
        few = [r.value("accuracy") or 0.0 for r in run.records if r.cell.shots == k]
        assert len(few) == one.draws == 3
        assert one.value == pytest.approx(np.mean(few) - found.untouched)
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.value < one.high
    (table,) = (t for t in transfer_tables(ranking) if t.name == "crossed")
    assert table.rows[0][-1] in ("from 1", "from 8", "not by 8")
