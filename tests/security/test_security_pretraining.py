"""Checkpoints and states of a pretraining that somebody else wrote: nothing runs, words say why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hostile import Canary
from pretraining_cells import STRIPES, pretrain_cell
from zoobench import datasets, models
from zoobench.errors import CellError, UserError
from zoobench.models import pretrained_here_, small
from zoobench.models.weights import state_digest
from zoobench.pretraining import cell as cells


class RunsShell:
    """Pickles as a call of the shell."""

    def __init__(self, canary: Canary) -> None:
        self.command = canary.shell

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


CARD: dict[str, Any] = {
    "architecture": "small-conv", "dataset": STRIPES, "objective": "masked", "state": "0",
    "splits": {}, "seed": 0, "steps": 1,
}  # fmt: skip


def checkpoint(folder: Path, **card: Any) -> Path:
    folder.mkdir()
    save_file(small.backbone("small-conv", 0, {}).module.state_dict(), folder / "model.safetensors")
    (folder / "card.json").write_text(json.dumps({**CARD, **card}))
    return folder


def test_a_state_that_is_a_pickle_is_not_run_and_training_begins_anew(
    canary: Canary, inside: Path
) -> None:
    cell = pretrain_cell("supervised")
    state = pretrained_here_.folder_of(cell.model, cell.seed).with_suffix(".training")
    state.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"number": 1, "best": RunsShell(canary)}, state)
    made, _ = cells.pretrained(cell, datasets.load(cell.dataset), "cpu")
    assert made.card["objective"] == "supervised"
    assert not state.exists()


def test_weights_that_are_a_pickle_are_refused(canary: Canary, inside: Path) -> None:
    folder = checkpoint(inside / "c")
    torch.save({"w": RunsShell(canary)}, folder / "model.safetensors")
    with pytest.raises(CellError):
        models.load(models.resolve(f"pretrained-here/x?path={folder}"), 0)


@pytest.mark.parametrize(
    "card",
    [
        {"architecture": "../../etc/passwd"}, {"architecture": "hf/a/b"},
        {"architecture": ["small-conv"]},
        {"architecture": "small-conv\u0000"},
    ],
    ids=str,
)  # fmt: skip
def test_a_card_names_no_network_but_those_that_are_pretrained_here(
    card: dict[str, Any], inside: Path
) -> None:
    folder = checkpoint(inside / "c", **card)
    with pytest.raises(UserError):
        models.resolve(f"pretrained-here/x?path={folder}")


def test_a_card_that_names_other_weights_is_refused(inside: Path) -> None:
    folder = checkpoint(inside / "c")
    ref = models.resolve(f"pretrained-here/x?path={folder}")
    with pytest.raises(CellError, match="not those that its card"):
        models.load(ref, 0)
    state = state_digest(small.backbone("small-conv", 0, {}).module)
    whole = checkpoint(inside / "d", state=state)
    assert models.load(models.resolve(f"pretrained-here/x?path={whole}"), 0) is not None
    (whole / "card.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="holds no readable card"):
        models.resolve(f"pretrained-here/x?path={whole}")
