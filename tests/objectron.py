"""A detector that was really trained: SSD-MobileNetV2 on Open Images' photographs, 23 classes.

It ships inside of the npm package @mediapipe/objectron 0.4.1675468480 (Apache-2.0) as a TensorFlow
Lite graph in half precision, and is rebuilt here as a torch module of five kinds of operations:

    npm pack @mediapipe/objectron@0.4.1675468480
    pip install tflite
    OBJECTRON=mediapipe-objectron-0.4.1675468480.tgz pytest tests/models/test_models_objectron.py

`.ci/run` does so; the tests that need it skip elsewhere.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms

from zoobench.interfaces import InputSpec
from zoobench.models.backbones import finish
from zoobench.models.complete import CompletePictures
from zoobench.schema import ModelCard, Ref

SHA256 = "470986ca5df183f41698da6de74b027d838fe289d77b5ab094497d350bee664e"
MEMBER = "package/objectron_solution_packed_assets.data"
NAMES = 184
"""Bytes of the packed file that name the classes; the graph follows."""
SIDE = 300
GRIDS = (19, 10, 5, 3, 2, 1)
SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)


def unpacked(archive: Path) -> tuple[tuple[str, ...], bytes]:
    """(names of the 23 classes, the graph's bytes)."""
    with tarfile.open(archive) as files:
        member = files.extractfile(MEMBER)
        assert member is not None
        content = member.read()
    assert hashlib.sha256(content).hexdigest() == SHA256
    # The first name is that of no object.
    names = tuple(content[:NAMES].decode().split("\n")[1:])
    return tuple(name for name in names if name), content[NAMES:]


class Ssd(nn.Module):
    """(B, 3, 300, 300) in [-1, 1] -> boxes (B, 1917, 4) as shares of the picture, left, top, right,
    bottom, and scores (B, 1917, 23)."""

    anchors: Tensor

    def __init__(self, graph: bytes) -> None:
        import tflite

        super().__init__()
        model = tflite.Model.GetRootAs(graph, 0)
        self.graph: Any = model.Subgraphs(0)
        self.weights = nn.ParameterDict()
        self.operations: list[tuple[str, list[int], int, Any]] = []
        kinds = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
        for i in range(self.graph.OperatorsLength()):
            one = self.graph.Operators(i)
            code = model.OperatorCodes(one.OpcodeIndex())
            kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            inputs, (output,) = one.InputsAsNumpy().tolist(), one.OutputsAsNumpy().tolist()
            if kind == "DEQUANTIZE":  # half precision, widened once
                tensor = self.graph.Tensors(inputs[0])
                raw = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
                values = np.frombuffer(raw, np.float16).reshape(tensor.ShapeAsNumpy())
                self.weights[str(output)] = nn.Parameter(_weight(values))
            else:
                self.operations.append((kind, inputs, output, _options(kind, one)))
        self.register_buffer("anchors", torch.from_numpy(anchors()))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        found: dict[int, Tensor] = {int(self.graph.Inputs(0)): pixels}
        for kind, inputs, output, options in self.operations:
            match kind:
                case "CONV_2D" | "DEPTHWISE_CONV_2D":
                    found[output] = self._convolved(found[inputs[0]], inputs, options, kind)
                case "ADD":
                    found[output] = found[inputs[0]] + found[inputs[1]]
                case "CONCATENATION":
                    found[output] = torch.cat([found[i] for i in inputs], dim=1)
                case "RESHAPE":
                    shape = self.graph.Tensors(output).ShapeAsNumpy().tolist()
                    one = found[inputs[0]]
                    one = one.permute(0, 2, 3, 1) if one.ndim == 4 and len(shape) > 2 else one
                    found[output] = one.reshape(len(pixels), -1, shape[-1])
                case _:
                    raise NotImplementedError(kind)
        raw, scores = (found[i] for i in self.graph.OutputsAsNumpy().tolist())
        return self._boxes(raw), scores.sigmoid()[:, :, 1:]

    def _convolved(self, x: Tensor, inputs: list[int], options: Any, kind: str) -> Tensor:
        weight, bias = (self.weights[str(i)] for i in inputs[1:3])
        stride = options.StrideH()
        groups = x.shape[1] if kind.startswith("DEPTH") else 1
        weight = weight.transpose(0, 1) if groups > 1 else weight
        if options.Padding() == 0:  # as much as is needed, more of it below and to the right
            size = weight.shape[2]
            gap = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in x.shape[2:]]
            x = functional.pad(
                x, (gap[1] // 2, gap[1] - gap[1] // 2, gap[0] // 2, gap[0] - gap[0] // 2)
            )
        x = functional.conv2d(x, weight, bias, stride=stride, groups=groups)
        return functional.relu6(x) if options.FusedActivationFunction() == 3 else x

    def _boxes(self, raw: Tensor) -> Tensor:
        centre = self.anchors[:, :2] + raw[..., :2] / 10 * self.anchors[:, 2:]
        half = torch.exp(raw[..., 2:] / 5) * self.anchors[:, 2:] / 2
        top, left = (centre - half).unbind(-1)
        bottom, right = (centre + half).unbind(-1)
        return torch.stack([left, top, right, bottom], dim=-1)


def _weight(values: NDArray[np.float16]) -> Tensor:
    """Channels last, as TensorFlow has them, to torch's (out, in, height, width)."""
    whole = torch.from_numpy(values.astype(np.float32))
    return whole.permute(0, 3, 1, 2).contiguous() if whole.ndim == 4 else whole


def _options(kind: str, one: Any) -> Any:
    import tflite

    names = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions"}
    if kind not in names:
        return None
    options = getattr(tflite, names[kind])()
    options.Init(one.BuiltinOptions().Bytes, one.BuiltinOptions().Pos)
    return options


def anchors() -> NDArray[np.float32]:
    """(1917, 4) centre (down, across) and size (height, width), as shares of the picture: three on
    a cell of the finest grid, six on each other."""

    def on(layer: int) -> Iterator[tuple[float, float]]:
        scale, larger = SCALES[layer], SCALES[layer + 1]
        sizes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)] if layer == 0 else [
            *((scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1 / 3)),
            ((scale * larger) ** 0.5, 1.0),
        ]  # fmt: skip
        return iter([(size / ratio**0.5, size * ratio**0.5) for size, ratio in sizes])

    rows = [
        ((y + 0.5) / grid, (x + 0.5) / grid, *size)
        for layer, grid in enumerate(GRIDS)
        for y in range(grid)
        for x in range(grid)
        for size in on(layer)
    ]
    return np.array(rows, dtype=np.float32)


class Models:
    """A source of models, `objectron/ssd`: what a third party's package would bring."""

    archive = Path()

    @classmethod
    def cards(cls) -> tuple[ModelCard, ...]:
        return (ModelCard("objectron", "ssd", "image", "1", license="Apache-2.0"),)

    @classmethod
    def resolve(cls, ref: Ref, where: str) -> Ref:
        return ref.at("1")

    @classmethod
    def available(cls, ref: Ref) -> tuple[bool, str]:
        return cls.archive.is_file(), str(cls.archive)

    @classmethod
    def load(cls, ref: Ref, seed: int) -> CompletePictures:
        names, graph = unpacked(cls.archive)

        def transform(picture: Image.Image) -> Tensor:
            small = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            values = np.asarray(small, dtype=np.float32) / 127.5 - 1
            return torch.from_numpy(values).permute(2, 0, 1)

        def answer(module: nn.Module, picture: Image.Image) -> tuple[Tensor, Tensor, Tensor]:
            boxes, scores = module(transform(picture)[None])
            rows, labels = torch.nonzero(scores[0] >= 0.001, as_tuple=True)
            scale = torch.tensor([*picture.size, *picture.size])
            corners, values = boxes[0, rows] * scale, scores[0, rows, labels]
            kept = batched_nms(corners, values, labels, 0.6)[:100]
            return corners[kept], values[kept], labels[kept]

        spec = InputSpec("image", (3, SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "bilinear")
        model = CompletePictures(
            Ssd(graph), spec, "greatest score", transform,
            lambda module, batch: module(batch)[1].amax(1),
            task="detection", labels=names, answer_with=answer,
        )  # fmt: skip
        return finish(model, {"weights": "pretrained", "file": cls.archive.name}, ("torchvision",))
