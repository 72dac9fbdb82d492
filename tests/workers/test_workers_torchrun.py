"""One training step shared over processes and over pieces: the step stays what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from devices import DEVICES, TWO_CARDS
from zoobench import models
from zoobench.errors import CellError
from zoobench.features.extraction import lay_out
from zoobench.features.source import Features, View
from zoobench.methods.data_parallel import Share
from zoobench.methods.finetune import FineTune, Training, fitting
from zoobench.methods.inputs import Inputs
from zoobench.methods.objectives import ClassObjective
from zoobench.runs.planning import plan
from zoobench.runs.suite import read
from zoobench.schema import Cell, Ref
from zoobench.workers import torchrun
from zoobench.workers.runner import Bench
from zoobench.workers.settings import Result, Settings

TOLERANCE = 1e-4
"""Of log-probabilities after a few steps: fp32 sums in another order."""

SUITE = """
seeds = [0]
name = "shared"
models = ["synthetic/gabor"]
datasets = ["synthetic/stripes?classes=3&train=60&valid=15&test=30"]
controls = false
[[methods]]
name = "fine-tune"
steps = 5
batch_size = 12
rates = [3e-3]
"""


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 7))
def test_shares_cut_a_batch_without_loss(n: int, ranks: int, pieces: int) -> None:
    rows = list(range(100, 100 + max(n, ranks)))
    shares = [Share(rank, ranks, pieces) for rank in range(ranks)]
    cut = [share.split(rows) for share in shares]
    assert sorted(row for each in cut for piece in each for row in piece) == rows
    assert all(len(piece) > 0 for each in cut for piece in each)
    assert all(len(each) <= pieces for each in cut)
    assert len({len(each) for each in cut}) == 1  # the ranks meet in every piece
    # The average over ranks of the summed weights is one: the mean over the batch.
    weights = [sum(s.weight(p, rows) for p in each) for s, each in zip(shares, cut, strict=True)]
    assert sum(weights) / ranks == pytest.approx(1.0)


def trained(pieces: int, device: str) -> torch.Tensor:
    source = source_on(device)
    splits = splits_of()
    run = Training(
        FineTune(steps=5, batch_size=12), source, ClassObjective(len(splits.classes)), 3e-3, 0
    )
    tuned = run.train(
        Inputs(source, splits.train), Inputs(source, splits.valid), Share(0, 1, pieces)
    )
    assert tuned is not None
    assert tuned.facts.get("gradient_pieces") == (pieces if pieces > 1 else None)
    return tuned.valid_scores


def source_on(device: str) -> Features:
    backbone = models.load(Ref.parse("synthetic/gabor"))
    lay_out(backbone, device)
    return Features(backbone, View("synthetic/gabor", device))


def splits_of() -> Any:
    from zoobench import datasets

    return datasets.load(Ref.parse("synthetic/stripes?classes=3&train=60&valid=15&test=30"))


@pytest.mark.parametrize("device", DEVICES)
def test_accumulated_gradients_are_those_of_the_whole_batch(device: str) -> None:
    whole = trained(1, device)
    assert float((whole - whole[0]).abs().max()) > 0.01  # it learned something
    for pieces in (2, 5):
        assert float((trained(pieces, device) - whole).abs().max()) < TOLERANCE


@pytest.mark.parametrize("device", DEVICES)
def test_an_out_of_memory_batch_is_cut_and_the_record_says_so(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Inputs.batch

    def small(self: Inputs, rows: list[int]) -> Any:
        if len(rows) > 4 and self.split.name == "train":
            raise torch.OutOfMemoryError("a card of 4 examples")
        return whole(self, rows)

    monkeypatch.setattr(Inputs, "batch", small)
    splits = splits_of()
    source = source_on(device)
    recipe = FineTune(steps=3, batch_size=12, rates=(1e-3, 3e-3))
    tuned = recipe.adapt(source, splits.sealed(), 0)
    assert "gradient-accumulation" in tuned.flags
    assert tuned.facts["gradient_pieces"] == 4  # 12, 6, then 3 examples at a time
    monkeypatch.setattr(Inputs, "batch", lambda self, rows: small(self, rows * 9))
    run = Training(recipe, source, ClassObjective(len(splits.classes)), 1e-3, 0)
    with pytest.raises(torch.OutOfMemoryError):
        fitting(run, Inputs(source, splits.train), Inputs(source, splits.valid), 1)


def ran(folder: Path, ranks: int, variant: str = "", device: str = "cpu") -> Result:
    (folder / "suite.toml").write_text(
        SUITE.replace("synthetic/gabor", f"synthetic/gabor{variant}")
    )
    (cell,) = plan(read(str(folder / "suite.toml")))
    return Bench(Settings(device, measure_costs=False, ranks=ranks)).run(cell)


@pytest.mark.parametrize("device", ["cpu", TWO_CARDS])
@pytest.mark.xdist_group("teams")
def test_two_processes_give_what_one_gives(device: str, tmp_path: Path) -> None:
    one, two = (ran(tmp_path, ranks, device=device) for ranks in (1, 2))
    assert (one.record.status, two.record.status) == ("ok", "ok"), two.record.error
    assert one.outcomes is not None
    assert two.outcomes is not None
    np.testing.assert_allclose(
        two.outcomes.arrays["nll"], one.outcomes.arrays["nll"], atol=TOLERANCE
    )
    assert two.record.environment["ranks"] == 2
    assert "ranks" not in one.record.environment
    same = ("train_accuracy_online", "accuracy", "steps")
    assert [two.record.value(name) for name in same] == [one.record.value(name) for name in same]


@pytest.mark.rare  # six trainings, three of them in processes of their own
@pytest.mark.xdist_group("teams")
def test_a_team_trains_the_original_that_a_variant_is_made_of(tmp_path: Path) -> None:
    one, two = (ran(tmp_path, ranks, "?variant=bf16") for ranks in (1, 2))
    assert (one.record.status, two.record.status) == ("ok", "ok"), two.record.error
    plain = ran(tmp_path, 1).record
    same = ("train_accuracy_online", "steps")
    for record in (one.record, two.record):
        assert [record.value(name) for name in same] == [plain.value(name) for name in same]
    asked: list[str] = []

    def train(self: torchrun.Processes, rate: float, pieces: int) -> None:
        asked.append(self.cell.model.text)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torchrun.Processes, "train", train)
        assert ran(tmp_path, 2, "?variant=bf16").record.status != "ok"
    assert set(asked) == {"synthetic/gabor@1?variant=bf16"}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.xdist_group("teams")
def test_a_rank_that_fails_says_why(device: str, tmp_path: Path) -> None:
    cell = Cell(Ref("synthetic", "gabor"), Ref("nonesuch", "stripes"), "fine-tune", {"steps": 1})
    with pytest.raises(CellError, match=r"rank 0: UnknownName: .*nonesuch"):
        torchrun.Processes(cell, device, 1).train(1e-3, 1)


@pytest.mark.rare
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.xdist_group("teams")
def test_a_team_of_one_trains_what_the_process_itself_would(device: str, tmp_path: Path) -> None:
    """As far as one card can show it: its back end, its device, and the way home."""
    (tmp_path / "suite.toml").write_text(SUITE)
    (cell,) = plan(read(str(tmp_path / "suite.toml")))
    found = torchrun.Processes(cell, device, 1).train(3e-3, 1)
    assert found is not None
    expected = trained(1, "cpu")
    assert float((found["valid_scores"] - expected).abs().max()) < TOLERANCE


def test_ranks_have_an_example_of_every_batch_each() -> None:
    bench = Bench(Settings(ranks=4))
    from zoobench import methods

    method = methods.build("fine-tune", {"batch_size": 3})
    cell = Cell(
        Ref("synthetic", "gabor"), Ref("synthetic", "stripes"), "fine-tune", {"batch_size": 3}
    )
    team = bench._team(cell, method, 60, "fp32")
    assert team is not None
    assert team.ranks == 3
    assert bench._team(cell, method, 1, "fp32") is None


def test_memory_that_ended_in_one_rank_is_not_hidden_by_the_others(tmp_path: Path) -> None:
    for rank, kind in enumerate(("error", "memory", "error")):
        told = {"kind": kind, "message": f"rank {rank}: lost"}
        (tmp_path / torchrun.TROUBLE.format(rank)).write_text(json.dumps(told))
    assert isinstance(torchrun._trouble(tmp_path, ""), torch.OutOfMemoryError)
    assert isinstance(torchrun._trouble(tmp_path / "none", "killed"), CellError)


def test_norms_keep_their_activations_when_they_are_synchronised() -> None:
    import timm
    from timm.layers import SyncBatchNormAct

    from zoobench.methods.data_parallel import synchronised

    net = synchronised(timm.create_model("mobilenetv3_small_050", num_classes=0))
    acts = [m for m in net.modules() if isinstance(m, SyncBatchNormAct)]
    assert acts
    assert any(type(m.act).__name__ != "Identity" for m in acts)
