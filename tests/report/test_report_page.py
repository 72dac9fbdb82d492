"""report.html in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from fakes import make_run
from zoobench.ranking.rank import rank
from zoobench.report.page import page
from zoobench.report.write import write_report

SMALL, MIDDLE, LARGE = "timm/small@1", "timm/middle@1", "timm/<b>large</b>@1"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page")
    truth = {SMALL: 0.7, MIDDLE: 0.8, LARGE: 0.95}
    sets = ["packaged/digits@1", "packaged/words@1"]
    fault = {("timm/broken@1", d): ("oom", "needed 3 GB </script><b>") for d in sets}
    models = [SMALL, MIDDLE, LARGE, "timm/broken@1"]
    run = make_run(path / "run", models, sets, truth, failures=fault, methods=("knn", "ridge"))
    return write_report([run], path / "report")[0]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve models, half of them with long names, and datasets with long names."""
    long = "vit_base_patch16_clip_quickgelu_224.metaclip_2pt5b_ft_in12k_in1k"
    models = [f"timm/{long if i % 2 else 'net'}{i}@1" for i in range(12)]
    sets = [f"packaged/a-rather-long-name-of-data-{i}@1" for i in range(3)]
    path = tmp_path_factory.mktemp("crowded")
    run = make_run(
        path / "run", models, sets, {m: 0.5 + 0.03 * i for i, m in enumerate(models)}, n=60
    )
    html = page(rank([run]), "crowded", {}, "crowded")
    (path / "report.html").write_text(html)
    return path / "report.html"


def size(browser: webdriver.Chrome, width: int, height: int = 844) -> None:
    """The window's size until the end of the test; 0 gives it back."""
    if not width:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        return
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )


def text(browser: webdriver.Chrome, css: str) -> str:
    return str(browser.find_element("css selector", css).text)


def column(browser: webdriver.Chrome, at: int) -> list[str]:
    rows = browser.find_elements("css selector", ".board:not([hidden]) tbody tr:not([hidden])")
    return [row.find_elements("css selector", "td, th")[at].text for row in rows]


def move(browser: webdriver.Chrome, slider: str, key: str, times: int) -> None:
    for _ in range(times):
        browser.find_element("id", slider).send_keys(key)


def _log(browser: webdriver.Chrome, kind: str) -> list[Any]:
    found: list[Any] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return found


def severe(browser: webdriver.Chrome) -> list[str]:
    return [entry["message"] for entry in _log(browser, "browser")]


def requests(browser: webdriver.Chrome) -> list[str]:
    events = [json.loads(entry["message"])["message"] for entry in _log(browser, "performance")]
    sent = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    return [url for url in sent if not url.startswith(("file:", "data:"))]


def test_the_page_decides_sorts_and_filters_without_error_or_request(
    browser: webdriver.Chrome, report: Path
) -> None:
    browser.get(report.as_uri())
    assert text(browser, "#pick .big") == "Most accurate: <b>large</b>"
    for figure in ("plot-pareto", "plot-heat", "plot-forest", "plot-cost"):
        assert browser.find_elements("css selector", f"#{figure} svg"), figure

    move(browser, "limit-params", "\ue012", 1)  # left arrow: the keyboard moves it
    assert text(browser, "#out-params") == "3M"
    assert text(browser, "#pick .big") == "Most accurate: <b>large</b>"
    move(browser, "limit-params", "\ue012", 1)
    assert text(browser, "#pick .big") == "Most accurate: middle"
    assert "parameters 3M above 2M" in text(browser, "#others")
    move(browser, "limit-params", "\ue014", 2)
    assert text(browser, "#pick .big") == "Most accurate: <b>large</b>"

    assert column(browser, 1) == ["<b>large</b>", "middle", "small"]
    head = browser.find_elements("css selector", ".board:not([hidden]) thead button")
    head[1].send_keys("\ue007")  # Enter on the header's button
    assert column(browser, 1) == ["<b>large</b>", "middle", "small"]
    head[1].click()
    assert column(browser, 1) == ["small", "middle", "<b>large</b>"]
    sorted_by = browser.find_element("css selector", ".board:not([hidden]) th[aria-sort]")
    assert (sorted_by.text.split()[0], sorted_by.get_attribute("aria-sort")) == (
        "model",
        "descending",
    )
    head[2].click()
    scores = [float(cell.split()[0]) for cell in column(browser, 2)]
    assert scores == sorted(scores, reverse=True)

    browser.find_element("id", "filter").send_keys("midd")
    assert column(browser, 1) == ["middle"]
    assert text(browser, "#count") == "1 of 3 models"

    assert severe(browser) == []
    assert requests(browser) == []


def test_ranks_and_further_tables_are_drawn_where_there_are_any(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    sets = [f"packaged/d{i}@1" for i in range(6)]
    truth = {SMALL: 0.8, MIDDLE: 0.8, LARGE: 0.95}
    run = make_run(tmp_path / "run", [SMALL, MIDDLE, LARGE], sets, truth, n=200)
    page = write_report([run], tmp_path / "report")[0]
    browser.get(page.as_uri())
    assert text(browser, "#pick .big") == "Most accurate: <b>large</b>"
    assert browser.find_elements("css selector", "#plot-ranks svg [aria-label=rule] line")
    assert "Friedman" in text(browser, "#ranks-note")
    gaps = browser.find_elements("css selector", "#gapped thead button")
    gaps[2].click()
    rows = browser.find_elements("css selector", "#gapped tbody tr")
    train = [float(row.find_elements("css selector", "td")[2].text) for row in rows]
    assert len(train) == 3
    assert train == sorted(train)
    assert severe(browser) == []


def test_another_ranking_and_another_cost_can_be_chosen(
    browser: webdriver.Chrome, report: Path
) -> None:
    browser.get(report.as_uri())
    for select, value in (("board", "1"), ("axis", "latency_ms_p50"), ("where", "0")):
        option = browser.find_element("css selector", f"#{select} option[value='{value}']")
        option.click()
    assert "latency" in text(browser, "#plot-pareto")
    assert "raw-input" in text(browser, "#plot-forest")
    caption = browser.find_element("css selector", ".board:not([hidden]) caption")
    assert caption.text.startswith("knn")
    assert severe(browser) == []


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_the_first_screen_holds_the_decision_and_nothing_scrolls_sideways(
    browser: webdriver.Chrome, report: Path, crowded: Path, width: int, height: int
) -> None:
    size(browser, width, height)
    for file in (report, crowded):
        browser.get(file.as_uri())
        wide, seen, ends = browser.execute_script(_FIRST_SCREEN)
        assert wide <= seen
        assert ends["#pick .big"] < height / 2
        last = "#others h3" if width > 500 else "#pick .card"
        assert ends[last] < height
        assert browser.execute_script(_OUTSIDE) == [], "no chart cuts its own text"
        assert severe(browser) == []
    size(browser, 0)


_FIRST_SCREEN = """
const ends = Object.fromEntries(["#pick .big", "#pick .card", "#others h3"].map(
  (css) => [css, document.querySelector(css).getBoundingClientRect().bottom]));
return [document.documentElement.scrollWidth, window.innerWidth, ends];
"""
_OUTSIDE = """
const found = [];
for (const svg of document.querySelectorAll("figure svg[aria-label]")) {
  const frame = svg.getBoundingClientRect();
  for (const text of svg.querySelectorAll("text")) {
    const box = text.getBoundingClientRect();
    if (box.left < frame.left - 1 || box.right > frame.right + 1) found.push(text.textContent);
  }
  const ticks = [...svg.querySelectorAll("[aria-label='x-axis tick label'] text")]
    .map((text) => text.getBoundingClientRect()).sort((a, b) => a.left - b.left);
  if (ticks.some((box, i) => i && box.left < ticks[i - 1].right)) found.push(svg.ariaLabel);
}
const over = (p, q) => p.left < q.right && q.left < p.right && p.top < q.bottom && q.top < p.bottom;
const boxes = (css) => [...document.querySelectorAll(`#plot-pareto ${css}`)]
  .map((element) => element.getBoundingClientRect());
const names = boxes("[aria-label=text] text"), marks = boxes("[aria-label=rule] line");
if (!names.length || !marks.length) found.push("no names");
names.forEach((name, i) => {
  if ([...marks, ...names.slice(0, i)].some((box) => over(name, box))) found.push(`name ${i}`);
});
return found;
"""


def test_both_themes_are_readable(browser: webdriver.Chrome, report: Path) -> None:
    """Text against background: WCAG contrast of at least 4.5 in both themes."""
    for theme in ("light", "dark"):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": theme}]},
        )
        browser.get(report.as_uri())
        for element in ("body", "caption", "nav a", "dt"):
            ratio = browser.execute_script(_CONTRAST, element)
            assert ratio >= 4.5, (theme, element, ratio)


_CONTRAST = """
const light = (text) => { const c = text.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; };
const front = light(getComputedStyle(document.querySelector(arguments[0])).color);
const back = light(getComputedStyle(document.body).backgroundColor);
return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
"""
