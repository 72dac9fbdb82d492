"""Graphs of ONNX made by hand: a picture classifier of three layers, and what is wrong with others.

file(folder / "m.onnx")                 (N, 3, 16, 16) -> "logits" of 5 classes, 6 features
file(..., layout="nhwc", batch=1)       as TensorFlow's converters write them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CHANNELS, CLASSES = 16, 6, 5


def weights() -> dict[str, Any]:
    """Of the layers: `kernel` (6, 3, 3, 3), `shift` (6,), `linear` (6, 5), `bias` (5,)."""
    rng = np.random.default_rng(0)
    sizes = {"kernel": (CHANNELS, 3, 3, 3), "shift": (CHANNELS,), "linear": (CHANNELS, CLASSES)}
    sizes["bias"] = (CLASSES,)
    return {name: rng.normal(0, 0.5, size).astype(np.float32) for name, size in sizes.items()}


def features_of(pixels: Any) -> Any:
    """(N, 6) float64 of (N, 3, H, W), in numpy alone: a convolution, its positive part, a mean."""
    held = weights()
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3), axis=(2, 3))
    maps = np.einsum("nchwij,ocij->nohw", windows, held["kernel"].astype(np.float64))
    return np.maximum(maps + held["shift"][:, None, None], 0).mean((2, 3))


def classifier(
    layout: str = "nchw", batch: Any = "n", number: int = 1, sides: Sequence[Any] = (SIDE, SIDE)
) -> Any:
    """An onnx.ModelProto; `number` is the type of its input's numbers, `sides` may be names."""
    import onnx

    node = onnx.helper.make_node
    shape = [batch, 3, *sides] if layout == "nchw" else [batch, *sides, 3]
    first, nodes = "image", []
    if layout == "nhwc":
        nodes.append(node("Transpose", [first], ["turned"], perm=[0, 3, 1, 2]))
        first = "turned"
    if number != 1:
        nodes.append(node("Cast", [first], ["floats"], to=1))
        first = "floats"
    nodes += [
        node("Conv", [first, "kernel", "shift"], ["maps"]),
        node("Relu", ["maps"], ["positive"]),
        node("GlobalAveragePool", ["positive"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("MatMul", ["flat", "linear"], ["product"]),
        node("Add", ["product", "bias"], ["logits"]),
        node("Softmax", ["logits"], ["scores"]),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "tiny", [value("image", number, shape)], [value("scores", 1, [batch, CLASSES])],
        [onnx.numpy_helper.from_array(one, name) for name, one in weights().items()],
    )  # fmt: skip
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def write(model: Any, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """`model` as a file, with `metadata`."""
    import onnx

    onnx.helper.set_model_props(model, dict(metadata or {}))
    path.write_bytes(model.SerializeToString())
    return path


def file(path: Path, metadata: Mapping[str, str] | None = None, **how: Any) -> Path:
    """The classifier as a file."""
    return write(classifier(**how), path, metadata)
