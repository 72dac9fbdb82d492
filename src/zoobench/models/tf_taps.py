"""Which value of a frozen graph of TensorFlow is its features, and which are its scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoobench.errors import Unsupported, unknown
from zoobench.escape import plain
from zoobench.models.tf_graph import FrozenSignature

HANDING_ON = ("Cast", "Identity", "StopGradient")
HEAD = (
    *HANDING_ON, "Add", "AddV2", "BiasAdd", "LogSoftmax", "Reshape", "Sigmoid", "Softmax", "Squeeze"
)  # fmt: skip
"""What stands between a classifier's linear layer and what it says."""
ENDINGS = (*HANDING_ON, "LogSoftmax", "Sigmoid", "Softmax")
"""What makes probabilities of scores."""
SHOWN, LONGEST_NAME = 12, 100


def features_of(read: FrozenSignature, tap: str, folder: Path) -> str:
    """The tensor that holds the features: that of the output or the operator called `tap`, where it
    is said; else what the linear layer reads that makes the answers, or, where none does, the one
    output itself, since a network without a classifier gives its features.

    Raises UnknownName for a tap, Unsupported where there are several outputs to choose from.
    """
    if tap:
        return _named(read, tap, folder)
    nodes = {node.name: node for node in read.graph.node}
    found = {_linear_input(nodes, tensor) for tensor in read.outputs.values()} - {""}
    if len(found) == 1:
        return found.pop()
    if len(read.outputs) == 1:
        [only] = read.outputs.values()
        return only
    names = ", ".join(plain(one)[:LONGEST_NAME] for one in sorted(read.outputs)[:SHOWN])
    raise Unsupported(f"{folder}: say which of its outputs are the features: tap=NAME, of {names}")


def scores_of(read: FrozenSignature, output: str, folder: Path) -> tuple[str, bool]:
    """The tensor of the scores of its labels before any softmax or sigmoid, and whether a sigmoid
    follows: then any number of labels may be true. `output` names one of several outputs.

    Raises UnknownName, and Unsupported where several are there and none is named.
    """
    names = [plain(one)[:LONGEST_NAME] for one in sorted(read.outputs)]
    if output and output not in read.outputs:
        raise unknown("", "output", output, names, f"of {folder}")
    if not output and len(names) != 1:
        said = ", ".join(names[:SHOWN])
        raise Unsupported(f"{folder}: say which of its outputs are the scores: tap=NAME, of {said}")
    nodes = {node.name: node for node in read.graph.node}
    tensor, sigmoid = read.outputs[output or next(iter(read.outputs))], False
    while (node := nodes[_node(tensor)]).op in ENDINGS:
        tensor, sigmoid = _tensor(node.input[0]), sigmoid or node.op == "Sigmoid"
    return tensor, sigmoid


def _named(read: FrozenSignature, tap: str, folder: Path) -> str:
    """An output by its name, or an operator by its own, whose last parts are enough where they mean
    one alone."""
    if tap in read.outputs:
        return read.outputs[tap]
    inner = [node.name for node in read.graph.node if node.op != "Const"]
    exact = [name for name in inner if name == tap]
    ends = exact or [name for name in inner if name.endswith(f"/{tap}")]
    if len(ends) == 1:
        return f"{ends[0]}:0"
    known = [plain(one)[:LONGEST_NAME] for one in (*read.outputs, *ends, *reversed(inner))]
    raise unknown("", "tap", tap, known, f"of {folder}")


def _linear_input(nodes: Mapping[str, Any], tensor: str) -> str:
    """The input of the linear layer that a tensor follows, "" where it follows none."""
    while (node := nodes.get(_node(tensor))) is not None:
        moving = [one for one in node.input if not _constant(nodes, one)]
        if node.op == "MatMul" and len(moving) == 1 and node.input[0] == moving[0]:
            return _tensor(moving[0])
        if node.op not in HEAD or len(moving) != 1:
            return ""
        tensor = moving[0]
    return ""


def _constant(nodes: Mapping[str, Any], tensor: str) -> bool:
    node = nodes.get(_node(tensor))
    while node is not None and node.op in HANDING_ON:
        node = nodes.get(_node(node.input[0]))
    return node is not None and node.op == "Const"


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"
