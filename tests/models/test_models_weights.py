"""Which weights a ref means: the random ones of a local folder are its own architecture's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cells import write_suite
from tinymodels import tiny_bert, write_files
from zoobench import hub, models
from zoobench.models.weights import own_folder, untrained, weights_digest
from zoobench.ranking.controls import architecture
from zoobench.runs import planning
from zoobench.runs.suite import read
from zoobench.schema import Ref


@pytest.mark.parametrize(
    ("given", "drawn"),
    [
        ("timm/resnet18", "timm/resnet18?weights=random"),
        ("timm/resnet18?weights=w.pth", "timm/resnet18?weights=random"),
        ("timm/resnet18?weights=a/folder", "timm/resnet18?weights=random"),
        ("timm/me/net", "timm/me/net?weights=random"),
        ("timm/me/net?weights=w.safetensors", "timm/me/net?weights=random"),
        ("timm/me/net?weights=a", "timm/me/net?weights=random&configuration=a"),
        ("hf/me/x", "hf/me/x?weights=random"),
        ("hf/me/x?weights=w.bin", "hf/me/x?weights=random"),
        ("hf/me/x@abc?weights=v1.5", "hf/me/x@abc?weights=random&configuration=v1.5"),
        ("hf/me/x?weights=random&configuration=a", "hf/me/x?weights=random&configuration=a"),
        ("packaged/minilm-l6-v2?weights=a.pt", "packaged/minilm-l6-v2?weights=random"),
    ],
)
def test_random_weights_keep_the_configuration_of_a_folder(given: str, drawn: str) -> None:
    ref = Ref.parse(given)
    assert untrained(ref) == untrained(untrained(ref)) == Ref.parse(drawn)
    assert own_folder(untrained(ref)) == own_folder(ref)
    assert architecture(untrained(ref)) == architecture(ref)


def test_two_folders_of_one_name_have_two_controls() -> None:
    one, other = (Ref.parse(f"hf/me/x?weights={folder}") for folder in ("a", "b"))
    assert architecture(one) != architecture(other)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tiny_bert(), tmp_path / "mine")


def test_a_control_of_a_folder_is_drawn_without_the_hub(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(hub, "fetch", asked)
    suite = write_suite(
        tmp_path / "s.toml",
        models=["{ id = 'hf/me/x', weights = 'mine', modality = 'text' }"],
        datasets=["synthetic/phrases?train=40&valid=12"],
        controls="true",
    )
    cells = planning.plan(read(str(suite)))
    (control,) = {cell.model for cell in cells if cell.model.option("weights") == "random"}
    assert control.option("configuration") == str(folder)
    drawn, own = models.load(control, 7), models.load(control.with_options(weights=str(folder)))
    assert drawn.feature_dim == own.feature_dim
    states = drawn.module.state_dict(), own.module.state_dict()
    assert not torch.equal(*(state["embeddings.word_embeddings.weight"] for state in states))


def test_the_digest_of_drawn_weights_is_that_of_the_settings(folder: Path) -> None:
    ref = untrained(Ref.parse(f"hf/me/x?weights={folder}"))
    before = weights_digest(ref)
    assert before
    (folder / "model.safetensors").write_bytes(b"other")
    assert weights_digest(ref) == before
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert weights_digest(ref) != before
