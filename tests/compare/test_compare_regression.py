"""The gate on numbers: targets of any size and offset, and cells of two tasks in one run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from compare_runs import Folder, answers, record
from zoobench.compare.baseline import Packed, pack
from zoobench.compare.compare import compare_paths
from zoobench.compare.gates import Gates
from zoobench.compare.verdicts import POOLED, Comparison
from zoobench.schema import Measurement, Outcomes, Record, Ref
from zoobench.tasks.regression import Regression, outcomes_of

Made = tuple[Record, Outcomes | None]


def numbers(predicted: np.ndarray, target: np.ndarray, dataset: str = "table/a@1") -> Made:
    """A record by ridge, as the runner would write its quality."""
    kept = outcomes_of(predicted, target)
    found, _ = record(None, dataset=dataset, method="ridge", versions={"task": "regression@1"})
    whole = Regression().statistics(kept)(np.ones((1, kept.n)), Regression.metrics)
    measured = tuple(Measurement(name, float(v[0]), n=kept.n) for name, v in whole.items())
    return dataclasses.replace(found, measurements=(*measured, *found.measurements)), kept


def compared(tmp_path: Path, old: list[Made], new: list[Made]) -> Comparison:
    for name, made in (("old", old), ("new", new)):
        folder = Folder(tmp_path / name)
        for one in made:
            folder.add(one)
        folder.write()
    return compare_paths(tmp_path / "old", tmp_path / "new", Gates())


@pytest.mark.parametrize(("unit", "offset"), [(1, 0), (1e-3, 0), (1, 2000), (1e-6, 0), (1e6, 0)])
def test_an_error_three_times_as_large_is_a_regression_in_every_unit(
    tmp_path: Path, unit: float, offset: float
) -> None:
    rng = np.random.default_rng(0)
    target = unit * rng.normal(size=300) + offset
    error = unit * rng.normal(size=300)
    old, new = numbers(target + 0.1 * error, target), numbers(target + 0.3 * error, target)
    (found,) = [f for f in compared(tmp_path, [old], [new]).findings if f.kind == "quality"]
    assert found.outcome == "regressed"


def test_a_baseline_keeps_numbers_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    target = 2000 + rng.normal(size=100)
    kept = outcomes_of(target + 0.1 * rng.normal(size=100), target)
    (tmp_path / "p.npz").write_bytes(pack([("d", kept, Regression.rounded)]))
    back = Packed(tmp_path / "p.npz").get("d")
    assert back is not None
    assert all(np.array_equal(back.arrays[name], kept.arrays[name]) for name in kept.arrays)


@pytest.mark.parametrize("other", [None, "table/a@1", "table/z@1"])
def test_an_unchanged_regression_leaves_the_pooled_test_of_accuracies(
    tmp_path: Path, other: str | None
) -> None:
    sets = ("table/c1@1", "table/c2@1")
    old = [record(answers(200), dataset=name) for name in sets]
    new = [
        record(answers(200, range(lost)), dataset=name)
        for name, lost in zip(sets, (5, 4), strict=True)
    ]
    target = np.random.default_rng(2).normal(size=50)
    beside = [numbers(target + 0.1, target, other)] if other else []
    found = compared(tmp_path, old + beside, new + beside).findings
    (pooled,) = [f for f in found if f.kind == "pooled"]
    assert (pooled.outcome, pooled.metric, pooled.cells) == ("regressed", "accuracy", 2)


def test_errors_in_two_units_are_not_pooled(tmp_path: Path) -> None:
    """Whole errors look like right and wrong answers."""
    target = np.zeros(100)
    old = [numbers(target, target, f"table/{name}@1") for name in "ab"]
    worse = np.r_[np.ones(20), np.zeros(80)]
    new = [numbers(worse, target, f"table/{name}@1") for name in "ab"]
    found = compared(tmp_path, old, new).findings
    assert [f for f in found if f.cell.dataset == POOLED] == []
    assert {f.cell.dataset for f in found if f.outcome == "regressed"} == {
        Ref.parse("table/a@1"), Ref.parse("table/b@1"),
    }  # fmt: skip
