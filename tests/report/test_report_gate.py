"""What a comparison looks like in each of its forms, for every outcome."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from zoobench.compare.verdicts import Comparison, Drift, Finding, NewCell, Resolution
from zoobench.report import gate
from zoobench.schema import Cell, Outcome, Ref


def cell(method: str = "knn", model: str = "packaged/lite0@1") -> Cell:
    return Cell(Ref.parse(model), Ref("packaged", "mnist-5k", "1"), method)


def finding(
    outcome: Outcome, method: str = "knn", why: str = "because", margin: float = 0.05
) -> Finding:
    return Finding(
        cell(method), "accuracy", 0.9, 0.88, outcome, why, change=-0.02, p=0.1, margin=margin
    )


def comparison(*findings: Finding, **more: object) -> Comparison:
    return Comparison("smoke", "old", "new", findings, **more)  # type: ignore[arg-type]


WHOLE = comparison(
    finding("regressed", "ridge", "-2.00 points; p 0.001"),
    Finding(cell(), "params", 1e6, 2e6, "improved", "smaller", kind="exact", accept=True),
    Finding(cell("lora"), "", None, None, "missing", "failed: oom", kind="cell"),
    finding("inconclusive", "fine-tune"),
    Finding(cell("knn"), "", None, None, "incomparable", "protocol 1 -> 2", kind="cell"),
    finding("same"),
    new=(NewCell(cell("zero-shot"), "ok", 0.5),),
    warnings=(Finding(cell(), "latency_ms_p50", 1, 2, "inconclusive", "slow", kind="times"),),
    drifts=(Drift("packaged/lite0", "pixels", "the pixels differ"),),
    resolutions=(Resolution("packaged/mnist-5k", "accuracy", 500, 0.03, 0.01),),
    notes=("a note",),
    family=3,
)


def test_golden_text() -> None:
    assert gate.text(WHOLE) == (
        "zoobench compare: failed: cells are missing or failed\n"
        "  1 regressed, 1 missing, 1 inconclusive, 1 incomparable, 1 improved, 1 same, 1\n"
        "  to accept, 1 new, 1 warnings about times\n"
        "  Holm's correction at 0.05 over 3 tests that could differ\n"
        "\n"
        "REGRESSED OR TO ACCEPT\n"
        "  packaged/lite0 · packaged/mnist-5k · ridge  accuracy  0.9000 -> 0.8800\n"
        "      -2.00 points; p 0.001\n"
        "  packaged/lite0  params  1,000,000 -> 2,000,000\n"
        "      smaller\n"
        "\n"
        "MISSING\n"
        "  packaged/lite0 · packaged/mnist-5k · lora\n"
        "      failed: oom\n"
        "\n"
        "INCONCLUSIVE\n"
        "  packaged/lite0 · packaged/mnist-5k · fine-tune  accuracy  0.9000 -> 0.8800\n"
        "      because\n"
        "\n"
        "INCOMPARABLE\n"
        "  packaged/lite0 · packaged/mnist-5k · knn\n"
        "      protocol 1 -> 2\n"
        "\n"
        "WHERE THE RUNS PART\n"
        "  packaged/lite0: the pixels differ\n"
        "\n"
        "WHAT THE TEST SETS CAN SHOW\n"
        "  packaged/mnist-5k accuracy: drops of 3.0 points or more are seen (500\n"
        "    examples); a drop of the margin, 1, is not\n"
        "\n"
        "TIMES AND MEMORY (WARNINGS ONLY)\n"
        "  packaged/lite0  latency_ms_p50: slow\n"
        "\n"
        "NEW CELLS (LISTED, NOT GATED)\n"
        "  packaged/lite0 · packaged/mnist-5k · zero-shot: ok, 0.5000\n"
        "\n"
        "NOTES\n"
        "  a note\n"
    )


def test_measured_times_are_shown_where_nothing_changed() -> None:
    same = Finding(
        cell(), "latency_ms_p50", 9.5, 9.6, "same", "1.010 times base's", kind="measured"
    )
    assert gate.text(comparison(same)).endswith(
        "\nSAME\n  packaged/lite0  latency_ms_p50  9.5 -> 9.6\n      1.010 times base's\n"
    )


def test_no_line_is_wider_than_a_terminal() -> None:
    long = finding("regressed", "ridge", "words " * 60)
    assert max(map(len, gate.text(comparison(long)).splitlines())) <= gate.WIDTH


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        (comparison(finding("same")), 0, "passed"),
        (comparison(finding("regressed"), finding("same")), 1, "failed: a confirmed"),
        (comparison(finding("regressed"), finding("missing")), 3, "failed: cells are missing"),
        (comparison(finding("incomparable")), 4, "nothing could be compared"),
        (comparison(), 4, "nothing could be compared"),
        (comparison(finding("inconclusive")), 0, "passed"),
        (comparison(finding("inconclusive", margin=0.01)), 0, "inconclusive: 1 cell fell"),
        (comparison(dataclasses.replace(finding("same"), kind="exact")), 4, "nothing could"),
        (comparison(finding("inconclusive"), strict=True), 5, "inconclusive, which --strict"),
        (comparison(finding("inconclusive"), finding("regressed"), strict=True), 1, "failed"),
    ],
)
def test_every_exit_code_has_its_words(found: Comparison, code: int, said: str) -> None:
    assert found.exit_code == code
    assert said in gate.text(found).splitlines()[0]
    assert said in gate.markdown(found)


def test_markdown_puts_the_worst_first_and_folds_the_rest() -> None:
    page = gate.markdown(WHOLE)
    assert page.startswith("<!-- zoobench compare: smoke -->\n### zoobench compare: failed")
    assert page.index("**Regressed") < page.index("**Missing") < page.index("<details>")
    assert page.count("<details>") == page.count("</details>")
    assert "| packaged/lite0 · packaged/mnist-5k · ridge | accuracy | 0.9000 | 0.8800 |" in page


def test_markdown_cannot_be_broken_by_a_message() -> None:
    page = gate.markdown(comparison(finding("regressed", why="a|b\n<script> @someone `x`")))
    assert "a\\|b &lt;script&gt; @\u200bsomeone \\`x\\`" in page


@pytest.mark.parametrize("outcome", ["regressed", "same", "incomparable"])
def test_markdown_keeps_its_size(outcome: Outcome) -> None:
    many = comparison(*(finding(outcome, f"method-{i}", "é" * 300) for i in range(5000)))
    page = gate.markdown(many)
    assert 10_000 < len(page) < gate.COMMENT_LIMIT
    assert "more in gate.json" in page
    assert page.count("<details>") == page.count("</details>")
    whole = gate.summary(many)
    assert 300_000 < len(whole.encode()) < gate.SUMMARY_LIMIT


def test_gate_json_holds_the_decision() -> None:
    body = json.loads(gate.gate_json(WHOLE))
    assert body["exit_code"] == 3
    assert body["counts"]["regressed"] == 1
    assert body["findings"][0]["outcome"] == "regressed"
    assert body["findings"][0]["change"] == -0.02
    assert body["drifts"][0]["stage"] == "pixels"


def test_junit_maps_outcomes() -> None:
    root = fromstring(gate.junit(WHOLE))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures")) == ("6", "2")
    assert (suite.get("errors"), suite.get("skipped")) == ("1", "2")
    kinds = {c.get("name"): [child.tag for child in c] for c in suite}
    assert kinds["packaged/lite0 · packaged/mnist-5k · ridge accuracy"] == ["failure"]
    assert kinds["packaged/lite0 params"] == ["failure"]
    assert kinds["packaged/lite0 · packaged/mnist-5k · lora"] == ["error"]
    assert kinds["packaged/lite0 · packaged/mnist-5k · fine-tune accuracy"] == ["skipped"]
    assert kinds["packaged/lite0 · packaged/mnist-5k · knn"] == ["skipped"]
    assert kinds["packaged/lite0 · packaged/mnist-5k · knn accuracy"] == []


def test_junit_writes_no_forbidden_characters() -> None:
    root = fromstring(gate.junit(comparison(finding("regressed", why="\x1b[31mred\x00 & <b>"))))
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "[31mred & <b>"


def test_annotations() -> None:
    lines = gate.github_annotations(WHOLE).splitlines()
    assert lines[0] == (
        "::error title=regressed%3A packaged/lite0 · packaged/mnist-5k · ridge accuracy"
        "::-2.00 points; p 0.001"
    )
    assert lines[-1] == "::warning title=packaged/lite0::slow"
    many = comparison(*(finding("regressed", f"m{i}", "50%\nof it") for i in range(30)))
    lines = gate.github_annotations(many).splitlines()
    assert len(lines) == 10
    assert "50%25%0Aof it" in lines[0]
    assert lines[-1] == "::error title=zoobench::and 21 more; see gate.json"


def test_write(tmp_path: Path) -> None:
    files = gate.write(WHOLE, tmp_path / "deep" / "gate")
    assert [f.name for f in files] == [
        "gate.txt",
        "gate.md",
        "summary.md",
        "gate.json",
        "junit.xml",
        "annotations.txt",
    ]
    assert all(f.read_text(encoding="utf-8") for f in files)
