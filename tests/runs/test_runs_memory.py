"""A size that no memory here holds ends a plan and a run before they begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from cells import write_suite
from zoobench import models
from zoobench.errors import UserError
from zoobench.runs import memory, planning, session, suite
from zoobench.runs.session import RunOptions

VGG = "timm/vgg11?weights=random&input_size=8192"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The calls of `predicted`, each answered with 31 GB, twice as much for a training."""
    calls: list[tuple[str, bool]] = []

    def answer(ref: object, trains: bool) -> int:
        calls.append((str(ref), trains))
        return int(31e9) * (1 + trains)

    monkeypatch.setattr(memory, "predicted", answer)
    return calls


def test_plan_and_run_refuse_with_both_numbers_and_write_nothing(
    tmp_path: Path, counted: list[tuple[str, bool]]
) -> None:
    extra = "[limits]\nmemory_gb = 16"
    spec = suite.read(str(write_suite(tmp_path / "s.toml", models=[VGG], rest=extra)))
    options = RunOptions(tmp_path / "run", device="cpu")
    told = (
        r"vgg11.*one example would take at least 31 GB, and a worker here has 16 GB: .*input_size"
    )
    with pytest.raises(UserError, match=told):
        session.make_plan(spec, options)
    with pytest.raises(UserError, match=told):
        session.execute(spec, options, lambda plan, event: None)
    assert not options.out.exists()
    assert {trains for _, trains in counted} == {False}


@pytest.mark.parametrize(
    ("model", "looked"),
    [
        ("timm/vgg11", 0),
        ("timm/vgg11?input_size=512", 0),
        ("timm/vgg11?input_size=1024", 1),
        ("synthetic/gabor", 0),
    ],
)
def test_only_large_sizes_that_were_asked_for_are_counted(
    tmp_path: Path, counted: list[tuple[str, bool]], model: str, looked: int
) -> None:
    spec = suite.read(str(write_suite(tmp_path / "s.toml", models=[model])))
    memory.check(planning.plan(spec), "cpu", share=10**12)
    assert len(counted) == looked


def test_a_training_is_asked_about_as_one(tmp_path: Path, counted: list[tuple[str, bool]]) -> None:
    file = write_suite(tmp_path / "s.toml", models=[VGG], methods=["knn", "fine-tune"])
    cells = planning.plan(suite.read(str(file)))
    with pytest.raises(UserError, match="training on one example would take at least 62 GB"):
        memory.check(cells, "cpu", share=int(40e9))
    assert [trains for _, trains in counted] == [True]


def test_a_process_of_its_own_counts_and_what_cannot_be_told_is_let_through() -> None:
    vgg = models.resolve("torchvision/vgg11?weights=random&input_size=8192")
    assert 25e9 < (memory.predicted(vgg, False) or 0) < 40e9
    away = models.resolve("hf/nobody/nothing?modality=image&input_size=4096")
    assert memory.predicted(away, False) is None
