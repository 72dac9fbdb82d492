"""Time and memory measured in turns: the decision, its error rates, its sides, its processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from zoobench.analysis.compare_aa import FalseAlarms, models_of, rates
from zoobench.analysis.compare_gates import Measure
from zoobench.analysis.compare_measure import (
    Plan,
    Sample,
    block_interval,
    block_logs,
    decide,
    measured,
    sample,
)
from zoobench.analysis.compare_sides import side
from zoobench.cli import main
from zoobench.errors import UserError
from zoobench.metrics import ab, fresh
from zoobench.metrics.measure import Place
from zoobench.report.gate_aa import aa_text
from zoobench.schema import Cell, Record
from zoobench.store import Run

MIB = 2**20
LIMITS = Measure()
CELL = Cell("timm/net", "none/none", "measure")


def runs(times: Sequence[float], memory: tuple[float, float] = (100, 100)) -> list[dict[str, Any]]:
    """Processes of whole ABBA blocks with these times, in order."""
    letters = ab.ORDER * (len(times) // 4)
    held = dict(zip("AB", memory, strict=True))
    return [
        {"model": m, "p50_ms": t, "peak_memory_bytes": held[m] * MIB, "block": i // 4}
        for i, (m, t) in enumerate(zip(letters, times, strict=True))
    ]


def test_block_logs_cancel_a_steady_drift() -> None:
    drift = 1.1 ** np.arange(8)
    times = drift * np.array([1, 2, 2, 1] * 2)
    assert block_logs(runs(list(times))) == pytest.approx([np.log(2)] * 2)


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


def made(ratio: float, low: float, high: float, ms: float = 10.0, mib: float = 0.0) -> Sample:
    return Sample(ratio, low, high, ms, ms * ratio, 1000 * MIB, (1000 + mib) * MIB)


QUIET = made(1.0, 0.99, 1.01)
SLOW = made(1.2, 1.15, 1.25)

# What the first set and the confirming one show, then the outcomes of time and of memory.
GOLDEN: dict[str, tuple[Sample, Sample | None, str, str]] = {
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
    sets: Iterator[Sample | None] = iter([first, again])
    taken: list[Sample] = []

    def take() -> Sample:
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


def noisy(rng: np.random.Generator, ratio: float, spread: float) -> Sample:
    """A set of blocks of processes whose times spread so much (standard deviation of the log)."""
    true = np.array([1, ratio, ratio, 1] * LIMITS.blocks)
    return sample(runs(list(10 * true * np.exp(spread * rng.standard_normal(true.size)))))


def test_rates_of_the_measuring_gate() -> None:
    """Processes that differ by 5% from each other: as a shared machine's do."""
    rng = np.random.default_rng(0)

    def called(ratio: float, times: int) -> float:
        found = [decide(CELL, lambda: noisy(rng, ratio, 0.05), LIMITS)[0] for _ in range(times)]
        return float(np.mean([f.outcome == "regressed" for f in found]))

    assert called(1.0, 2000) <= 0.001
    assert called(1.05, 300) <= 0.05
    assert called(1.3, 200) >= 0.9


def test_a_against_a_counts_alarms_and_suggests() -> None:
    rng = np.random.default_rng(0)

    def machine(spread: float) -> FalseAlarms:
        taken = [runs(list(10 * np.exp(spread * rng.standard_normal(12)))) for _ in range(40)]
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

    from zoobench.analysis.compare_gates import gates_from

    gates_from(tomllib.loads(text[text.index("[measure]") :]), "aa")


def test_models_of_a_run_leave_out_controls(tmp_path: Path) -> None:
    names = ("control/chance", "timm/a@1", "timm/a@1?weights=random", "timm/b@1")
    found = tuple(Record(Cell(n, "packaged/digits@1", "knn"), "ok") for n in names)
    assert models_of(Run(tmp_path, found, {})) == ["timm/a@1", "timm/b@1"]
    with pytest.raises(UserError, match="no model to time"):
        models_of(Run(tmp_path, found[:1], {}))


# Sides: environments, folders of sources, git revisions.

STUB = """#!{python}
import json, sys
assert sys.argv[1] == "-P", sys.argv
{body}
print("a library says something")
found = {{"p50_ms": {ms}, "peak_memory_bytes": 1, "device": "cpu", "threads": {threads},
         "libraries": {{"torch": "{torch}"}}}}
print(json.dumps({{"value": found}}))
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
    """One process a side: each runs its own sources, and the slower forward pass shows."""
    import shutil

    import zoobench

    own = Path(zoobench.__file__).parent
    trees = {name: tmp_path / name / "src" / "zoobench" for name in ("base", "head")}
    for tree in trees.values():
        shutil.copytree(own, tree, ignore=shutil.ignore_patterns("__pycache__"))
    slow = trees["head"] / "synthetic.py"
    text = slow.read_text()
    assert "misbehave(self.fault, self.seconds)\n" in text
    slow.write_text(text.replace("misbehave(self.fault, self.seconds)\n", "time.sleep(0.004)\n", 1))
    timings = []
    for name in trees:
        with side(str(tmp_path / name)) as found:
            ref = "synthetic/gabor?weights=random"
            timings.append(ab.measure(found, ref, Place(), 1, 120.0))
    base, head = timings
    assert head["p50_ms"] - base["p50_ms"] > 3
    assert len(head["samples_ms"]) >= 30
    assert base["peak_memory_bytes"] > 0
    assert base["libraries"]["zoobench"] == zoobench.__version__
    assert os.environ.get("PYTHONPATH") != str(tmp_path)


def test_every_model_is_measured_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def measure(where: fresh.Side, name: str, *_: object) -> dict[str, Any]:
        asked.append((where.name, name))
        return {"p50_ms": 5.0, "peak_memory_bytes": MIB, "libraries": {}}

    monkeypatch.setattr(ab, "measure", measure)
    monkeypatch.setattr("zoobench.analysis.compare_measure.measure", measure)
    one, other = fresh.Side("one"), fresh.Side("other")
    found = measured(["timm/a", "timm/b?input_size=64"], one, other, Plan(LIMITS))
    assert found.exit_code == 0
    assert [where for where, name in asked if name == "timm/a?weights=random"] == [
        "one", "other", *("one", "other", "other", "one") * 3,
    ]  # fmt: skip
    assert {name for _, name in asked} == {
        "timm/a?weights=random",
        "timm/b?input_size=64&weights=random",
    }
