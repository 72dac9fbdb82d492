"""Time and memory measured in turns: the decision, its error rates, its sides, its processes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import ArrayLike

from zoobench import store
from zoobench.cli.main import main
from zoobench.compare.false_alarms import FalseAlarms, false_alarms, models_of, rates
from zoobench.compare.gates import Measure
from zoobench.compare.measured import (
    Schedule,
    Timed,
    block_interval,
    decide,
    measured,
    sample,
    side,
)
from zoobench.costs import fresh_process, interleaved
from zoobench.errors import UserError
from zoobench.machine import Place
from zoobench.report.gate import aa_text
from zoobench.schema import Cell, Record, Ref

MIB = 2**20
LIMITS = Measure()
DIGITS = Ref("packaged", "digits", "1")
CELL = Cell(Ref("timm", "net"), Ref("none", "none"), "measure")


def blocks(
    ratios: ArrayLike, ms: float = 10.0, memory: tuple[float, float] = (100, 100)
) -> list[dict[str, Any]]:
    """Blocks of a process a side, in which B takes `ratios` times A's time."""
    return [
        {
            "A": {"p50_ms": ms, "peak_memory_bytes": memory[0] * MIB},
            "B": {"p50_ms": ms * ratio, "peak_memory_bytes": memory[1] * MIB},
            "log": math.log(ratio),
        }
        for ratio in np.asarray(ratios, dtype=float).tolist()
    ]


def test_a_sample_is_the_median_block() -> None:
    found = sample(blocks([1.2, 1.5, 1.3], ms=20.0, memory=(100, 130)))
    assert (found.ratio, found.low, found.high) == pytest.approx((1.3, 1.2, 1.5))
    assert (found.base_ms, found.head_ms) == pytest.approx((20.0, 26.0))
    assert (found.base_bytes, found.head_bytes) == (100 * MIB, 130 * MIB)


def test_the_interval_of_three_blocks_is_their_range() -> None:
    middle, low, high = block_interval([0.1, 0.3, 0.2])
    assert [float(v) for v in (middle, low, high)] == [0.2, 0.1, 0.3]


def test_the_interval_agrees_with_scipys_bootstrap() -> None:
    from scipy.stats import bootstrap

    logs = np.random.default_rng(0).normal(0.1, 0.05, 9)
    middle, low, high = block_interval(logs)
    theirs = bootstrap(
        (logs,), np.median, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert middle == np.median(logs)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def made(ratio: float, low: float, high: float, ms: float = 10.0, mib: float = 0.0) -> Timed:
    return Timed(ratio, low, high, ms, ms * ratio, 1000 * MIB, (1000 + mib) * MIB)


QUIET = made(1.0, 0.99, 1.01)
SLOW = made(1.2, 1.15, 1.25)

# What the first set and the confirming one show, then the outcomes of time and of memory.
GOLDEN: dict[str, tuple[Timed, Timed | None, str, str]] = {
    "nothing changed": (QUIET, None, "same", "same"),
    "slower, and again": (SLOW, SLOW, "regressed", "same"),
    "slower, but not again": (SLOW, QUIET, "inconclusive", "same"),
    "large but not certain": (made(1.2, 1.02, 1.4), None, "inconclusive", "same"),
    "certain but small": (made(1.08, 1.06, 1.09), None, "same", "same"),
    "certain, but under the floor": (made(1.2, 1.15, 1.25, ms=0.2), None, "same", "same"),
    "faster": (made(0.8, 0.75, 0.85), None, "improved", "same"),
    "more memory, and again": (
        made(1.0, 0.99, 1.01, mib=30), made(1.0, 0.99, 1.01, mib=30), "same", "regressed",
    ),
    "more memory, not again": (made(1.0, 0.99, 1.01, mib=30), QUIET, "same", "inconclusive"),
    "memory above 16 MiB, under 2%": (made(1.0, 0.99, 1.01, mib=19), None, "same", "same"),
    "less memory": (made(1.0, 0.99, 1.01, mib=-300), None, "same", "improved"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_decisions(name: str) -> None:
    first, again, time, memory = GOLDEN[name]
    sets: Iterator[Timed | None] = iter([first, again])
    taken: list[Timed] = []

    def take() -> Timed:
        found = next(sets)
        assert found is not None, "a second set was measured without need"
        taken.append(found)
        return found

    found = decide(CELL, take, LIMITS)
    assert [f.outcome for f in found] == [time, memory]
    assert len(taken) == (1 if again is None else 2)
    assert {f.kind for f in found} == {"measured"}


def test_the_words_of_a_confirmed_regression() -> None:
    time, _ = decide(CELL, lambda: SLOW, LIMITS)
    assert time.failing
    assert time.why == (
        "1.200 times base's, 95% interval 1.150 to 1.250 (3 blocks); a second set confirms it: "
        "1.200, 1.150 to 1.250"
    )


def noisy(rng: np.random.Generator, ratio: float, spread: float) -> Timed:
    """A set of blocks whose ratios spread so much (standard deviation of the log)."""
    return sample(blocks(ratio * np.exp(spread * rng.standard_normal(LIMITS.blocks))))


def test_rates_of_the_measuring_gate() -> None:
    """Blocks that spread by 5%, and by 2.5% as two equal sides did on two busy cores."""
    rng = np.random.default_rng(0)

    def called(ratio: float, spread: float, times: int) -> float:
        found = [decide(CELL, lambda: noisy(rng, ratio, spread), LIMITS)[0] for _ in range(times)]
        return float(np.mean([f.outcome == "regressed" for f in found]))

    assert called(1.0, 0.05, 2000) <= 0.001
    assert called(1.05, 0.05, 300) <= 0.05
    assert called(1.3, 0.05, 200) >= 0.9
    assert called(1.05, 0.025, 300) <= 0.01
    assert called(1.2, 0.025, 200) >= 0.9


def test_a_against_a_counts_alarms_and_suggests() -> None:
    rng = np.random.default_rng(0)

    def machine(spread: float) -> FalseAlarms:
        taken = [blocks(np.exp(spread * rng.standard_normal(3))) for _ in range(40)]
        return rates({"timm/net": taken}, LIMITS)

    quiet, loud = machine(0.01), machine(0.3)
    assert quiet.alarms == 0
    assert quiet.rate == 0
    assert quiet.ratio < 1.06
    assert loud.alarms > 0
    assert loud.rate > 0.02
    assert loud.confirmed_rate == pytest.approx(loud.rate**2)
    assert loud.ratio > LIMITS.ratio > quiet.ratio
    assert loud.spread > 1.5 > quiet.spread
    # What is suggested keeps its word on other luck of the same machine.
    limits = Measure(ratio=loud.ratio, low=loud.low, floor_ms=0)
    again = [noisy(rng, 1.0, 0.3).slower(limits) for _ in range(1000)]
    assert np.mean(again) < 0.03
    text = "\n".join(aa_text(loud, LIMITS))
    assert f"ratio = {loud.ratio:.2f}" in text
    import tomllib

    from zoobench.compare.gates import gates_from

    gates_from(tomllib.loads(text[text.index("[measure]") :]), "aa")


def test_a_against_a_of_some_models_until_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stand_in(monkeypatch)
    lines = [store.encode(Record(Cell(Ref("timm", n, "1"), DIGITS, "knn"), "ok")) for n in "abc"]
    (tmp_path / "records.jsonl").write_bytes(b"".join(lines))
    picked = ("--model", "timm/c*", "--model", "a")
    code, body = compare(tmp_path, "--aa", 3, *picked)
    assert code == 0
    assert (body["models"], body["comparisons"], body["alarms"]) == (["timm/c@1", "timm/a@1"], 3, 0)
    # One that is thrown away, then three comparisons of three pairs, the models in turn.
    assert [name[5] for _, name in asked] == ["c", *"cccccc", *"aaaaaa", *"cccccc"]
    assert {where for where, _ in asked} == {"here"}
    code, body = compare(tmp_path, "--aa", 3, "--model", "nonesuch")
    assert code == 2
    assert "unknown model 'nonesuch'" in body["said"]

    said: list[str] = []

    def stops(text: str) -> None:
        said.append(text)
        if text.startswith("comparison 2"):
            raise KeyboardInterrupt

    found = false_alarms([Ref("timm", "a")], 5, Schedule(LIMITS), stops)
    assert found.comparisons == 2
    assert "5 comparisons of 6 processes: about" in said[0]


def test_models_of_a_run_leave_out_controls(tmp_path: Path) -> None:
    names = ("control/chance", "timm/a@1", "timm/a@1?weights=random", "timm/b@1")
    found = tuple(Record(Cell(Ref.parse(n), DIGITS, "knn"), "ok") for n in names)
    assert models_of(store.Run(tmp_path, found, {})) == [
        Ref("timm", "a", "1"),
        Ref("timm", "b", "1"),
    ]
    with pytest.raises(UserError, match="no model to time"):
        models_of(store.Run(tmp_path, found[:1], {}))


# Sides: environments, folders of sources, git revisions.

STUB = """#!{python}
import json, sys
assert sys.argv[1] == "-P", sys.argv
{body}
print("a library says something")
told = {{"peak_memory_bytes": 1, "device": "cpu", "threads": {threads},
        "libraries": {{"torch": "{torch}"}}}}
while True:
    print(json.dumps({{"value": told}}), flush=True)
    if not sys.stdin.readline():
        break
    told = [{ms}] * 5
"""


def environment(folder: Path, ms: float = 10.0, body: str = "", **changes: Any) -> Path:
    """A stand-in for a Python environment: its interpreter answers with these numbers."""
    fields = {"threads": 1, "torch": "2.15", **changes}
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STUB.format(python=sys.executable, ms=ms, body=body, **fields))
    python.chmod(0o755)
    return folder


def compare(*arguments: object) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(main, ["compare", "--json", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    text = done.stdout
    return done.exit_code, json.loads(text) if text.startswith("{") else {"said": done.stderr}


def test_two_environments_end_to_end(tmp_path: Path) -> None:
    base = environment(tmp_path / "base")
    head = environment(tmp_path / "head", ms=13.0, torch="2.16")
    common = ("--measure", "--model", "timm/net", "--out", tmp_path / "out")
    code, body = compare(base, head, *common)
    assert code == 1
    assert [f["metric"] for f in body["findings"] if f["outcome"] == "regressed"] == [
        "latency_ms_p50"
    ]
    assert body["notes"] == [f"{base} -> {head}: torch 2.15 -> 2.16"]
    assert (tmp_path / "out" / "junit.xml").exists()
    code, body = compare(base / "bin" / "python", base, *common)
    assert (code, body["counts"]["same"]) == (0, 2)


def test_what_cannot_be_measured_has_an_outcome(tmp_path: Path) -> None:
    good = environment(tmp_path / "good")
    dead = environment(tmp_path / "dead", body="raise SystemExit('no such model')")
    other = environment(tmp_path / "other", threads=2)
    common = ("--measure", "--model", "timm/net", "--out", tmp_path / "out")
    found = {
        (a.name, b.name): compare(a, b, *common)
        for a, b in ((good, dead), (dead, good), (dead, dead), (good, other))
    }
    outcomes = {
        pair: (code, [f["outcome"] for f in body["findings"]], len(body.get("new", ())))
        for pair, (code, body) in found.items()
    }
    assert outcomes == {
        ("good", "dead"): (3, ["missing"], 0),
        ("dead", "good"): (4, [], 1),
        ("dead", "dead"): (4, ["incomparable"], 0),
        ("good", "other"): (4, ["incomparable"], 0),
    }
    assert "no such model" in found["good", "dead"][1]["findings"][0]["why"]
    assert found["good", "other"][1]["findings"][0]["why"] == "threads 1 -> 2"


def test_a_side_that_fails_only_beside_the_other_costs_one_model(tmp_path: Path) -> None:
    good = environment(tmp_path / "good")
    often = """
import pathlib
model = json.loads(sys.argv[-1])["ref"].split("?")[0]
count = pathlib.Path(__file__).with_name("count-" + model[-1])
count.write_text(count.read_text() + "." if count.exists() else ".")
if count.name == "count-1" and len(count.read_text()) > 1:
    raise SystemExit("out of memory")
"""
    frail = environment(tmp_path / "frail", body=often)
    models = ("--model", "timm/net1", "--model", "timm/net2")
    code, body = compare(good, frail, "--measure", *models, "--out", tmp_path / "out")
    outcomes = {(f["cell"]["model"], f["outcome"]) for f in body["findings"]}
    assert ("timm/net1", "incomparable") in outcomes
    assert ("timm/net2", "same") in outcomes
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a",), "takes two runs"),
        (("a", "b", "--measure"), "which models?"),
        (("a", "b", "--model", "timm/x"), "go with --measure"),
        (("a", "b", "--measure", "--model", "timm/x"), "neither a Python environment"),
        (("a", "b", "--aa", "2"), "takes one run"),
    ],
)
def test_mistakes_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, body = compare(*arguments)
    assert code == 2
    assert says in body["said"]


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_revision_is_checked_out_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src").mkdir()
    file = tmp_path / "src" / "thing.py"
    git(tmp_path, "init", "-q")
    for text in ("old", "new"):
        file.write_text(text)
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", text)
    monkeypatch.chdir(tmp_path)
    with side("HEAD~1") as found:
        assert found.path is not None
        assert found.python == sys.executable
        held = Path(found.path) / "thing.py"
        assert held.read_text() == "old"
        assert file.read_text() == "new"
    assert not held.exists()
    told = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(told.stdout.splitlines()) == 1
    with side(".") as here:
        assert here.path == str(tmp_path / "src")
    with pytest.raises(UserError, match="nor a revision of the git repository"), side("HEAD~9"):
        pass


def test_real_processes_of_two_source_trees(tmp_path: Path) -> None:
    """A block: each side runs its own sources, and the slower forward pass shows."""
    import shutil

    import zoobench

    own = Path(zoobench.__file__).parent
    trees = {name: tmp_path / name / "src" / "zoobench" for name in ("base", "head")}
    for tree in trees.values():
        shutil.copytree(own, tree, ignore=shutil.ignore_patterns("__pycache__"))
    slow = trees["head"] / "models" / "synthetic_.py"
    text = slow.read_text()
    assert "misbehave(self.fault, self.seconds)\n" in text
    slow.write_text(text.replace("misbehave(self.fault, self.seconds)\n", "time.sleep(0.004)\n", 1))
    timings: dict[str, fresh_process.Side] = {}
    for name in trees:
        with side(str(tmp_path / name)) as found:
            timings[name] = found
    ref = "synthetic/gabor?weights=random"
    jobs = {"A": (timings["base"], ref), "B": (timings["head"], ref)}
    (block,) = interleaved.interleaved(jobs, Place(), 1, 1, 120.0)
    base, head = block["A"], block["B"]
    assert head["p50_ms"] - base["p50_ms"] > 3
    assert block["log"] > np.log(1.5)
    assert len(head["samples_ms"]) == len(base["samples_ms"]) >= 40
    assert base["peak_memory_bytes"] > 0
    assert base["libraries"]["zoobench"] == zoobench.__version__
    assert os.environ.get("PYTHONPATH") != str(tmp_path)


class Ready:
    """Stands in for fresh_process.Talk: a process whose steps take 50 ms."""

    def answer(self) -> dict[str, Any]:
        return {"peak_memory_bytes": MIB, "libraries": {}}

    def ask(self) -> list[float]:
        return [50.0] * interleaved.TURN


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(side, model) of each process that is asked for, none of which is started."""
    asked: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def process(where: fresh_process.Side, name: str, *_: object) -> Iterator[Ready]:
        asked.append((where.name, name))
        yield Ready()

    monkeypatch.setattr(interleaved, "process", process)
    return asked


def test_every_model_is_measured_in_processes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in(monkeypatch)
    one, other = fresh_process.Side("one"), fresh_process.Side("other")
    found = measured(
        [Ref.parse("timm/a"), Ref.parse("timm/b?input_size=64")], one, other, Schedule(LIMITS)
    )
    assert found.exit_code == 0
    assert [where for where, name in asked if name == "timm/a?weights=random"] == [
        "one", "other", "one", "other", "other", "one", "one", "other",
    ]  # fmt: skip
    assert {name for _, name in asked} == {
        "timm/a?weights=random",
        "timm/b?input_size=64&weights=random",
    }
