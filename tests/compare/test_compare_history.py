"""Slow drift and steps over many runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compare_runs import Folder, answers, record
from zoobench.compare.accept import Proposal, accept
from zoobench.compare.history import find_steps, history
from zoobench.errors import MissingExtra, UserError
from zoobench.report.history import history_figures, history_text

pytest.importorskip("ruptures")


def runs(path: Path, wrong: list[int]) -> list[Path]:
    """A run an entry, with that many wrong of 1,000; on disk in an order that is not time's."""
    out = []
    for i, count in enumerate(wrong):
        started = f"2026-01-{i + 1:02d}T00:00:00+00:00"
        folder = Folder(path / f"run-{i:02d}")
        out.append(folder.add(record(answers(1000, range(count)), started=started)).write())
    return out[::-1]


def test_a_step_is_found_where_it_is() -> None:
    rng = np.random.default_rng(0)
    values = np.r_[rng.normal(0.9, 0.002, 12), rng.normal(0.88, 0.002, 10)]
    (step,) = find_steps(values.tolist())
    assert step.at == 12
    assert step.before == pytest.approx(0.9, abs=2e-3)
    assert step.after == pytest.approx(0.88, abs=2e-3)


def test_noise_alone_has_no_steps() -> None:
    rng = np.random.default_rng(1)
    found = [find_steps(rng.normal(0.9, 0.01, 30).tolist()) for _ in range(200)]
    assert sum(map(bool, found)) <= 20


def test_constants_and_short_series_have_no_steps() -> None:
    assert find_steps([0.9] * 20) == ()
    assert find_steps([0.9, 0.1, 0.9]) == ()


def test_an_exact_count_steps_without_noise() -> None:
    (step,) = find_steps([5e6] * 5 + [6e6] * 5)
    assert (step.at, step.before, step.after) == (5, 5e6, 6e6)


def test_a_count_that_is_asked_for_is_one_series_of_one_point_a_run(tmp_path: Path) -> None:
    found = history(runs(tmp_path, [100] * 3), ("accuracy", "params"))
    counts = [len(s.points) for s in found.series if s.metric == "params"]
    assert counts == [3]


def test_history_of_runs(tmp_path: Path) -> None:
    folders = runs(tmp_path, [100] * 6 + [106] * 6 + [112] * 6)
    accept(tmp_path / "run-03", "smoke", Proposal("the first"), tmp_path / "baselines")
    baseline = tmp_path / "baselines" / "smoke"
    found = history(folders, accepted=baseline, release=tmp_path / "run-14")
    # Six runs gave the accepted answers: the latest of them stands for the baseline.
    assert found.marks == {"run-05": "last accepted", "run-14": "last release"}
    with pytest.raises(UserError, match="v9: none of the runs"):
        history(folders, release="v9")
    assert found.runs == tuple(f"run-{i:02d}" for i in range(18))
    accuracy = next(s for s in found.series if s.metric == "accuracy")
    assert [s.at for s in accuracy.steps] == [6, 12]
    assert accuracy.drift == pytest.approx(-0.012)
    text = history_text(found)
    assert text.startswith(
        "smoke: 18 runs, run-00 to run-17\n  last accepted: run-05\n  last release: run-14\n"
    )
    assert "    step at run-06: 0.9 -> 0.894\n" in text
    files = history_figures(found, tmp_path / "a")
    assert {f.name for f in files} >= {"accuracy.svg", "params.svg"}
    again = history_figures(found, tmp_path / "b")
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in again]
    assert "last accepted" in (tmp_path / "a" / "accuracy.svg").read_text()


def test_a_figure_is_never_written_through_a_link(tmp_path: Path) -> None:
    found = history(runs(tmp_path, [100, 103]))
    (tmp_path / "theirs").write_text("kept")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "accuracy.svg").symlink_to(tmp_path / "theirs")
    assert tmp_path / "figures" / "accuracy.svg" in history_figures(found, tmp_path / "figures")
    assert (tmp_path / "theirs").read_text() == "kept"


def test_mistakes(tmp_path: Path) -> None:
    one = runs(tmp_path, [100])
    with pytest.raises(UserError, match="two runs or more"):
        history(one)
    other = Folder(tmp_path / "other", suite="demo").add(record(answers(10))).write()
    with pytest.raises(UserError, match="several suites: demo, smoke"):
        history([*one, other])


def test_without_ruptures_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ruptures", None)
    with pytest.raises(MissingExtra, match=r"pip install 'zoobench\[history\]'"):
        find_steps([1.0] * 5 + [2.0] * 5)
