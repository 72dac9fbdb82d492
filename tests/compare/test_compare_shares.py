"""Large runs are read and examined in shares, by several processes: nobody can tell from the
outcome."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from datetime import date
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from compare_runs import OTHER_PIXELS, Folder, answers, record
from zoobench.cli.main import main
from zoobench.compare import compare as comparing
from zoobench.compare import lines as record_lines
from zoobench.compare import processes
from zoobench.compare.accept import Request, accept
from zoobench.compare.compare import compare_paths
from zoobench.compare.lines import spans_of_models
from zoobench.compare.processes import helpers, shares, worthwhile
from zoobench.errors import StoreError, UserError
from zoobench.store import RECORDS

MODELS = ("timm/a@1", "timm/b@1", "timm/b@2", "timm/c@1", "timm/d@1", "control/chance")


@pytest.fixture
def in_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares, however small the runs are, of which each is examined in this process."""
    monkeypatch.setattr(comparing, "worthwhile", lambda *_: 3)
    monkeypatch.setattr(comparing, "helpers", lambda *_, **__: helpers(0))


def drawn(path: Path, seed: int) -> Path:
    """A run in which anything may have happened to any cell, in any order."""
    rng = np.random.default_rng(seed)
    folder = Folder(path)
    for i in rng.permutation(len(MODELS) * 6):
        model, rest = MODELS[i // 6], int(i) % 6
        facts = {"pixels": OTHER_PIXELS} if rng.random() < 0.1 else {}
        made = record(
            answers(60, rng.permutation(60)[: rng.integers(20)]),
            model=model, dataset=f"d/{rest // 2}", method=("knn", "ridge")[rest % 2],
            status="ok" if rng.random() < 0.9 else "oom", model_facts=facts,
            versions={"method": 2} if rng.random() < 0.1 else {},
            costs={"params": (5, 5.0, 0.0, -0.0)[rng.integers(4)]} if rng.random() < 0.3 else {},
            environment={"threads": int(rng.integers(2, 5))} if rng.random() < 0.5 else {},
            latency=[100.0] * 9 if rng.random() < 0.3 else [10.0] * 9,
        )  # fmt: skip
        if rng.random() < 0.05:
            folder.raw(made, measurements=[{"metric": "accuracy", "value": float("nan")}])
        elif rng.random() < 0.95:
            folder.add(made)
    return folder.write()


def numbers_only(run: Path) -> None:
    """A baseline with NaN can't be compared with."""
    text = (run / RECORDS).read_text(encoding="utf-8")
    (run / RECORDS).write_text(text.replace("NaN", "0.5"), encoding="utf-8")


@pytest.mark.parametrize("seed", range(6))
def test_shares_come_to_the_same(tmp_path: Path, in_three: None, seed: int) -> None:
    old, new = drawn(tmp_path / "old", seed), drawn(tmp_path / "new", 100 + seed)
    numbers_only(old)
    whole = comparing.compare(*comparing.load_both(old, new))
    assert len(shares(old, new, 3)) == 3
    assert repr(compare_paths(old, new)) == repr(whole)  # a NaN isn't equal to itself
    assert whole.findings
    assert whole.drifts


def test_shares_of_a_baseline_of_which_a_part_ran_out(tmp_path: Path, in_three: None) -> None:
    root = tmp_path / "b"
    good, bad = (Folder(tmp_path / name) for name in ("good", "bad"))
    for model in ("timm/a@1", "timm/b@1", "timm/c@1", "timm/d@1"):
        good.add(record(answers(1000, np.arange(5)), model=model))
        if model != "timm/d@1":  # nowhere but among what the baseline goes back to
            bad.add(record(answers(1000, np.arange(150)), model=model))
    first = Request("first", today=date(2026, 3, 1))
    until = Request("for now", until=date(2026, 4, 1), today=date(2026, 3, 2))
    accept(good.write(), "smoke", first, root)
    accept(bad.write(), "smoke", until, root)
    whole = comparing.compare(*comparing.load_both(root / "smoke", bad.path))
    assert compare_paths(root / "smoke", bad.path) == whole
    assert whole.exit_code == 3
    assert whole.having("regressed")
    assert [note for note in whole.notes if "4 cells are held" in note]


def test_processes_come_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command too: verdicts and proposed baseline, to the byte."""
    old, new = drawn(tmp_path / "old", 0), drawn(tmp_path / "new", 7)
    numbers_only(old)
    monkeypatch.setattr("zoobench.machine.cores", lambda: 3)
    said = {}
    for size in (2**40, 1):
        monkeypatch.setattr(processes, "LARGE", size)
        assert worthwhile(old, new, 3) == (3 if size == 1 else 1)
        out = tmp_path / f"out{size}"
        done = CliRunner().invoke(main, ["compare", str(old), str(new), "--out", str(out)])
        assert not isinstance(done.exception, UserError)
        files = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        assert Path("baseline/smoke/baseline.toml") in files
        said[size] = done.exit_code, done.output.replace(str(out), "OUT"), files
    assert said[1] == said[2**40]
    assert said[1][0] == 3


@pytest.mark.parametrize("size", [2**40, 1])
def test_a_comparison_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(processes, "LARGE", size)
    old, new = (Folder(tmp_path / name, suite=name).add(record(answers(20))) for name in "ab")
    out = tmp_path / "out"
    asked = ["compare", str(old.write()), str(new.write()), "--out"]
    done = CliRunner().invoke(main, [*asked, str(out)])
    assert (done.exit_code, out.exists()) == (2, False)
    out.write_text("in the way")
    done = CliRunner().invoke(main, [*asked, str(out / "gate")])
    assert done.exit_code == 2
    assert "cannot be written" in done.output


def test_a_damaged_line_is_named_whoever_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = drawn(tmp_path / "old", 1), drawn(tmp_path / "new", 2)
    numbers_only(old)
    monkeypatch.setattr(processes, "LARGE", 1)
    lines = (new / RECORDS).read_bytes().splitlines(keepends=True)
    for number in (3, 17):
        damaged = lines[number - 1].replace(b'"status"', b"'status'")
        whole = [*lines[: number - 1], damaged, *lines[number:]]
        (new / RECORDS).write_bytes(b"".join(whole))
        with pytest.raises(StoreError, match=rf"records\.jsonl:{number}: not a record"):
            compare_paths(old, new, processes=3)


@given(st.lists(st.integers(0, 3), max_size=30), st.sampled_from([60, 1000, 2**17]), st.booleans())
def test_lines_of_a_model_are_found(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], size: int, cut: bool
) -> None:
    file = tmp_path_factory.mktemp("run") / RECORDS
    lines = [
        b'{"key": "%d", "cell": {"model": "timm/%d", "x": %d}}\n' % (i, model, i)
        for i, model in enumerate(order)
    ]
    if len(lines) > 3:  # another writer's spacing, and escapes
        body = json.loads(lines[3])
        lines[3] = json.dumps(body, separators=(",", ":")).replace("/", "\\/").encode() + b"\n"
    file.write_bytes(b"".join(lines) + (b'{"key": "9", "cell": {"model": "t' if cut else b""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_lines, "_BLOCK", size)
        found = spans_of_models(file)
    text = file.read_bytes()
    held = {model: b"".join(text[a:b] for a, b in spans) for model, spans in found.items()}
    assert held == {
        f"timm/{m}": b"".join(x for x, o in zip(lines, order, strict=True) if o == m) for m in order
    }


def test_shares_are_even_and_whole(tmp_path: Path) -> None:
    old, new = Folder(tmp_path / "old"), Folder(tmp_path / "new")
    for i, model in enumerate(MODELS * 4):
        (old if i % 3 else new).add(record(answers(20), model=model, dataset=f"d/{i}"))
    parts = shares(old.write(), new.write(), 3)
    names = sorted(m for part in parts for m in part.models)
    assert names == ["control/chance", "timm/a", "timm/b", "timm/c", "timm/d"]  # both revisions
    for side, folder in ((0, old), (1, new)):
        size = (folder.path / RECORDS).stat().st_size
        spans = sorted(s for p in parts for s in (p.baseline, p.candidate)[side])
        assert [s.start for s in spans] == [0, *(s.stop for s in spans[:-1])]
        assert spans[-1].stop == size
    sizes = [sum(b - a for s in (p.baseline, p.candidate) for a, b in s) for p in parts]
    assert max(sizes) < 1.5 * min(sizes)
    assert len(shares(old.path, new.path, 9)) == 5


def test_a_line_that_hides_its_model_is_left_to_one_process(tmp_path: Path) -> None:
    old = Folder(tmp_path / "old").add(record(answers(20))).add(record(answers(20), model="timm/a"))
    body = json.loads(old.lines[0])
    body["measurements"][0]["value"] = float("nan")
    new = Folder(tmp_path / "new").line(json.dumps(body, separators=(",", ":")) + "\n").write()
    assert shares(old.write(), new, 2) == []
    assert compare_paths(old.path, new).exit_code == 3


def twice(value: int) -> int:
    if value < 0:
        raise UserError(f"{value} is negative")
    return 2 * value


def dies_there(home: int) -> int:
    if os.getpid() != home:
        os._exit(9)
    return home


def long_answer(home: int, begun: Path) -> bytes:
    """No pipe holds it at once."""
    begun.touch()
    return b"here" if os.getpid() == home else bytes(2**24)


def helper() -> psutil.Process:
    (one,) = running()
    return one


def running() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_dead_helper_is_done_without_and_ctrl_c_is_for_the_caller(
    tmp_path: Path, sent: signal.Signals
) -> None:
    with helpers(1) as others:
        answer = others.call(long_answer, os.getpid(), tmp_path / "begun")
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        time.sleep(0.3)  # it waits for somebody who reads on
        helper().send_signal(sent)
        assert answer() == (b"here" if sent is signal.SIGKILL else bytes(2**24))


def test_helpers_answer_raise_and_are_gone() -> None:
    with helpers(3) as others:
        good, bad = others.call(twice, 4), others.call(twice, -1)
        dead, here = others.call(dies_there, os.getpid()), others.call(os.getpid)
        assert good() == 8
        with pytest.raises(UserError, match="-1 is negative"):
            bad()
        assert dead() == os.getpid()  # done again where it can't be lost
        assert here() == os.getpid()
    with contextlib.suppress(UserError), helpers(1) as others:
        others.call(time.sleep, 60.0)
        raise UserError("left early")
    assert not running()
