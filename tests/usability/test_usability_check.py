"""Probes find the faults that they are for, and call a sound model sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tinyonnx
from hostile import Said
from plantedmodels import Planted
from tinysound import tiny_sound
from zoobench import models
from zoobench.errors import UnknownName
from zoobench.schema import Ref
from zoobench.usability import PROBES, ProbeResult
from zoobench.usability.check import answered, check
from zoobench.usability.subject import Subject


def says(probe: str, model: str = "sound") -> ProbeResult:
    ref = Ref.parse(f"planted/{model}" if "@" in model else f"planted/{model}@1")
    return answered(probe, Subject(ref))


QUICK = [n for n in PROBES if n not in ("compiles", "exports-onnx", "quantises", "wrong-mean",
                                        "wrong-channels", "wrong-resize")]  # fmt: skip


@pytest.mark.parametrize("probe", QUICK)
def test_a_sound_model_is_sound(probe: str) -> None:
    assert says(probe).answer == "yes", says(probe)


@pytest.mark.parametrize(
    ("model", "probe", "why"),
    [
        ("dropout", "deterministic", "apart"),
        ("batchnorm", "batch-invariant", "apart"),
        ("state", "stateless", "after three other batches"),
        ("order", "order-invariant", "the batch turned round"),
        ("order", "batch-invariant", "alone and in a batch of 4"),
        ("size", "other-sizes", "pictures are 64 x 64"),
        ("detached", "differentiable", "conv.weight"),
        ("raises", "deterministic", "RuntimeError: no such"),
        ("dropout", "exports-torchscript", "TorchScript"),
    ],
)
def test_a_planted_fault_is_found(model: str, probe: str, why: str) -> None:
    answer = says(probe, model)
    assert answer.answer == "no", answer
    assert why in answer.why
    assert "\n" not in answer.why


def test_a_graph_of_onnx_is_one_and_hides_from_torch(tmp_path: Path) -> None:
    """A trace would say of it what it gave of one batch."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    subject = Subject(models.resolve(f"onnx/{tinyonnx.file(tmp_path / 'm.onnx')}"))
    assert answered("exports-onnx", subject).answer == "yes"
    for probe in ("exports-torch", "exports-torchscript", "compiles", "quantises"):
        answer = answered(probe, subject)
        assert (answer.answer, answer.why) == (
            "no", "it is a graph of ONNX, which torch does not look into"
        )  # fmt: skip
    assert answered("loads", subject).why == "168 parameters"
    assert answered("differentiable", subject).answer == "no"
    assert answered("stateless", subject).answer == "yes"


def test_a_branch_that_begins_at_zero_is_differentiable_and_stays_zero() -> None:
    subject = Subject(Ref.parse("planted/zero@1"))
    assert answered("differentiable", subject) == ProbeResult("yes", "all 7 parameters", 1.0)
    assert subject.backbone.module.state_dict()["gain"].tolist() == [0.0]


def test_what_a_network_keeps_for_inference_alone_does_not_stop_a_gradient() -> None:
    assert says("differentiable", "infers") == ProbeResult("yes", "all 7 parameters", 1.0)


def test_what_a_network_holds_fixed_is_asked_for_no_gradient() -> None:
    assert says("differentiable", "fixed") == ProbeResult("yes", "all 6 parameters", 1.0)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", ["wav2vec2-layer", "hubert"])
def test_a_network_that_hears_is_probed_as_one(kind: str, tmp_path: Path) -> None:
    tiny_sound(kind, tmp_path)
    ref = models.resolve(f"hf/tiny/ears?weights={tmp_path}")
    asked = ("batch-invariant", "other-sizes", "differentiable", "exports-torch")
    found = {probe: answered(probe, Subject(ref)) for probe in asked}
    assert {probe: one.answer for probe, one in found.items()} == dict.fromkeys(asked, "yes")
    assert found["other-sizes"].why.startswith("recordings of up to ")
    crop = answered("wrong-resize", Subject(ref))
    assert crop == ProbeResult("unknown", "it is asked of pictures, and the model reads audio")


def test_a_file_whose_name_does_not_tell_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whisper's model.bin is CTranslate2's, and no pickle."""
    subject = Subject(Ref.parse("planted/sound@1"))
    said = {"file": "model.bin", "format": "CTranslate2"}
    monkeypatch.setattr(subject.backbone, "provenance", said)
    found = ProbeResult("yes", "CTranslate2, which holds tensors alone")
    assert answered("safe-format", subject) == found


def test_files_and_cards_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planted, "file", "model.pth")
    assert says("safe-format") == ProbeResult(
        "no", "model.pth is a pickle, which is read here without running code"
    )
    monkeypatch.setattr(Planted, "license", "unknown")
    assert says("license-known").answer == "no"
    assert says("permissive").answer == "unknown"
    monkeypatch.setattr(Planted, "license", "CC-BY-NC-4.0")
    assert says("permissive") == ProbeResult("no", "CC-BY-NC-4.0")
    monkeypatch.setattr(Planted, "license", "MIT AND Apache-2.0")
    assert says("permissive").answer == "yes"
    assert says("revision-pinned", "sound@main").answer == "no"


def test_a_model_that_cannot_be_loaded_is_unknown_but_for_its_card() -> None:
    lost = says("deterministic", "lost")
    assert lost.answer == "unknown"
    assert lost.why.startswith("it cannot be loaded: ")
    assert says("loads", "lost").answer == "no"


def test_each_probe_runs_in_a_process_of_its_own() -> None:
    asked = ("loads-offline", "deterministic")
    found = dict(check("synthetic/gabor", asked, threads=1))
    assert [answer.answer for answer in found.values()] == ["yes"] * 2
    with pytest.raises(UnknownName, match="Did you mean 'deterministic'"):
        list(check("synthetic/gabor", ["determinstic"]))


def test_the_command_says_a_line_each_or_one_object(
    zoobench: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "zoobench.usability.check._apart", lambda name, ref, *_: answered(name, Subject(ref))
    )
    only = ("--only", "permissive", "--only", "size-on-disk")
    plain = zoobench("check", "planted/sound", *only)
    assert plain.code == 0
    assert "size-on-disk         yes         1.23 kB  the file of its weights" in plain.out
    assert all(len(line) <= 80 for line in plain.out.splitlines())
    told: Any = json.loads(zoobench("check", "planted/sound", *only, "--json").out)
    assert told["model"] == "planted/sound"
    assert told["usability"][1] == {
        "probe": "size-on-disk", "answer": "yes", "value": 1234.0, "why": "the file of its weights"
    }  # fmt: skip
    listed = zoobench("check", "--list")
    assert all(name in listed.out for name in PROBES)
    assert zoobench("check").code == 2
    wrong = zoobench("check", "planted/sound", "--only", "permisive")
    assert "Did you mean 'permissive'" in wrong.error
