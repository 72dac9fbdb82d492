"""A figure or a table can be copied from the page, offline and under its strict policy."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from fakes import make_run
from zoobench.ranking.rank import rank
from zoobench.report.page import page

ENTER = "\ue007"
PASTED = """
const done = arguments[0];
navigator.clipboard.read().then(async ([item]) => {
  const blob = await item.getType(item.types[0]), bytes = new Uint8Array(await blob.arrayBuffer());
  done([item.types[0], [...bytes]]);
}, (error) => done([String(error), []]));
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("copy")
    truth = {"timm/small@1": 0.7, "timm/=cmd()@1": 0.8, 'timm/large, "the"@1': 0.95}
    ranking = rank([make_run(path / "run", list(truth), ["packaged/digits@1"], truth, n=200)])
    (path / "report.html").write_text(page(ranking, "run", {}, "run"))
    return path / "report.html"


def allow(browser: webdriver.Chrome, setting: str) -> None:
    for name in ("clipboard-read", "clipboard-write"):
        browser.execute_cdp_cmd(
            "Browser.setPermission", {"permission": {"name": name}, "setting": setting}
        )


def press(browser: webdriver.Chrome, label: str) -> str:
    """Press the button by keyboard; what its status line then says."""
    button = browser.find_element("css selector", f'button[aria-label^="{label}"]')
    button.send_keys(ENTER)
    status = button.find_element("xpath", "..").find_element("css selector", "[role=status]")
    # A picture is drawn in software here, which takes many seconds on a loaded machine.
    return str(WebDriverWait(browser, 60).until(lambda _: status.text))


def pasted(browser: webdriver.Chrome) -> tuple[str, bytes]:
    kind, body = browser.execute_async_script(PASTED)
    return kind, bytes(body)


def lines(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode(), newline="")))


def severe(browser: webdriver.Chrome) -> list[Any]:
    found: list[Any] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return found


def test_figures_and_tables_are_copied(browser: webdriver.Chrome, report: Path) -> None:
    light = [{"name": "prefers-color-scheme", "value": "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": light})
    browser.get(report.as_uri())
    allow(browser, "granted")
    assert press(browser, "Copy CSV: linear-probe: accuracy against") == "Copied."
    kind, body = pasted(browser)
    assert kind == "text/plain"
    header, *rows = lines(body)
    assert header == ["model", "MACs", "accuracy (%)", "low", "high", "state"]
    assert {row[0] for row in rows} == {"small", "'=cmd()", 'large, "the"'}
    assert all(float(low) <= float(value) <= float(high) for _, _, value, low, high, _ in rows)

    assert press(browser, "Copy CSV: Leaderboard, linear-probe") == "Copied."
    header, *rows = lines(pasted(browser)[1])
    assert header[:5] == ["rank", "model", "accuracy (%)", "low", "high"]
    assert [len(row) for row in rows] == [len(header)] * 3
    assert all(float(row[header.index("mean z")]) is not None for row in rows)

    assert press(browser, "Copy PNG: linear-probe: accuracy against") == "Copied."
    kind, body = pasted(browser)
    assert kind == "image/png"
    with Image.open(io.BytesIO(body)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 800
    for colour in ((10, 102, 183), (180, 72, 15)):  # the legend and the front, as on the page
        assert (np.abs(pixels - np.array(colour)).max(axis=-1) <= 8).sum() > 100
    assert severe(browser) == []


def test_a_filtered_table_is_copied_as_it_is_shown(browser: webdriver.Chrome, report: Path) -> None:
    browser.get(report.as_uri())
    allow(browser, "granted")
    browser.find_element("id", "filter").send_keys("small")
    press(browser, "Copy CSV: Leaderboard, linear-probe")
    assert [row[1] for row in lines(pasted(browser)[1])] == ["model", "small"]


def test_what_may_not_be_copied_is_saved(
    browser: webdriver.Chrome, report: Path, tmp_path: Path
) -> None:
    browser.get(report.as_uri())
    allow(browser, "denied")
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    try:
        for label, name in (
            (
                "Copy CSV: linear-probe: accuracy of each",
                "linear-probe-accuracy-of-each-model-on-each-dataset.csv",
            ),
            ("Copy PNG: linear-probe: 95%", "linear-probe-95-intervals.png"),
        ):
            assert press(browser, label).startswith(f"Saved as {name}, because")
            for _ in range(100):
                if (tmp_path / name).exists():
                    break
                time.sleep(0.05)
            assert (tmp_path / name).stat().st_size > 100
    finally:
        allow(browser, "granted")
    assert severe(browser) == []
