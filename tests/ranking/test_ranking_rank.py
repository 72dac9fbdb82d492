from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fakes import make_outcomes, make_record, make_run
from zoobench.ranking.comparability import comparability, differing, split_comparable
from zoobench.ranking.overall import z_scores
from zoobench.ranking.pareto import front, front_of
from zoobench.ranking.rank import rank
from zoobench.report.text import section_method
from zoobench.schema import Measurement, Record, Ref
from zoobench.store import Run, Store, load

A, B, C = "timm/netA@1", "timm/netB@1", "timm/other@1"
D1, D2 = "packaged/digits@1", "packaged/mnist-5k@1?max_train=500"


def test_ties_and_the_front(tmp_path: Path) -> None:
    run = make_run(tmp_path, [A, B, C], [D1, D2], {A: 0.90, B: 0.905, C: 0.7})
    ranking = rank([run])
    (overall,) = ranking.overall
    assert {row.model.text for row in overall.tied} == {A, B}
    assert [row.rank_low for row in overall.rows][2] == overall.rows[2].rank_high == 3
    assert sum(row.first for row in overall.rows) == pytest.approx(1)
    assert front_of(overall.rows, "params")[0].model.text == A
    assert rank([run]) == ranking


def test_controls_are_shown_but_not_ranked(tmp_path: Path) -> None:
    run = make_run(tmp_path, [A], [D1], {A: 0.9})
    (section,) = rank([run]).sections
    assert [row.model.text for row in section.rows] == [A]
    shown = {c.model.text for c in section.controls}
    assert {"control/chance", "control/majority", "control/raw-input"} <= shown
    assert f"{A}?weights=random" in shown
    assert section.rows[0].flags == ()


def test_suspect_and_not_better_than_random_weights(tmp_path: Path) -> None:
    run = make_run(tmp_path, [A, B], [D1], {A: 0.9, B: 0.40})
    (section,) = rank([run]).sections
    flags = {row.model.text: [flag.name for flag in row.flags] for row in section.rows}
    assert flags == {A: [], B: ["suspect", "not better than random weights"]}


def test_negative_transfer(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 400).astype(np.int32)
    with Store(tmp_path, 'identity = "x"\n', "x") as store:
        for method, level in (("fine-tune", 0.7), ("from-scratch", 0.9)):
            right = rng.random(400) < level
            record = make_record(A, D1, method, right=right)
            store.append(record, make_outcomes(right, labels, 10))
    sections = {s.method: s for s in rank([load(tmp_path)]).sections}
    names = [f.name for f in sections["fine-tune"].rows[0].flags]
    assert names == ["negative transfer", "one run"]
    assert [f.name for f in sections["from-scratch"].rows[0].flags] == ["one run"]


def test_a_failed_cell_is_named_never_averaged_away(tmp_path: Path) -> None:
    models = [A, B, C]
    sets = [D1, D2, "packaged/third@1"]
    fault = {(C, D2): ("oom", "needed 3 GB")}
    run = make_run(tmp_path, models, sets, {A: 0.9, B: 0.8, C: 0.99}, failures=fault)
    ranking = rank([run])
    (overall,) = ranking.overall
    assert [d.text for d in overall.datasets] == [D1, "packaged/third@1"]
    assert overall.left_out_datasets == {Ref.parse(D2): "lacks timm/other"}
    assert overall.rows[0].model.text == C
    assert [(f.model.text, f.dataset.text, f.status) for f in ranking.failures] == [(C, D2, "oom")]


def test_a_model_with_few_cells_does_not_cost_the_others_their_datasets(tmp_path: Path) -> None:
    fault = {(C, D2): ("crash", "signal 11")}
    run = make_run(tmp_path, [A, B, C], [D1, D2], {A: 0.9, B: 0.8, C: 0.99}, failures=fault)
    (overall,) = rank([run]).overall
    assert [d.text for d in overall.datasets] == [D1, D2]
    assert overall.left_out_models == {Ref.parse(C): "1 of 2 datasets"}


def test_one_of_many_models_costs_no_dataset(tmp_path: Path) -> None:
    models = [A, B, C, "timm/fourth@1", "timm/fifth@1"]
    sets = [D1, D2, "packaged/third@1"]
    fault = {(C, D2): ("oom", "needed 3 GB")}
    run = make_run(tmp_path, models, sets, {A: 0.9, C: 0.99}, failures=fault, controls=False)
    (overall,) = rank([run]).overall
    assert [d.text for d in overall.datasets] == sets
    assert overall.left_out_models == {Ref.parse(C): "2 of 3 datasets"}


def test_models_that_share_no_dataset_are_ranked_apart(tmp_path: Path) -> None:
    make_run(tmp_path / "image", [A, B], [D1], {A: 0.9, B: 0.8})
    make_run(tmp_path / "text", [C], ["packaged/words@1"], {C: 0.7})
    ranking = rank([load(tmp_path / "image"), load(tmp_path / "text")])
    assert [[r.model.text for r in o.rows] for o in ranking.overall] == [[A, B], [C]]


def test_all_controls_off_and_nothing_ok(tmp_path: Path) -> None:
    fault = {(A, D1): ("missing-weights", "not here")}
    run = make_run(tmp_path, [A], [D1], {A: 0.9}, failures=fault, controls=False)
    ranking = rank([run])
    assert ranking.overall == ()
    assert ranking.sections[0].rows == ()
    assert len(ranking.failures) == 1


def test_disagreeing_orders_are_named(tmp_path: Path) -> None:
    sets = [f"packaged/d{i}@1" for i in range(3)]
    truth = {(A, d): 0.80 for d in sets} | {(B, d): 0.84 for d in sets} | {(B, sets[0]): 0.4}
    run = make_run(tmp_path, [A, B], sets, truth, n=1500, controls=False)
    (overall,) = rank([run]).overall
    assert overall.rows[0].model.text == A
    assert any("netB is 2nd by mean, 1st by mean rank" in text for text in overall.disagreements)


def test_a_saturated_dataset_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, [A, B], [D1], {A: 0.997, B: 0.995}, n=300, controls=False)
    assert rank([run]).sections[0].saturated
    other = make_run(tmp_path / "2", [A, B], [D1], {A: 0.8, B: 0.7}, n=300, controls=False)
    assert not rank([other]).sections[0].saturated


def test_without_predictions_intervals_have_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path, [A, B], [D1], {A: 0.95, B: 0.6})
    bare = Run(
        run.path, tuple(dataclasses.replace(r, predictions="") for r in run.records), run.suite
    )
    (section,) = rank([bare]).sections
    assert not section.paired
    assert [row.rank_high for row in section.rows] == [1, 2]


def test_what_parts_two_records() -> None:
    right = np.ones(10, bool)
    one = make_record(A, D1, right=right)
    keys = [comparability(one)]
    changed = {
        "precision": dataclasses.replace(
            one.cell, versions={**one.cell.versions, "precision": "bf16"}
        ),
        "params": dataclasses.replace(one.cell, params={"k": 20}),
        "protocol": dataclasses.replace(one.cell, versions={**one.cell.versions, "protocol": 2}),
        "input_size": dataclasses.replace(one.cell, model=Ref.parse(f"{A}?input_size=64")),
        "method": dataclasses.replace(one.cell, method="knn"),
    }
    shorter = dataclasses.replace(one.cell, model=Ref.parse(f"{A}?length=8"))
    other = comparability(dataclasses.replace(one, cell=shorter))
    assert differing(keys[0], other) == ["input_size"], "windows of texts have a size, too"
    for name, cell in changed.items():
        other = comparability(dataclasses.replace(one, cell=cell))
        assert differing(keys[0], other) == [name]
    moved = {**one.provenance, "splits": {"train": "x", "valid": "y", "test": "z"}}
    other_splits = dataclasses.replace(one, provenance=moved)
    assert differing(keys[0], comparability(other_splits)) == ["splits"]
    seed = dataclasses.replace(one, cell=dataclasses.replace(one.cell, seed=3, model=Ref.parse(B)))
    assert comparability(seed) == keys[0]
    assert len(split_comparable([one, other_splits, seed])) == 2


def test_records_in_two_precisions_are_ranked_apart(tmp_path: Path) -> None:
    """What was taken parts them; random weights check their model whatever they were run in."""
    fault = {(C, D1): ("oom", "needed 3 GB")}
    values = {A: 0.9, B: 0.41, C: 0.7}
    run = make_run(tmp_path, [A, B, C], [D1], values, failures=fault)

    def settled(record: Record) -> Record:
        asked = {**record.cell.versions, "precision": "auto"}
        taken = "bf16" if record.cell.model.text == B else "fp32"
        return dataclasses.replace(
            record,
            cell=dataclasses.replace(record.cell, versions=asked),
            predictions="",
            environment={**record.environment, "precision": taken},
        )

    together = rank([run]).sections
    auto = Run(run.path, tuple(settled(r) for r in run.records), run.suite)
    first, second = rank([auto]).sections
    assert [row.model.text for row in first.rows] == [A]
    assert [f.model.text for f in first.failures] == [C]
    assert [row.model.text for row in second.rows] == [B]
    assert f"{B}?weights=random" in {c.model.text for c in second.controls}
    flags = {row.model.text: row.flags for section in together for row in section.rows}
    assert [f.name for f in second.rows[0].flags] == [f.name for f in flags[B]]
    assert "not better than random weights" in {f.name for f in flags[B]}
    assert section_method(first) == "linear-probe"
    assert section_method(second) == "linear-probe, in bf16"


def test_times_of_two_devices_have_no_common_front(tmp_path: Path) -> None:
    run = make_run(tmp_path, [A, B], [D1], {A: 0.9, B: 0.95}, controls=False)
    first, second = run.records
    elsewhere = dataclasses.replace(
        second, environment={**second.environment, "device_name": "GPU"}
    )
    (section,) = rank([Run(run.path, (first, elsewhere), run.suite)]).sections
    assert front_of(section.rows, "latency_ms_p50") == []
    assert front_of(section.rows, "macs")


def test_the_front_keeps_what_nothing_dominates() -> None:
    cost = np.array([1.0, 2.0, 2.0, 3.0, np.nan])
    value = np.array([0.5, 0.7, 0.6, 0.7, 0.9])
    assert front(cost, value) == [0, 1]


def test_an_error_metric_ranks_the_other_way(tmp_path: Path) -> None:
    run = make_run(tmp_path, [A, B], [D1], {A: 0.95, B: 0.6}, controls=False)
    bare = tuple(
        dataclasses.replace(
            r,
            predictions="",
            measurements=(Measurement("nll", v, "nat", "lower", v - 0.01, v + 0.01),),
        )
        for r, v in zip(run.records, (0.9, 0.2), strict=True)
    )
    (section,) = rank([Run(run.path, bare, run.suite)], "nll").sections
    assert section.rows[0].model.text == B


def test_torch_is_never_imported() -> None:
    code = (
        "import sys, zoobench.ranking.rank, zoobench.report.write, zoobench.report.terminal;"
        "bad = {'torch', 'pandas', 'matplotlib', 'jinja2', 'scipy.stats'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_equal_scores_have_equal_ranks_and_no_z_score() -> None:
    """0.1 + 0.2 is 0.30000000000000004: rounding alone makes no difference."""
    values = np.array([[0.3, 0.1 + 0.2, 0.3], [0.1, 0.1, 0.1], [1e-9, 2e-9, 3e-9]])
    z = z_scores(values)
    assert (z[:2] == 0).all()
    assert z[2] == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)])
