"""Operation counts against formulas written out from each architecture's paper."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from zoobench.costs.counter import count

META = torch.device("meta")


def empty(*shape: int, device: str = "meta") -> torch.Tensor:
    return torch.empty(shape, device=device)


def resnet50() -> int:
    """He et al. 2016, table 1, the stride in the 3 x 3 convolution."""
    macs, size, width_in = 112**2 * 64 * 3 * 49, 56, 64
    for stage, (depth, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(depth):
            before = size
            if block == 0 and stage:
                size //= 2
            macs += before**2 * width_in * width + size**2 * (9 * width**2 + 4 * width**2)
            if block == 0:
                macs += size**2 * width_in * 4 * width
            width_in = 4 * width
    return macs + 2048 * 1000


def transformer(tokens: int, d: int, layers: int, ffn: int) -> int:
    """Projections, scores and weighted values, feed-forward; Vaswani et al. 2017."""
    return layers * tokens * (4 * d * d + 2 * tokens * d + 2 * d * ffn)


def vit_b_16() -> int:
    """Dosovitskiy et al. 2021: 196 patches and a class token."""
    return 196 * 768 * 16 * 16 * 3 + transformer(197, 768, 12, 3072) + 768 * 1000


def bert(length: int) -> int:
    """Devlin et al. 2019, base, with the pooler."""
    return transformer(length, 768, 12, 3072) + 768 * 768


def whisper_encoder() -> int:
    """Radford et al. 2023, tiny: 80 mel bands, 3,000 frames, two convolutions of 3."""
    convolutions = 3000 * 3 * 80 * 384 + 1500 * 3 * 384 * 384
    return convolutions + transformer(1500, 384, 4, 1536)


def ast() -> int:
    """Gong et al. 2021: 16 x 16 patches with stride 10 of 128 x 1,024, two extra tokens."""
    patches = 12 * 101
    return patches * 768 * 256 + transformer(patches + 2, 768, 12, 3072)


def swin_t() -> int:
    """Liu et al. 2021, windows of 7 x 7."""
    macs, size, d = 56**2 * 96 * 48, 56, 96
    for stage, depth in enumerate((2, 2, 6, 2)):
        if stage:
            size, d = size // 2, 2 * d
            macs += size**2 * (2 * d) * d  # merging: four of d/2 become one of d
        macs += depth * size**2 * (12 * d * d + 2 * 49 * d)
    return macs + 768 * 1000


def convnext_t() -> int:
    """Liu et al. 2022: depthwise 7 x 7, then two linear layers of four times the width."""
    macs, size, d = 56**2 * 96 * 48, 56, 96
    for stage, depth in enumerate((3, 3, 9, 3)):
        if stage:
            size, d = size // 2, 2 * d
            macs += size**2 * 4 * (d // 2) * d
        macs += depth * size**2 * (49 * d + 8 * d * d)
    return macs + 768 * 1000


def torchvision_model(name: str) -> nn.Module:
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, weights=None).eval().to("meta")
    return model


def transformers_model(kind: str) -> nn.Module:
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    with META:
        model: nn.Module = {
            "bert": lambda: transformers.BertModel(transformers.BertConfig()),
            "whisper": lambda: WhisperEncoder(transformers.WhisperConfig()),
            "ast": lambda: transformers.ASTModel(transformers.ASTConfig()),
        }[kind]().eval()
    return model


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("resnet50", resnet50),
        ("vit_b_16", vit_b_16),
        ("swin_t", swin_t),
        ("convnext_tiny", convnext_t),
    ],
)
def test_pictures_agree_with_the_formula(name: str, formula: Callable[[], int]) -> None:
    counted = count(torchvision_model(name), (empty(1, 3, 224, 224),))
    assert counted.macs == pytest.approx(formula(), rel=0.001)
    assert counted.uncounted == ()
    assert not counted.lower_bound


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("bert", torch.zeros(1, 128, dtype=torch.long), bert(128)),
        ("bert", torch.zeros(1, 512, dtype=torch.long), bert(512)),
        ("whisper", torch.zeros(1, 80, 3000), whisper_encoder()),
        ("ast", torch.zeros(1, 1024, 128), ast()),
    ],
)
def test_transformers_agree_with_the_formula(kind: str, given: torch.Tensor, expected: int) -> None:
    counted = count(transformers_model(kind), (given.to("meta"),))
    assert counted.macs == pytest.approx(expected, rel=0.001)
    assert counted.uncounted == ()
    assert counted.attention == "full"


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_two_recurrent_layers(kind: type[nn.RNNBase], device: str) -> None:
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    steps, batch, i, h = 7, 2, 24, 40
    build: Callable[..., nn.Module] = kind
    model = build(i, h, num_layers=2).to(device)
    counted = count(model, (empty(steps, batch, i, device=device).fill_(0.5),))
    assert counted.macs == steps * batch * gates * (h * (i + h) + h * (h + h))
    assert counted.uncounted == ()


def test_two_directions_and_a_projection() -> None:
    steps, i, h, p = 5, 8, 16, 4
    model = nn.LSTM(i, h, proj_size=p, bidirectional=True).to("meta")
    counted = count(model, (empty(steps, 1, i),))
    assert counted.macs == 2 * steps * (4 * h * (i + p) + p * h)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("timm", "efficientnet_b0"),
        ("timm", "convnext_tiny"),
        ("timm", "mobilenetv4_conv_small"),
        ("torchvision", "regnet_y_400mf"),
    ],
)
def test_training_costs_three_forwards(source: str, name: str) -> None:
    """Grouped convolutions would give 40 if their backward were multiplied by the groups."""
    import timm

    model = (
        torchvision_model(name) if source == "torchvision" else timm.create_model(name).to("meta")
    )
    model.eval()
    x = (empty(1, 3, 224, 224),)
    forward, step = count(model, x), count(model, x, train=True)
    assert 2.8 <= step.macs / forward.macs <= 3.05
    assert step.uncounted == ()
