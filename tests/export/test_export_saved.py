"""What a library alone makes of a saved folder is what the backbone makes of the same input."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save, save_file

from savedfolders import NEEDS, noise, of_backbone
from tinymodels import tiny_bert, write_files
from tinysound import CLIPS, KINDS, tiny_sound
from zoobench import models
from zoobench.export.saved import open_saved
from zoobench.models import variants

TOWER: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip


def dense(folder: Path) -> None:
    """sentence-transformers' whole recipe: lower case, a prompt, a Dense layer, a normalisation."""
    files = tiny_bert(sentence_transformers=True)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3": "Normalize"}
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds.items())
    ]
    config = {
        "in_features": 32, "out_features": 7, "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }  # fmt: skip
    told = {
        "modules.json": modules,
        "2_Dense/config.json": config,
        "sentence_bert_config.json": {"max_seq_length": 12, "do_lower_case": True},
        "config_sentence_transformers.json": {
            "prompts": {"query": "the "}, "default_prompt_name": "query",
        },
    }  # fmt: skip
    files |= {name: json.dumps(body).encode() for name, body in told.items()}
    weights = {"linear.weight": torch.randn(7, 32), "linear.bias": torch.randn(7)}
    write_files({**files, "2_Dense/model.safetensors": save(weights)}, folder)


def clip(folder: Path) -> None:
    import transformers

    config = transformers.CLIPConfig(
        vision_config={**TOWER, "image_size": 32, "patch_size": 8},
        text_config={**TOWER, "vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2},
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    crop = {"height": 32, "width": 32}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=crop)
    processor.save_pretrained(folder)


def masked(folder: Path) -> None:
    """ViT-MAE, whose own settings drop patches at random."""
    import transformers

    config = transformers.ViTMAEConfig(**TOWER, image_size=32, patch_size=8)
    transformers.ViTMAEModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained(folder)


def residual(folder: Path) -> None:
    import transformers

    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    transformers.ResNetModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained(folder)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (dense, "hf/one?modality=text&weights="),
        (dense, "hf/one?modality=text&pool=lasttoken&length=5&prefix=a&weights="),
        (clip, "hf/one?modality=image&weights="),
        (clip, "hf/one?modality=image&input_size=48&mean=0.1&interpolation=bilinear&weights="),
        (masked, "hf/one?modality=image&pool=mean&weights="),
        *((partial(tiny_sound, kind), "hf/one?weights=") for kind in KINDS),
        (partial(tiny_sound, "ast"), "hf/one?pool=mean&seconds=0.9&weights="),
        (None, "timm/test_vit?pool=avg&input_size=64&crop_pct=1.0&weights=random"),
        (None, "timm/levit_128s?weights=random"),
        (None, "torchvision/googlenet?std=0.3&interpolation=bicubic&weights=random"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", "none"),
)
def test_features_are_the_same(
    make: Callable[[Path], Any] | None, name: str, tmp_path: Path, index_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("ZOOBENCH_CACHE", str(index_folder))
    torch.manual_seed(0)
    if make is not None:
        make(tmp_path / "made")
        name += str(tmp_path / "made")
    folder = of_backbone(name, tmp_path / "saved")
    says_the_features_of(models.load(models.resolve(name)), folder)


def says_the_features_of(backbone: Any, folder: Path, apart: float = 2e-5) -> None:
    """The first two of them, up to `apart` of the largest."""
    first = load_file(folder / "head.safetensors")
    first["weight"] = torch.eye(backbone.feature_dim, dtype=torch.float64)[:2]
    save_file(first, folder / "head.safetensors")
    rng = np.random.default_rng(0)
    raw: list[Any] = ["The Cat sat", "", "a DOG, good and bad mats " * 9]
    if backbone.input_spec.modality == "audio":
        raw = [*CLIPS]
    if backbone.input_spec.modality == "image":
        sizes = [(40, 30), (300, 200)]
        raw = [Image.fromarray(rng.integers(0, 255, (*s, 3), dtype=np.uint8)) for s in sizes]
    with torch.no_grad():
        alone = [backbone.embed(backbone.collate([backbone.prepare(one)])) for one in raw]
    expected = torch.cat(alone)[:, :2].double()
    scale = float(expected.abs().max())
    torch.testing.assert_close(open_saved(folder).scores(raw), expected, rtol=0, atol=apart * scale)


@pytest.mark.parametrize(
    ("make", "name", "variant"),
    [
        (dense, "hf/one?modality=text&weights=", "bf16"),
        (dense, "hf/one?modality=text&weights=", "int8-weight"),
        (dense, "hf/one?modality=text&weights=", "int8-dynamic"),
        (masked, "hf/one?modality=image&pool=mean&weights=", "fp16"),
        (masked, "hf/one?modality=image&pool=mean&weights=", "int8-dynamic"),
        (residual, "hf/one?modality=image&weights=", "int8-static"),
        (partial(tiny_sound, "hubert"), "hf/one?weights=", "fp16"),
        (partial(tiny_sound, "whisper"), "hf/one?weights=", "int8-dynamic"),
        (None, "timm/test_vit?weights=random", "int8-weight"),
        (None, "timm/test_resnet?input_size=32&weights=random", "bf16"),
        (None, "timm/test_resnet?input_size=32&weights=random", "pruned-50"),
        (None, "timm/test_resnet?input_size=32&weights=random", "int8-static"),
        (None, "torchvision/squeezenet1_1?input_size=32&weights=random", "fp16"),
        (None, "torchvision/squeezenet1_1?input_size=32&weights=random", "int8-static"),
    ],
)
def test_features_of_a_variant_are_the_same(
    make: Callable[[Path], Any] | None, name: str, variant: str, tmp_path: Path,
    index_folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """... by its own weights as they were written, without those that they were made of."""
    for package in NEEDS.get(variant, ()):
        pytest.importorskip(package)
    monkeypatch.setenv("ZOOBENCH_CACHE", str(index_folder))
    torch.manual_seed(0)
    if make is not None:
        make(tmp_path / "made")
        name += str(tmp_path / "made")
    original: Any = models.load(models.resolve(name))
    backbone = variants.made(original, variant, noise(original))
    folder = of_backbone(name, tmp_path / "saved", variant)
    # Rounding differs with the size of a batch, and what is nearly level is rounded again.
    rounding = {"bf16": 0.03, "fp16": 4e-3, "int8-dynamic": 5e-3}
    says_the_features_of(backbone, folder, rounding.get(variant, 1e-4))
