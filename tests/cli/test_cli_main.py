"""The commands as a newcomer types them: plain in a pipe, exit codes as the contract says."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from cells import GABOR, write_suite
from hostile import Said
from zoobench.cli.main import main
from zoobench.report.listing import EXTRAS
from zoobench.runs import session

pytestmark = pytest.mark.xdist_group("finished")  # one run serves them all

Zoobench = Callable[..., Said]


def in_a_process(*args: str) -> tuple[int, str, str]:
    """As a shell starts it. Where that makes no difference, `zoobench` runs in this process."""
    done = subprocess.run(
        [sys.executable, "-m", "zoobench", *args],
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A small run with two failed cells, by a process of its own: its directory, stdout, stderr."""
    folder = tmp_path_factory.mktemp("run")
    file = write_suite(
        folder / "s.toml", models=[GABOR, f"{GABOR}?fault=nan"], methods=["linear-probe"],
        controls="true",
    )  # fmt: skip
    code, out, err = in_a_process("run", str(file), "--out", str(folder / "run"), "--device", "cpu")
    assert code == 3, err
    return folder, out, err


def test_a_run_prints_tables_on_stdout_and_progress_on_stderr(
    finished: tuple[Path, str, str],
) -> None:
    folder, out, err = finished
    assert "linear-probe" in out
    assert "accuracy" in out
    assert f"Report: {folder / 'run' / 'report'}" in out.replace("\n", "")
    assert "[1/" in err
    assert "\x1b" not in out + err
    assert max(map(len, out.splitlines())) <= max(80, len(str(folder)) + 40)


def test_a_failed_cell_is_named_with_its_reason(finished: tuple[Path, str, str]) -> None:
    _, out, err = finished
    assert "2 cells failed" in out
    assert "nan" in out
    assert "features of" in err


def test_the_report_holds_what_the_contract_says(finished: tuple[Path, str, str]) -> None:
    report = finished[0] / "run" / "report"
    names = {p.name for p in report.iterdir()}
    assert {"report.md", "report.html", "ranking.csv", "measurements.csv", "figures"} <= names
    head = (report / "measurements.csv").read_text().splitlines()[0].split(",")
    assert ",".join(head) == (
        "model,dataset,method,seed,shots,metric,value,low,high,unit,better,n,status,noisy"
    )


def test_json_is_for_machines(finished: tuple[Path, str, str], zoobench: Zoobench) -> None:
    folder, *_ = finished
    said = zoobench("run", folder / "s.toml", "--out", folder / "run", "--json", "--device", "cpu")
    bodies = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 3
    assert {"key", "cell", "status", "measurements", "schema"} <= bodies[0].keys()


def test_plan_says_what_is_done(finished: tuple[Path, str, str], zoobench: Zoobench) -> None:
    folder, *_ = finished
    said = zoobench("plan", folder / "s.toml", "--out", folder / "run")
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("7 cells: 7 done, 0 to do")
    said = zoobench("plan", folder / "s.toml", "--out", folder / "none", "--json")
    assert {json.loads(line)["state"] for line in said.out.splitlines()} == {"todo"}


def test_report_can_be_written_elsewhere(
    finished: tuple[Path, str, str], tmp_path: Path, zoobench: Zoobench
) -> None:
    said = zoobench("report", finished[0] / "run", "--out", tmp_path / "r")
    assert said.code == 0
    assert (tmp_path / "r" / "ranking.csv").exists()
    assert str(tmp_path / "r" / "report.md") in said.out.replace("\n", "")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["runn", "demo"], "Did you mean 'run'"),
        (["run", "dem"], "Did you mean 'demo'"),
        (["run", "nowhere.toml"], "no such suite file"),
        (["run", "smoke", "--device", "cuda:9"], "there is no cuda:9 here"),
        (["run", "smoke", "--device", "gpu"], "unknown device 'gpu'"),
        (["run", "smoke", "--only", "modle=x"], "Did you mean 'model'"),
        (["run", "smoke", "--only", "model=zzz*"], "no cell of the suite matches"),
        (["run", "smoke", "--retry-failed=oomm"], "Did you mean 'oom'"),
        (["run", "smoke", "--workers", "0"], "at least 1"),
        (["report", "nowhere"], "no run directory"),
        (["recommend", "nowhere", "--max-params", "nan"], "--max-params: expected a finite"),
        (["recommend", "nowhere", "--max-params", "-1"], "--max-params: expected 0 or more"),
        (["recommend", "nowhere", "--max-params", "10m"], "a million is written 10M"),
        (["recommend", "nowhere", "--max-memory", "2G"], "--max-memory: '2G': G alone is"),
        (["recommend", "nowhere", "--max-latency-ms", "inf"], "--max-latency-ms: expected a"),
        (["recommend", "nowhere", "--max-latency", "20"], "--max-latency: '20' has no unit"),
        (
            ["recommend", "nowhere", "--max-latency", "20ms", "--max-latency-ms", "20"],
            "--max-latency: --max-latency-ms says the same",
        ),
        (["recommend", "--data", "nowhere", "--budget", "0"], "--budget: expected more than 0"),
        (["recommend", "nowhere", "--license", ""], "--license: is empty"),
        (["recommend", "nowhere", "--needs", " "], "--needs: is empty"),
        (
            ["recommend", "--data", "nowhere", "--tolerance", "-1"],
            "--tolerance: expected 0 or more",
        ),
        (["list", "modls"], "Did you mean 'models'"),
        (["run", "smoke", "--nope"], "--nope"),
        (["run", "smoke", "--quite"], "--quiet"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    args: list[str],
    says: str,
    tmp_path: Path,
    zoobench: Zoobench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = zoobench(*args)
    assert said.code == 2, said.err
    assert says in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert not list(tmp_path.rglob("records.jsonl")), "nothing may be begun"


def test_debug_shows_the_traceback() -> None:
    _, _, err = in_a_process("--debug", "run", "nowhere.toml")
    assert "Traceback" in err


def test_an_out_that_belongs_to_another_suite(
    finished: tuple[Path, str, str], tmp_path: Path, zoobench: Zoobench
) -> None:
    other = write_suite(tmp_path / "o.toml", name="other")
    said = zoobench("run", other, "--out", finished[0] / "run", "--device", "cpu")
    assert said.code == 2
    assert "holds results of another suite ('t'" in said.err


def test_lists_are_one_line_each_in_a_pipe(zoobench: Zoobench) -> None:
    said = zoobench("list", "models", "packaged/*")
    assert said.code == 0
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert {row[0] for row in rows} >= {"packaged/efficientnet-lite0", "packaged/minilm-l6-v2"}
    demo = [row for row in rows if "smollm2" not in row[0]]  # of an extra of its own
    assert all(row[2] == "yes" for row in demo), "the demo's extra is installed in the tests"
    said = zoobench("list", "datasets", "packaged/*", "--json")
    assert json.loads(said.out.splitlines()[0])["offline"] is True
    assert "linear-probe" in zoobench("list", "methods").out
    assert "smoke" in zoobench("list", "suites").out


def test_a_closed_pipe_is_no_error() -> None:
    shell = f"{sys.executable} -m zoobench list datasets | head -1"
    done = subprocess.run(
        shell, shell=True, capture_output=True, text=True, timeout=120, check=True
    )
    assert "Traceback" not in done.stderr


def test_doctor_tells_a_bug_report_what_it_needs() -> None:
    code, out, _ = in_a_process("doctor", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["libraries"]["torch"]
    assert "packaged/minilm-l6-v2" in facts["models offline"]
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert {*EXTRAS.values()} == {*extras} - {"test"}


@pytest.mark.parametrize("group", [(), ("list",), ("baseline",)])
def test_help_says_of_every_command_a_whole_sentence(group: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, [*group, "--help"], terminal_width=80)
    commands = done.output.partition("Commands:\n")[2]
    assert done.exit_code == 0
    assert commands
    assert "..." not in commands
    assert max(map(len, done.output.splitlines())) <= 80


def test_recommend_names_a_pick(finished: tuple[Path, str, str], zoobench: Zoobench) -> None:
    folder, *_ = finished
    said = zoobench("recommend", folder / "run", "--json")
    assert said.code == 0, said.err
    (found,) = json.loads(said.out)
    assert "gabor" in json.dumps(found)
    said = zoobench("recommend", folder / "run", "--max-params", "10")
    assert said.code == 0
    assert "No model keeps to these limits" in said.out
    said = zoobench("recommend", folder / "run", "--objective", "acuracy")
    assert said.code == 2
    assert "Did you mean 'accuracy'" in said.err


def test_a_run_does_not_regress_against_itself(
    finished: tuple[Path, str, str], tmp_path: Path, zoobench: Zoobench
) -> None:
    folder, *_ = finished
    said = zoobench(
        "baseline", "accept", folder / "run", "--suite", "t", "--reason", "the first",
        "--root", tmp_path,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "accepted" in said.out
    said = zoobench("compare", tmp_path / "t", folder / "run", "--json")
    body = json.loads(said.out)
    assert (folder / "run" / "gate" / "gate.json").exists()
    assert body["exit_code"] == said.code, said.err
    other = tmp_path / "elsewhere"
    again = zoobench("compare", tmp_path / "t", folder / "run", "--out", other)
    assert again.code == said.code
    assert json.loads((other / "gate.json").read_text()) == body
    assert said.code != 1


def test_profile_needs_no_weights(zoobench: Zoobench) -> None:
    said = zoobench("profile", "timm/resnet18", "--json")
    assert said.code == 0, said.err
    body = json.loads(said.out)
    assert body["params"] == 11689512
    assert body["flops"] == 2 * body["macs"]
    said = zoobench("profile", "timm/resnet1888")
    assert said.code == 2
    assert "Did you mean" in said.err


@pytest.mark.parametrize(
    ("program", "args", "told"),
    [
        ("/bin/zoobench", ("run", "smoke"), "zoobench run smoke"),
        ("zoobench", ("run", "smoke", "--only=model=a*"), "zoobench run smoke '--only=model=a*'"),
        ("zoobench", ("--debug", "run", "smoke", "-q"), "zoobench --debug run smoke -q"),
        ("/x/zoobench/__main__.py", ("run", "smoke"), "python -m zoobench run smoke"),
    ],
)  # fmt: skip
def test_a_stopped_run_says_the_command_that_goes_on(
    program: str, args: Sequence[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "execute", stop)
    monkeypatch.setattr(sys, "argv", [program])
    done = CliRunner().invoke(main, [*args])
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-3:] == [
        "Stopped before the first cell.",
        "To go on:",
        f"  {told}",
    ]
