"""Costs of a cell are those of what was judged: the decoder of a trained one belongs to it."""

from __future__ import annotations

from typing import Any

import pytest

from zoobench import methods, models
from zoobench.costs.counted import static_costs
from zoobench.methods import box_finetune, box_pyramid
from zoobench.schema import PROTOCOL, Cell, Ref
from zoobench.workers.runner import Bench
from zoobench.workers.settings import Settings

GABOR = Ref.parse("synthetic/gabor@1")
QUICK: dict[str, Any] = {"size": 64, "steps": 2, "batch_size": 2, "rates": [1e-3]}
RECIPES = {
    "fpn": ("segmentation", "fine-tune", QUICK),
    "one layer, from scratch": ("segmentation", "from-scratch", {**QUICK, "decoder": "linear"}),
    "fcos": ("detection", "fine-tune", {**QUICK, "head": "fcos"}),
    "faster-rcnn": ("detection", "fine-tune", {**QUICK, "head": "faster-rcnn"}),
}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_pyramid, "WIDTH", 64)
    monkeypatch.setattr(box_finetune, "ROIS", 32)


def ran(
    bench: Bench, task: str, method: str, params: dict[str, Any], seed: int = 0, classes: int = 4
) -> Any:
    data = Ref.parse(
        f"synthetic/stripes@1?task={task}&train=8&valid=4&test=4&noise=20&classes={classes}"
    )
    complete = methods.params_of(methods.build(method, params, task=task))
    versions = {"protocol": PROTOCOL, "precision": "fp32", "task": f"{task}@1"}
    record = bench.run(Cell(GABOR, data, method, complete, seed, None, versions)).record
    assert record.status == "ok", record.error
    assert "costs-failed" not in record.flags
    return record


@pytest.mark.parametrize("name", RECIPES)
def test_costs_are_those_of_the_network_that_was_judged(name: str) -> None:
    """All of it was trained, and all of it answers."""
    timed = name == "fpn"
    bench = Bench(Settings(threads=1, measure_costs=timed, cost_seconds=0.1))
    found = {m.metric: m.value for m in ran(bench, *RECIPES[name]).measurements}
    bare = {m.metric: m.value for m in static_costs(models.load(GABOR))}
    assert found["params"] == found["trainable_params"] > bare["params"]
    assert found["weights_bytes"] >= 4 * found["params"]
    assert found["macs"] > bare["macs"]
    assert found["feature_dim"] == bare["feature_dim"]
    assert (found.get("latency_ms_p50", 0) > 0) == timed


def test_seeds_share_the_costs_and_other_recipes_do_not() -> None:
    bench = Bench(Settings(threads=1, measure_costs=True, cost_seconds=0.1))
    task, method, params = RECIPES["fpn"]
    first, again = (ran(bench, task, method, params, seed) for seed in (0, 1))
    other = ran(bench, task, method, params, classes=3)
    assert first.get("latency_ms_p50") == again.get("latency_ms_p50")
    assert first.value("params") > other.value("params")
    frozen = ran(bench, task, "linear-probe", {"size": 64})
    bare = {m.metric: m.value for m in static_costs(models.load(GABOR))}
    assert frozen.value("params") == bare["params"]  # its features' network, as ever
