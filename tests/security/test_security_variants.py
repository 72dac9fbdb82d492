"""Records of compressed variants that a stranger wrote: shown as text, or refused in a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostile import Said
from variant_runs import DIGITS, KINDS, WORDS, variant_run
from zoobench.schema import Record
from zoobench.store import encode, load

EVIL = "=cmd|'/c calc'!A1 \x1b[31m</td><script>alert(1)</script>\u202e ::error:: @all\n# x"


@pytest.fixture
def run(inside: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("zoobench.report.write.write_figures", lambda *_: [])
    variant_run(inside / "run", KINDS, (DIGITS, WORDS), n=200)
    return inside / "run"


def change(run: Path, how: Callable[[Record], Record]) -> None:
    lines = [encode(how(one)) for one in load(run).records]
    (run / "records.jsonl").write_bytes(b"".join(lines))


def of_cell(record: Record, **changes: Any) -> Record:
    """Another cell has another key, under which no predictions are kept."""
    cell = dataclasses.replace(record.cell, **changes)
    return dataclasses.replace(record, cell=cell, predictions="")


@pytest.mark.parametrize("macs", ["x", [1], None, True, {"a": 1}, 1e300, -1])
def test_a_share_is_anything(macs: Any, run: Path, zoobench: Callable[..., Said]) -> None:
    def told(record: Record) -> Record:
        kept = [
            dataclasses.replace(m, detail={"macs": macs}) if m.metric == "coverage" else m
            for m in record.measurements
        ]
        return dataclasses.replace(record, measurements=tuple(kept))

    change(run, told)
    assert zoobench("report", run).code == 0


@pytest.mark.parametrize("head", [EVIL, "", 7, [1], {"a": EVIL}, None, "a&b=c?d@e", True])
def test_a_head_is_called_anything(head: Any, run: Path, zoobench: Callable[..., Said]) -> None:
    def named(record: Record) -> Record:
        if "head" not in record.cell.params:
            return record
        return of_cell(record, params={**record.cell.params, "head": head})

    change(run, named)
    inert(run, zoobench)


@pytest.mark.parametrize("variant", [EVIL, "", 7, "../../x", "no-such", True, "int8-static"])
def test_a_variant_is_called_anything(
    variant: Any, run: Path, zoobench: Callable[..., Said]
) -> None:
    def named(record: Record) -> Record:
        model = record.cell.model
        if model.option("variant") is None:
            return record
        return of_cell(record, model=model.with_options(variant=variant))

    change(run, named)
    inert(run, zoobench)


def test_a_reason_says_anything(run: Path, zoobench: Callable[..., Said]) -> None:
    def failed(record: Record) -> Record:
        if "head" not in record.cell.params:
            return record
        error = {"message": EVIL}
        return dataclasses.replace(record, status="unsupported", measurements=(), error=error)

    change(run, failed)
    inert(run, zoobench)


@pytest.mark.parametrize("cost", [0.0, -1.0, 1e300, 1e-300, 5e-324])
def test_a_cost_is_anything(cost: float, inside: Path, zoobench: Callable[..., Said]) -> None:
    """With its figures."""
    run = inside / "run"
    variant_run(run, KINDS[:2], (DIGITS,), n=40)

    def priced(record: Record) -> Record:
        if "head" in record.cell.params and record.cell.params["head"] == "anew":
            return record
        kept = [
            dataclasses.replace(m, value=cost) if m.metric.startswith(("weights", "lat")) else m
            for m in record.measurements
        ]
        return dataclasses.replace(record, measurements=tuple(kept))

    change(run, priced)
    assert zoobench("report", run).code == 0


def inert(run: Path, zoobench: Callable[..., Said]) -> None:
    """What was said lies in its place in every file and on the terminal."""
    said = zoobench("report", run)
    assert said.code == 0, said
    needed = zoobench("recommend", run, "--max-bytes", "90MB", "--needs", "permissive")
    assert needed.code in (0, 2), needed
    files = [run / "report" / name for name in ("report.html", "report.md", "compression.csv")]
    page, text, table = (file.read_text("utf-8") for file in files)
    for shown in (said.out, said.err, needed.out, needed.err, page, text, table):
        assert not set("\x1b\u202e") & set(shown)
    assert "<script>alert" not in page + text
    assert "@all" not in text
    assert "\n# x" not in text
    assert not any(cell.startswith("=") for cell in table.replace('"', "").split(","))
    assert {path.name for path in run.parent.iterdir()} == {"run"}
