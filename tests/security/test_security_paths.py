"""Names and links that lead out of the folder they were given: nothing outside is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cells import write_suite
from compare_runs import Folder, answers, record
from hostile import Said, snapshot

TRAVERSALS = {
    "up": "../../victim",
    "up far": "../" * 12 + "victim",
    "absolute": "{inside}/victim",
    "its own run": "../../../b",
    "current": ".",
    "parent": "..",
    "hidden": ".git",
    "an option": "--reason",
    "separator alone": "/",
    "backslashes": "..\\\\..\\\\victim",
    "null": "a\\u0000b",
    "newline": "a\\nb",
    "escape": "\\u001b[2Jx",
    "too long": "n" * 5000,
    "too long in bytes": "é" * 200,
    "markup": "<script>alert(1)</script>",
    "shell": "$(touch x); `touch y`",
}


def two_runs(inside: Path, name: str) -> tuple[Path, Path]:
    """Runs a and b of the suite `name`, which is as TOML writes it."""
    for run, wrong in (("a", 10), ("b", 12)):
        Folder(inside / run, suite=name).add(record(answers(200, range(wrong)))).write()
    return inside / "a", inside / "b"


@pytest.mark.parametrize("case", TRAVERSALS)
def test_a_suites_name_stays_in_the_folder_of_the_verdicts(
    case: str, inside: Path, zoobench: Callable[..., Said]
) -> None:
    a, b = two_runs(inside, TRAVERSALS[case].format(inside=inside))
    victim = Folder(inside / "victim").add(record(answers(200))).write()
    kept = [snapshot(folder) for folder in (a, b, victim)]
    said = zoobench("compare", a, b, "--out", "verdicts")
    assert said.code in (0, 1), said.err
    assert [snapshot(folder) for folder in (a, b, victim)] == kept
    assert {path.name for path in inside.iterdir()} == {"a", "b", "victim", "verdicts"}
    (proposed,) = (inside / "verdicts" / "baseline").iterdir()
    assert (proposed / "baseline.toml").exists()


@pytest.mark.parametrize("case", TRAVERSALS)
def test_a_suites_name_stays_below_the_root_of_baselines(
    case: str, inside: Path, zoobench: Callable[..., Said]
) -> None:
    if case in ("null", "newline", "escape", "backslashes"):
        pytest.skip("as TOML writes it, not as a shell does")
    name = TRAVERSALS[case].format(inside=inside)
    a, _ = two_runs(inside, name)
    kept = snapshot(a)
    said = zoobench("baseline", "accept", a, f"--suite={name}", "--reason", "first")
    assert said.code == 0, said.err
    assert snapshot(a) == kept
    assert {path.name for path in inside.iterdir()} == {"a", "b", "results"}
    (accepted,) = (inside / "results" / "baselines").iterdir()
    assert (accepted / "baseline.toml").exists()


@pytest.mark.parametrize("case", TRAVERSALS)
def test_a_suites_name_stays_below_the_folder_of_runs(case: str, inside: Path) -> None:
    from zoobench.cli.main import options_of
    from zoobench.runs import suite

    write_suite(inside / "s.toml", name=TRAVERSALS[case].format(inside=inside))
    spec = suite.read("s.toml")
    given: dict[str, Any] = dict.fromkeys(("shard", "out", "retry_failed"))
    given |= {"device": "cpu", "only": (), "workers": "1"}
    assert options_of(spec.name, given).out.parent == Path("results/runs")


@pytest.mark.parametrize("link", ["report", "report/figures", "report/report.md"])
def test_a_report_follows_no_link_out_of_its_run(
    link: str, inside: Path, outside: Path, zoobench: Callable[..., Said]
) -> None:
    a, _ = two_runs(inside, "x")
    (a / link).parent.mkdir(exist_ok=True)
    (a / link).symlink_to(outside / "secret.txt" if link.endswith("md") else outside)
    said = zoobench("report", a)
    if link.endswith("md"):  # a file is replaced, and not what it links to
        assert said.code == 0, said.err
        assert not (a / link).is_symlink()
    else:
        assert said.code == 2
        assert "leads out" in said.error


@pytest.mark.parametrize("link", ["gate", "gate/baseline", "gate/baseline/x"])
def test_verdicts_follow_no_link_out_of_the_run(
    link: str, inside: Path, outside: Path, zoobench: Callable[..., Said]
) -> None:
    a, b = two_runs(inside, "x")
    (b / link).parent.mkdir(parents=True, exist_ok=True)
    (b / link).symlink_to(outside)
    said = zoobench("compare", a, b)
    assert said.code == 2
    assert "leads out" in said.error


@pytest.mark.parametrize("link", [
    "predictions", "records.jsonl", ".lock", "suite.toml", "environment.json",
])  # fmt: skip
def test_a_run_follows_no_link_out_of_its_directory(
    link: str, inside: Path, outside: Path, zoobench: Callable[..., Said]
) -> None:
    suite = write_suite(inside / "s.toml")
    (inside / "run").mkdir()
    target = "below" if link == "predictions" else "records.jsonl"
    (inside / "run" / link).symlink_to(outside / target)
    said = zoobench("run", suite, "--out", "run", "--device", "cpu")
    assert said.code == 2
    assert "leads out" in said.error or link == "suite.toml"


OUTS = {
    "empty": ("", "is empty"),
    "a file": ("file.txt", "a file"),
    "below a file": ("file.txt/run", "cannot be written"),
    "a foreign folder": ("photos", "no run directory"),
    "the current folder": (".", "no run directory"),
    "another suite's run": ("a", "another suite"),
    "a damaged run": ("damaged", "not valid TOML"),
    "a circle of links": ("circle", "circle"),
    "too long": ("n" * 300, "too long"),
    "a device": ("/dev/null", "a file"),
}


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("case", OUTS)
def test_an_out_that_is_no_place_for_a_run(
    command: str, case: str, inside: Path, zoobench: Callable[..., Said]
) -> None:
    suite = write_suite(inside / "s.toml")
    two_runs(inside, "x")
    (inside / "file.txt").write_text("mine", encoding="utf-8")
    (inside / "photos").mkdir()
    (inside / "photos" / "cat.png").write_bytes(b"png")
    (inside / "damaged").mkdir()
    (inside / "damaged" / "suite.toml").write_text("<<<<<<< HEAD\n", encoding="utf-8")
    (inside / "circle").symlink_to("circle")
    before = snapshot(inside)
    out, says = OUTS[case]
    said = zoobench(command, suite, "--out", out, "--device", "cpu")
    assert snapshot(inside) == before
    if command == "run" or case in ("empty", "a damaged run"):
        assert said.code == 2
        assert says in said.error.lower() or says in said.error
    else:  # plan writes nothing
        assert said.code in (0, 2)
        assert "Traceback" not in said.err
