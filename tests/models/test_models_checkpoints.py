"""Local checkpoints: read safely, unwrapped, fitted exactly or refused with the keys' names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tinymodels import tiny_bert, write_files
from zoobench import models
from zoobench.errors import MissingWeights, Unsupported, UserError
from zoobench.models import checkpoints


@pytest.fixture(scope="module")
def resnet() -> Any:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return timm.create_model("test_resnet", num_classes=7)


def load(path: Path) -> Any:
    return models.load(models.resolve(f"timm/test_resnet?weights={path}"))


@pytest.mark.parametrize("wrapper", ["plain", "nested", "module.", "model.", "backbone."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_checkpoint_fits_however_it_was_wrapped(
    wrapper: str, suffix: str, resnet: Any, tmp_path: Path
) -> None:
    prefix = wrapper if wrapper.endswith(".") else ""
    state = {prefix + k: v.contiguous() for k, v in resnet.state_dict().items()}
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": state} if wrapper == "nested" else state, path)
    backbone = load(path)
    own = backbone.module.state_dict()
    assert all(torch.equal(own[k], v) for k, v in resnet.state_dict().items() if k in own)
    # 7 classes where the model has 1000: the head goes, and the provenance says so.
    assert sorted(backbone.provenance["dropped_keys"]) == ["fc.bias", "fc.weight"]
    assert backbone.provenance["weights_sha256"] == checkpoints.sha256_file(path)


Tensors = dict[str, torch.Tensor]


def prefixed(prefix: str, state: Tensors) -> Tensors:
    return {prefix + key: value for key, value in state.items()}


def averaged(state: Tensors) -> Tensors:
    return {"n_averaged": torch.tensor(5), **prefixed("module.", state)}


def others(state: Tensors) -> Tensors:
    return {key: torch.zeros_like(value) for key, value in state.items()}


MATRIX: dict[str, tuple[str, Callable[[Tensors], Any], str]] = {
    "state_dict": ("resnet.pt", lambda s: s, ""),
    "safetensors": ("model.safetensors", lambda s: s, ""),
    "timm's train.py": (
        "model_best.pth.tar",
        lambda s: {"state_dict": s, "args": argparse.Namespace(lr=1.0), "metric": 0.5},
        "",
    ),
    "torchvision's references, EMA": (
        "model_9.pth",
        lambda s: {"model": others(s), "model_ema": averaged(s), "args": argparse.Namespace()},
        "",
    ),
    "AveragedModel": ("swa.pth", averaged, ""),
    "Lightning": (
        "last.ckpt",
        lambda s: {
            "state_dict": {**prefixed("model.", s), "loss.weight": torch.ones(7)},
            "hyper_parameters": {"lr": 1.0},
        },
        "",
    ),
    "torch.compile and DDP": ("c.pt", lambda s: prefixed("_orig_mod.module.", s), ""),
    "numpy beside": (
        "numpy.pth",
        lambda s: {"net": s, "best": np.float64(0.5), "curve": np.arange(3.0), "at": Path("x")},
        "",
    ),
    "DINO": (
        "dino.pth",
        lambda s: {
            "student": prefixed("module.backbone.", others(s)),
            "teacher": {**prefixed("backbone.", s), **prefixed("head.mlp.", {"w": torch.ones(2)})},
        },
        "",
    ),
    "an encoder in a pre-training's state": (
        "simclr.pth",
        lambda s: {"state_dict": {**prefixed("online.trunk.", s), "queue": torch.ones(4)}},
        "",
    ),
    "MoCo": (
        "moco.pth.tar",
        lambda s: {
            "state_dict": {
                **prefixed("module.encoder_q.", s),
                **prefixed("module.encoder_k.", others(s)),
                "module.queue": torch.ones(4),
            }
        },
        "encoder_q.",
    ),
    "the student of two": (
        "two.bin",
        lambda s: {"teacher": others(s), "student": {"module.f.": 1, **prefixed("f.", s)}},
        "student",
    ),
}
"""The rows of docs/models.md: how people have checkpoints -> file, content, option `prefix`."""


@pytest.mark.parametrize("row", MATRIX)
def test_checkpoints_are_read_as_people_have_them(row: str, resnet: Any, tmp_path: Path) -> None:
    name, made, prefix = MATRIX[row]
    state = {key: value.contiguous() for key, value in resnet.state_dict().items()}
    body = made(state)
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(body, path)
    else:
        torch.save(body, path)
    asked = f"timm/test_resnet?weights={path}" + (f"&prefix={prefix}" if prefix else "")
    own = models.load(models.resolve(asked)).module.state_dict()
    assert all(torch.equal(own[k], v) for k, v in state.items() if k in own)
    page = Path(__file__).parents[2] / "docs" / "models.md"
    assert f"| {row} |" in page.read_text(encoding="utf-8")


def test_two_networks_that_would_do_are_never_guessed_between(resnet: Any, tmp_path: Path) -> None:
    state = dict(resnet.state_dict())
    torch.save(MATRIX["MoCo"][1](state), tmp_path / "w.pth")
    with pytest.raises(Unsupported, match=r"encoder_k\., .*encoder_q\..*option prefix"):
        load(tmp_path / "w.pth")
    for prefix, said in (("none", "no key has the prefix 'none'"), ("conv1", "in 10 places")):
        with pytest.raises(Unsupported, match=said):
            models.load(
                models.resolve(f"timm/test_resnet?weights={tmp_path / 'w.pth'}&prefix={prefix}")
            )


def test_what_stands_beside_the_model_is_listed(resnet: Any, tmp_path: Path) -> None:
    state = dict(resnet.state_dict())
    torch.save(MATRIX["Lightning"][1](state), tmp_path / "w.ckpt")
    assert set(load(tmp_path / "w.ckpt").provenance["dropped_keys"]) == {
        "loss.weight", "fc.weight", "fc.bias"
    }  # fmt: skip


def test_keys_that_do_not_fit_are_named_and_counted(resnet: Any, tmp_path: Path) -> None:
    state = dict(resnet.state_dict())
    convolutions = [k for k in state if "layer" in k and "conv" in k]
    for key in convolutions[:7]:
        state["other_" + key] = state.pop(key)
    state["bn1.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(Unsupported) as caught:
        load(tmp_path / "w.pth")
    said = str(caught.value)
    assert "7 missing" in said
    assert "7 unexpected" in said
    assert "1 mis-shaped (bn1.weight: (3,) in the file" in said
    assert said.count("other_") == checkpoints.SHOWN


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch evil-was-run",)


def test_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "w.pt")
    with pytest.raises(Unsupported, match="plain tensors"):
        load(tmp_path / "w.pt")
    assert not Path("evil-was-run").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_broken_file_is_missing_weights(name: str, resnet: Any, tmp_path: Path) -> None:
    path = tmp_path / name
    state = {k: v.contiguous() for k, v in resnet.state_dict().items()}
    if name.endswith("pth"):
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(MissingWeights, match="cannot be read"):
        load(path)


def test_a_file_with_no_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(Unsupported, match="no dictionary of tensors"):
        load(tmp_path / "w.pt")


def test_mistakes_with_paths_are_found_before_loading(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"m\[0\]: .*no file or folder"):
        models.resolve("timm/test_resnet?weights=none.pth", "m[0]")
    with pytest.raises(UserError, match="Did you mean 'random'"):
        models.resolve("timm/test_resnet?weights=randm")
    (tmp_path / "w.onnx").touch()
    with pytest.raises(UserError, match="not a kind of checkpoint"):
        models.resolve(f"timm/test_resnet?weights={tmp_path / 'w.onnx'}")
    for name in ("hf/x", "timm/test_resnet"):
        with pytest.raises(UserError, match=r"no config\.json"):
            models.resolve(f"{name}?weights={tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="a torchvision model takes a file"):
        models.resolve(f"torchvision/resnet18?weights={tmp_path}")


def test_a_folder_of_sentence_transformers_keeps_its_pooling(tmp_path: Path) -> None:
    plain = write_files(tiny_bert(), tmp_path / "plain")
    sentence = write_files(tiny_bert(sentence_transformers=True), tmp_path / "sentence")
    mean, cls = (models.load(models.resolve(f"hf/b?weights={f}")) for f in (plain, sentence))
    assert (mean.pooling, mean.input_spec.length) == ("mean", 24)
    assert (cls.pooling, cls.input_spec.length) == ("cls+l2", 12)
    features = cls.embed(cls.collate([cls.prepare("the cat sat")]))
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(1))


def test_other_weights_into_a_packaged_text_encoder_name_the_keys(tmp_path: Path) -> None:
    path = write_files(tiny_bert(), tmp_path) / "model.safetensors"
    with pytest.raises(Unsupported, match=r"missing.*mis-shaped"):
        models.load(models.resolve(f"packaged/minilm-l6-v2?weights={path}"))


def test_torchvision_takes_a_local_checkpoint(tmp_path: Path) -> None:
    import torchvision.models as zoo

    model = zoo.resnet18(num_classes=3)
    torch.save({"model": model.state_dict()}, tmp_path / "r.pth")
    backbone = models.load(models.resolve(f"torchvision/resnet18?weights={tmp_path / 'r.pth'}"))
    assert sorted(backbone.provenance["dropped_keys"]) == ["fc.bias", "fc.weight"]
    assert torch.equal(backbone.module.state_dict()["conv1.weight"], model.conv1.weight)
