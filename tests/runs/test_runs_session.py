"""Whole runs: resume, retry, and a SIGKILL at any moment, with real processes."""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

import forked
from cells import GABOR, write_suite
from zoobench import store
from zoobench.errors import StoreError, UserError
from zoobench.runs import planning, session, suite
from zoobench.runs.pins import pinned
from zoobench.runs.session import RunOptions
from zoobench.runs.suite_toml import to_toml


def execute(file: Path, out: Path, **options: object) -> session.Plan:
    spec = suite.read(str(file))
    return session.execute(spec, RunOptions(out, device="cpu", **options), lambda plan, event: None)  # type: ignore[arg-type]


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    file, out = write_suite(tmp_path / "s.toml", controls="true"), tmp_path / "run"
    plan = execute(file, out)
    assert {r.status for r in plan.records} == {"ok"}
    assert not plan.todo
    before = lines(out)
    execute(file, out)
    assert lines(out) == before
    assert {"suite.toml", "records.jsonl", "predictions", "environment.json"} <= {
        p.name for p in out.iterdir()
    }


def test_failed_cells_are_tried_again_only_when_asked(tmp_path: Path) -> None:
    file = write_suite(tmp_path / "s.toml", models=[f"{GABOR}?fault=oom", f"{GABOR}?fault=nan"])
    out = tmp_path / "run"
    assert [r.status for r in execute(file, out).records] == ["oom", "nan"]
    execute(file, out)
    assert len(lines(out)) == 2
    execute(file, out, retry=("oom",))
    assert [line["status"] for line in lines(out)] == ["oom", "nan", "oom"]
    assert [r.status for r in store.load(out).records] == ["oom", "nan"]


def test_only_takes_part_of_a_suite(tmp_path: Path) -> None:
    file = write_suite(tmp_path / "s.toml", models=[GABOR, f"{GABOR}?mean=0.4"])
    plan = execute(file, tmp_path / "run", only=session.parse_only(["model=*mean*"]))
    assert [r.cell.model.text for r in plan.records] == ["synthetic/gabor@1?mean=0.4"]
    with pytest.raises(UserError, match="no cell of the suite matches"):
        execute(file, tmp_path / "run", only=session.parse_only(["model=vit*"]))


def test_an_edited_suite_does_not_mix_with_the_old_one(tmp_path: Path) -> None:
    file, out = write_suite(tmp_path / "s.toml"), tmp_path / "run"
    execute(file, out)
    before = lines(out)
    write_suite(file, rest="seeds = [7]")
    with pytest.raises(StoreError, match="another suite"):
        execute(file, out)
    assert lines(out) == before


def test_equal_runs_have_equal_predictions(tmp_path: Path) -> None:
    file = write_suite(
        tmp_path / "s.toml",
        models=[GABOR],
        methods=["knn", "linear-probe", '{ name = "fine-tune", steps = 5, rates = [1e-3] }'],
        controls="true",
    )
    first, second = (execute(file, tmp_path / name).records for name in ("a", "b"))
    assert [r.predictions for r in first] == [r.predictions for r in second]
    assert all(r.predictions for r in first)


SLOW = "{ name = 'fine-tune', steps = 15, rates = [1e-3] }"


def start(file: Path, out: Path) -> forked.Child:
    """A run whose messages go to `told_by`; it leads a process group."""
    with open(os.devnull, "wb") as stdout, file.with_suffix(".log").open("wb") as stderr:
        return forked.start(
            "-m", "zoobench", "run", str(file), "--out", str(out), "--device", "cpu",
            stdout=stdout, stderr=stderr,
        )  # fmt: skip


def told_by(file: Path) -> str:
    return file.with_suffix(".log").read_text()


@pytest.mark.timeout(280)
def test_killed_at_any_moment_and_run_again_it_ends_whole(tmp_path: Path) -> None:
    """SIGKILL to the whole process group, twice at drawn moments, then a quiet run."""
    file = write_suite(
        tmp_path / "s.toml",
        models=[GABOR, f"{GABOR}?mean=0.4"],
        methods=["knn", "ridge", SLOW],
        controls="true",
        rest="[limits]\ncost_seconds = 0",
    )
    out = tmp_path / "run"
    moments = random.Random(7)
    killed = 0
    for _ in range(2):
        process = start(file, out)
        grown = len((out / "records.jsonl").read_bytes()) if out.exists() else 0
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            held = out / "records.jsonl"
            if held.exists() and held.stat().st_size > grown:
                break  # at least one more record: now any moment will do
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.4))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed == 2, "the runs ended before they could be killed"
    quiet = start(file, out)
    assert quiet.wait(timeout=200) == 0, told_by(file)
    keys = collections.Counter(line["key"] for line in lines(out))
    planned = {cell.key for cell in planning.plan(suite.read(str(file)))}
    assert keys == collections.Counter(planned), "each cell once: none lost, none doubled"
    assert {line["status"] for line in lines(out)} == {"ok"}
    fresh = execute(file, tmp_path / "undisturbed")
    assert {r.key: r.predictions for r in fresh.records} == {
        str(line["key"]): line["predictions"] for line in lines(out)
    }


def test_children_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    import psutil

    file = write_suite(tmp_path / "s.toml", models=[f"{GABOR}?fault=hang"])
    process = start(file, tmp_path / "run")
    parent = psutil.Process(process.pid)

    def workers() -> list[psutil.Process]:
        return [c for c in parent.children(recursive=True) if c.is_running()]

    deadline = time.monotonic() + 60
    while len(workers()) < 3 and time.monotonic() < deadline:  # forkserver, tracker, worker
        time.sleep(0.1)
    children = workers()
    assert len(children) >= 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_what_ends_a_run_keeps_what_was_recorded(
    number: signal.Signals, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left behind, and a worker that is told the same has not crashed."""
    import psutil

    temporary = tmp_path / ("a-long-name-as-clusters-have-it-" * 3)
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    file = write_suite(tmp_path / "s.toml", models=[GABOR, f"{GABOR}?fault=hang"])
    out = tmp_path / "run"
    process = start(file, out)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        held = out / "records.jsonl"
        if held.exists() and held.stat().st_size:
            break
        time.sleep(0.05)
    time.sleep(0.5)
    children = psutil.Process(process.pid).children(recursive=True)
    if number == signal.SIGTERM:
        for child in children:
            child.send_signal(number)
    process.send_signal(number)
    assert process.wait(timeout=60) == code, told_by(file)
    assert "1 of 2 cells are recorded" in told_by(file)
    assert "Traceback" not in told_by(file)
    assert len(lines(out)) == 1
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    left = {path.name for path in temporary.iterdir()}
    assert {
        name for name in left if not name.startswith("torchinductor_")
    } == set()  # torch's cache


def test_ctrl_z_pauses_the_workers_too(tmp_path: Path) -> None:
    import psutil

    file = write_suite(tmp_path / "s.toml", models=[f"{GABOR}?fault=hang"])
    process = start(file, tmp_path / "run")
    parent = psutil.Process(process.pid)

    def states() -> list[str]:
        return sorted(child.status() for child in [parent, *parent.children(recursive=True)])

    def wait_for(stopped: int) -> bool:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if states().count(psutil.STATUS_STOPPED) == stopped and len(states()) >= 4:
                return True
            time.sleep(0.1)
        return False

    try:
        assert wait_for(0)  # the parent, the fork server, the resource tracker and a worker
        time.sleep(0.5)
        process.send_signal(signal.SIGTSTP)
        assert wait_for(2)
        process.send_signal(signal.SIGCONT)
        assert wait_for(0)
    finally:
        process.kill()
        process.wait()


def test_patterns_and_kinds_are_checked() -> None:
    with pytest.raises(UserError, match="Did you mean 'model'"):
        session.parse_only(["modell=x"])
    with pytest.raises(UserError, match="KEY=GLOB"):
        session.parse_only(["vit*"])
    with pytest.raises(UserError, match="Did you mean 'timeout'"):
        session.parse_retry("timout")
    assert session.parse_retry("oom, nan") == ("oom", "nan")
    assert "ok" not in session.parse_retry("all")


def test_hub_datasets_stay_at_the_commit_that_a_run_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    file = write_suite(
        tmp_path / "s.toml", models=["synthetic/bag"], datasets=["hf/ag_news", "synthetic/phrases"]
    )
    spec = suite.read(str(file))
    out = tmp_path / "run"

    def means(commit: str | None) -> None:
        monkeypatch.setattr("zoobench.hub.pin", lambda repo, revision, kind: commit)

    means("a" * 40)
    began = pinned(spec, out)
    assert [ref.revision for ref in began.datasets] == ["a" * 40, "1"]
    assert began.identity == spec.identity
    out.mkdir()
    (out / "suite.toml").write_text(to_toml(began))
    means("b" * 40)  # the hub has moved on
    assert pinned(spec, out) == began
    assert suite.read(str(out)).identity == spec.identity
    keys = {cell.key for cell in planning.plan(began)}
    assert keys == {cell.key for cell in planning.plan(pinned(spec, out))}
    assert pinned(spec, tmp_path / "new", ask=False) == spec
    means(None)  # nobody knows: the name stays as it is
    assert pinned(spec, tmp_path / "new") == spec


def test_what_encoders_import_is_preloaded_once(tmp_path: Path) -> None:
    file = write_suite(
        tmp_path / "s.toml", models=["packaged/minilm-l6-v2"], datasets=["synthetic/phrases"]
    )
    named = session.preload(planning.plan(suite.read(str(file))))
    assert set(named) == set(session.TRANSFORMERS)
    for name in named:  # the fork server passes over a name that it cannot import
        assert importlib.util.find_spec(name) is not None, name
