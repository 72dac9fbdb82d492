"""The usability section: what was answered, in every output, and no grade."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from fakes import make_run
from zoobench.report.parts import ReportParts
from zoobench.report.tables import csv_bytes
from zoobench.report.usability_view import (
    NOT_ASKED,
    NOTE,
    UsabilityCell,
    usability_table,
    usability_view,
)
from zoobench.report.write import write_report
from zoobench.usability import PROBES, Said
from zoobench.usability.answers import FILE, Answers, UsabilityAnswer, encode

A, B = "timm/a@1", "timm/b@1"


def answers(*told: tuple[str, str, Said, float | None, str]) -> Answers:
    made = [UsabilityAnswer(*one, {"torch": "2.14"}, "2026-01-01") for one in told]
    return {(one.model, one.probe): one for one in made}


ASKED = answers(
    (A, "exports-onnx", "yes", 2e-7, "ONNX Runtime is off by 2.0e-07"),
    (A, "size-on-disk", "yes", 18.8e6, "the file of its weights"),
    (A, "batch-invariant", "no", 0.25, "alone and in a batch of 4: 2.5e-01 apart"),
    (B, "exports-onnx", "unknown", None, "needs onnx"),
    (B, "size-on-disk", "yes", 1e3, "the file of its weights"),
)


def test_the_longer_side_makes_the_rows() -> None:
    view = usability_view(ASKED)
    assert view.header == ("probe", "a", "b")
    assert view.texts == [
        ["size-on-disk", "yes 18.8 MB", "yes 1 kB"],
        ["batch-invariant", "no 2.5e-01", ""],
        ["exports-onnx", "yes", "?"],
    ]
    more = answers(*((f"timm/m{i}@1", "permissive", "yes", None, "MIT") for i in range(3)))
    view = usability_view(more)
    assert view.header == ("model", "permissive")
    assert view.texts == [["m0", "yes"], ["m1", "yes"], ["m2", "yes"]]
    assert usability_view({}) == NOT_ASKED == usability_view(answers((A, "gone", "yes", None, "")))


def test_reasons_are_of_what_is_not_yes_and_shared_ones_stand_once() -> None:
    both = ASKED | answers((A, "quantises", "no", None, "0%"), (B, "quantises", "no", None, "0%"))
    assert usability_view(both).reasons == (
        "batch-invariant: no: a (alone and in a batch of 4: 2.5e-01 apart)",
        "exports-onnx: unknown: b (needs onnx)",
        "quantises: no: a, b (0%)",
    )
    assert usability_view(ASKED).rows[2][1][0] == UsabilityCell(
        "yes", "", "ONNX Runtime is off by 2.0e-07"
    )


def test_the_csv_holds_every_answer() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_bytes(usability_table(ASKED)).decode())))
    assert len(rows) == len(ASKED)
    assert rows[0] == {
        "model": A, "probe": "exports-onnx", "answer": "yes", "value": "2e-07", "unit": "relative",
        "why": "ONNX Runtime is off by 2.0e-07", "versions": "torch 2.14", "when": "2026-01-01",
    }  # fmt: skip
    assert [row["unit"] for row in rows] == [PROBES[row["probe"]].unit for row in rows]
    assert rows[3]["value"] == ""


def test_a_report_shows_what_lies_beside_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoobench.report.write.write_figures", lambda *_: [])
    run = make_run(tmp_path / "run", [A, B], ["packaged/digits@1"], {A: 0.8, B: 0.7}, n=50)
    page, text = (path.read_text() for path in write_report([run], tmp_path / "before")[:2])
    for without in (page, text):
        assert NOTE in without
        assert "Usability" not in without
    (run.path / FILE).write_bytes(b"".join(map(encode, ASKED.values())))
    written = {path.name: path for path in write_report([run], tmp_path / "after")}
    page, text = (written[name].read_text() for name in ("report.html", "report.md"))
    assert '<a href="#usability">Usability</a>' in page
    assert '<td class="yes" title="ONNX Runtime is off by 2.0e-07">yes</td>' in page
    assert '<td class="unknown" title="needs onnx">?</td>' in page
    assert "<li>exports-onnx: unknown: b (needs onnx)</li>" in page
    assert "| size-on-disk | yes 18.8 MB | yes 1 kB |" in text
    assert "- exports-onnx: unknown: b (needs onnx)" in text
    assert NOTE not in page + text
    assert written["usability.csv"].read_text().count("\n") == 1 + len(ASKED)
    assert ReportParts().usability == NOT_ASKED
