"""How large every value of a graph of ONNX is, said before anything of it runs.

    sizes(model)        {"image": (1, 3, 224, 224), "flat": (1, 1280), ...}

Older exporters compute sizes inside of the graph (Shape, Gather, Concat, Where, ...). So beside the
types of values the small ones are followed themselves, node after node, by ONNX's own inference of
types and its own reference operators; what depends on a picture stays unknown. Nothing larger than
LARGE is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

Size = tuple[int, ...]

LARGE = 1024
"""Numbers of a constant from which on it says no shape: its values are not looked at."""
_FOLLOWED = """
    Abs Add And Cast CastLike Ceil Concat Constant ConstantOfShape Div Equal Expand Flatten Floor
    Gather GatherElements GatherND Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mod Mul
    Neg Not Or Pow Range ReduceMax ReduceMin ReduceProd ReduceSum Reshape Round ScatterElements
    ScatterND Shape Size Slice Split Sqrt Squeeze Sub Tile Transpose Unsqueeze Where
"""
FOLLOWED = frozenset(_FOLLOWED.split())
"""Operators that sizes are computed by."""


def inputs(model: Any) -> list[Any]:
    """What the graph is given: older files list their initializers among its inputs."""
    held = {one.name for one in model.graph.initializer}
    return [one for one in model.graph.input if one.name not in held]


def constants(model: Any) -> dict[str, Any]:
    """name -> TensorProto of what the graph holds: its initializers, and its nodes Constant."""
    found = {one.name: one for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensors = [one.t for one in node.attribute if one.name == "value"]
            found.update(zip(node.output, tensors, strict=False))
    return found


def sizes(model: Any) -> dict[str, Size]:
    """name -> size of every value, where it can be said beforehand: of one example, or of as many
    as the graph takes at a time. `model` is left as it is."""
    following = _Following(model)
    for node in model.graph.node:
        following.step(node)
    return {
        name: size for name, kind in following.types.items() if (size := _size(kind)) is not None
    }


def _size(kind: Any) -> Size | None:
    """The size that a TypeProto states, None where it leaves any of it open."""
    tensor = kind.tensor_type
    size = tuple(int(dim.dim_value) for dim in tensor.shape.dim if dim.HasField("dim_value"))
    whole = tensor.HasField("shape") and len(size) == len(tensor.shape.dim)
    return size if whole and min(size, default=0) >= 0 else None


class _Following:
    """The types of values, and the small ones' own content, as far as the nodes were followed."""

    def __init__(self, model: Any) -> None:
        import onnx

        self.versions = {one.domain: one.version for one in model.opset_import}
        self.imports = list(model.opset_import)
        self.ir_version = model.ir_version
        self.types: dict[str, Any] = {}
        self.small: dict[str, Any] = {}
        for given in inputs(model):
            kind = onnx.TypeProto()
            kind.CopyFrom(given.type)
            for dim in kind.tensor_type.shape.dim[:1]:
                dim.dim_value = max(1, dim.dim_value)  # some write -1 for what is free
            self.types[given.name] = kind
        for one in model.graph.initializer:
            self.keep(one, one.name)

    def keep(self, tensor: Any, name: str) -> None:
        """A constant, and its content where that may say a size."""
        import onnx

        self.types[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        if math.prod(tensor.dims) <= LARGE:
            self.small[name] = tensor

    def step(self, node: Any) -> None:
        """What can be said of a node's outputs; nothing where ONNX says that it is wrong."""
        import onnx

        if node.op_type == "Constant":
            for one in node.attribute:
                if one.name == "value":
                    self.keep(one.t, node.output[0])
                    return
        given = [name for name in node.input if name]
        try:
            schema = onnx.defs.get_schema(
                node.op_type, self.versions.get(node.domain, 1), node.domain
            )
            self.types |= onnx.shape_inference.infer_node_outputs(
                schema, node,
                {name: self.types[name] for name in given},
                {name: self.small[name] for name in given if name in self.small},
                opset_imports=self.imports, ir_version=self.ir_version,
            )  # fmt: skip
            for name, tensor in self._followed(node, given):
                self.keep(tensor, name)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - of many kinds: the graph is a stranger's
            return

    def _followed(self, node: Any, given: list[str]) -> Iterator[tuple[str, Any]]:
        """The content of a node's outputs, where they are small and so are its inputs."""
        import numpy as np
        import onnx
        from onnx.reference import ReferenceEvaluator

        known = [_size(self.types[name]) for name in node.output if name in self.types]
        if node.op_type not in FOLLOWED or node.domain not in ("", "ai.onnx"):
            return
        if len(known) < len(node.output) or any(n is None or math.prod(n) > LARGE for n in known):
            return
        if node.op_type in ("Shape", "Size"):
            size = _size(self.types[node.input[0]])
            bounds = {one.name: one.i for one in node.attribute}
            if size is not None:
                part = size[slice(bounds.get("start"), bounds.get("end"))]
                value = part if node.op_type == "Shape" else math.prod(size)
                yield node.output[0], onnx.numpy_helper.from_array(np.array(value, np.int64))
            return
        if any(name not in self.small for name in given):
            return
        read = {name: onnx.numpy_helper.to_array(self.small[name]) for name in given}
        made = ReferenceEvaluator(node, opsets=self.versions).run(None, read)
        for name, value in zip(node.output, made, strict=True):
            yield name, onnx.numpy_helper.from_array(np.asarray(value))
