"""Which operators of a stranger's graph of TensorFlow come into a graph here, and how many.

leading_to(tf, graph, names, folder)        what some nodes depend on, and nothing else
check(graph, PURE, folder)                  of operators that compute values alone
check_restoring(graph, filename, folder)    and that read one file alone
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from zoobench.errors import MissingWeights, Unsupported
from zoobench.escape import plain

_PURE = """
    Abs Add AddN AddV2 All Any ArgMax ArgMin AvgPool BatchMatMul BatchMatMulV2 BatchMatMulV3
    BatchToSpaceND BiasAdd BroadcastArgs BroadcastTo Cast Ceil ClipByValue ConcatV2 Const Conv2D
    Conv2DBackpropInput Cumsum DepthToSpace DepthwiseConv2dNative DisableCopyOnRead Div DivNoNan
    Einsum Elu EnsureShape Equal Erf Erfc Exp ExpandDims Expm1 Fill Floor FloorDiv FloorMod
    FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual
    Identity IdentityN InvertPermutation IsFinite L2Loss LRN LeakyRelu Less LessEqual Log Log1p
    LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart Max MaxPool MaxPoolV2 Maximum
    Mean Min Minimum MirrorPad Mul MulNoNan Neg NoOp NotEqual OneHot OnesLike Pack Pad PadV2
    PartitionedCall Placeholder PlaceholderWithDefault Pow PreventGradient Prod Range Rank
    ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic ResizeBilinear
    ResizeNearestNeighbor ReverseV2 Roll Round Rsqrt Select SelectV2 Selu Shape ShapeN Sigmoid Sign
    Size Slice Snapshot Softmax Softplus Softsign SpaceToBatchND SpaceToDepth Split SplitV Sqrt
    Square SquaredDifference Squeeze StatefulPartitionedCall StopGradient StridedSlice Sub Sum Tanh
    Tile TopKV2 Transpose Unpack VarHandleOp VariableV2 Where ZerosLike
"""
PURE = frozenset(_PURE.split())
"""Operators that compute a value of others and nothing else, and what holds and calls them."""
RESTORING = frozenset((
    "Assign", "AssignVariableOp", "Const", "Identity", "NoOp", "PartitionedCall", "Placeholder",
    "PlaceholderWithDefault", "RestoreV2", "StatefulPartitionedCall", "VarHandleOp", "VariableV2",
))  # fmt: skip
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
MOST_NODES, DEEPEST = 200_000, 100
"""Operators of a graph whose functions are written out, and functions that call one another. Of
networks that are known the largest have a tenth of either."""
SHOWN = 12


def leading_to(tf: Any, graph: Any, names: Sequence[str], folder: Path) -> Any:
    """A GraphDef of what the nodes `names` depend on, with the functions that it calls alone, and
    without what a file says to TensorFlow beside its operators: devices, sizes that are not
    inferred, functions that are to be kept.

    Raises MissingWeights where a node is not there, Unsupported for functions that are not there,
    call themselves, or are too many when they are written out.
    """
    held = {node.name for node in graph.node}
    if lost := [name for name in names if name not in held]:
        raise MissingWeights(f"{folder}: its graph holds no node {plain(lost[0])[:60]}")
    found = tf.compat.v1.graph_util.extract_sub_graph(graph, list(names))
    functions = {one.signature.name: one for one in graph.library.function}
    called: dict[str, Any] = {}
    ahead = list(found.node)
    while ahead:
        node = ahead.pop()
        name = node.attr["f"].func.name if node.op in CALLS else ""
        if name and name not in called and name in functions:
            called[name] = functions[name]
            ahead += functions[name].node_def
    found.library.Clear()
    found.library.function.extend(called.values())
    for function in found.library.function:
        function.attr.clear()
        function.arg_attr.clear()
    for node in _nodes(found):
        node.device = ""
        for hint in [name for name in node.attr if name.startswith("_")]:
            del node.attr[hint]
    _check_calls(found, folder)
    return found


def _check_calls(graph: Any, folder: Path) -> None:
    """Raises Unsupported as `leading_to` does."""
    bodies = {one.signature.name: one.node_def for one in graph.library.function}
    whole = {**bodies, "": graph.node}
    calls = {
        name: [node.attr["f"].func.name for node in nodes if node.op in CALLS]
        for name, nodes in whole.items()
    }
    if lost := [one for called in calls.values() for one in called if one not in bodies]:
        raise Unsupported(f"{folder}: it calls a function {plain(lost[0])[:60]}, and holds none")
    sizes: dict[str, int] = {}
    depths: dict[str, int] = {}
    try:
        for name in TopologicalSorter(calls).static_order():  # what is called before who calls it
            sizes[name] = len(whole[name]) + sum(sizes[one] for one in calls[name])
            depths[name] = 1 + max((depths[one] for one in calls[name]), default=0)
    except CycleError as error:
        name = plain(error.args[1][0])[:60]
        raise Unsupported(f"{folder}: its function {name} calls itself") from error
    if sizes[""] > MOST_NODES or depths[""] > DEEPEST:
        raise Unsupported(
            f"{folder}: its functions written out are {sizes['']:,} operators, {depths['']} deep; "
            f"at most {MOST_NODES:,} and {DEEPEST} are read"
        )


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for one in graph.library.function:
        yield from one.node_def


def check(graph: Any, known: frozenset[str], folder: Path) -> None:
    if odd := sorted({node.op for node in _nodes(graph)} - known):
        names = ", ".join(plain(one)[:60] for one in odd[:SHOWN])
        raise Unsupported(f"{folder}: its graph has operators that are not run here: {names}")


def check_restoring(graph: Any, filename: str, folder: Path) -> None:
    """Raises Unsupported where a restoring operator takes its file's name from elsewhere than
    `filename`: a constant of the graph would name any file."""
    own = filename.partition(":")[0]
    whole = [(graph.node, {own})]
    whole += [
        (one.node_def, {arg.name for arg in one.signature.input_arg})
        for one in graph.library.function
    ]
    for nodes, allowed in whole:
        constants = {node.name for node in nodes if node.op == "Const"}
        for node in nodes:
            given = [one.partition(":")[0] for one in node.input]
            handed = node.op in CALLS and constants & set(given)
            if handed or (node.op == "RestoreV2" and given[0] not in allowed):
                raise Unsupported(f"{folder}: it restores its variables from a file of its choice")
