"""A network that is a frozen graph of TensorFlow, run by it on the CPU (`graphs`), and its costs by
its shapes alone (PROTOCOL section 4). Operators are called "tf::Conv2D"."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from zoobench.errors import Unsupported
from zoobench.escape import plain
from zoobench.models import tf_graph
from zoobench.models.graphs import GraphCount, Runner, einsum_macs

KIND = "tensorflow"
MOST_NUMBERS = 2**28
"""Numbers of one tensor while one example is computed: a GiB in float32."""
GROWING = (
    "BatchToSpaceND", "BroadcastTo", "ConcatV2", "Conv2DBackpropInput", "Einsum", "Fill", "Gather",
    "GatherNd", "GatherV2", "MirrorPad", "OneHot", "Pack", "Pad", "PadV2", "Range", "ResizeArea",
    "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "SpaceToBatchND", "Tile",
)  # fmt: skip
"""Operators whose result may be larger than all that they are given; without a known size they are
refused."""
Size = Callable[[int], tuple[int, ...]]
"""The size of an operator's input at a position, -1 of its first output. Raises ValueError where
it is not known."""


def runner(content: bytes, threads: int) -> Runner:
    """A session of TensorFlow: pictures are turned to channels last for it."""
    import numpy as np

    tf = tf_graph.library()
    graph = _imported(tf, content)
    pixels, found = (
        graph.get_tensor_by_name(f"{name}:0") for name in (tf_graph.PIXELS, tf_graph.FEATURES)
    )
    threading = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1,
        use_per_session_threads=True, device_count={"GPU": 0},
    )  # fmt: skip
    session = tf.compat.v1.Session(graph=graph, config=threading)
    return Runner(
        lambda batch: np.array(session.run(found, {pixels: batch.transpose(0, 2, 3, 1)})),
        int(pixels.shape[0] or 0),
    )


def _imported(tf: Any, content: bytes, batch: int = 0) -> Any:
    """The graph of `content`; with the sizes of `batch` examples where that is not 0."""
    definition = tf.compat.v1.GraphDef.FromString(content)
    for node in definition.node:
        if node.name == tf_graph.PIXELS and batch:
            node.attr["shape"].shape.dim[0].size = batch
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(definition, name="")
    return graph


def check(content: bytes, what: str) -> None:
    """Raises Unsupported where the graph makes tensors without bound."""
    for operation in _of_one(content)[0]:
        for tensor in operation.outputs:
            size = tensor.shape.as_list() if tensor.shape.rank is not None else [None]
            known = all(one is not None for one in size)
            if known and math.prod(size) > MOST_NUMBERS:
                many = f"{math.prod(size):,} numbers at a time, more than {MOST_NUMBERS:,}"
                raise Unsupported(f"{what}: its {operation.type} makes {many}")
            if not known and operation.type in GROWING:
                raise Unsupported(
                    f"{what}: nobody can say beforehand how large the result of its "
                    f"{operation.type} is ({plain(operation.name)})"
                )


def _of_one(content: bytes) -> tuple[list[Any], int]:
    """The operators with their sizes for one example, or for the fixed batch, and how many that
    is."""
    tf = tf_graph.library()
    definition = tf.compat.v1.GraphDef.FromString(content)
    [pixels] = [node for node in definition.node if node.name == tf_graph.PIXELS]
    batch = max(1, int(pixels.attr["shape"].shape.dim[0].size))
    return list(_imported(tf, content, batch).get_operations()), batch


def _conv(operation: Any, size: Size) -> int:
    """weight (*kernel, C_in/groups, C_out), for each point of the output."""
    return math.prod(size(-1)) * math.prod(size(1)[:-1])


def _depthwise(operation: Any, size: Size) -> int:
    """weight (*kernel, C_in, multiplier), for each point of the output."""
    return math.prod(size(-1)) * math.prod(size(1)[:2])


def _transposed(operation: Any, size: Size) -> int:
    """weight (*kernel, C_out, C_in), for each point of the input, which comes third."""
    return math.prod(size(2)) * math.prod(size(1)[:-1])


def _product(operation: Any, size: Size) -> int:
    """(..., n, K) by (..., K, p); the first turned where `transpose_a` or `adj_x` is set."""
    name = "transpose_a" if operation.type == "MatMul" else "adj_x"
    inner = size(0)[-2] if operation.get_attr(name) else size(0)[-1]
    return math.prod(size(-1)) * inner


def _einsum(operation: Any, size: Size) -> int:
    return einsum_macs(operation.get_attr("equation").decode(), (size(0), size(1)))


FORMULAS: Mapping[str, Callable[[Any, Size], int]] = {
    "Conv2D": _conv,
    "Conv2DBackpropInput": _transposed,
    "DepthwiseConv2dNative": _depthwise,
    "MatMul": _product,
    "BatchMatMul": _product,
    "BatchMatMulV2": _product,
    "BatchMatMulV3": _product,
    "Einsum": _einsum,
}
PRODUCTS = ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul")


def counted(content: bytes) -> GraphCount:
    """The costs of one example."""
    operations, batch = _of_one(content)
    macs: Counter[str] = Counter()
    uncounted: set[str] = set()
    attention = False
    for operation in operations:
        if operation.type not in FORMULAS:  # all others that are let in are cheap
            continue
        name = f"tf::{operation.type}"
        given = [_source(tensor).type for tensor in operation.inputs]
        attention |= operation.type in PRODUCTS and "Const" not in given
        try:
            macs[name] += FORMULAS[operation.type](operation, _size_of(operation)) // batch
        except (IndexError, ValueError):
            uncounted.add(name)
    return GraphCount(
        dict(macs.most_common()), tuple(sorted(uncounted)), attention, _params(operations)
    )


def _size_of(operation: Any) -> Size:
    def size(place: int) -> tuple[int, ...]:
        tensor = operation.outputs[0] if place < 0 else operation.inputs[place]
        dims = tuple(tensor.shape.as_list())  # ValueError where not even the rank is known
        if None in dims:
            raise ValueError(tensor.name)
        return dims

    return size


def _source(tensor: Any) -> Any:
    """The operator that makes a tensor, beyond those that hand it on."""
    while tensor.op.type in ("Identity", "ReadVariableOp", "StopGradient", "Cast"):
        tensor = tensor.op.inputs[0]
    return tensor.op


def _params(operations: list[Any]) -> int:
    return sum(
        math.prod(one.outputs[0].shape.as_list())
        for one in operations
        if one.type == "Const" and tf_graph.WEIGHT in one.node_def.attr
    )


def widest(content: bytes) -> int:
    """Numbers in the inputs and outputs of the largest operator, for one example, weights aside; 1
    where no size is known."""
    operations, batch = _of_one(content)
    largest = 1
    for operation in operations:
        tensors = {one.name: one for one in (*operation.inputs, *operation.outputs)}
        moving = [one for one in tensors.values() if _source(one).type != "Const"]
        known = [one for one in moving if one.shape.is_fully_defined()]
        largest = max(largest, sum(math.prod(one.shape.as_list()) for one in known))
    return largest // batch or 1
