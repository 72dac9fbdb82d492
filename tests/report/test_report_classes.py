"""Scores of classes: what every output shows of them, against what was planted."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver

from fakes import make_run
from zoobench.ranking.rank import rank
from zoobench.report.classes import by_class, class_scores, heatmap
from zoobench.report.drawing import lay_out
from zoobench.report.markdown import markdown
from zoobench.report.page import page
from zoobench.report.write import write_report
from zoobench.schema import Cell, Measurement, Record, Ref
from zoobench.store import Run

A, B = "timm/netA@1", "timm/netB@1"
DATA = "packaged/digits@1"
SCORES = {
    A: {"sky": 0.9, "<b>road</b>": 0.2, "cat|dog": 0.5},
    B: {"sky": 0.8, "<b>road</b>": 0.7, "cat|dog": 0.45, "rare": 0.125},
}


def planted(
    path: Path, scores: Mapping[str, Mapping[str, float]], name: str = "iou", seeds: int = 1
) -> Run:
    """A run whose primary metric has `scores` in its detail; a seed adds 0.01 to each."""
    truth = {model: 0.9 - 0.5 * i / len(scores) for i, model in enumerate(scores)}
    run = make_run(path, list(scores), [DATA], truth, seeds=seeds, n=60, controls=False)

    def told(record: Record) -> Record:
        shift = 0.01 * record.cell.seed
        own = {c: v + shift for c, v in scores.get(record.cell.model.text, {}).items()}
        detail = {"resamples": 2000, "classes_not_in_test": 1, name: own}
        return dataclasses.replace(
            record,
            measurements=tuple(
                dataclasses.replace(m, detail=detail) if m.metric == "accuracy" and own else m
                for m in record.measurements
            ),
        )

    return dataclasses.replace(run, records=tuple(map(told, run.records)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return planted(tmp_path_factory.mktemp("classes"), SCORES)


def test_the_class_in_which_models_differ_most_comes_first(run: Run) -> None:
    (one,) = class_scores(rank([run]))
    assert one.models == (Ref.parse(A), Ref.parse(B))
    assert one.classes == ("<b>road</b>", "sky", "cat|dog", "rare")
    assert one.values == ((0.2, 0.7), (0.9, 0.8), (0.5, 0.45), (None, 0.125))


def test_of_one_model_the_lowest_class_comes_first_and_seeds_are_averaged(tmp_path: Path) -> None:
    (one,) = class_scores(rank([planted(tmp_path, {A: SCORES[A]}, "ap", seeds=3)]))
    assert one.classes == ("<b>road</b>", "cat|dog", "sky")
    assert one.metric == "ap"
    assert [row[0] for row in one.values] == pytest.approx([0.21, 0.51, 0.91])


@pytest.mark.parametrize(
    "detail",
    [{}, {"iou": {}}, {"iou": {"sky": "high"}}, {"iou": {"sky": None}}, {"iou": {"sky": True}},
     {"iou": {"sky": {"a": 1.0}}}, {"iou": [0.5]}, {"iou": 0.5}],
)  # fmt: skip
def test_a_detail_that_is_no_score_of_classes_is_none(detail: dict[str, object]) -> None:
    cell = Cell(Ref.parse(A), Ref.parse(DATA), "linear-probe")
    record = Record(cell, "ok", (Measurement("miou", 0.5, detail=detail),))
    assert by_class("miou", record) == ("", {})


def test_what_has_no_classes_shows_none(tmp_path: Path) -> None:
    plain = make_run(tmp_path, [A, B], [DATA], {A: 0.9, B: 0.5}, n=60)
    assert class_scores(rank([plain])) == []
    assert "Each class" not in page(rank([plain]), "plain", {}, "plain")
    assert "Each class" not in markdown(rank([plain]), "plain", {})


def test_files_hold_the_planted_numbers(run: Run, tmp_path: Path) -> None:
    written = {path.name for path in write_report([run], tmp_path)}
    assert {"per_class.csv", "classes-1-digits.svg", "classes-1-digits.png"} <= written
    table = pd.read_csv(tmp_path / "per_class.csv")
    found = table.dropna(subset="value").set_index(["model", "class"]).value.to_dict()
    assert found == {(m, c): v for m, scores in SCORES.items() for c, v in scores.items()}
    assert set(table.metric) == {"iou"}
    text = (tmp_path / "report.md").read_text()
    assert r"| \<b\>road\</b\> | 20.0 | 70.0 |" in text or "20.0 | 70.0 |" in text
    assert "<b>road" not in text
    assert "figures/classes-1-digits.svg" in text
    html = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;road" in html
    assert "<b>road" not in html


def test_150_classes_of_30_models_fit_a_page_and_say_what_is_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    many = {
        f"timm/net{m}@1": {f"class {c}": float(v) for c, v in enumerate(rng.random(150))}
        for m in range(30)
    }
    ranking = rank([planted(tmp_path, many)])
    (one,) = class_scores(ranking)
    assert len(one.classes) == 150
    spread = np.ptp(np.array(one.values, dtype=float), axis=1)
    assert (np.diff(spread) <= 0).all()
    figure = heatmap(one)
    assert figure.get_size_inches()[0] <= 16
    said = figure.axes[0].get_title(loc="left")
    assert said.endswith(", the 24 of 150 that differ most, the best 20 of 30 models")
    said = markdown(ranking, "many", {})
    assert "And 110 more classes and 22 more models: per_class.csv holds them all." in said
    html = page(ranking, "many", {}, "many")
    assert html.count("--v:") == 150 * 12
    assert "And 18 more models: per_class.csv" in html


def test_cells_are_coloured_by_their_value(
    run: Run, tmp_path: Path, browser: webdriver.Chrome
) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(rank([run]), "classes", {}, "classes"))
    browser.get(file.as_uri())
    cells = browser.find_elements("css selector", "#classes td")
    colours = {cell.text: cell.value_of_css_property("background-color") for cell in cells}
    assert len(set(colours.values())) >= 5
    assert colours["90.0"] != colours["20.0"]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "name",
    ["=1+1", "+cmd|' /C calc'!A0", "@everyone", "\x1b[31mred", "a|b\nc", "</script><b>", "![x](y)",
     "\u202egnp", "", " ", "x" * 5000, "[a](javascript:b)"],
)  # fmt: skip
def test_names_of_classes_are_text_in_every_file(name: str, tmp_path: Path) -> None:
    write_report([planted(tmp_path / "run", {A: {name: 0.5, "plain": 0.25}})], tmp_path / "out")
    with (tmp_path / "out" / "per_class.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not any(cell[:1] in ("=", "+", "@") for cell in cells)
    text, html = ((tmp_path / "out" / f"report.{kind}").read_text() for kind in ("md", "html"))
    for shown in (text, html, *cells):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert sum(line.startswith("| plain |") for line in text.splitlines()) == 1
    assert "</script><b>" not in html.replace("</script><body>", "")
    assert "[a](javascript" not in text
    assert "@everyone" not in text


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoobench.report.write.write_figures", lambda *_: [])


@pytest.mark.parametrize("letter", ["x", "W", "="])
def test_names_of_wide_letters_leave_room_for_the_cells(letter: str, tmp_path: Path) -> None:
    scores = {letter * 60 + f"{i}": 0.5 for i in range(24)}
    (one,) = class_scores(rank([planted(tmp_path / "run", {A: scores})]))
    figure = heatmap(one)
    lay_out(figure)  # a warning is an error: "axes sizes collapsed to zero"
    _, inches = figure.get_size_inches()
    assert figure.axes[0].get_position().height * inches > 0.4
    lowest = min(label.get_window_extent().y0 for label in figure.axes[0].get_xticklabels())
    assert lowest >= 0, "names end on the figure"
