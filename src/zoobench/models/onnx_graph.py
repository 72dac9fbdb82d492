"""A file of ONNX as a stranger made it: what is read of it, what is refused, and how it is cut.

A graph of tensors is data: it names no code of ours. What it could still ask for is refused by
name: operators of another library's making, graphs inside of graphs, functions, loops, files
outside of its folder, and tensors without bound. Of external data the bytes are taken in, so that
what was looked at is what runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoobench.errors import MissingWeights, Unsupported, one_line, unknown
from zoobench.escape import plain
from zoobench.models import folders, onnx_session, onnx_shapes

LARGEST = 2**31 - 1
"""Bytes of a file with its external data: protobuf's own bound."""
MOST_NUMBERS = 2**28
"""Numbers of one tensor while one example is computed: a GiB in float32."""
DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Whose operators ONNX Runtime has built in."""
GROWING = (
    "CenterCropPad", "Col2Im", "Concat", "ConstantOfShape", "ConvTranspose", "Einsum", "Expand",
    "EyeLike", "Gather", "GatherElements", "GatherND", "MaxUnpool", "OneHot", "Pad", "Range",
    "Resize", "Tile", "Upsample",
)  # fmt: skip
"""Operators whose result may be larger than all that they are given; without a known size they
are refused."""
HEAD_OPS = (
    "Add", "ArgMax", "Cast", "Clip", "DequantizeLinear", "Div", "Flatten", "Identity", "LogSoftmax",
    "Mul", "QuantizeLinear", "Reshape", "Sigmoid", "Softmax", "Squeeze", "TopK",
)  # fmt: skip
"""What stands between a classifier's linear layer and what it says."""
ENDINGS = ("Cast", "Identity", "LogSoftmax", "Sigmoid", "Softmax")
"""What makes probabilities of scores."""
LINEAR = ("FusedGemm", "Gemm", "MatMul")
UINT8, INT8, FLOAT = 2, 3, 1
WHOLE = (UINT8, INT8, 4, 5, 6, 7, 12, 13)
NUMBERS = (*WHOLE, FLOAT, 10, 11, 16)
"""Of onnx.TensorProto's types the whole numbers, and these with the floats."""
SHOWN, LONGEST_NAME = 12, 100
"""Names that a message shows, and characters of each."""


def parse(path: Path) -> Any:
    """The onnx.ModelProto of a file, its external data not looked at.

    Raises MissingWeights for a file that is none or damaged, Unsupported for one that is refused,
    MissingExtra without ONNX.
    """
    onnx_session.require(f"reading {path}", ("onnx",))
    import onnx

    if not path.is_file():
        raise MissingWeights(f"{path}: no such file" if not path.exists() else f"{path}: no file")
    if path.stat().st_size > LARGEST:
        raise Unsupported(f"{path}: it is larger than {LARGEST} bytes")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise MissingWeights(f"{path}: cannot be read: {error.strerror}") from error
    except MemoryError:
        raise
    except Exception as error:  # of many kinds: the bytes are a stranger's
        raise MissingWeights(f"{path}: no file of ONNX, or damaged") from error
    if not model.graph.node or not model.opset_import:
        raise MissingWeights(f"{path}: no file of ONNX, or damaged: it holds no graph")
    _refuse(model, path)
    return model


def _refuse(model: Any, path: Path) -> None:
    """Raises Unsupported for what is more than one graph of known operators."""
    kinds = {type(part).__name__ for part in onnx_session.parts(model) if part is not model.graph}
    for kind, what in (
        ("GraphProto", "a graph inside of its graph (If, Loop, Scan)"),
        ("FunctionProto", "functions of its own"),
        ("SparseTensorProto", "sparse tensors"),
        ("TrainingInfoProto", "a training graph"),
    ):
        if kind in kinds:
            raise Unsupported(f"{path}: it holds {what}, which is not read")
    for node in model.graph.node:
        if node.domain not in DOMAINS or node.op_type == "EPContext":
            name = plain(f"{node.domain}::{node.op_type}")
            raise Unsupported(
                f"{path}: its operator {name} needs a library of its own, never loaded"
            )


def _external(model: Any) -> Iterator[tuple[Any, dict[str, str]]]:
    """Tensors whose bytes lie in other files, with what says where."""
    for part in onnx_session.parts(model):
        if type(part).__name__ == "TensorProto" and part.data_location == part.EXTERNAL:
            yield part, {entry.key: entry.value for entry in part.external_data}


def external_files(model: Any, path: Path) -> list[Path]:
    """Files beside `path` that hold its weights, sorted. Raises Unsupported where one lies outside
    of its folder, MissingWeights where one is not there."""
    names = {place.get("location", "") for _, place in _external(model)}
    return [folders.inside(path.parent, name) for name in sorted(names)]


def take_in(model: Any, path: Path) -> None:
    """Put the bytes of external data into `model`. Raises as `external_files` does, and Unsupported
    where they are too many or not as long as their tensor's shape."""
    total = path.stat().st_size
    for tensor, place in _external(model):
        file = folders.inside(path.parent, place.get("location", ""))
        try:
            start = int(place.get("offset", 0))
            length = int(place.get("length", file.stat().st_size - start))
        except ValueError:
            start = length = -1
        total += length
        if min(start, length) < 0 or start + length > file.stat().st_size or total > LARGEST:
            raise Unsupported(
                f"{path}: its tensor {plain(tensor.name)} asks for {place.get('length', 'all')} "
                f"bytes of {file.name} from {place.get('offset', 0)} on, which it has not, or "
                f"more than {LARGEST} in all"
            )
        with file.open("rb") as stream:
            stream.seek(start)
            tensor.raw_data = stream.read(length)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def picture_input(model: Any, path: Path) -> Any:
    """The one input, a ValueInfoProto. Raises Unsupported where it is no batch of pictures."""
    given = onnx_shapes.inputs(model)
    if len(given) != 1:
        names = ", ".join(plain(one.name) for one in given[:SHOWN])
        raise Unsupported(f"{path}: it has {len(given)} inputs ({names}); pictures are one")
    kind = given[0].type.tensor_type
    if kind.HasField("shape") and len(kind.shape.dim) != 4:
        dims = ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in kind.shape.dim)
        raise Unsupported(
            f"{path}: its input {plain(given[0].name)} is ({dims}), no batch of pictures (N, 3, H, "
            "W) or (N, H, W, 3)"
        )
    return given[0]


def values(model: Any) -> list[str]:
    """Names of all that the graph computes, in its order."""
    return [name for node in model.graph.node for name in node.output if name]


def classifier_input(model: Any, path: Path) -> str:
    """What the linear layer reads that makes the graph's answers: its features.

    Raises Unsupported, with names to choose from, where an output is no linear layer's, or two
    outputs are of different ones.
    """
    made = {name: node for node in model.graph.node for name in node.output}
    held = onnx_shapes.constants(model)
    found = {_linear(one.name, made, held) for one in model.graph.output} - {""}
    if len(found) == 1:
        return found.pop()
    several = "several linear layers make" if found else "no linear layer alone makes"
    likely = [node.output[0] for node in model.graph.node if node.op_type.startswith("GlobalAv")]
    likely += [node.input[0] for node in model.graph.node if node.op_type in LINEAR]
    names = list(dict.fromkeys([*reversed(likely), *values(model)[::-1]]))[:SHOWN]
    raise Unsupported(
        f"{path}: {several} its answers, so say which of its values are the features: tap=NAME, "
        f"such as {', '.join(plain(name)[:LONGEST_NAME] for name in names)}"
    )


def _linear(name: str, made: Mapping[str, Any], held: Mapping[str, Any]) -> str:
    """The input of the linear layer that `name` follows, "" where it follows none."""
    for _ in range(len(made)):
        node = made.get(name)
        if node is None:
            return ""
        given = [one for one in node.input if one and one not in held]
        if node.op_type in LINEAR and len(given) >= 1 and node.input[0] == given[0]:
            weight = made.get(node.input[1])
            constant = node.input[1] in held or (
                weight is not None and not {*weight.input} - {*held, ""}
            )
            return str(node.input[0]) if constant else ""
        if node.op_type not in HEAD_OPS or len(given) != 1:
            return ""
        name = given[0]
    return ""


def scores(model: Any, path: Path, output: str = "") -> tuple[str, bool]:
    """What the graph says of its labels before any softmax or sigmoid, and whether a sigmoid
    follows: then any number of labels may be true. `output` names one of several outputs.

    Raises UnknownName, and Unsupported where several are there and none is named.
    """
    names = [one.name for one in model.graph.output]
    if output and output not in names:
        raise unknown("", "output", output, map(plain, names), f"of {path}")
    if not output and len(names) != 1:
        said = ", ".join(map(plain, names[:SHOWN]))
        raise Unsupported(f"{path}: say which of its outputs are the scores: tap=NAME, of {said}")
    made = {name: node for node in model.graph.node for name in node.output}
    name, sigmoid = output or names[0], False
    for _ in range(len(made)):  # a stranger's graph may be a circle
        node = made.get(name)
        if node is None or node.op_type not in ENDINGS:
            break
        name, sigmoid = node.input[0], sigmoid or node.op_type == "Sigmoid"
    return str(name), sigmoid


def check_tap(model: Any, tap: str, path: Path) -> None:
    """Raises UnknownName, with the nearest, where the graph computes nothing of that name."""
    known = values(model)
    if tap not in known:
        raise unknown("", "tap", tap, [plain(one)[:LONGEST_NAME] for one in known], f"of {path}")


@dataclass(frozen=True)
class GraphInput:
    """How pictures (N, 3, H, W) in RGB become the graph's input: in the `layout` "nchw" or "nhwc",
    the order of `channels` "rgb" or "bgr", at `size` (height, width)."""

    layout: str
    channels: str
    size: tuple[int, int]


def cut(model: Any, tap: str, how: GraphInput, path: Path) -> bytes:
    """A file of ONNX from pictures (N, 3, H, W) float32 to `tap` in float32: what does not lead
    there is left out.

    Raises Unsupported for a graph that the checker or ONNX Runtime would not take, or one that
    makes tensors without bound.
    """
    import onnx

    nodes, names = _leading_to(model, tap)
    given = picture_input(model, path)
    taken = {*names, *values(model)}
    front, pixels = _front(given, how, taken)
    features = _free("features", taken)
    dims = given.type.tensor_type.shape.dim
    fixed = max(0, dims[0].dim_value) if len(dims) == 4 else 0
    shape = [fixed or "batch", 3, *how.size]
    back = onnx.helper.make_node("Cast", [tap], [features], to=FLOAT)
    graph = onnx.helper.make_graph(
        [*front, *nodes, back], "features",
        [onnx.helper.make_tensor_value_info(pixels, FLOAT, shape)],
        [onnx.helper.make_tensor_value_info(features, FLOAT, [])],
        [one for one in model.graph.initializer if one.name in names],
    )  # fmt: skip
    own = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    own.ir_version = model.ir_version
    try:
        onnx.checker.check_model(own)
        known = onnx_shapes.sizes(own)
    except MemoryError:
        raise
    except Exception as error:  # of many kinds: the graph is a stranger's
        raise Unsupported(f"{path}: {plain(one_line(error))}") from error
    _check_bounds(own, known, path)
    if features not in known:
        lost = next(node for node in own.graph.node if node.output[0] not in known)
        raise Unsupported(
            f"{path}: at {how.size[0]} x {how.size[1]} nobody can say beforehand what size "
            f"{plain(tap)} has, from its {plain(lost.op_type)} {plain(lost.output[0])} on; another "
            "input_size may do"
        )
    size = [fixed or "batch", *known[features][1:]]
    own.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(features, FLOAT, size))
    content: bytes = own.SerializeToString(deterministic=True)
    return content


def _leading_to(model: Any, tap: str) -> tuple[list[Any], set[str]]:
    """The nodes that `tap` depends on, in their order, and the names of all that they read."""
    wanted, kept = {tap}, []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1], wanted


def _front(given: Any, how: GraphInput, taken: set[str]) -> tuple[list[Any], str]:
    """Nodes that make the graph's own input of pictures, and the name that these go by."""
    import onnx

    kind = given.type.tensor_type.elem_type
    steps: list[tuple[str, dict[str, Any], Any]] = []
    if how.channels == "bgr":
        steps.append(("Gather", {"axis": 1}, onnx.helper.make_tensor("order", 7, [3], [2, 1, 0])))
    if kind != FLOAT:
        steps += [("Round", {}, None)] if kind in WHOLE else []
        steps.append(("Cast", {"to": kind}, None))
    if how.layout == "nhwc":
        steps.append(("Transpose", {"perm": [0, 2, 3, 1]}, None))
    if not steps:
        return [], str(given.name)
    stem = _free("pixels", taken)
    nodes = []
    for number, (operator, attributes, constant) in enumerate(steps):
        last = number == len(steps) - 1
        read, made = f"{stem}{number}", given.name if last else f"{stem}{number + 1}"
        if constant is not None:
            nodes.append(onnx.helper.make_node("Constant", [], [f"{stem}_order"], value=constant))
        more = [f"{stem}_order"] if constant is not None else []
        nodes.append(onnx.helper.make_node(operator, [read, *more], [made], **attributes))
    return nodes, f"{stem}0"


def _free(stem: str, taken: set[str]) -> str:
    """A name that none of `taken` begins with."""
    while any(name.startswith(stem) for name in taken):
        stem += "_"
    return stem


def _check_bounds(model: Any, known: Mapping[str, Sequence[int]], path: Path) -> None:
    for node in model.graph.node:
        for name in node.output:
            size = known.get(name)
            if size is not None and math.prod(size) > MOST_NUMBERS:
                what = f"{math.prod(size):,} numbers at a time, more than {MOST_NUMBERS:,}"
                raise Unsupported(f"{path}: its {plain(node.op_type)} makes {what}")
            if size is None and node.op_type in GROWING:
                raise Unsupported(
                    f"{path}: nobody can say beforehand how large the result of its "
                    f"{plain(node.op_type)} is ({plain(name)})"
                )
