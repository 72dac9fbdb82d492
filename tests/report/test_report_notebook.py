"""What a notebook shows: tables, in which no name and no reason is ever markup."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from fakes import make_run
from zoobench.compare.compare import compare_paths
from zoobench.ranking.rank import rank
from zoobench.ranking.recommend import Limits, recommend_all
from zoobench.report import notebook
from zoobench.store import Run

EVIL = "timm/<script>alert(1)</script>@1"
REASON = "needed </td><img src=x onerror=alert(1)>"
DATA = "packaged/<b>digits</b>@1"
OURS = {"h4", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    fault = {("timm/broken@1", DATA): ("oom", REASON)}
    models = [EVIL, "timm/small@1", "timm/broken@1"]
    truth = {EVIL: 0.9, "timm/small@1": 0.6}
    return make_run(tmp_path_factory.mktemp("<i>run"), models, [DATA], truth, failures=fault)


class Tags(HTMLParser):
    """The tags of a page, with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not attrs
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def test_markup_in_names_and_reasons_is_shown_as_text(run: Run, tmp_path: Path) -> None:
    make_run(tmp_path, ["timm/small@1"], [DATA], {"timm/small@1": 0.6})
    missing = compare_paths(run.path, tmp_path)
    limited = recommend_all(run, Limits(max_params=1))
    for page in (
        notebook.run_html(run),
        notebook.ranking_html(rank([run])),
        notebook.recommendations_html((*recommend_all(run), *limited)),
        notebook.comparison_html(missing),
    ):
        found = Tags(page)
        assert found.tags <= OURS
        assert "<script>alert(1)</script>" in found.text or REASON in found.text


def test_a_ranking_opens_with_the_decision_and_holds_what_limits_it(run: Run) -> None:
    text = Tags(notebook.ranking_html(rank([run]))).text
    for part in ("is the best, and the data suffice", "four times in five", "raw-input", REASON):
        assert part in text
    assert text.index("is the best") < text.index("four times in five")


def test_a_comparison_shows_what_is_missing_and_counts_the_rest(run: Run, tmp_path: Path) -> None:
    make_run(tmp_path, ["timm/small@1"], [DATA], {"timm/small@1": 0.6})
    text = Tags(notebook.comparison_html(compare_paths(run.path, tmp_path))).text
    assert "cells are missing or failed" in text
    assert "3 missing" in text


def test_long_tables_are_cut_and_say_so(tmp_path: Path) -> None:
    models = [f"timm/net{i}@1" for i in range(30)]
    many = make_run(tmp_path, models, [DATA], dict.fromkeys(models, 0.5), n=50)
    text = Tags(notebook.ranking_html(rank([many]))).text
    assert text.count("... and 5 more") == 2
    assert "raw-input" in text, "controls stand in a table however it is cut"


def test_a_run_without_records_has_nothing_to_rank(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").touch()
    empty = Run(tmp_path, (), {})
    assert "nothing to rank" in notebook.ranking_html(rank([empty]))
    assert "0 cells, 0 models, 0 datasets" in notebook.run_html(empty)
