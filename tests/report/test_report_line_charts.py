"""Curves of pretraining and of what it bought: what the tables hold, on the page and as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoobench.ranking.nouns import Bought, Lead, MadeEncoder, Ranking
from zoobench.report.figures import write_figures
from zoobench.report.line_charts import chart_data, chart_figures, figure_of
from zoobench.report.markdown import markdown
from zoobench.report.page import page
from zoobench.report.transfer import transfer_tables
from zoobench.schema import Ref

if TYPE_CHECKING:
    from selenium import webdriver

NAMES = ("plain", "<b>$x$", "random")
NUMBERS = dict.fromkeys(
    ("examples_seen", "pretraining_macs", "pretraining_seconds", "train_memory_bytes"),
    (1.0, None, None),
)
DATA = Ref.parse("packaged/digits@1")


def model(name: str) -> Ref:
    return Ref("pretrained-here", name, "1", [("objective", name), ("dataset", "packaged/digits")])


def lead(value: float) -> Lead:
    return Lead(value, value - 0.1, value + 0.1, 3)


@pytest.fixture
def ranking() -> Ranking:
    start = (0.0, 0.0, 0.5, 0.4, 0.6)
    curves = {
        "plain": (start, (640.0, 1e9, 0.8, 0.7, 0.9)),
        "<b>$x$": (start, (640.0, 2e9, 0.7, 0.7, 0.7)),
    }
    made = tuple(
        MadeEncoder(model(name), 2, (1e-3,), NUMBERS, curves.get(name, (start,))) for name in NAMES
    )
    bought = tuple(
        Bought(model(name), DATA, "knn", "random features", "accuracy", 0.8, True,
               {1: lead(0.3), None: Lead(-0.02, None, None, 1)})
        for name in NAMES[:2]
    )  # fmt: skip
    return Ranking((), (), (), (), encoders=made, bought=bought)


def test_charts_hold_what_the_tables_do(ranking: Ranking) -> None:
    charts = {table.name: table.charts for table in transfer_tables(ranking)}
    examples, macs = charts["learned"]
    assert [(p.x, p.y, p.low, p.high) for p in examples.points if p.label == "plain"] == [
        (0.0, 50.0, 40.0, 60.0), (640.0, 80.0, 70.0, 90.0),
    ]  # fmt: skip
    assert max(p.x for p in macs.points) == 2e9
    assert examples.labels == ["<b>$x$", "plain", "random"], "the control is the last"
    (one,) = charts["bought-random-features"]
    assert one.title == "knn on digits (seen in pretraining)"
    assert one.ticks == ("1", "all")
    first, second = (p for p in one.points if p.label == "plain")
    assert (first.x, first.y) == ("1", 30.0)
    assert first.low == pytest.approx(20.0)
    assert (second.x, second.low, second.high) == ("all", None, None)
    assert [row["id"] for row in chart_data(charts)] == [
        "learned-0", "learned-1", "bought-random-features-0",
    ]  # fmt: skip


def test_a_figure_has_a_panel_a_chart_and_a_legend_of_all_lines(ranking: Ranking) -> None:
    charts = {table.name: table.charts for table in transfer_tables(ranking)}
    figure = figure_of(charts["learned"])
    assert [axes.get_title() for axes in figure.axes] == [
        "kNN on valid against examples seen", "kNN on valid against MACs of the training",
    ]  # fmt: skip
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["<b>$x$", "plain", "random"]
    lines = [line for line in figure.axes[0].get_lines() if line.get_label() == "plain"]
    assert [list(np.asarray(line.get_ydata())) for line in lines] == [[50.0, 80.0]]
    three = figure_of([*charts["learned"], *charts["bought-random-features"]])
    assert [axes.get_visible() for axes in three.axes] == [True, True, True, False]
    ticks = [text.get_text() for text in three.axes[2].get_xticklabels()]
    assert ticks == ["1", "all"]


def test_page_report_and_files_have_them(
    ranking: Ranking, tmp_path: Path, browser: webdriver.Chrome
) -> None:
    charts = {table.name: table.charts for table in transfer_tables(ranking)}
    files = {
        path.name for path in write_figures(ranking, tmp_path / "figures", chart_figures(charts))
    }
    assert files == {
        f"{name}.{kind}"
        for name in ("learned", "bought-random-features")
        for kind in ("svg", "png")
    }
    assert "](figures/learned.svg)" in markdown(ranking, "t", {})
    html = tmp_path / "report.html"
    html.write_text(page(ranking, "t", {}, "t"), encoding="utf-8")
    assert "<b>$x$" not in html.read_text()
    browser.get(html.as_uri())
    for place, lines in (("learned-0", 3), ("learned-1", 3), ("bought-random-features-0", 2)):
        drawn = browser.find_elements("css selector", f"#plot-{place} [aria-label=line] path")
        assert len(drawn) == lines, place
    log: list[Any] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []
