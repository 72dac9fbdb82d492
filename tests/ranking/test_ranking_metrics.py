"""A metric has one definition and one interval: in a record, in a ranking and in the gate."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from cells import GABOR, write_suite
from tinymodels import byte_tokenizer, tiny_decoder, tiny_masked
from tinypairs import tiny_pair
from tinyrecognisers import tiny_ctc
from zoobench import store, tasks
from zoobench.compare.compare import compare_paths
from zoobench.compare.gates import Gates
from zoobench.ranking.rank import rank
from zoobench.runs import session, suite
from zoobench.schema import Ref
from zoobench.store import Run

BAG = "synthetic/bag"


def asked(folder: Path, task: str, mean: float) -> tuple[list[str], str, str]:
    """Two models, the options of synthetic data, and the method."""
    if task in ("segmentation", "detection", "classification"):
        pictures = [GABOR.replace("@1", ""), f"synthetic/gabor?mean={mean - 0.2:g}"]
        data = f"stripes?task={task}"
        if task == "classification":
            return pictures, f"{data}&classes=12&test=90", "ridge"
        quick = ", steps = 30, rates = [1e-2]" if task == "detection" else ""
        probe = f'{{ name = "linear-probe", size = 96{quick} }}'
        return pictures, f"{data}&train=40&test=40", probe
    if task == "retrieval":
        folders = [folder / name for name in "ab"]
        for seed, one in enumerate(folders):
            tiny_pair("clip", one, seed)
        return [f"hf/{one.name}?weights={one}" for one in folders], f"stripes?task={task}", "as-is"
    data = f"phrases?task={task}" + ("&classes=12&test=90" if task == "regression" else "&test=60")
    if task in ("regression", "token-classification"):
        words = [BAG, f"{BAG}?weights=random"]
        return words, data, "ridge" if task == "regression" else "linear-probe"
    folders = [folder / name for name in "ab"]
    for seed, one in enumerate(folders):
        if task == "speech-recognition":
            tiny_ctc(one, seed)
        elif task == "masked-language-modelling":
            tiny_masked(one, seed)
        else:
            tiny_decoder("gpt2", one, byte_tokenizer(300), seed, length=128)
    if task == "question-answering":
        probe = '{ name = "linear-probe", characters = 4000, lambdas = 5 }'
        return [f"hf/{one.name}?weights={one}" for one in folders], data, probe
    source = "recogniser" if task == "speech-recognition" else "language-model"
    return [f"{source}/{one.name}?weights={one}" for one in folders], data, "as-is"


def ran(folder: Path, task: str, mean: float = 0.5) -> Run:
    """Two models by a linear method, or as they are, on a small set that asks `task`."""
    models, data, method = asked(folder, task, mean)
    file = write_suite(
        folder / "s.toml", models=models, datasets=[f"synthetic/{data}"], methods=[method],
        rest="seeds = [0]\n[limits]\ncost_seconds = 0\n",
    )  # fmt: skip
    options = session.RunOptions(folder / "run", device="cpu")
    session.execute(suite.read(str(file)), options, lambda plan, event: None)
    return store.load(folder / "run")


@pytest.fixture(
    scope="module",
    params=[pytest.param(t, marks=pytest.mark.xdist_group(t)) for t in sorted(tasks.TASKS)],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ran(tmp_path_factory.mktemp(request.param), request.param)


def test_every_metric_has_one_interval_in_record_and_ranking(run: Run) -> None:
    records = {record.cell.model: record for record in run.records}
    (task,) = {tasks.task_of(record.cell) for record in run.records}
    assert all(record.get(task.metrics[0]) for record in run.records)
    for metric in task.metrics:
        if not run.records[0].get(metric):  # no background, or no object of that size
            assert not rank([run], metric).sections
            continue
        (section,) = rank([run], metric).sections
        assert section.paired
        for row in section.rows:
            m = records[row.model].get(metric)
            assert m is not None
            said = (-row.value, -row.high, -row.low) if m.better == "lower" else (
                row.value, row.low, row.high)  # fmt: skip
            assert said == pytest.approx((m.value, m.low, m.high), abs=1e-12), metric


def test_every_metric_is_paired_by_the_gate(run: Run) -> None:
    (task,) = {tasks.task_of(record.cell) for record in run.records}
    found = compare_paths(run.path, run.path, Gates(metrics=task.metrics))
    assert {f.outcome for f in found.findings if f.kind == "quality"} == {"same"}
    judged = {f.metric for f in found.findings if f.kind == "quality"}
    assert judged == {m.metric for m in run.records[0].measurements if m.metric in task.metrics}
    plain = compare_paths(run.path, run.path)
    assert {f.metric for f in plain.findings if f.kind == "quality"} == {task.metrics[0]}


def test_a_loss_of_numbers_is_a_regression_in_their_own_unit(tmp_path: Path) -> None:
    """The two models' answers are swapped: one gets worse, and the other better."""
    (tmp_path / "good").mkdir()
    good = ran(tmp_path / "good", "regression")
    bad = shutil.copytree(good.path, tmp_path / "bad")
    lines = []
    for record, other in zip(good.records, reversed(good.records), strict=True):
        source = good.path / "predictions" / f"{other.key}.npz"
        shutil.copy(source, bad / "predictions" / f"{record.key}.npz")
        lines.append(store.encode(dataclasses.replace(
            record, measurements=other.measurements, predictions=other.predictions
        )))  # fmt: skip
    (bad / "records.jsonl").write_bytes(b"".join(lines))
    found = compare_paths(good.path, bad)
    quality = [f for f in found.findings if f.kind == "quality"]
    lost = next(f for f in quality if "random" not in str(f.cell.model))
    gained = next(f for f in quality if "random" in str(f.cell.model))
    assert (lost.outcome, gained.outcome) == ("regressed", "improved")
    assert found.exit_code == 1
    assert lost.margin == pytest.approx(0.01 * (lost.baseline or 0)), "percent of the baseline"
    assert "points" not in lost.why


def test_models_that_are_equal_disagree_in_no_order(run: Run) -> None:
    twins = [
        dataclasses.replace(
            record, cell=dataclasses.replace(record.cell, model=model), predictions=""
        )
        for record in run.records[:1]
        for model in (Ref("timm", "a", "1"), Ref("timm", "b", "1"))
    ]
    (overall,) = rank([Run(run.path, tuple(twins), {})]).overall
    assert [row.value for row in overall.rows] == [overall.rows[0].value] * 2
    assert overall.disagreements == ()
