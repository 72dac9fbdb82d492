"""The compression view in every output."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console
from selenium import webdriver

from fakes import make_run
from variant_runs import DIGITS, KINDS, WORDS, Planted, variant_run
from zoobench.compare.variant_verdicts import NO_VARIANTS, VariantVerdicts
from zoobench.compare.variants import judge_variants
from zoobench.ranking.outcomes import open_book
from zoobench.ranking.rank import rank
from zoobench.report.compression import (
    CSV,
    about,
    compression_figures,
    compression_table,
    compression_views,
)
from zoobench.report.markdown import markdown
from zoobench.report.page import page
from zoobench.report.parts import ReportParts
from zoobench.report.tables import csv_bytes
from zoobench.report.terminal import print_compression
from zoobench.report.write import write_report
from zoobench.store import Run

HOSTILE = "<b>4%</b> \x1b[31m| [b]red[/b] =1+1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("compressed") / "run"
    kinds = (*KINDS[:4], Planted("int8-static", "carried", why=HOSTILE))
    return variant_run(path, kinds, (DIGITS, WORDS))


@pytest.fixture(scope="module")
def verdicts(run: Run) -> VariantVerdicts:
    return judge_variants(rank([run]), open_book([run]))


def shown(verdicts: VariantVerdicts) -> str:
    file = io.StringIO()
    print_compression(verdicts, Console(file=file, width=80, highlight=False))
    return file.getvalue()


def test_a_row_says_what_is_lost_and_what_is_gained(verdicts: VariantVerdicts) -> None:
    view = compression_views(verdicts)[0]
    assert view.title == "net on digits, linear-probe"
    assert [dict(zip(view.header, row, strict=True)) for row in view.rows[5:]] == [
        {
            "variant": "int8-weight, anew",
            "verdict": "regressed",
            "difference [95%]": "-4.00 [-5.40, -2.95]",
            "accuracy (%) [95%]": "76.0 [73.2, 78.6]",
            "weights": "5 MB 0.25x",
            "latency (ms)": "6 0.60x",
            "peak memory": "7.5 MB 0.25x",
            "coverage": "98%, MACs 95%",
            "front": "behind int8-weight, carried",
        }
    ]
    assert [row[0] for row in view.rows] == [
        "original", "bf16, carried", "bf16, anew", "int8-static, carried", "int8-weight, carried",
        "int8-weight, anew",
    ]  # fmt: skip
    assert "12 tests are corrected together" in about(verdicts)


def test_the_csv_holds_the_verdicts(verdicts: VariantVerdicts) -> None:
    text = csv_bytes(compression_table(verdicts)).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == CSV
    assert len([r for r in rows if r["scope"] == "dataset"]) == 2 * 6
    assert [r["verdict"] for r in rows if r["scope"] == "overall"] == [
        "non-inferior", "non-inferior", "non-inferior", "regressed",
    ]  # fmt: skip
    for row in rows:
        if row["variant"] and row["verdict"] and row["scope"] == "dataset":
            whole = next(r for r in rows if r["dataset"] == row["dataset"] and not r["variant"])
            lost = float(row["value"]) - float(whole["value"])
            assert float(row["difference"]) == pytest.approx(lost)
            bytes_ = float(row["weights_bytes"]) / float(whole["weights_bytes"])
            assert float(row["weights_ratio"]) == pytest.approx(bytes_)


def test_a_reason_is_text_in_every_output(run: Run, verdicts: VariantVerdicts) -> None:
    ranking = rank([run])
    html = page(ranking, "t", {}, "t", ReportParts(variants=verdicts))
    section = html[html.index('<section id="compression"') :].partition("</section>")[0]
    assert "&lt;b&gt;4%&lt;/b&gt;" in section
    assert "<b>" not in section
    told = markdown(ranking, "t", {}, ReportParts(variants=verdicts))
    part = told[told.index("## Compression") :]
    assert "<b>" not in part
    for text in (section, part, shown(verdicts)):
        assert "\x1b" not in text
        assert "unsupported" in text


def test_a_terminal_of_80_columns_holds_it(verdicts: VariantVerdicts) -> None:
    lines = shown(verdicts).splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if "bf16, anew" in line and "[-0.46, +0.70]" in line][:1]
    assert row.split() == [
        "bf16,", "anew", "non-inferior", "+0.10", "[-0.46,", "+0.70]", "10", "MB", "0.50x", "7",
        "0.70x",
    ]  # fmt: skip


def test_without_variants_nothing_is_said_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoobench.report.write.write_figures", lambda *_: [])
    run = make_run(tmp_path / "run", ["timm/net@1"], [DIGITS], {"timm/net@1": 0.8}, n=50)
    written = write_report([run], tmp_path / "report")
    assert "compression.csv" not in [path.name for path in written]
    assert 'id="compression"' not in written[0].read_text()
    assert "## Compression" not in written[1].read_text()
    assert shown(NO_VARIANTS) == ""


def test_a_figure_has_a_panel_a_cost_and_names_each_row(verdicts: VariantVerdicts) -> None:
    views = compression_views(verdicts)
    drawn = compression_figures(views)
    assert list(drawn) == ["compression-1-net-digits", "compression-2-net-words"]
    figure = drawn["compression-1-net-digits"]()
    bytes_, time = figure.axes
    assert (bytes_.get_xlabel(), time.get_xlabel()) == ("weights (bytes)", "latency (ms)")
    named = {text.get_text() for text in bytes_.texts}
    assert {"original", "bf16, carried", "bf16, anew"} <= named
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "original", "non-inferior", "inconclusive", "regressed",
    ]  # fmt: skip


def test_the_page_draws_it_at_any_width(
    browser: webdriver.Chrome, run: Run, verdicts: VariantVerdicts, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(rank([run]), "t", {}, "t", ReportParts(variants=verdicts)))
    try:
        for width in (390, 1280):
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500},
            )
            browser.get(file.as_uri())
            for name in ("1-weights_bytes", "1-latency_ms_p50", "2-weights_bytes"):
                figure = browser.find_element("id", f"plot-compression-{name}")
                dots = figure.find_elements("css selector", "[aria-label=dot] circle")
                assert len(dots) == 5
                assert "bf16, anew" in figure.text
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width
        log = browser.get_log("browser")  # type: ignore[no-untyped-call]
        assert not [entry for entry in log if entry["level"] == "SEVERE"]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
