"""Sizes and MACs of graphs, said before anything runs: against hand arithmetic and ONNX Runtime."""

from __future__ import annotations

import json
import math
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoobench import models
from zoobench.errors import UserError
from zoobench.models import onnx_counts, onnx_shapes

onnx = pytest.importorskip("onnx")
MAGIKA = "magika/models/standard_v3_3/model.onnx"

# operator, attributes, sizes of its inputs, of its output, MACs
CASES: list[tuple[str, dict[str, Any], list[tuple[int, ...]], tuple[int, ...], int]] = [
    ("Conv", {}, [(1, 3, 8, 8), (4, 3, 3, 3)], (1, 4, 6, 6), 4 * 36 * 27),
    ("Conv", {"group": 4}, [(1, 4, 8, 8), (4, 1, 3, 3)], (1, 4, 6, 6), 4 * 36 * 9),
    ("ConvTranspose", {}, [(1, 3, 8, 8), (3, 4, 2, 2)], (1, 4, 9, 9), 3 * 64 * 16),
    ("Gemm", {"transB": 1}, [(1, 7), (5, 7)], (1, 5), 35),
    ("Gemm", {"transA": 1}, [(7, 2), (7, 5)], (2, 5), 70),
    ("MatMul", {}, [(1, 2, 3, 7), (1, 2, 7, 5)], (1, 2, 3, 5), 2 * 3 * 5 * 7),
    ("MatMul", {}, [(1, 3, 7), (7,)], (1, 3), 21),
    ("Einsum", {"equation": "bhld,bhsd->bhls"}, [(1, 2, 3, 7), (1, 2, 5, 7)], (1, 2, 3, 5), 210),
    ("Attention", {}, [(1, 2, 3, 7), (1, 2, 5, 7), (1, 2, 5, 4)], (1, 2, 3, 4), 2 * 3 * 5 * 11),
    ("Attention", {"q_num_heads": 2, "kv_num_heads": 1}, [(1, 3, 14), (1, 5, 7), (1, 5, 4)],
     (1, 3, 8), 3 * 5 * (14 + 8)),
]  # fmt: skip


def graph(nodes: list[Any], given: dict[str, Any], constants: dict[str, Any] | None = None) -> Any:
    """An onnx.ModelProto; `given` are inputs' sizes, whose names may be free, or floats' arrays."""
    value = onnx.helper.make_tensor_value_info
    held = [onnx.numpy_helper.from_array(one, name) for name, one in (constants or {}).items()]
    body = onnx.helper.make_graph(
        nodes, "any", [value(name, 1, size) for name, size in given.items()],
        [value(nodes[-1].output[0], 1, None)], held,
    )  # fmt: skip
    opset = onnx.helper.make_opsetid("", 23)
    return onnx.helper.make_model(body, opset_imports=[opset], ir_version=10)


@pytest.mark.parametrize(("operator", "attributes", "given", "made", "macs"), CASES, ids=str)
def test_products_are_counted_by_their_definition(
    operator: str, attributes: dict[str, Any], given: Any, made: Any, macs: int
) -> None:
    names = [f"x{place}" for place in range(len(given))]
    node = onnx.helper.make_node(operator, names, ["y"], **attributes)
    model = graph([node], dict(zip(names, given, strict=True)))
    known = onnx_shapes.sizes(model)
    assert known["y"] == made
    assert onnx_counts.macs_of(node, known) == macs
    counted = onnx_counts.counted(model)
    batch = max(size[0] for size in given)  # a graph that takes several at a time
    assert counted.macs == macs // batch
    assert counted.by_operator == {f"onnx::{operator}": macs // batch}
    assert not counted.uncounted
    assert counted.attention == (operator not in ("Conv", "ConvTranspose"))


def test_what_has_no_formula_is_named() -> None:
    node = onnx.helper.make_node
    model = graph(
        [
            node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4),
            node("Relu", ["y"], ["z"]),
            node("Einsum", ["z", "z", "z"], ["s"], equation="...a,...a,...a->...a"),
        ],
        {"x": [3, 1, 5]},
        {"w": np.ones((1, 16, 5), np.float32), "r": np.ones((1, 16, 4), np.float32)},
    )
    found = onnx_counts.counted(model)
    assert found.uncounted == ("onnx::Einsum", "onnx::LSTM")
    assert found.macs == 0
    assert found.params == 16 * 9


def test_integers_are_weights_where_an_operator_takes_them_so() -> None:
    node = onnx.helper.make_node
    model = graph(
        [
            node("DequantizeLinear", ["kernel", "scale", "zero"], ["k"], axis=0),
            node("Conv", ["x", "k"], ["a"]),
            node("BatchNormalization", ["a", "gain", "shift", "mean", "var"], ["b"]),
            node("Flatten", ["b"], ["f"]),
            node("Reshape", ["f", "shape"], ["y"]),
        ],
        {"x": ["n", 3, 3, 3]},
        {
            "kernel": np.ones((4, 3, 3, 3), np.int8), "scale": np.ones(4, np.float32),
            "zero": np.zeros(4, np.int8), "shape": np.array([0, -1]),
            **{name: np.ones(4, np.float32) for name in ("gain", "shift", "mean", "var")},
        },
    )  # fmt: skip
    found = onnx_counts.counted(model)
    assert found.params == 4 * 27 + 8
    assert found.by_operator == {"onnx::Conv": 4 * 27}


def older(batch: Any) -> Any:
    """Sizes that are computed inside of the graph, as torch's first exporter wrote them."""
    node = onnx.helper.make_node
    return graph(
        [
            node("Shape", ["x"], ["size"]),
            node("Gather", ["size", "first"], ["n"], axis=0),
            node("Unsqueeze", ["n", "axis"], ["n1"]),
            node("Concat", ["n1", "rest"], ["wanted"], axis=0),
            node("ConstantOfShape", ["three"], ["ones"],
                 value=onnx.helper.make_tensor("v", 7, [1], [1])),
            node("Mul", ["ones", "minus"], ["open"]),
            node("Equal", ["wanted", "open"], ["is_open"]),
            node("Where", ["is_open", "ones", "wanted"], ["final"]),
            node("Expand", ["token", "final"], ["tokens"]),
            node("Reshape", ["x", "flat"], ["rows"]),
            node("MatMul", ["rows", "linear"], ["cells"]),
            node("Concat", ["tokens", "cells"], ["y"], axis=1),
        ],
        {"x": [batch, 6, 8]},
        {
            "first": np.array(0), "axis": np.array([0]), "rest": np.array([-1, 4]),
            "three": np.array([3]), "minus": np.array(-1), "flat": np.array([0, -1, 8]),
            "token": np.ones((1, 1, 4), np.float32), "linear": np.ones((8, 4), np.float32),
        },
    )  # fmt: skip


def test_the_widest_node_is_found() -> None:
    node = onnx.helper.make_node
    model = graph(
        [node("Conv", ["x", "k"], ["a"]), node("Relu", ["a"], ["b"]), node("Neg", ["b"], ["y"])],
        {"x": [4, 3, 8, 8]}, {"k": np.ones((9, 3, 3, 3), np.float32)},
    )  # fmt: skip
    assert onnx_counts.widest(model) == 2 * 9 * 36  # of one of the four


@pytest.mark.parametrize("batch", ["n", 1, 3, None, -1])
def test_sizes_that_a_graph_computes_are_followed(batch: Any) -> None:
    model = older(batch)
    before = model.SerializeToString()
    known = onnx_shapes.sizes(model)
    examples = batch if isinstance(batch, int) and batch > 0 else 1
    assert known["y"] == (examples, 7, 4)
    assert onnx_counts.counted(model).by_operator == {"onnx::MatMul": 6 * 8 * 4}
    assert model.SerializeToString() == before
    # ... and every one of them is what ONNX's own evaluator makes.
    from onnx.reference import ReferenceEvaluator

    names = [name for node in model.graph.node for name in node.output]
    pixels = np.ones((examples, 6, 8), np.float32)
    made = ReferenceEvaluator(model).run(names, {"x": pixels})
    assert {name: known[name] for name in names} == {
        name: np.shape(value) for name, value in zip(names, made, strict=True)
    }


def test_what_a_picture_decides_stays_unknown() -> None:
    node = onnx.helper.make_node
    model = graph([node("NonZero", ["x"], ["where"]), node("Cast", ["where"], ["y"], to=1)],
                  {"x": [1, 4]})  # fmt: skip
    assert onnx_shapes.sizes(model).keys() == {"x"}


def test_nothing_large_is_made() -> None:
    node = onnx.helper.make_node
    model = graph(
        [node("ConstantOfShape", ["size"], ["huge"]), node("Shape", ["huge"], ["y"])],
        {"x": [1, 4]}, {"size": np.array([10**6, 10**6, 10**3])},
    )  # fmt: skip
    assert onnx_shapes.sizes(model)["huge"] == (10**6, 10**6, 10**3)


@pytest.mark.rare
def test_a_graph_of_another_s_making_is_counted_as_it_runs(tmp_path: Path) -> None:
    """magika's, which tells kinds of files by their bytes: converted from Keras by tf2onnx, whose
    sizes are partly computed inside of the graph. The sizes are those that ONNX Runtime met."""
    runtime = pytest.importorskip("onnxruntime")
    try:
        file = next(one for one in metadata.files("magika") or () if one.as_posix() == MAGIKA)
    except (metadata.PackageNotFoundError, StopIteration):
        pytest.skip("pip install --no-deps magika==1.0.3")
    path = Path(str(file.locate()))
    model = onnx.load(path)
    options = runtime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    session.run(None, {"bytes": np.zeros((1, 2048), np.int32)})
    expected: Counter[str] = Counter()
    nodes = {node.name: node for node in model.graph.node}
    held = {one.name: one.dims for one in model.graph.initializer}
    for event in json.loads(Path(session.end_profiling()).read_text()):
        name, told = str(event["name"]), event.get("args", {})
        if told.get("op_name") in ("Conv", "MatMul") and name.endswith("_kernel_time"):
            weight = held[nodes[name.removesuffix("_kernel_time")].input[1]]
            inner = math.prod(weight[1:]) if told["op_name"] == "Conv" else weight[0]
            [made] = told["output_type_shape"][0].values()
            expected[f"onnx::{told['op_name']}"] += math.prod(made) * inner
    found = onnx_counts.counted(model)
    assert found.by_operator == expected
    assert found.macs == 512 * 508 * 256 * 5 + 2048 * 257 * 64 + 512 * 214
    assert found.uncounted == ()
    with pytest.raises(UserError, match=r"its input bytes is \(.*, 2048\), no batch of pictures"):
        models.resolve(f"onnx/magika?package=magika&file={MAGIKA}")
