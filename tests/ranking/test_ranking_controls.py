"""Random weights on a part of the data: compared there, said so, never ranked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fakes import make_outcomes, make_record
from zoobench.ranking.nouns import Flag, Ranking
from zoobench.ranking.rank import rank
from zoobench.report.tables import ranking_table
from zoobench.report.terminal import ranking_text
from zoobench.store import Store, load

A, B, D = "timm/netA@1", "timm/netB@1", "packaged/digits@1"
PART = f"{D}?control_units=1000"
RANDOM = {A: f"{A}?weights=random", B: f"{B}?weights=random"}


def ranked(
    path: Path, on_all: Mapping[str, float], on_part: Mapping[str, float], n: int = 1000
) -> Ranking:
    """Of `on_all` (n + 1000 test examples) and `on_part` (n), each model at its accuracy."""
    rng = np.random.default_rng(0)
    with Store(path, 'name = "fake"\nidentity = "fake"\n', "fake") as store:
        for dataset, levels, size in ((D, on_all, n + 1000), (PART, on_part, n)):
            labels = rng.integers(0, 10, size).astype(np.int32)
            for model, level in levels.items():
                right = np.arange(size) < level * size  # nested: the paired test is a sure one
                record = make_record(model, dataset, right=right)
                sizes = {"train": 1000, "valid": 200, "test": size}
                record = make_record(
                    model, dataset, right=right, provenance={**record.provenance, "sizes": sizes}
                )
                store.append(record, make_outcomes(right, labels, 10))
    return rank([load(path)])


def flags(found: Ranking) -> dict[str, list[Flag]]:
    (section,) = found.sections
    return {row.model.text: list(row.flags) for row in section.rows}


def test_a_model_is_compared_with_random_weights_on_the_same_part(tmp_path: Path) -> None:
    """B is far above random weights on all of the data, and level with them on the part."""
    found = ranked(tmp_path, {A: 0.9, B: 0.8}, {A: 0.85, B: 0.61, RANDOM[A]: 0.4, RANDOM[B]: 0.61})
    assert flags(found)[A] == []
    (flag,) = flags(found)[B]
    assert flag.name == "not better than random weights"
    assert flag.why == (
        "random weights reach 61.0 (no difference), these 61.0, both on 1,000 train and 1,000 test "
        "examples"
    )


def test_a_full_score_below_random_weights_on_a_part_is_no_flag(tmp_path: Path) -> None:
    found = ranked(tmp_path, {A: 0.5}, {A: 0.7, RANDOM[A]: 0.6})
    assert flags(found)[A] == []


def test_without_a_twin_on_the_part_nothing_is_said(tmp_path: Path) -> None:
    found = ranked(tmp_path, {A: 0.5, B: 0.5}, {RANDOM[A]: 0.9, RANDOM[B]: 0.2})
    assert flags(found)[A] == []


def test_random_weights_on_all_of_the_data_come_first(tmp_path: Path) -> None:
    found = ranked(tmp_path, {A: 0.9, RANDOM[A]: 0.9}, {A: 0.8, RANDOM[A]: 0.2})
    (flag,) = flags(found)[A]
    assert flag.why == "random weights reach 90.0 (no difference)"
    (section,) = found.sections
    assert [control.on for control in section.controls] == [""]


@pytest.mark.parametrize(
    ("levels", "why"),
    [
        ({"raw-input": 0.5, "majority": 0.1}, "raw input reaches 50.0:"),
        ({"raw-input": 0.5, "majority": 0.5}, "raw input reaches 50.0:"),
        ({"raw-input": 0.1, "majority": 0.5}, "one answer to everything reaches 50.0:"),
        ({"majority": 0.5}, "one answer to everything reaches 50.0:"),
        ({"raw-input": 0.1, "majority": 0.2}, ""),
    ],
)
def test_a_probe_must_beat_the_best_control_without_a_network(
    tmp_path: Path, levels: dict[str, float], why: str
) -> None:
    controls = {f"control/{name}": level for name, level in levels.items()}
    found = flags(ranked(tmp_path, {A: 0.4, **controls}, {}))[A]
    assert [flag.name for flag in found] == ["suspect"] * bool(why)
    assert all(flag.why.startswith(why) for flag in found)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    path = tmp_path_factory.mktemp("run")
    return ranked(path, {A: 0.9, B: 0.8}, {A: 0.99, B: 0.98, RANDOM[A]: 0.95, RANDOM[B]: 0.4})


def test_the_part_is_neither_ranked_nor_averaged(found: Ranking) -> None:
    (section,) = found.sections
    assert section.dataset.text == D
    assert [row.value for row in section.rows] == [0.9, 0.8]
    (overall,) = found.overall
    assert [dataset.text for dataset in overall.datasets] == [D]
    assert [row.value for row in overall.rows] == [0.9, 0.8]
    assert len(found.gaps) == 2, "one a model"


def test_a_control_says_on_how_much_it_ran(found: Ranking) -> None:
    (section,) = found.sections
    assert {c.on for c in section.controls} == {"1,000 train and 1,000 test examples"}
    text = " ".join(ranking_text(found).split())
    assert "best of the random weights" in text
    assert "1,000 train and" in text
    columns = ranking_table(found)
    rows = list(zip(columns["dataset"], columns["model"], columns["status"], strict=True))
    assert (PART, RANDOM[A], "control") in rows
    assert (D, A, "ok") in rows
    assert (PART, A, "ok") not in rows
