"""Maps of transformers' encoders: tokens lie where their patches lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf

from zoobench.errors import Unsupported
from zoobench.models import vision_maps
from zoobench.views import MapReader

PLAIN: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "image_size": 32,
}  # fmt: skip
WINDOWS: dict[str, Any] = {
    "image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 1, 1],
    "num_heads": [1, 2, 4], "window_size": 4,
}  # fmt: skip
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
MODELS: dict[str, tuple[Callable[[], Any], int]] = {  # what makes it, and its own tokens
    "vit": (lambda: hf.ViTModel(hf.ViTConfig(**PLAIN, patch_size=8)), 1),
    "deit": (lambda: hf.DeiTModel(hf.DeiTConfig(**PLAIN, patch_size=8)), 2),
    "dinov2-patch14": (lambda: hf.Dinov2Model(hf.Dinov2Config(**PLAIN, patch_size=14)), 1),
    "registers": (
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**PLAIN, patch_size=8)),
        5,
    ),
    "beit": (lambda: hf.BeitModel(hf.BeitConfig(**PLAIN, patch_size=8)), 1),
    "mae": (lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**PLAIN, patch_size=8, mask_ratio=0.0)), 1),
    "clip": (lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**PLAIN, patch_size=8)), 1),
    "siglip": (lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**PLAIN, patch_size=8)), 0),
    "swin": (lambda: hf.SwinModel(hf.SwinConfig(**WINDOWS)), 0),
    "convnext": (lambda: hf.ConvNextModel(hf.ConvNextConfig(**STAGES)), 0),
    "resnet": (
        lambda: hf.ResNetModel(hf.ResNetConfig(embedding_size=8, layer_type="basic", **STAGES)),
        0,
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> tuple[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return str(request.param), MODELS[str(request.param)][0]().eval()


def read(reader: MapReader, batch: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(reader.read(reader.module, batch, range(len(reader.taps))))


def test_a_models_own_tokens_are_counted(model: tuple[str, Any]) -> None:
    name, module = model
    assert vision_maps.prefix(module) == MODELS[name][1]


def test_a_changed_tile_changes_its_cell_most(model: tuple[str, Any]) -> None:
    reader = vision_maps.reader(model[1], (120, 192))
    side = reader.size[0] // 2
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(1, 3, *reader.size, generator=generator)
    for row, column in ((0, 2), (1, 0), (1, 1)):
        other = base.clone()
        tile = (..., slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
        other[tile] = -other[tile]
        for one in read(reader, torch.cat([base, other])):
            change = (one[1] - one[0]).square().sum(0)[None, None]
            coarse = torch.nn.functional.adaptive_avg_pool2d(change, (2, 3))[0, 0]
            assert divmod(int(coarse.argmax()), 3) == (row, column)


def test_a_size_that_is_no_multiple_is_padded(model: tuple[str, Any]) -> None:
    reader = vision_maps.reader(model[1], (60, 40))
    assert all(0 <= a - b < 32 for a, b in zip(reader.size, (60, 40), strict=True))
    last = read(reader, torch.zeros(1, 3, *reader.size))[-1]
    assert last.shape[2] / last.shape[3] == pytest.approx(reader.size[0] / reader.size[1])


@pytest.mark.parametrize("name", ["dinov2-patch14", "registers", "resnet"])
def test_the_last_map_is_that_of_transformers_own_backbone(name: str) -> None:
    module = MODELS[name][0]().eval()
    twin = hf.AutoBackbone.from_config(module.config).eval()
    prefix = f"{type(twin).base_model_prefix}." if name == "resnet" else ""
    state = {k: v for k, v in module.state_dict().items() if not k.startswith("pooler")}
    known = twin.state_dict().keys()
    prefixed = {k if k in known else f"{prefix}{k}": v for k, v in state.items()}
    missing, unexpected = twin.load_state_dict(prefixed, strict=False)
    assert not missing
    assert not unexpected
    side = 56 if name == "dinov2-patch14" else 32
    reader = vision_maps.reader(module, (side, side))
    batch = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = twin(batch).feature_maps[-1]
    torch.testing.assert_close(read(reader, batch)[-1], want, rtol=1e-4, atol=1e-5)


def test_tokens_that_are_too_many_are_an_error() -> None:
    """YOLOS puts tokens of its detections behind the patches."""
    yolos = hf.YolosModel(hf.YolosConfig(**{**PLAIN, "image_size": [32, 32]}, patch_size=8,
                                         num_detection_tokens=3))  # fmt: skip
    with pytest.raises(Unsupported, match="where 1 of the model's own and 4 x 4 patches were due"):
        vision_maps.reader(yolos.eval(), (32, 32))
