"""What the gate does where outcomes are missing, partial, damaged or another record's, by a table;
and how often it is wrong where test parts are shared."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compare_runs import Folder, answers, record
from zoobench.compare.compare import compare_paths
from zoobench.compare.gates import Gates
from zoobench.compare.quality import Pool
from zoobench.errors import StoreError
from zoobench.report.gate import title
from zoobench.schema import Cell, Measurement, Outcomes, Ref
from zoobench.statistics.bootstrap import numbered
from zoobench.store import pack

N = 400
Made = tuple[Path, Path]


def runs(tmp_path: Path, lost: int, method: str = "knn", keep: bool = True) -> Made:
    """Two runs of one cell; the candidate has `lost` more wrong."""
    old = Folder(tmp_path / "old").add(record(answers(N, range(40)), method=method)).write()
    new = record(answers(N, range(40 + lost)), method=method)
    return old, Folder(tmp_path / "new").add(new, keep).write()


def verdict(made: Made) -> tuple[int, str]:
    found = compare_paths(*made)
    (quality,) = [f for f in found.findings if f.kind == "quality"]
    return found.exit_code, quality.outcome


@pytest.mark.parametrize(
    ("lost", "expected"),
    [(360, (1, "regressed")), (60, (1, "regressed")), (4, (0, "inconclusive"))],
)
def test_without_predictions_the_values_are_tested(
    tmp_path: Path, lost: int, expected: tuple[int, str]
) -> None:
    made = runs(tmp_path, lost, keep=False)
    assert verdict(made) == expected
    lone = made[0] / "records.jsonl", made[1] / "records.jsonl"
    assert verdict(lone) == expected


def test_a_fall_that_nothing_proves_has_not_passed(tmp_path: Path) -> None:
    """One training run a side, 40 points lower: named first, and no pass."""
    found = compare_paths(*runs(tmp_path, 160, "fine-tune"))
    assert found.findings[0].outcome == "inconclusive"
    assert found.findings[0].change == pytest.approx(-0.4)
    assert title(found) == (
        "zoobench compare: inconclusive: 1 cell fell by more than the margin, which may be luck"
    )


def test_what_trains_is_known_by_its_record(tmp_path: Path) -> None:
    """A method of somebody else's that trains the network: one run a side proves no fall."""
    old, new = (
        Folder(tmp_path / str(lost))
        .add(record(answers(N, range(lost)), method="theirs", costs={"train_seconds": 20.0}))
        .write()
        for lost in (40, 200)
    )
    assert verdict((old, new)) == (0, "inconclusive")


def test_counts_alone_are_no_comparison(tmp_path: Path) -> None:
    """The test labels differ: nothing of quality was compared, whatever the costs say."""
    old = Folder(tmp_path / "old").add(record(answers(N))).write()
    new = Folder(tmp_path / "new").add(record(answers(N - 1))).write()
    assert verdict((old, new)) == (4, "incomparable")


def changed(**arrays: np.ndarray | None) -> Callable[[Outcomes], Outcomes]:
    def change(kept: Outcomes) -> Outcomes:
        new = {**kept.arrays, **arrays}
        return Outcomes(kept.n, {name: a for name, a in new.items() if a is not None})

    return change


DAMAGED: dict[str, Callable[[Outcomes], Outcomes]] = {
    "no labels": changed(label=None),
    "no predictions": changed(predicted=None),
    "one prediction": changed(predicted=np.zeros(1, np.int32)),
    "too few": changed(predicted=np.zeros(N - 5, np.int32)),
    "text": changed(predicted=np.full(N, "cat")),
    "dates": changed(predicted=np.zeros(N, "datetime64[s]")),
    "two columns": changed(predicted=np.zeros((N, 2), np.int32)),
    "not finite": changed(nll=np.full(N, np.nan, np.float32)),
    "another's": lambda kept: answers(N, range(0, N, 2)),
    "other labels": changed(label=np.roll(np.arange(N, dtype=np.int32) % 10, 1)),
    "negative": changed(label=np.full(N, -1, np.int32), predicted=np.full(N, -1, np.int32)),
    "nothing": lambda kept: answers(0),
}


@pytest.mark.parametrize("side", ["old", "new"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_outcomes_are_the_users_to_mend(tmp_path: Path, damage: str, side: str) -> None:
    """Whether the record's digest was changed with them or not."""
    made = runs(tmp_path, 5)
    (file,) = (tmp_path / side / "predictions").iterdir()
    blob = pack(DAMAGED[damage](answers(N, range(45))))
    lines = tmp_path / side / "records.jsonl"
    before = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    file.write_bytes(blob)
    with pytest.raises(StoreError, match="damaged predictions"):
        compare_paths(*made)
    text = lines.read_text().replace(before, hashlib.sha256(blob).hexdigest()[:16])
    lines.write_text(text)
    with pytest.raises(StoreError, match=r"damaged predictions|but its record says"):
        compare_paths(*made)


def test_a_value_that_its_predictions_contradict_is_refused(tmp_path: Path) -> None:
    one, kept = record(answers(N, range(40)))
    better = dataclasses.replace(
        one, measurements=(Measurement("accuracy", 0.99, n=N), *one.measurements[1:])
    )
    old = Folder(tmp_path / "old").add((one, kept)).write()
    new = Folder(tmp_path / "new").add((better, answers(N, range(41)))).write()
    with pytest.raises(StoreError, match=r"give accuracy 0.8975, but its record says 0.99"):
        compare_paths(old, new)


def test_a_pooled_test_of_copies_of_one_test_set_keeps_its_level() -> None:
    """Six corrupted copies: what one example loses, it loses in most of them."""
    rng = np.random.default_rng(0)
    alarms = []
    for run in range(400):
        units = numbered(300, run)
        pool = Pool(Cell(Ref("m", "a"), Ref("d", "b"), "knn"), "accuracy")
        change = rng.choice([-1.0, 0.0, 1.0], 300, p=[0.05, 0.9, 0.05])
        for _ in range(6):
            pool.values.append((0.8, 0.8))
            pool.units.append(units)
            pool.changes.append(np.where(rng.random((1, 300)) < 0.1, 0.0, change))
        found = pool.evidence()
        assert found is not None
        assert found.found is not None
        alarms.append(found.found.less < 0.05)
    assert np.mean(alarms) <= 0.075


def test_one_training_run_is_one_however_many_copies_judge_it() -> None:
    """A/A, three seeds, seven corrupted copies: the seed's luck is the same in all of them."""
    rng = np.random.default_rng(1)
    alarms = []
    for run in range(400):
        pool = Pool(Cell(Ref("m", "a"), Ref("d", "b"), "fine-tune"), "accuracy")
        luck = rng.normal(0, 0.04, 3)
        for _ in range(7):
            pool.values.append((0.8, 0.8))
            pool.units.append(numbered(300, run))
            shares = np.stack([0.1 + np.maximum(-luck, 0), 0.1 + np.maximum(luck, 0)])
            draws = rng.random((3, 300))
            lost, gained = draws < shares[0, :, None], draws > 1 - shares[1, :, None]
            pool.changes.append(gained.astype(float) - lost)
        found = pool.evidence()
        assert found is not None
        assert found.found is not None
        alarms.append(found.found.less < 0.05)
    assert np.mean(alarms) <= 0.075


def test_equal_predictions_with_other_values_are_refused(tmp_path: Path) -> None:
    one, kept = record(answers(N, range(40)))
    worse = dataclasses.replace(
        one, measurements=(Measurement("accuracy", 0.1, n=N), *one.measurements[1:])
    )
    old = Folder(tmp_path / "old").add((one, kept)).write()
    new = Folder(tmp_path / "new").add((worse, kept)).write()
    with pytest.raises(StoreError, match=r"the same predictions, but accuracy is 0\.9"):
        compare_paths(old, new)


def test_precision_taken_is_compared_where_the_gates_allow_it(tmp_path: Path) -> None:
    old, new = (
        Folder(tmp_path / kind).add(record(answers(N), environment={"precision": kind})).write()
        for kind in ("fp32", "bf16")
    )
    assert compare_paths(old, new).exit_code == 4
    assert compare_paths(old, new, Gates(precision="any")).exit_code == 0
