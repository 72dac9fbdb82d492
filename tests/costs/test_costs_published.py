"""The committed tables against the counts that torchvision publishes with its weights."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from zoobench.costs.profile import COLUMNS, row

COSTS = Path(__file__).parents[2] / "results" / "costs"
ROUNDED = {"shufflenet_v2_x0_5"}
"""Published with three decimals of a giga: 0.04 for 0.0405."""


def table(source: str) -> dict[str, dict[str, str]]:
    with (COSTS / f"{source}.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return {line["model"]: line for line in reader}


def test_every_torchvision_classifier_agrees() -> None:
    from torchvision import models

    rows, compared = table("torchvision"), 0
    for name in models.list_models(module=models):
        published = models.get_model_weights(name).DEFAULT.meta
        line = rows[name]
        assert int(line["params"]) == published["num_params"], name
        macs, expected = int(line["macs"]) / 1e9, published["_ops"]
        slack = 0.0005 if name in ROUNDED else 0.01 * expected
        assert macs == pytest.approx(expected, abs=slack), name
        assert line["lower_bound"] == "false"
        compared += 1
    assert compared == 80


@pytest.mark.parametrize("name", ["googlenet", "mnasnet0_5", "shufflenet_v2_x1_0", "swin_v2_t"])
def test_the_table_is_what_is_counted_now(name: str) -> None:
    line, now = table("torchvision")[name], row("torchvision", name)
    for column in ("input", "params", "macs", "flops", "train_flops", "uncounted_ops"):
        assert line[column] == str(now[column]), column


def test_the_sweeps_cover_their_sources() -> None:
    from torchvision import models

    kinds = (models, models.detection, models.segmentation)
    every = {name for kind in kinds for name in models.list_models(module=kind)}
    assert set(table("torchvision")) == every
    assert len(table("timm")) >= 300
    for source in ("torchvision", "timm"):
        failed = [name for name, line in table(source).items() if line["error"]]
        assert len(failed) <= 0.02 * len(table(source)), failed
