"""Which cells a suite has: the random-weights control costs a part of a large dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from cells import write_suite
from zoobench import datasets
from zoobench.datasets.shift import is_shifted
from zoobench.runs import forecast, planning, suite
from zoobench.schema import Cell

LARGE, SMALL = "synthetic/stripes?train=5000&test=2000", "synthetic/stripes?train=800&test=300"


def cells(
    tmp_path: Path,
    dataset: str,
    controls: str = "true",
    rest: str = "",
    model: str = "synthetic/gabor",
) -> list[Cell]:
    file = write_suite(
        tmp_path / "s.toml", models=[model], datasets=[dataset], methods=["knn", "linear-probe"],
        controls=controls, rest=rest,
    )  # fmt: skip
    return planning.plan(suite.read(str(file)))


def probes(found: list[Cell]) -> list[str]:
    return [
        f"{'random ' * (c.model.option('weights') == 'random')}{c.method} "
        f"{'part' if c.dataset.option('control_units') else 'all'}"
        for c in found
        if c.model.source != "control"
    ]


def test_random_weights_of_a_large_dataset_run_on_a_part_and_so_does_what_they_check(
    tmp_path: Path,
) -> None:
    found = cells(tmp_path, LARGE)
    assert probes(found) == [
        "knn all", "linear-probe all", "linear-probe part", "random linear-probe part",
    ]  # fmt: skip
    part = found[-1].dataset
    assert part.option("control_units") == 1000
    assert part.without("control_units") == datasets.resolve(LARGE)
    pretrained = [
        c for c in found if c.method == "linear-probe" and c.model.text == found[-2].model.text
    ]
    assert len({c.key for c in pretrained}) == 2
    assert pretrained[0].versions == pretrained[1].versions


@pytest.mark.parametrize(
    ("dataset", "controls", "rest", "said"),
    [
        (SMALL, "true", "", ["knn all", "linear-probe all", "random linear-probe all"]),
        (LARGE, "false", "", ["knn all", "linear-probe all"]),
        (LARGE, '["chance"]', "", ["knn all", "linear-probe all"]),
        (f"{LARGE}&corrupt=contrast", "true", "", ["knn all", "linear-probe all"]),
        (LARGE, "true", "shots = [1]\ndraws = 1", ["knn all", "linear-probe all",
                                                   "random linear-probe part"]),
        ("packaged/mnist-5k?max_train=1000&max_valid=200&max_test=1000", "true", "",
         ["knn all", "linear-probe all", "random linear-probe all"]),
        ("packaged/mnist-5k", "true", "",
         ["knn all", "linear-probe all", "linear-probe part", "random linear-probe part"]),
    ],
)  # fmt: skip
def test_where_nothing_is_large_nothing_is_new(
    dataset: str, controls: str, rest: str, said: list[str], tmp_path: Path
) -> None:
    assert probes(cells(tmp_path, dataset, controls, rest)) == said


def test_a_model_of_random_weights_has_no_control(tmp_path: Path) -> None:
    found = cells(tmp_path, LARGE, model="synthetic/gabor?weights=random")
    assert probes(found) == ["random knn all", "random linear-probe all"]


def test_controls_of_a_large_dataset_cost_a_twentieth(tmp_path: Path) -> None:
    lite, size = "packaged/efficientnet-lite0", "synthetic/stripes?train=50000&test=10000"
    found = cells(tmp_path, size, model=lite)
    guesses = dict(zip([c.key for c in found], forecast.seconds(found), strict=True))
    full = sum(guesses[c.key] for c in found if c.method == "knn")
    random = sum(guesses[c.key] for c in found if c.model.option("weights") == "random")
    again = sum(guesses[c.key] for c in found if c.dataset.option("control_units")) - random
    assert random < full / 20
    assert again < random / 10, "its features are there"


def test_the_suite_trust_asks_all_three_of_what_the_demo_has() -> None:
    trust, demo = suite.read("trust"), suite.read("demo")
    assert trust.models == demo.models
    assert set(demo.datasets) < set(trust.datasets)
    cells = [cell for cell in planning.plan(trust) if cell.method == "linear-probe"]
    assert all(cell.params["explain"] and cell.params["membership"] for cell in cells)
    shifted = [cell for cell in cells if is_shifted(cell.dataset)]
    pictures = {cell.model for cell in cells if "photo-crops" in cell.dataset.text}
    assert len(shifted) == 9 * len(pictures)
