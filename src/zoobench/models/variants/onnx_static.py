"""int8-static: a convolutional network in 8 bits by ONNX Runtime, weights and activations alike.

What `embed` computes is exported to ONNX, batch norms folded, and quantised as a graph of
QuantizeLinear and DequantizeLinear nodes: weights to int8 with a scale for each output channel,
activations to uint8 between the least and the largest value that they took on the calibration
pictures. (On lite0 and photo-crops percentiles took six times as long and kept no more accuracy;
int8 activations kept as much and computed at half the speed.) On x86 without VNNI instructions
ONNX Runtime adds products of uint8 and int8 in 16 bits, which saturate: quality is of the machine.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from zoobench.errors import Unsupported
from zoobench.models import graphs, onnx_counts, onnx_export, onnx_session, onnx_shapes
from zoobench.models.backbones import ImageBackbone
from zoobench.models.variants.coverage import Coverage
from zoobench.models.variants.int8 import quiet

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

PICTURES = 4
"""Calibrated on at a time: all activations are held at once (ResNet-50's of 16 are 4 GB)."""


def static(
    backbone: ImageBackbone, batches: Sequence[torch.Tensor]
) -> tuple[ImageBackbone, Coverage]:
    """`backbone`, which is on the CPU, in 8 bits, and what of it runs so.

    `batches` are its own prepared inputs (B, 3, H, W) to calibrate by; their order changes nothing.
    The size of a picture is fixed, that of a batch free. Raises Unsupported for a network with
    attention and for one that reads texts, MissingExtra.
    """
    if backbone.input_spec.size is None:
        raise Unsupported("int8-static is for convolutional networks, and this one reads texts")
    for device in {p.device for p in backbone.module.parameters() if p.device.type != "cpu"}:
        raise Unsupported(f"int8-static runs by ONNX Runtime on the CPU, not on {device}")
    onnx_session.require("int8-static")
    with tempfile.TemporaryDirectory(prefix="zoobench-") as folder, quiet():
        exported = onnx_export.exported(onnx_export.embedding(backbone), backbone.input_spec)
        constant = onnx_shapes.constants(exported)
        if any(onnx_counts.is_attention(node, constant) for node in exported.graph.node):
            raise Unsupported(
                "int8-static is for convolutional networks, and this one has attention: "
                "try int8-dynamic"
            )
        quantised = _quantised(exported, batches, Path(folder))
        coverage = _coverage(exported, quantised)
    # The file's bytes are the module's only state: what is digested and counted is what is saved.
    module: Any = onnx_session.module_of(quantised.SerializeToString(deterministic=True))
    for name in ("config", "default_cfg"):  # what a library notes beside the weights
        if hasattr(backbone.module, name):
            setattr(module, name, getattr(backbone.module, name))
    forward = graphs.features
    own = replace(backbone, module=module, forward=forward, reads_maps=_no_maps)
    return own, coverage


def _no_maps(module: torch.nn.Module, size: tuple[int, int]) -> NoReturn:
    raise Unsupported("int8-static computes the features of whole pictures: it has no maps")


def _quantised(exported: Any, batches: Sequence[torch.Tensor], folder: Path) -> Any:
    import onnx
    import torch
    from onnxruntime import quantization

    class Batches(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = (part for batch in batches for part in torch.split(batch, PICTURES))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            one = next(self.left, None)
            return None if one is None else {"pixels": one.float().contiguous().numpy()}

    path = folder / "quantised.onnx"
    quantization.quantize_static(
        exported, path, Batches(), per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    return onnx_export.bare(onnx.load(path))


def _coverage(exported: Any, quantised: Any) -> Coverage:
    """Parameters and MACs of those layers both of whose inputs are integers in `quantised`."""
    integer = {
        name
        for node in quantised.graph.node
        if node.op_type == "DequantizeLinear"
        for name in node.output
    }
    in_8_bits = {node.name for node in quantised.graph.node if integer.issuperset(node.input[:2])}
    weights, known = onnx_shapes.constants(exported), onnx_shapes.sizes(exported)
    numbers = {name: math.prod(one.dims) for name, one in weights.items()}
    params = macs = all_macs = 0
    for node in exported.graph.node:
        used = onnx_counts.macs_of(node, known)
        all_macs += used
        if node.name in in_8_bits and used:
            macs += used
            params += sum(numbers.get(name, 0) for name in node.input)
    return Coverage(params / max(1, sum(numbers.values())), macs / max(1, all_macs))
