"""Networks of Keras on torch, beside what Keras itself makes of them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoobench import models
from zoobench.errors import MissingWeights, Unsupported, UserError
from zoobench.models.backbones import ImageBackbone
from zoobench.models.keras_ import APPLICATIONS, MODES
from zoobench.schema import Ref

pytestmark = [
    pytest.mark.xdist_group("keras"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras
]

SIDE = 32


@pytest.fixture(scope="module")
def keras() -> Iterator[Any]:
    os.environ["KERAS_BACKEND"] = "torch"
    library = pytest.importorskip("keras")
    yield library
    library.utils.clear_session()


def loaded(name: str, seed: int = 0) -> ImageBackbone:
    found = models.load(models.resolve(name), seed)
    assert isinstance(found, ImageBackbone)
    return found


def small(keras: Any, **more: Any) -> Any:
    """A convolution, a batch norm whose statistics are not those it began with, and a head."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    net = keras.Sequential([
        keras.Input((SIDE, SIDE, 3)), *more.get("first", ()),
        layers.Conv2D(8, 3, strides=2, padding="same"), layers.BatchNormalization(name="norm"),
        layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dropout(0.5),
        layers.Dense(5, activation="softmax", name="head"),
    ])  # fmt: skip
    norm = net.get_layer("norm")
    norm.set_weights([np.random.default_rng(k).uniform(0.5, 2, 8) for k in range(4)])
    return net


def pixels(count: int = 3, side: int = SIDE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_each_mode_is_what_the_family_makes_of_pixels(keras: Any) -> None:
    values = pixels(1, 4).astype(np.float32)
    for name, one in APPLICATIONS.items():
        module = importlib.import_module(getattr(keras.applications, name).__module__)
        theirs = module.preprocess_input(values.copy())
        mean, std = (np.asarray(x) for x in MODES[one.mode])
        ours = (values / 255 - mean) / std
        ours = ours[..., ::-1] if one.mode == "caffe" else ours
        assert np.allclose(ours, theirs, atol=1e-3), name
        assert getattr(keras.applications, name).__name__ == name


def test_an_application_gives_what_keras_gives(keras: Any) -> None:
    backbone = loaded(f"keras/MobileNetV2?weights=random&input_size={SIDE}")
    assert backbone.feature_dim == 1280
    batch = backbone.collate([backbone.prepare(Image.fromarray(one)) for one in pixels()])
    with torch.no_grad():
        ours = backbone.embed(batch)
        net: Any = backbone.module.net
        theirs = net(batch.permute(0, 2, 3, 1).numpy(), training=False)
    assert torch.equal(ours, theirs)
    assert backbone.provenance["parameters"] == 2_223_872, "without moving statistics"
    again, other = (
        loaded(f"keras/MobileNetV2?weights=random&input_size={SIDE}", s) for s in (0, 1)
    )
    with torch.no_grad():
        assert torch.equal(again.embed(batch), ours)
        assert not torch.equal(other.embed(batch), ours)


def test_a_saved_model_is_read_up_to_its_head(keras: Any, tmp_path: Path) -> None:
    net = small(keras)
    net.save(tmp_path / "m.keras")
    backbone = loaded(f"keras/m?path={tmp_path / 'm.keras'}")
    batch = backbone.collate([backbone.prepare(Image.fromarray(one)) for one in pixels()])
    below = keras.Model(net.inputs, net.layers[-2].output)
    with torch.no_grad():
        theirs = below(batch.permute(0, 2, 3, 1), training=False)
        assert torch.allclose(backbone.embed(batch), theirs, atol=1e-6)
    assert backbone.provenance["guessed"] == ["mean", "std"]
    said = loaded(f"keras/{tmp_path / 'm.keras'}?mean=[0.5,0.5,0.5]&std=[0.5,0.5,0.5]")
    assert "guessed" not in said.provenance
    assert torch.equal(said.prepare(Image.fromarray(pixels()[0])), batch[0])
    small(keras, first=[keras.layers.Rescaling(1 / 255)]).save(tmp_path / "r.keras")
    assert loaded(f"keras/r?path={tmp_path / 'r.keras'}").provenance["mode"] == "inside"


def test_it_can_be_trained_and_its_norms_take_the_batch(keras: Any, tmp_path: Path) -> None:
    small(keras).save(tmp_path / "m.keras")
    backbone = loaded(f"keras/m?path={tmp_path / 'm.keras'}")
    module = backbone.module
    batch = torch.randn(8, 3, SIDE, SIDE)
    before = {name: one.clone() for name, one in module.state_dict().items()}
    optimizer = torch.optim.SGD((p for p in module.parameters() if p.requires_grad), lr=0.1)
    module.train()
    losses = []
    for _ in range(5):
        torch.manual_seed(0)
        loss = backbone.embed(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    moved = {
        name for name, one in module.state_dict().items() if not torch.equal(one, before[name])
    }
    assert any("moving_mean" in name for name in moved)
    assert any("kernel" in name for name in moved)
    module.eval()
    with torch.no_grad():
        assert torch.equal(backbone.embed(batch), backbone.embed(batch)), "no dropout, no batch"


def test_the_same_network_in_torch_gives_the_same_and_costs_the_same(keras: Any) -> None:
    """torchvision's MobileNetV2 with drawn weights, and its Keras twin."""
    from torchvision.models import mobilenet_v2

    from zoobench.costs.counter import count
    from zoobench.models.keras_network import features, module_of

    torch.manual_seed(0)
    theirs = mobilenet_v2().eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.get_buffer("running_mean"), -0.2, 0.2)
            torch.nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    ours = module_of(twin(keras, theirs.features.state_dict(), 64)).eval()
    batch = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        there = theirs.features(batch).mean((2, 3))
        assert torch.allclose(features(ours, batch), there, atol=1e-4 * float(there.abs().max()))
    counted = [count(module, (batch[:1],)).macs for module in (ours, theirs.features)]
    assert counted[0] == pytest.approx(counted[1], rel=0.01)


def twin(keras: Any, state: dict[str, torch.Tensor], side: int) -> Any:
    """keras.applications.MobileNetV2 with torch's weights: torch pads both sides alike where Keras
    pads right and bottom, and its batch norms add less."""
    net = keras.applications.MobileNetV2(
        input_shape=(side, side, 3), include_top=False, weights=None, pooling="avg"
    )
    weights = iter([name[: -len(".weight")] for name in state if name.endswith(".weight")])
    for layer in net.layers:
        if isinstance(layer, keras.layers.ZeroPadding2D):
            layer.padding = ((1, 1), (1, 1))
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            order = (2, 3, 0, 1) if "Depthwise" in type(layer).__name__ else (2, 3, 1, 0)
            layer.set_weights([state[f"{next(weights)}.weight"].permute(order).numpy()])
        elif isinstance(layer, keras.layers.BatchNormalization):
            name, layer.epsilon = next(weights), 1e-5
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([state[f"{name}.{part}"].numpy() for part in parts])
    assert next(weights, None) is None
    stem = net.get_layer("Conv1")
    conv = keras.layers.Conv2D(32, 3, 2, "valid", use_bias=False, name="stem")
    given = keras.Input((side, side, 3))
    seen = conv(keras.layers.ZeroPadding2D(1)(given))
    conv.set_weights(stem.get_weights())
    return keras.Model(given, keras.Model(stem.output, net.output, name="body")(seen))


def test_weights_of_ones_own_are_taken(keras: Any, tmp_path: Path) -> None:
    net = keras.applications.MobileNet(
        input_shape=(SIDE, SIDE, 3), include_top=False, weights=None, pooling="avg", alpha=1.0
    )
    net.save_weights(tmp_path / "w.weights.h5")
    backbone = loaded(f"keras/MobileNet?weights={tmp_path / 'w.weights.h5'}&input_size={SIDE}")
    batch = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.equal(backbone.embed(batch), net(batch.permute(0, 2, 3, 1), training=False))


def test_a_dense_layer_inside_is_no_classifier(keras: Any, tmp_path: Path) -> None:
    """A gate of squeeze and excitation holds one, and what reads its answer is the network's."""
    layers, given = keras.layers, keras.Input((SIDE, SIDE, 3))
    maps = layers.Conv2D(8, 3)(given)
    gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(maps))
    gated = layers.Multiply()([maps, layers.Reshape((1, 1, 8))(gate)])
    net = keras.Model(given, layers.GlobalMaxPooling2D()(gated))
    net.save(tmp_path / "gated.keras")
    backbone = loaded(f"keras/{tmp_path / 'gated.keras'}")
    batch = backbone.collate([backbone.prepare(Image.fromarray(one)) for one in pixels()])
    with torch.no_grad():
        theirs = net(batch.permute(0, 2, 3, 1), training=False)
        assert torch.allclose(backbone.embed(batch), theirs, atol=1e-6)
    assert backbone.provenance["tap"] == "output"
    pooled = layers.GlobalAveragePooling2D()(gated)
    heads = [layers.Activation("softmax")(layers.Dense(n)(pooled)) for n in (3, 4)]
    keras.Model(given, heads).save(tmp_path / "heads.keras")
    assert loaded(f"keras/{tmp_path / 'heads.keras'}").feature_dim == 8
    keras.Model(given, [heads[0], net(given)]).save(tmp_path / "odd.keras")
    with pytest.raises(Unsupported, match="its 2 outputs follow different layers"):
        loaded(f"keras/{tmp_path / 'odd.keras'}")


def test_a_model_that_begins_with_another_is_fed_as_that_one(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    inner = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 255), layers.Conv2D(8, 3)]
    )
    outer = [keras.Input((SIDE, SIDE, 3)), inner, layers.GlobalAveragePooling2D(), layers.Dense(5)]
    keras.Sequential(outer).save(tmp_path / "m.keras")
    found = loaded(f"keras/{tmp_path / 'm.keras'}")
    assert found.provenance["mode"] == "inside"
    assert "guessed" not in found.provenance


def test_what_is_no_file_or_too_large_is_said(keras: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.keras")
    (tmp_path / "folder.keras").mkdir()
    for name, why in (("pipe", "it is no file"), ("folder", "no file"), ("none", "no such file")):
        with pytest.raises(UserError, match=why):
            models.resolve(f"keras/{tmp_path / name}.keras")
    layers, given = keras.layers, keras.Input((10_000, 10_000, 3))
    wide = keras.Model(given, layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(given)))
    wide.save(tmp_path / "wide.keras")
    with pytest.raises(Unsupported, match="more than 8192 a side"):
        loaded(f"keras/{tmp_path / 'wide.keras'}")


def test_what_is_not_kerass_own_is_refused(keras: Any, tmp_path: Path) -> None:
    import h5py

    evil = keras.Sequential([
        keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), keras.layers.Lambda(lambda x: x)
    ])  # fmt: skip
    evil.save(tmp_path / "lambda.keras")
    with pytest.raises(UserError, match=r"not Keras's own.*Lambda"):
        models.resolve(f"keras/{tmp_path / 'lambda.keras'}")
    small(keras).save(tmp_path / "m.keras")
    (tmp_path / "secret.bin").write_bytes(bytes(4 * 8))
    with zipfile.ZipFile(tmp_path / "m.keras") as packed:
        config, weights = packed.read("config.json"), packed.read("model.weights.h5")
    for name, text, why in (
        ("module", config.replace(b'"keras.layers"', b'"os.path"', 1), "not Keras's own"),
        ("source", config.replace(b'"registered_name": null', b'"registered_name": "a>b"', 1),
         "not Keras's own"),
        ("json", config[:-5], "damaged"),
        ("list", b"[1, 2]", "damaged: its config.json holds no model"),
        ("class", config.replace(b'"class_name": "Conv2D"', b'"class_name": ["x"]', 1),
         "not Keras's own"),
    ):  # fmt: skip
        with zipfile.ZipFile(tmp_path / f"{name}.keras", "w") as packed:
            packed.writestr("config.json", text)
            packed.writestr("model.weights.h5", weights)
        with pytest.raises(UserError, match=why):
            models.resolve(f"keras/{tmp_path / name}.keras")
    (tmp_path / "w.h5").write_bytes(weights)
    with h5py.File(tmp_path / "w.h5", "a") as held:
        outside = [(str(tmp_path / "secret.bin"), 0, 32)]
        held.create_dataset("layers/x", (8,), "f4", external=outside)
    with zipfile.ZipFile(tmp_path / "outside.keras", "w") as packed:
        packed.writestr("config.json", config)
        packed.write(tmp_path / "w.h5", "model.weights.h5")
    with pytest.raises(UserError, match="lies in another file"):
        models.resolve(f"keras/{tmp_path / 'outside.keras'}")
    with h5py.File(tmp_path / "w.h5", "a") as held:
        del held["layers/x"]
        held["layers/x"] = h5py.ExternalLink("other.h5", "/a")
    with pytest.raises(Unsupported, match="a link to elsewhere"):
        loaded(f"keras/MobileNet?weights={tmp_path / 'w.weights.h5'}") if (
            (tmp_path / "w.h5").rename(tmp_path / "w.weights.h5")
        ) else None
    (tmp_path / "no.keras").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match="cannot be read"):
        models.resolve(f"keras/{tmp_path / 'no.keras'}")


def test_a_file_that_changed_is_another_model(keras: Any, tmp_path: Path) -> None:
    small(keras).save(tmp_path / "m.keras")
    ref = models.resolve(f"keras/m?path={tmp_path / 'm.keras'}")
    small(keras, first=[keras.layers.Rescaling(0.1)]).save(tmp_path / "m.keras")
    with pytest.raises(MissingWeights, match="changed"):
        models.load(ref)


def test_names_and_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong, why in (
        ("keras/MobileNetV9", "Did you mean 'keras/MobileNetV2'"),
        ("keras/MobileNetV2?pool=cls", "pool"),
        ("keras/MobileNetV2?weights=gone.weights.h5", "no file"),
        ("keras/MobileNetV2?weights=a.pt", "weights are"), ("keras/MobileNetV2@3", "revisions"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=why):
            models.resolve(wrong)
    assert not models.available(Ref.parse("keras/VGG19"))[0]
    # Where Keras is absent it is said while a suite is planned.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"s\.toml: keras/VGG19 needs keras, .*zoobench\[keras\]"):
        models.resolve("keras/VGG19", "s.toml")
    assert "needs keras" in models.available(Ref.parse("keras/VGG19"))[1]
