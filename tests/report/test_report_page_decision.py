"""What the page picks under limits is what `zoobench recommend` picks."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver

from fakes import make_run
from zoobench.ranking.nouns import SEVERAL, Bounded, OverallRanking, OverallRow, Ranking
from zoobench.ranking.rank import rank
from zoobench.ranking.recommend import COSTLY, Limits, recommend
from zoobench.report.page import page
from zoobench.schema import Measurement, Record

LICENSES = ("MIT", "Apache-2.0", "CC-BY-NC-4.0")
COSTS = {"max_params": "params", "max_macs": "macs", "max_latency_ms": "latency_ms_p50"}
TRUST = {"min_retained": "mean_retained", "max_membership_auc": "membership_auc"}
LIMITED = {**COSTS, **TRUST}

PICK = """
const [limits, license, tolerance, cheapest] = arguments[0];
setSliders();
for (const axis in limits) $(`limit-${axis}`).value = steps[axis].indexOf(limits[axis]);
$("license").value = license; $("tolerance").value = tolerance; $("cheapest").value = cheapest;
const d = decide(), name = (i) => (i === null ? null : d.b.rows[i].model);
const sure = d.of && d.pick !== null ? d.of.get(d.pick) : null;
return [name(d.pick), name(d.cheap), d.axis, d.tied.map(name), sure];
"""
TEXTS = """
const rows = [...document.querySelectorAll(".board tbody tr")];
const cells = rows.map((tr) => tr.cells[2].textContent);
return DATA.boards[0].rows.every((row, i) => range(DATA.boards[0], row) === cells[i]);
"""
AXES = "return limits().map((limit) => limit.axis);"


def world(
    ranking: Ranking,
    seed: int,
    devices: tuple[str, ...],
    incomplete: bool = False,
    busy: bool = False,
) -> tuple[Ranking, OverallRanking]:
    """The same scores with costs, licences and devices drawn anew; some costs are unknown."""
    rng = np.random.default_rng(seed)
    (overall,) = ranking.overall
    rows = []
    for row in overall.rows:
        costs = {name: float(rng.integers(1, 9)) * 1e3 for name in COSTS.values()}
        if incomplete and rng.random() < 0.4:
            costs.pop("latency_ms_p50" if rng.random() < 0.5 else "macs")
        trust = {name: Bounded(float(rng.integers(50, 90)) / 100) for name in TRUST.values()}
        if incomplete and rng.random() < 0.4:
            trust.pop("membership_auc")
        rows.append(
            dataclasses.replace(
                row,
                costs=costs,
                trust=trust,
                license=str(rng.choice(LICENSES)),
                device=devices[int(rng.integers(len(devices)))],
                records=marked(row, busy and rng.random() < 0.3),
            )
        )
    overall = dataclasses.replace(overall, rows=tuple(rows))
    return dataclasses.replace(ranking, overall=(overall,)), overall


def marked(row: OverallRow, noisy: bool) -> tuple[Record, ...]:
    """Its records, with a noisy latency."""
    if not noisy:
        return row.records
    slow = Measurement("latency_ms_p50", 9.0, "ms", "lower", detail={"noisy": True})
    first, *others = row.records
    return (dataclasses.replace(first, measurements=(*first.measurements, slow)), *others)


def known(row: OverallRow, name: str) -> float | None:
    return row.costs.get(name) or (row.trust[name].value if name in row.trust else None)


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    truth = {f"timm/net{i}@1": p for i, p in enumerate((0.9, 0.895, 0.89, 0.885, 0.86, 0.84, 0.6))}
    sets = ["packaged/digits@1", "packaged/words@1"]
    return rank([make_run(tmp_path_factory.mktemp("run"), list(truth), sets, truth, n=300)])


@pytest.mark.parametrize(
    ("seed", "devices", "incomplete", "busy"),
    [
        (1, ("cpu",), False, False),
        (2, ("cpu", "cpu", "gpu"), False, False),
        (3, ("cpu", f"{SEVERAL}cpu | gpu"), False, False),
        (4, ("cpu",), True, False),
        (5, ("cpu", "gpu"), True, False),
        (7, ("cpu",), False, True),
    ],
)
def test_the_page_picks_what_recommend_picks(
    browser: webdriver.Chrome,
    ranking: Ranking,
    tmp_path: Path,
    seed: int,
    devices: tuple[str, ...],
    incomplete: bool,
    busy: bool,
) -> None:
    made, overall = world(ranking, seed, devices, incomplete, busy)
    (tmp_path / "report.html").write_text(page(made, "run", {}, "run"))
    browser.get((tmp_path / "report.html").as_uri())
    assert browser.execute_script(TEXTS), "a number has one rounding"
    shown = browser.execute_script(AXES)
    assert ("latency_ms_p50" in shown) == (len(devices) == 1), "one limit for one device"
    rng = np.random.default_rng(seed)
    cheapest = set()
    for licence, tolerance, by, _ in itertools.product(
        ("", "permissive", "MIT"), (0.0, 1.0, 4.0), ("", "params"), range(4)
    ):
        asked = {
            name: sorted({value for row in overall.rows if (value := known(row, axis))})
            for name, axis in LIMITED.items()
            if axis in shown and rng.random() < 0.4
        }
        limits: dict[str, Any] = {k: v[int(rng.integers(len(v)))] for k, v in asked.items()}
        found = recommend(
            overall, Limits(**limits, license=licence, tolerance=tolerance, cheapest=by)
        )
        arguments = [
            {LIMITED[k]: v for k, v in limits.items()},
            licence,
            tolerance,
            COSTLY.get(by, ""),
        ]
        pick, cheap, axis, tied, sure = browser.execute_script(PICK, arguments)
        told = found.accurate.model.text if found.accurate else None
        good = found.cheapest.model.text if found.cheapest else None
        assert (pick, cheap) == (told, good), (arguments, found.cost, axis)
        if found.accurate is None:
            continue
        assert axis == found.cost
        assert tied == [row.model.text for row in found.tied]
        assert sure["first"] == pytest.approx(found.first[found.accurate.model], abs=0.01)
        assert sure["loss"] == pytest.approx(found.loss[found.accurate.model], abs=1e-4)
        cheapest.add((axis, good))
    assert len(cheapest) > 4, "the limits must matter"
    if (len(devices) > 1 or busy) and not incomplete:
        assert {"latency_ms_p50", "macs"} <= {axis for axis, _ in cheapest}


def test_the_decision_says_who_was_not_ranked_and_what_to_beware_of(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    truth = {"timm/a@1": 0.9, "timm/b@1": 0.91, "timm/c@1": 0.45}
    sets = ["packaged/digits@1", "packaged/words@1", "packaged/more@1"]
    lost = {("timm/b@1", name): ("timeout", "took 1 h") for name in sets[1:]}
    made = rank([make_run(tmp_path / "run", list(truth), sets, truth, failures=lost)])
    (tmp_path / "report.html").write_text(page(made, "run", {}, "run"))
    browser.get((tmp_path / "report.html").as_uri())
    card = browser.find_element("id", "pick").text
    assert "Most accurate: a" in card
    assert "1 model could not be ranked with these" in card
    for part in ("accuracy 9", "95% interval", "mean over", "It costs", "MACs", " ms", " MB"):
        assert part in card, part
    others = browser.find_element("id", "others").text
    assert "points behind" in others
    assert "not ranked: " in others
    protocol = browser.find_element("id", "protocol").text
    assert "predictions in pairs" in protocol
    assert "P(1st) is the probability of being the true best" in protocol


def test_a_run_without_a_score_says_first_why(browser: webdriver.Chrome, tmp_path: Path) -> None:
    fault = {("timm/a@1", "packaged/digits@1"): ("oom", "needed 3 GB of 2 GB")}
    run = make_run(
        tmp_path / "run", ["timm/a@1"], ["packaged/digits@1"], {}, failures=fault, controls=False
    )
    (tmp_path / "report.html").write_text(page(rank([run]), "run", {}, "run"))
    browser.get((tmp_path / "report.html").as_uri())
    assert browser.find_element("id", "decision").text.splitlines()[1] == (
        "No model has a score, so there is nothing to rank: of 1 cells none gave a number (1 oom)."
    )
    heads = [h.text for h in browser.find_elements("css selector", "h2")]
    assert heads == ["Decision", "Failures", "Every model", "Environment"]
    log: list[Any] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert log == []


def test_limits_of_trust_stand_where_a_model_has_them_and_say_whom_they_rule_out(
    browser: webdriver.Chrome, ranking: Ranking, tmp_path: Path
) -> None:
    made, overall = world(ranking, 1, ("cpu",))
    (tmp_path / "report.html").write_text(page(made, "run", {}, "run"))
    browser.get((tmp_path / "report.html").as_uri())
    shown = {div.text.split(":")[0] for div in browser.find_elements("css selector", ".limit")}
    assert {"Mean retained at least", "Membership AUC at most", "MACs at most"} <= shown
    strict = "for (const d of ['mean_retained']) { $(`limit-${d}`).value = 0; redecide(); }"
    browser.execute_script(strict)
    most = max(row.trust["mean_retained"].value for row in overall.rows)
    others = browser.find_element("id", "others").text
    assert f"below {most:.3f}" in others, "the strictest limit stands at the left"
    assert browser.find_element("id", "out-mean_retained").text == f"{most:.3f}"
    (tmp_path / "plain.html").write_text(page(ranking, "run", {}, "run"))
    browser.get((tmp_path / "plain.html").as_uri())
    shown = {div.text.split(":")[0] for div in browser.find_elements("css selector", ".limit")}
    assert "MACs at most" in shown
    assert not {"Mean retained at least", "Membership AUC at most"} & shown
