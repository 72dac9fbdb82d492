"""What pretraining gives on the packaged dense sets, with really pretrained weights.

Frozen maps are clearly better than random weights and than no network, and the grid's oracle is
above all: a fault of a tap, of orientation or of classes would show here first.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cells import cell, settings
from zoobench import datasets, methods, models
from zoobench.schema import Measurement
from zoobench.workers.runner import run_group

LITE = "packaged/efficientnet-lite0"
SMALL = "max_train=40&max_valid=10&max_test=40"
BOXES = {"size": 160, "steps": 80, "rates": (1e-2,)}
ASKED: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    # task: dataset, primary metric, method -> parameters
    "segmentation": (
        f"packaged/photo-mosaic?{SMALL}", "miou",
        {"linear-probe": {"size": 96}, "raw-input": {"size": 96}, "oracle": {"size": 96}},
    ),
    "detection": (
        f"packaged/photo-patches?{SMALL}", "ap50",
        {"linear-probe": BOXES, "oracle": {"size": 160}},
    ),
}  # fmt: skip


def measured(task: str, method: str, model: str = "") -> Measurement:
    data, metric, asked = ASKED[task]
    built = methods.build(method, asked[method], task=task)
    versions = {**cell().versions, "task": f"{task}@1"}
    ref = models.resolve(model) if model else cell().model
    one = dataclasses.replace(
        cell(dataset=str(datasets.resolve(data))), model=ref, method=method,
        params=methods.params_of(built), versions=versions,
    )  # fmt: skip
    (result,) = run_group([one], settings())
    assert result.record.status == "ok", result.record.error
    found = result.record.get(metric)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "task", ["segmentation", pytest.param("detection", marks=pytest.mark.rare)]
)
def test_pretrained_maps_are_clearly_better_than_random_ones_and_than_none(task: str) -> None:
    trained = measured(task, "linear-probe", LITE)
    blind = [measured(task, "raw-input")] if "raw-input" in ASKED[task][2] else []
    for other in (measured(task, "linear-probe", f"{LITE}?weights=random"), *blind):
        assert trained.low is not None
        assert other.high is not None
        assert trained.low > other.high
    oracle = measured(task, "oracle")
    assert oracle.low is not None
    assert trained.high is not None
    assert oracle.low > trained.high
