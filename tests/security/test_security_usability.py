"""Answers beside a run are text of somebody else: damaged files, links, escapes, formulas."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import make_run
from hostile import Said
from zoobench.usability import sweep
from zoobench.usability.answers import FILE, UsabilityAnswer, encode

MODEL = "timm/a@1"
EVIL = "=cmd|'/c calc'!A1 \x1b[31m</td><script>alert(1)</script>\u202e ::error:: @all"


@pytest.fixture
def run(inside: Path) -> Path:
    make_run(inside / "run", [MODEL, "timm/b@1"], ["packaged/digits@1"], {MODEL: 0.8}, n=40)
    return inside / "run"


def test_reasons_are_text_wherever_they_are_shown(
    run: Path, zoobench: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoobench.report.write.write_figures", lambda *_: [])
    one = UsabilityAnswer(MODEL, "exports-onnx", "no", None, EVIL, {EVIL: EVIL}, EVIL)
    odd = UsabilityAnswer("timm/\x1b[2J", "exports-onnx", "no", None, EVIL)
    other = UsabilityAnswer("timm/b@1", "exports-onnx", "no", None, EVIL)
    (run / FILE).write_bytes(b"".join(map(encode, (one, odd, other))))
    needed = zoobench("recommend", run, "--needs", "exports-onnx")
    shown = zoobench("check", run, "--only", "exports-onnx")
    assert zoobench("report", run).code == 0
    files = [run / "report" / name for name in ("report.html", "report.md", "usability.csv")]
    for text in (needed.out, shown.out, *(file.read_text("utf-8") for file in files)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    page, text, table = (file.read_text("utf-8") for file in files)
    assert "<script>alert" not in page + text
    assert "@all" not in text
    assert not any(cell.startswith("=") for cell in table.replace('"', "").split(","))


@pytest.mark.parametrize("content", ["[]\n", '{"schema": 1}\n', "[" * 10_000 + "\n", "\x00\n"])
@pytest.mark.parametrize("command", ["report", "check", "recommend"])
def test_a_damaged_file_is_the_users_error(
    command: str, content: str, run: Path, zoobench: Callable[..., Said]
) -> None:
    (run / FILE).write_text(content)
    more = ["--needs", "exports-onnx"] if command == "recommend" else []
    said = zoobench(command, run, *more)
    assert said.code == 2
    assert f"{FILE}:1: not an answer of a probe" in said.error


def test_special_files_and_links_are_refused(
    run: Path, outside: Path, zoobench: Callable[..., Said]
) -> None:
    os.mkfifo(run / FILE)
    assert "not a regular file" in zoobench("report", run).error
    (run / FILE).unlink()
    (run / FILE).symlink_to(outside / "records.jsonl")
    assert "leads out of" in zoobench("check", run, "--only", "permissive").error
    out = run / "t.csv"
    os.mkfifo(out)
    assert "not a regular file" in zoobench("check", "--source", "timm", "--out", out).error


def test_a_table_of_a_sweep_holds_no_formula(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = dict(zip(sweep.COLUMNS, ("timm/a", "loads", "no", "", EVIL, EVIL), strict=True))
    sweep._write(inside / "t.csv", {"timm/a": [row]})
    (read,) = sweep.read(inside / "t.csv")["timm/a"]
    assert read["why"].startswith("'=")
    assert "\x1b" not in json.dumps(read) + (inside / "t.csv").read_text("utf-8")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x00" * 9, b"x" * 200_000, b"a,b\n"])
def test_a_table_that_no_sweep_wrote_is_left_alone(
    content: bytes, inside: Path, zoobench: Callable[..., Said]
) -> None:
    out = inside / "t.csv"
    out.write_bytes(content)
    said = zoobench("check", "--source", "timm", "--pattern", "resnet18", "--out", out)
    assert said.code == 2
    assert "t.csv" in said.error
    assert len(said.error) < 600
    assert out.read_bytes() == content
    huge = ",".join(sweep.COLUMNS) + "\n" + "x" * 200_000
    out.write_text(huge)
    assert zoobench("check", "--source", "timm", "--out", out).code == 2


@pytest.mark.parametrize("name", [FILE, ".lock"])
def test_a_pipe_in_a_run_is_not_waited_for(
    name: str, run: Path, zoobench: Callable[..., Said]
) -> None:
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    said = zoobench("check", run, "--only", "permissive")
    assert said.code == 2
    assert "not a regular file" in said.error


@pytest.mark.parametrize("models", ['[{ id = "timm/a" }]', "[1]", '["nowhere"]', '"timm/a"'])
def test_a_suite_that_names_no_models(
    models: str, run: Path, zoobench: Callable[..., Said]
) -> None:
    (run / "suite.toml").write_text(f'name = "x"\nmodels = {models}\n')
    for arguments in (("check", run), ("recommend", run, "--needs", "permissive"), ("report", run)):
        said = zoobench(*arguments)
        assert said.code == 2, said
        assert "suite.toml: models" in said.error


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("timm/resnet18", "--source", "timm"), "MODEL goes without --source"),
        (("--only", "loads", "--source", "timm"), "--only goes without --source"),
        (("--json", "--source", "timm"), "--json goes without --source"),
        (("timm/resnet18", "--pattern", "vit*"), "--pattern goes with --source"),
        (("timm/resnet18", "--out", "t.csv"), "--out goes with --source"),
        (("--source", ""), "unknown source"),
        (("",), "no records.jsonl here"),
    ],
)
def test_no_option_is_passed_over(
    arguments: tuple[str, ...], why: str, inside: Path, zoobench: Callable[..., Said]
) -> None:
    said = zoobench("check", *arguments)
    assert said.code == 2
    assert why in said.error
    assert not list(inside.iterdir())
