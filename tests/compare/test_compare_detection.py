"""The gate on detections: a loss in one class is caught, and equals are not accused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from cells import GABOR, write_suite
from compare_runs import ENVIRONMENT, MODEL
from zoobench.cli.main import main
from zoobench.compare.compare import compare_paths
from zoobench.compare.gates import Gates
from zoobench.compare.pairs import PairedOutcomes, estimate
from zoobench.compare.quality import Evidence, verdicts
from zoobench.compare.reading import load
from zoobench.interfaces import Split, Splits
from zoobench.runs import session, suite
from zoobench.runs.session import RunOptions
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import Cell, Outcomes, Record, Ref
from zoobench.statistics.bootstrap import numbered
from zoobench.store import Store
from zoobench.tasks.detection import Boxes, Detection, Precisions
from zoobench.tasks.evaluate import evaluate

CLASSES = 4
RATES = np.array([1.5, 0.8, 0.4, 0.2])
"""Objects of each class that a picture holds on average."""
Ints = NDArray[np.int64]


def pictures(rng: np.random.Generator, n: int) -> Ints:
    """(n, C) objects: some pictures hold many, and some none."""
    crowded = rng.gamma(2.0, 0.5, (n, 1))
    return np.asarray(rng.poisson(crowded * RATES))


def answers(true: Ints, rng: np.random.Generator, found: float = 0.75) -> Outcomes:
    """A detector that finds some objects by an IoU of luck, and sees some that are not there."""
    n = len(true)
    owner, label = (np.repeat(one.ravel(), true.ravel()) for one in np.indices(true.shape))
    kept = rng.random(len(owner)) < found
    owner, label = owner[kept], label[kept]
    overlap = rng.beta(6, 2, len(owner))
    hit = ((1 << (np.floor(overlap * 20).astype(int) - 9).clip(0, 10)) - 1).astype(np.uint16)
    many = rng.poisson(1.0, n)
    owner = np.concatenate([owner, np.repeat(np.arange(n), many)])
    label = np.concatenate([label, rng.integers(0, CLASSES, many.sum())])
    score = np.concatenate([rng.beta(4, 2, len(hit)), rng.beta(2, 4, many.sum())])
    bits = np.zeros((len(owner), 4), dtype=np.uint16)
    bits[: len(hit), 0] = hit
    order = np.lexsort((-score, owner))
    sizes = np.zeros((n, 4, CLASSES), dtype=np.uint16)
    sizes[:, 0] = true
    return Outcomes(n, {
        "owner": owner[order].astype(np.int32), "label": label[order].astype(np.int32),
        "score": score[order].astype(np.float32), "hit": bits[order],
        "ignored": np.zeros_like(bits), "true": sizes,
    })  # fmt: skip


def written(path: Path, outcomes: Outcomes) -> Path:
    n = outcomes.n
    empty = Split("test", (), Boxes((), CLASSES), str)
    names = tuple(f"class{c}" for c in range(CLASSES))
    splits = Splits(empty, empty, empty, names, "image", task="detection")
    kept = outcomes.of(numbered(n, "scenes"))
    cell = Cell(
        Ref.parse("packaged/efficientnet-lite0@1"), Ref.parse("folder/scenes@1"), "linear-probe",
        versions={"protocol": 1, "task": "detection@1", "method": 1},
    )  # fmt: skip
    facts = {"splits": {"test": "s"}, "sizes": {"test": n}, "classes": CLASSES, "model": MODEL}
    record = Record(
        cell, "ok", evaluate(Detection(), kept, splits), environment=ENVIRONMENT, provenance=facts
    )
    with Store(path, 'name = "dense"\nidentity = "dense"\n', "dense") as store:
        store.append(record, kept)
    return path


@pytest.mark.parametrize("lost", [0, 2], ids=["a common class", "a rare class"])
def test_a_loss_in_one_class_is_caught(lost: int, tmp_path: Path) -> None:
    """Half of the finds of one class are called by another name."""
    rng = np.random.default_rng(0)
    before = answers(pictures(rng, 300), rng)
    wrong = (before.arrays["label"] == lost) & (rng.random(len(before.arrays["label"])) < 0.5)
    hit = np.where(wrong[:, None], 0, before.arrays["hit"]).astype(np.uint16)
    label = np.where(wrong, lost + 1, before.arrays["label"]).astype(np.int32)
    after = Outcomes(300, {**before.arrays, "hit": hit, "label": label})
    old, new = written(tmp_path / "old", before), written(tmp_path / "new", after)
    found = compare_paths(old, new)
    assert found.exit_code == 1
    (finding,) = [f for f in found.findings if f.kind == "quality"]
    assert (finding.metric, finding.outcome) == ("ap", "regressed")
    assert compare_paths(old, old).exit_code == 0
    back = compare_paths(new, old)
    assert [f.outcome for f in back.findings if f.kind == "quality"] == ["improved"]


def test_other_objects_are_no_comparison(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    old, new = (
        written(tmp_path / name, answers(pictures(rng, 50), rng)) for name in ("old", "new")
    )
    found = compare_paths(old, new)
    assert found.exit_code == 4
    assert found.findings[0].outcome == "incomparable"


def accused(runs: int, n: int, seed: int = 0) -> tuple[int, int]:
    """In how many comparisons of a detector with its equal the gate accuses, or would without a
    margin."""
    rng = np.random.default_rng(seed)
    cell = Cell(Ref.parse("a/b"), Ref.parse("c/d"), "linear-probe")
    blamed = sure = 0
    for run in range(runs):
        true = pictures(rng, n)
        sides = [Precisions(answers(true, rng)) for _ in range(2)]
        pair = PairedOutcomes(Detection(), n, numbered(n, "scenes", run), ((sides[0], sides[1]),))
        old, new = (float(s(np.ones((1, n)), ["ap"])["ap"][0]) for s in sides)
        found = estimate(pair, "ap", ())
        assert found is not None
        sure += found.less < 0.05
        (finding,), _ = verdicts([Evidence(cell, "ap", old, new, n, found=found)], Gates())
        blamed += finding.outcome == "regressed"
    return blamed, sure


def test_equal_detectors_are_accused_in_at_most_one_comparison_of_twenty() -> None:
    blamed, sure = accused(runs=40, n=40)
    assert blamed <= sure
    assert blamed <= 0.05 * 40
    assert sure >= 1, "a test that never finds anything proves nothing"


def detected(file: Path, out: Path, shard: tuple[int, int] = (1, 1)) -> Path:
    """A run of detections, ragged: a detector that finds much, one that finds nothing."""
    spec = suite.read(str(file))
    plan = session.make_plan(spec, RunOptions(out, device="cpu", shard=shard))
    true = pictures(np.random.default_rng(0), 40)
    empty = Split("test", (), Boxes((), CLASSES), str)
    names = tuple(f"class{c}" for c in range(CLASSES))
    splits = Splits(empty, empty, empty, names, "image", task="detection")
    facts = {"splits": {"test": "s"}, "sizes": {"test": 40}, "classes": CLASSES, "model": MODEL}
    with Store(out, to_toml(spec), spec.identity) as writer:
        for cell in plan.todo:
            found = answers(true, np.random.default_rng(int(cell.key[:6], 16)))
            if "mean" in str(cell.model):
                found = Outcomes(
                    40, {k: a if k == "true" else a[:0] for k, a in found.arrays.items()}
                )
            kept = found.of(numbered(40, "scenes"))
            measured = evaluate(Detection(), kept, splits)
            record = Record(cell, "ok", measured, environment=ENVIRONMENT, provenance=facts)
            writer.append(record, kept)
    return out


def held(folder: Path) -> dict[str, Outcomes]:
    run = load(folder)
    return {r.key: o for r in run.records if (o := run.outcomes(r)) is not None}


def test_ragged_outcomes_stay_whole_wherever_they_are_kept(tmp_path: Path) -> None:
    """Shards, their union, a baseline, and all that reads them."""
    file = write_suite(
        tmp_path / "s.toml", models=(GABOR, f"{GABOR}?mean=0.4"), methods=("linear-probe",),
        datasets=("synthetic/stripes?task=detection",),
    )  # fmt: skip
    whole = detected(file, tmp_path / "whole")
    parts = [detected(file, tmp_path / f"part{i}", (i, 2)) for i in (1, 2)]

    def ran(*command: str | Path) -> str:
        result = CliRunner(catch_exceptions=False).invoke(main, list(map(str, command)))
        assert result.exit_code == 0, result.output
        return result.output

    ran("merge", *parts, "--out", tmp_path / "joined")
    ran("baseline", "accept", whole, "--suite", "t", "--reason", "first", "--root",
        tmp_path / "base")  # fmt: skip
    expected = held(whole)
    assert len(expected) == 6, "two models by three seeds"
    for folder in (tmp_path / "joined", tmp_path / "base" / "t"):
        found = held(folder)
        assert found.keys() == expected.keys()
        for key, outcomes in found.items():
            assert outcomes.n == 40
            for name, array in expected[key].arrays.items():
                assert np.array_equal(outcomes.arrays[name], array), name
        assert ": passed" in ran("compare", folder, whole)
    assert " ap " in ran("history", whole, tmp_path / "joined")
    assert "ap 0.0" not in ran("recommend", tmp_path / "joined").splitlines()[1]
