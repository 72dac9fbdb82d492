"""Every source's backbone obeys the protocol."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tinyonnx
import tinysavedmodel
from tinymodels import tiny_bert, tiny_timm, write_files
from zoobench import models
from zoobench.interfaces import Backbone
from zoobench.models import tf_, torchvision_
from zoobench.models.graphs import kind_of
from zoobench.models.weights import parameters
from zoobench.schema import Ref

NAMES = [
    "packaged/efficientnet-lite0?input_size=64",
    "packaged/minilm-l6-v2",
    "packaged/glove-6b-50d",
    "timm/test_vit?weights=random",
    "timm/test_resnet?weights=random&pool=max",
    "timm/test_vit?input_size=64&pool=avg&weights=random",
    "torchvision/resnet18?weights=random&input_size=64",
    "torchvision/squeezenet1_1?weights=random&input_size=64",
    "torchvision/mobilenet_v3_small?weights=random&input_size=64",
    "hf/bert?weights=TEXT",
    "hf/vit?weights=IMAGE",
    "hf/vit?weights=IMAGE&input_size=24&pool=mean",
    "onnx/tiny?path=ONNX",
    "tf/tiny?path=SAVEDMODEL",
]


def tiny_vit(folder: Path) -> Path:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=NAMES)
def backbone(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    index_folder: Path,
) -> Any:
    name = str(request.param)
    folder = tmp_path_factory.mktemp("weights")
    if "TEXT" in name:
        name = name.replace("TEXT", str(write_files(tiny_bert(), folder)))
    if "IMAGE" in name:
        name = name.replace("IMAGE", str(tiny_vit(folder)))
    if "ONNX" in name:
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        name = name.replace("ONNX", str(tinyonnx.file(folder / "m.onnx")))
    if "SAVEDMODEL" in name:
        if not tf_.libraries()[2:]:
            pytest.skip("pip install 'zoobench[tensorflow]'")
        name = name.replace("SAVEDMODEL", str(tinysavedmodel.folder(folder / "m")))
    with pytest.MonkeyPatch.context() as patch:  # made before any fixture of one test
        patch.setenv("ZOOBENCH_CACHE", str(index_folder))
        return models.load(models.resolve(name), seed=1)


def examples(backbone: Any) -> list[Any]:
    """Raw examples of unlike sizes."""
    if backbone.input_spec.modality == "text":
        return ["the cat", "", "a dog sat on the mat " * 4, "good"]
    rng = np.random.default_rng(0)
    sizes = [(40, 30), (7, 90), (64, 64), (300, 200)]
    return [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for h, w in sizes]


def embed(backbone: Any, raw: list[Any]) -> torch.Tensor:
    with torch.no_grad():
        features: torch.Tensor = backbone.embed(
            backbone.collate([backbone.prepare(one) for one in raw])
        )
    return features


def test_features_have_the_promised_shape_and_type(backbone: Any) -> None:
    assert isinstance(backbone, Backbone)
    raw = examples(backbone)
    features = embed(backbone, raw)
    assert features.shape == (len(raw), backbone.feature_dim)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()
    assert not backbone.module.training
    if backbone.input_spec.modality == "image":
        one = backbone.prepare(raw[0])
        assert one.dtype == torch.float32
        assert tuple(one.shape) == backbone.input_spec.size


def test_embedding_is_repeatable_and_changes_no_state(backbone: Any) -> None:
    raw = examples(backbone)
    before = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    assert torch.equal(embed(backbone, raw), embed(backbone, raw))
    after = backbone.module.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_an_example_is_embedded_alike_alone_and_in_a_batch(backbone: Any) -> None:
    raw = examples(backbone)
    together = embed(backbone, raw)
    alone = torch.cat([embed(backbone, [one]) for one in raw])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_embedding_can_be_trained(backbone: Any) -> None:
    if kind_of(backbone.module):
        pytest.skip("a graph of ONNX is a fixed function, and plans say so")
    batch = backbone.collate([backbone.prepare(one) for one in examples(backbone)])
    state = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    try:
        backbone.module.train()
        backbone.embed(batch).square().sum().backward()
        reached = [p for p in backbone.module.parameters() if p.grad is not None]
        assert any(bool(p.grad.abs().sum() > 0) for p in reached)
    finally:
        backbone.module.load_state_dict(state)
        backbone.module.zero_grad()
        backbone.module.eval()


def test_provenance_says_what_was_loaded(backbone: Any) -> None:
    facts = backbone.provenance
    assert facts["parameters"] == parameters(backbone.module)
    assert facts["preprocessing"] == backbone.input_spec.digest
    assert facts["libraries"]["torch"] == torch.__version__.partition("+")[0]
    if facts["weights"] == "random":
        assert "weights_sha256" not in facts
    else:
        assert len(facts["weights_sha256"]) == 64
        assert facts["weights_bytes"] > 0


def test_grey_and_transparent_pictures_are_taken(backbone: Any) -> None:
    if backbone.input_spec.modality == "image":
        for mode in ("L", "RGBA", "P", "CMYK"):
            features = embed(backbone, [Image.new(mode, (20, 30))])
            assert torch.isfinite(features).all()


def test_the_transform_is_timms_own(tmp_path: Path) -> None:
    import timm

    folder = write_files(tiny_timm(), tmp_path)
    ref = models.resolve(
        f"timm/test_resnet?weights={folder / 'model.safetensors'}&mean=0.4,0.5,0.6"
    )
    backbone = models.load(ref)
    config = timm.data.resolve_data_config({"mean": (0.4, 0.5, 0.6)}, model=backbone.module)
    transform = timm.data.create_transform(**config, is_training=False)
    picture = examples(backbone)[3]
    assert torch.equal(backbone.prepare(picture), transform(picture))


def test_torchvision_keeps_its_own_transform_and_features() -> None:
    import torchvision.models as zoo

    backbone: Any = models.load(models.resolve("torchvision/resnet18?weights=random"))
    picture = examples(backbone)[3]
    expected = zoo.ResNet18_Weights.DEFAULT.transforms()(picture)
    assert torch.equal(backbone.prepare(picture), expected)
    whole = zoo.resnet18()
    whole.load_state_dict({**whole.state_dict(), **backbone.module.state_dict()})
    seen: list[torch.Tensor] = []
    whole.avgpool.register_forward_hook(lambda m, i, o: seen.append(o.flatten(1)))
    with torch.no_grad():
        whole.eval()(expected.unsqueeze(0))
        assert torch.equal(backbone.embed(expected.unsqueeze(0)), seen[0])


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_are_taken_off(name: str) -> None:
    from torchvision.models import get_model_weights

    ref = models.resolve(f"torchvision/{name}")
    module = torchvision_._create(ref, get_model_weights(name)[ref.revision], auxiliary=True)
    assert torchvision_._last_layer(module) == "fc"
    torchvision_._drop_auxiliary(module)
    torchvision_._behead(module, "fc")
    assert not any("aux" in key.casefold() for key in module.state_dict())
    features = torchvision_.forward(module.train(), torch.zeros(2, 3, 80, 80))
    assert features.shape == (2, 1024 if name == "googlenet" else 2048)


def test_a_torchvision_vits_positions_are_resized() -> None:
    from torchvision.models import VisionTransformer

    sizes = {"patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    small, large = (VisionTransformer(image_size=side, **sizes) for side in (32, 48))
    state = torchvision_._prepared(dict(small.state_dict()), large)
    assert state["encoder.pos_embedding"].shape == large.encoder.pos_embedding.shape
    large.load_state_dict(state)


def test_densenets_old_key_names_are_read() -> None:
    import torchvision.models as zoo

    module = zoo.DenseNet(growth_rate=4, block_config=(1, 1), num_init_features=8)
    old = {
        re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key) if "denselayer" in key else key: value
        for key, value in module.state_dict().items()
    }
    assert old.keys() != module.state_dict().keys()
    module.load_state_dict(torchvision_._prepared(old, module))


def test_refs_are_normal_forms() -> None:
    names = ["timm/resnet18", "timm/resnet18?weights=random&mean=0.5", "torchvision/resnet50"]
    for name in names:
        ref = models.resolve(name)
        assert models.resolve(ref) == ref == Ref.parse(str(ref))
    assert str(models.resolve("torchvision/resnet50")) == "torchvision/resnet50@IMAGENET1K_V2"
    assert models.resolve("hf/bert-base-uncased").name == "google-bert/bert-base-uncased"
