"""Scores that foresee fine-tuning, and static rankers beside them."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import weightedtau

from fakes import make_record
from zoobench.ranking.foresight import mean_over, regret, weighted_tau
from zoobench.ranking.nouns import Judged
from zoobench.ranking.rank import rank
from zoobench.report.transfer import transfer_tables
from zoobench.schema import Measurement, Record, Ref
from zoobench.store import Run

MODELS = [f"timm/net{m}@1" for m in range(5)]
SETS = ("packaged/a@1", "packaged/b@1")
TRUTH = (0.6, 0.7, 0.9, 0.8, 0.85)


def records() -> list[Record]:
    """LogME knows the order, TransRate has it backwards, LEEP is held by two models only."""
    found = []
    for at, dataset in enumerate(SETS):
        for m, model in enumerate(MODELS):
            right = np.arange(1000) < 1000 * (TRUTH[m] - 0.05 * at)
            found.append(make_record(model, dataset, "fine-tune", right=right, size=m + 1))
            probe = make_record(model, dataset, "knn", right=right, size=m + 1)
            scores = {"logme": TRUTH[m], "transrate": -TRUTH[m], "valid_accuracy": 0.5}
            scores |= {"leep": -1.0} if m < 2 else {}
            extra = tuple(Measurement(k, v, "", "higher") for k, v in scores.items())
            found.append(dataclasses.replace(probe, measurements=probe.measurements + extra))
    for m, top1 in enumerate((0.5, 0.6, 0.95, 0.7, 0.8)):
        record = make_record(f"timm/net{m}?img_size=224", "published/imagenet", "published")
        measured = (Measurement("accuracy", top1, "fraction", "higher", top1 - 0.01, top1 + 0.01),)
        found.append(dataclasses.replace(record, measurements=measured))
    return found


def test_each_score_is_judged_beside_the_static_rankers(tmp_path: Path) -> None:
    ranking = rank([Run(tmp_path, tuple(records()), {})])
    found = {(j.ranker, j.datasets[0].text): j for j in ranking.judged}
    one = found["LogME", SETS[0]]
    assert one.regret == {1: 0.0, 3: 0.0}
    assert one.tau == pytest.approx(1.0)
    assert not one.static
    backwards = found["TransRate", SETS[0]]
    assert backwards.regret == {1: pytest.approx(0.3), 3: pytest.approx(0.1)}
    assert backwards.tau == pytest.approx(-1.0)
    assert ("LEEP", SETS[0]) not in found  # two models are no ranking
    assert found["kNN", SETS[0]].tau is None
    assert found["parameters", SETS[0]].regret[1] == pytest.approx(0.05)
    assert found["published ImageNet top-1", SETS[1]].tau == pytest.approx(1.0)
    assert found["mean over the other datasets", SETS[1]].regret[1] == 0.0
    assert {j.models for j in ranking.judged} == {5}
    (row,) = (j for j in mean_over(ranking.judged) if j.ranker == "TransRate")
    assert row.regret[1] == pytest.approx(0.3)
    (table,) = (t for t in transfer_tables(ranking) if t.name == "foreseen")
    assert ("LogME", "score", "2 datasets", "0.0 points", "0.0 points", "+1.00", "5 of 5") in (
        table.rows
    )


def test_without_fine_tunes_nothing_is_judged(tmp_path: Path) -> None:
    probes = tuple(r for r in records() if r.cell.method != "fine-tune")
    assert rank([Run(tmp_path, probes, {})]).judged == ()


def test_regret_takes_ties_in_every_order() -> None:
    accuracy = np.array([0.5, 0.9, 0.7, 0.6])
    assert regret(accuracy, np.array([4.0, 3, 2, 1]), 1) == pytest.approx(0.4)
    assert regret(accuracy, np.array([4.0, 3, 2, 1]), 2) == 0.0
    score = np.array([2.0, 1.0, 1.0, 1.0])
    pairs = [0.9 - max(0.5, accuracy[i]) for i in (1, 2, 3)]
    assert regret(accuracy, score, 2) == pytest.approx(np.mean(pairs))
    level = [0.9 - max(accuracy[list(c)]) for c in itertools.combinations(range(4), 3)]
    assert regret(accuracy, np.zeros(4), 3) == pytest.approx(np.mean(level))


def test_the_weighted_tau_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 12))
    assert weighted_tau(x, y) == pytest.approx(weightedtau(y, x).statistic)
    assert weighted_tau(x, np.ones(12)) is None


def test_errors_in_several_units_have_no_mean() -> None:
    judged = [
        Judged("params", True, (Ref("table", name),), "mae", {1: regret}, 0.5, 3, 3)
        for name, regret in (("cm", 30.0), ("km", 0.002))
    ]
    accuracy = dataclasses.replace(judged[0], metric="accuracy", regret={1: 0.2})
    rows = mean_over([*judged, accuracy])
    assert [(row.metric, dict(row.regret), row.tau) for row in rows] == [
        ("mae", {}, 0.5), ("accuracy", {1: 0.2}, 0.5),
    ]  # fmt: skip


def test_variants_are_no_models_to_foresee(tmp_path: Path) -> None:
    right = np.arange(1000) < 650
    variant = make_record(f"{MODELS[0]}?variant=bf16", SETS[0], "fine-tune", right=right, size=1)
    found = rank([Run(tmp_path, (*records(), variant), {})]).judged
    assert found == rank([Run(tmp_path, tuple(records()), {})]).judged
