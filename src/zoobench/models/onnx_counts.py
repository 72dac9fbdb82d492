"""What a graph of ONNX costs, from its shapes alone (PROTOCOL section 4).

    counted(model)      MACs of one example by operator, what no formula covers, parameters

A formula counts the products of the operator's definition, as those of torch's operators do
(costs/counter_formulas.py). Operators are called "onnx::Conv", those of other domains
"com.microsoft::FusedConv". N is the batch, K the inner size of a product.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from zoobench.models.graphs import GraphCount, einsum_macs
from zoobench.models.onnx_shapes import Size, constants, inputs, sizes

Sizes = Callable[[int], Size]
"""The size of a node's input at a position, -1 of its first output. Raises KeyError where it is
not known, or there is no such input."""

FLOATS = (1, 10, 11, 16)
"""onnx.TensorProto's float, float16, double and bfloat16."""


def _conv(weight: int) -> Callable[[Any, Sizes], int]:
    """weight (C_out, C_in/groups, *kernel), for each point of the output."""
    return lambda node, sizes: math.prod(sizes(-1)) * math.prod(sizes(weight)[1:])


def _transposed(node: Any, sizes: Sizes) -> int:
    """weight (C_in, C_out/groups, *kernel), for each point of the input."""
    return math.prod(sizes(0)) * math.prod(sizes(1)[1:])


def _product(node: Any, sizes: Sizes) -> int:
    """(..., n, K) by (..., K, p); the first transposed where `transA` is set."""
    inner = sizes(0)[-2] if _attribute(node, "transA", 0) else sizes(0)[-1]
    return math.prod(sizes(-1)) * inner


def _einsum(node: Any, sizes: Sizes) -> int:
    return einsum_macs(_attribute(node, "equation", b"").decode(), (sizes(0), sizes(1)))


def _attention(node: Any, sizes: Sizes) -> int:
    """Queries, keys and values (B, heads, L, E), or (B, L, heads * E): scores, weighted values."""
    query, key, value = sizes(0), sizes(1), sizes(2)
    rows = math.prod(query[:-1]) * key[-2]
    if len(query) == 4:
        return rows * (query[-1] + value[-1])
    heads = int(_attribute(node, "q_num_heads", 1)), int(_attribute(node, "kv_num_heads", 1))
    return rows * (query[-1] + value[-1] * heads[0] // heads[1])


FORMULAS: Mapping[str, Callable[[Any, Sizes], int]] = {
    "onnx::Conv": _conv(1),
    "onnx::ConvInteger": _conv(1),
    "onnx::QLinearConv": _conv(3),
    "com.microsoft::FusedConv": _conv(1),
    "onnx::ConvTranspose": _transposed,
    "onnx::Gemm": _product,
    "onnx::MatMul": _product,
    "onnx::MatMulInteger": _product,
    "onnx::QLinearMatMul": _product,
    "com.microsoft::FusedGemm": _product,
    "com.microsoft::FusedMatMul": _product,
    "onnx::Einsum": _einsum,
    "onnx::Attention": _attention,
    "com.microsoft::MultiHeadAttention": _attention,
}
QUANTISED = {
    "ConvInteger": (1,), "MatMulInteger": (1,), "QLinearConv": (3,), "QLinearMatMul": (3,),
    "DequantizeLinear": (0,),
}  # fmt: skip
"""Operator -> inputs whose integers are weights."""
NOT_WEIGHTS = {
    "BatchNormalization": (3, 4), "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7), "QLinearMatMul": (1, 2, 4, 5, 6, 7), "Resize": (1, 2, 3),
    "Upsample": (1,), "Pad": (2,), "Clip": (1, 2),
}  # fmt: skip
"""Operator -> inputs whose floats are no weights: running statistics, scales, bounds."""

_CHEAP = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
    Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu
    CenterCropPad Clip Col2Im Compress Concat Constant ConstantOfShape Cos Cosh DepthToSpace
    DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten
    Floor Gather GatherElements GatherND Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
    GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization
    IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization
    LpPool Max MaxPool MaxUnpool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not
    OneHot Or PRelu Pad Pow QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize ReverseSequence Round ScatterElements ScatterND Selu Shape
    Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt
    Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze
    Upsample Where Xor
"""
CHEAP = frozenset(
    {f"onnx::{name}" for name in _CHEAP.split()}
    | {f"com.microsoft::{name}" for name in (
        "BiasGelu", "FastGelu", "Gelu", "QuickGelu", "SkipLayerNormalization", "BiasSplitGelu",
        "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax",
        "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearConcat", "BiasSoftmax",
    )}
)  # fmt: skip
"""Operators with a small constant of work for each number they read or write."""


def name_of(node: Any) -> str:
    """ "onnx::Conv" of a node of ONNX's own domain."""
    return f"{node.domain if node.domain not in ('', 'ai.onnx') else 'onnx'}::{node.op_type}"


def _attribute(node: Any, name: str, default: Any) -> Any:
    """A whole number or bytes of a node."""
    found = next((one for one in node.attribute if one.name == name), None)
    if found is None:
        return default
    return found.s if isinstance(default, bytes) else found.i


def counted(model: Any) -> GraphCount:
    """The costs of one example of `model`, an onnx.ModelProto."""
    known, held = sizes(model), constants(model)
    batch = _batch(model, known)
    macs: Counter[str] = Counter()
    uncounted: set[str] = set()
    attention = False
    for node in model.graph.node:
        name = name_of(node)
        if name in CHEAP:
            continue
        attention |= is_attention(node, held)
        try:
            macs[name] += FORMULAS[name](node, _of(node, known)) // batch
        except (KeyError, IndexError, ValueError):  # no formula, or a size that nobody knows
            uncounted.add(name)
    return GraphCount(dict(macs.most_common()), tuple(sorted(uncounted)), attention, _params(model))


def widest(model: Any) -> int:
    """Numbers in the inputs and outputs of the largest node, for one example, weights aside; 1
    where no size is known."""
    known, held = sizes(model), constants(model)
    batch = _batch(model, known)
    ends = (
        sum(math.prod(known[name]) for name in {*node.input, *node.output} & known.keys() - held)
        for node in model.graph.node
    )
    return max(1, *ends) // batch or 1


def macs_of(node: Any, known: Mapping[str, Size]) -> int:
    """MACs of one node of all that the graph takes at a time, 0 where they cannot be counted;
    `known` as `sizes` gives them."""
    try:
        return FORMULAS[name_of(node)](node, _of(node, known))
    except (KeyError, IndexError, ValueError):  # no formula, or a size that nobody knows
        return 0


def is_attention(node: Any, constant: Mapping[str, Any]) -> bool:
    """Whether a node multiplies two activations as matrices, which no convolutional network
    does."""
    kinds = ("Attention", "Einsum", "Gemm", "MatMul", "FusedMatMul", "MultiHeadAttention")
    return node.op_type in kinds and not constant.keys() & set(node.input[:2])


def _batch(model: Any, known: Mapping[str, Size]) -> int:
    """Examples that the graph takes at a time, 1 where it takes any number."""
    return max([1, *(dim for one in inputs(model) for dim in known.get(one.name, ())[:1])])


def _of(node: Any, known: Mapping[str, Size]) -> Sizes:
    return lambda place: known[node.output[0] if place < 0 else node.input[place]]


def _params(model: Any) -> int:
    held = constants(model)
    used = {name for node in model.graph.node for name in _weights_of(node, held)}
    return sum(math.prod(held[name].dims) for name in used)


def _weights_of(node: Any, held: Mapping[str, Any]) -> Iterator[str]:
    """Names of the constants of a node that are weights: no scalars, no running statistics."""
    whole: Sequence[int] = QUANTISED.get(node.op_type, ())
    for place, name in enumerate(node.input):
        one = held.get(name)
        if one is None or not one.dims or place in NOT_WEIGHTS.get(node.op_type, ()):
            continue
        if one.data_type in FLOATS or place in whole:
            yield name
