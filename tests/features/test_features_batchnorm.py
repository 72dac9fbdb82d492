"""Folding changes speed, never features."""

from __future__ import annotations

import pytest
import torch

from zoobench import models
from zoobench.features.batchnorm import folded

NAMES = ["timm/resnet10t", "timm/mobilenetv3_small_050", "timm/regnetx_002", "timm/test_vit"]


@pytest.fixture(autouse=True)
def shared_index(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of all models takes seconds to build: once for this file."""
    folder = tmp_path_factory.getbasetemp() / "folding-cache"
    monkeypatch.setenv("ZOOBENCH_CACHE", str(folder))


def norms(module: torch.nn.Module) -> int:
    return sum(isinstance(m, torch.nn.BatchNorm2d) for m in module.modules())


@pytest.mark.parametrize("name", [*NAMES, "packaged/efficientnet-lite0?input_size=64"])
def test_the_folded_copy_gives_the_same_features(name: str) -> None:
    option = "" if "packaged" in name else "?weights=random&input_size=64"
    if "vit" in name:
        option = "?weights=random"
    backbone = models.load(models.resolve(name + option), seed=3)
    with torch.no_grad():  # statistics that do something
        for module in backbone.module.modules():
            if isinstance(module, torch.nn.BatchNorm2d) and "packaged" not in name:
                module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    before = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    fast = folded(backbone)
    size = backbone.input_spec.size
    assert size is not None
    batch = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted, got = backbone.embed(batch), fast.embed(batch)
    scale = float(wanted.abs().max())
    assert float((got - wanted).abs().max()) < 1e-4 * scale
    if "vit" in name:
        assert fast is backbone
    else:
        assert norms(fast.module) < norms(backbone.module) / 2
    after = backbone.module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before), "the original was touched"


def test_what_is_not_the_same_is_not_used() -> None:
    class Twice(torch.nn.Module):
        """The convolution's output is read by the norm and, past it, once more."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)
            self.norm = torch.nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            total: torch.Tensor = self.norm(y) + y
            return total.mean(dim=(2, 3))

    backbone = models.load(models.resolve("synthetic/gabor"))
    object.__setattr__(backbone, "module", Twice().eval())
    with torch.no_grad():
        backbone.module.norm.running_var.fill_(9.0)  # type: ignore[union-attr, operator]
    assert folded(backbone) is backbone
