"""Probes find the faults that they are for, and call a sound model sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from hostile import Said
from zoobench import models
from zoobench.errors import UnknownName
from zoobench.interfaces import InputSpec
from zoobench.models.backbones import ImageBackbone
from zoobench.schema import ModelCard, Ref
from zoobench.usability import PROBES, ProbeResult
from zoobench.usability.check import answered, check

SIDE = 64
SPEC = InputSpec("image", (3, SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "bilinear")


class Sound(nn.Module):
    """A convolution, a batch norm and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return found


class DropsOut(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class NormsItsBatch(Sound):
    """Its batch norm stays in training mode, whatever it is told."""

    def forward(self, x: Tensor) -> Tensor:
        self.norm.train()
        return super().forward(x)


class Remembers(Sound):
    """Adds the mean of what it was fed last."""

    def __init__(self) -> None:
        super().__init__()
        self.last = 0.0

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x) + self.last
        self.last = float(x.mean())
        return found


class ReadsTheOrder(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.arange(1, len(x) + 1)[:, None]


class OneSize(Sound):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (SIDE, SIDE):
            raise ValueError(f"pictures are {SIDE} x {SIDE}")
        return super().forward(x)


class Detaches(Sound):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)).detach())
        return found


class Raises(Sound):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no such\nlayer")


FAULTS: dict[str, Callable[[], nn.Module]] = {
    "sound": Sound, "dropout": DropsOut, "batchnorm": NormsItsBatch, "state": Remembers,
    "order": ReadsTheOrder, "size": OneSize, "detached": Detaches, "raises": Raises,
}  # fmt: skip


class Planted:
    """A third party's source: its backbones are not checked when they are loaded."""

    file: ClassVar[str] = "model.safetensors"
    license: ClassVar[str] = "Apache-2.0"

    @classmethod
    def cards(cls) -> tuple[ModelCard, ...]:
        return tuple(
            ModelCard("planted", name, "image", "1", license=cls.license, pretrained_on="noise")
            for name in FAULTS
        )

    @classmethod
    def resolve(cls, ref: Ref, where: str) -> Ref:
        return ref.at(ref.revision or "1")

    @classmethod
    def available(cls, ref: Ref) -> tuple[bool, str]:
        return True, "made on the spot"

    @classmethod
    def load(cls, ref: Ref, seed: int) -> ImageBackbone:
        torch.manual_seed(seed)
        module = FAULTS[ref.name]().eval()

        def transform(picture: Image.Image) -> Tensor:
            small = picture.resize((SIDE, SIDE))
            values = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
            return values.reshape(SIDE, SIDE, 3).permute(2, 0, 1) / 127.5 - 1

        return ImageBackbone(
            module, SPEC, "mean", transform, lambda module, batch: module(batch), 16,
            {"weights": "pretrained", "file": cls.file, "weights_bytes": 1234},
        )  # fmt: skip


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SOURCES", {**models.SOURCES, "planted": f"{__name__}:Planted"})


def says(probe: str, model: str = "sound") -> ProbeResult:
    return answered((probe, f"planted/{model}@1"))


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
    assert answered(("revision-pinned", "planted/sound@main")).answer == "no"


def test_a_model_that_cannot_be_loaded_is_unknown_but_for_its_card() -> None:
    lost = answered(("deterministic", "planted/lost@1"))
    assert lost.answer == "unknown"
    assert lost.why.startswith("it cannot be loaded: ")
    assert answered(("loads", "planted/lost@1")).answer == "no"


def test_each_probe_runs_in_a_process_of_its_own() -> None:
    asked = ("loads-offline", "deterministic", "differentiable")
    found = dict(check("synthetic/gabor", asked, threads=1))
    assert [answer.answer for answer in found.values()] == ["yes"] * 3
    with pytest.raises(UnknownName, match="Did you mean 'deterministic'"):
        list(check("synthetic/gabor", ["determinstic"]))


def test_the_command_says_a_line_each_or_one_object(
    zoobench: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoobench.usability.check._apart", lambda name, ref, *_: answered(
        (name, ref.text)
    ))  # fmt: skip
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
