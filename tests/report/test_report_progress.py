"""What is said while a suite runs: a line a cell, names told apart, the time left, the stop."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from cells import GABOR, STRIPES, cell
from zoobench.report.progress import Watcher
from zoobench.report.text import cell_labels
from zoobench.runs.session import Plan
from zoobench.runs.suite import parse, resolve
from zoobench.schema import Cell, Measurement, Record
from zoobench.workers.events import Begun, Finished, Progressed
from zoobench.workers.settings import Result

PATHS = "packaged/efficientnet-lite0?weights=/home/a/{}/model.pt"


def plan_of(cells: Sequence[Cell], done: Sequence[Record] = ()) -> Plan:
    body = {"name": "t", "models": [GABOR], "datasets": [STRIPES], "methods": ["knn"]}
    spec = resolve(parse(body, "suite"), "suite", Path())
    return Plan(spec, tuple(cells), {record.key: record for record in done})


def record_of(one: Cell, status: str = "ok", message: str = "") -> Record:
    error = {"message": message} if message else None
    return Record(one, status, (Measurement("accuracy", 0.8125),), error=error, seconds=2.0)


def watch(watcher: Watcher, plan: Plan, *records: Record) -> None:
    """The events of `records` as a session sends them."""
    with watcher:
        for record in records:
            watcher(plan, Begun(record.cell))
            watcher(plan, Progressed(record.cell, "features of train", 3, 10))
            plan.done[record.key] = record
            watcher(plan, Finished(Result(record)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, ten later at each look."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += 10.0
        return now[0]

    monkeypatch.setattr("zoobench.report.progress.time", SimpleNamespace(monotonic=monotonic))
    return now


@pytest.mark.usefixtures("clock")
def test_a_pipe_gets_one_line_a_cell_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell(f"{GABOR}?note={n}") for n in "abcdef"]
    plan = plan_of(cells, [record_of(cells[0])])
    watch(Watcher(), plan, *map(record_of, cells[1:]))
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "[2/6] gabor?note=b · stripes · knn: accuracy 81.2% (2 s)"
    assert lines[2] == "[4/6] gabor?note=d · stripes · knn: accuracy 81.2% (2 s); 6.7 s left"
    assert lines[-1] == "[6/6] gabor?note=f · stripes · knn: accuracy 81.2% (2 s)"


def test_quiet_tells_of_failures_alone(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell(seed=seed) for seed in range(3)]
    records = [record_of(c) for c in cells]
    records[1] = record_of(cells[1], "nan", "the features\nhold NaN")
    watch(Watcher(quiet=True), plan_of(cells), *records)
    assert capsys.readouterr().err == "[2/3] gabor · stripes · knn seed 1: nan: the features\n"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_is_never_written_past_its_width(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    watcher, screen = Watcher(), io.StringIO()
    watcher.console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    cells = [cell(f"{GABOR}?note={'long-' * 30}{i}") for i in range(4)]
    watch(watcher, plan_of(cells), *map(record_of, cells))
    said = [
        line for line in screen.getvalue().splitlines() if line.lstrip("\r\x1b[2K").startswith("[")
    ]
    assert screen.getvalue().count("accuracy 81.2%") == 4
    assert all(len(line) <= width + 12 for line in said)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("timm/resnet18", "torchvision/resnet18", ("timm/resnet18", "torchvision/resnet18")),
        ("hf/a/bert", "hf/b/bert", ("a/bert", "b/bert")),
        ("timm/vit@1", "timm/vit@2", ("timm/vit@1", "timm/vit@2")),
        ("timm/vit", "timm/vit?weights=random", ("vit", "vit, random weights")),
        ("timm/vit?input_size=64", "timm/vit", ("vit?input_size=64", "vit")),
        ("timm/vit?input_size=64", "timm/resnet18", ("vit", "resnet18")),
        ("hf/a/x?max_train=9", "hf/a/x?max_train=10", ("a/x?max_train=9", "a/x?max_train=10")),
        ("folder/x@1?path=/a/x", "folder/x@2?path=/b/x", ("folder/x@1", "folder/x@2")),
    ],
)
def test_what_has_one_name_is_told_apart(first: str, second: str, told: tuple[str, str]) -> None:
    models = list(cell_labels([cell(first), cell(second)]).values())
    assert models == [f"{name} · stripes · knn" for name in told]
    if "weights" not in second:
        data = list(cell_labels([cell(dataset=first), cell(dataset=second)]).values())
        assert data == [f"gabor · {name} · knn" for name in told]


def test_two_checkpoints_of_one_name_and_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [
        dataclasses.replace(cell(PATHS.format(folder)), versions={"weights": folder})
        for folder in ("one", "two")
    ]
    found = list(cell_labels(cells).values())
    assert found[0] != found[1]
    assert not any("/home" in told for told in found)
    watch(Watcher(), plan_of(cells), *(record_of(c, "unsupported", "no") for c in cells))
    err = capsys.readouterr().err
    assert "/home" not in err
    assert len(set(err.splitlines())) == 2


def test_seeds_shots_and_controls_stand_in_the_name() -> None:
    control = dataclasses.replace(
        cell("control/chance", method="knn", shots=5, seed=2), method="chance"
    )
    found = cell_labels([control, cell(shots=5, seed=1)])
    assert list(found.values()) == [
        "chance, 5 a class seed 2 · stripes",
        "gabor · stripes · knn, 5 a class seed 1",
    ]


@pytest.mark.usefixtures("clock")
def test_a_stop_says_what_is_done_and_what_is_left() -> None:
    cells = [cell(f"{GABOR}?note={n}") for n in "abcdefgh"]
    watcher = Watcher(quiet=True)
    assert watcher.stopped(Path("r")) == "Stopped before the first cell."
    watch(watcher, plan_of(cells), *map(record_of, cells[:4]))
    assert watcher.stopped(Path("r")) == (
        "Stopped. 4 of 8 cells are recorded in r, 4 are left (about 10 s)."
    )
