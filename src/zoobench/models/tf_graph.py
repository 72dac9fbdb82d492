"""A SavedModel of TensorFlow as a stranger made it: what is read of it, what is refused, and how
one of its signatures is frozen.

TensorFlow calls such files programs: some of its operators write files, open connections or run
Python. So TensorFlow's own loader is never called, which would run whatever a file asks for. Of the
file only the operators that lead to a signature's outputs, and those that restore its variables,
come into a graph, and only where they are named here.

    frozen(folder, "")      constants for variables, functions written out: a FrozenSignature
    cut(...)                from pictures (N, H, W, 3) to one value, as bytes
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoobench.errors import MissingWeights, Unsupported, missing_extra, one_line, unknown
from zoobench.escape import plain
from zoobench.models import folders, keras_network, tf_operators
from zoobench.models.picture_inputs import LARGEST_SIDE
from zoobench.models.tf_operators import CALLS, PURE, RESTORING, SHOWN

GRAPH, WEIGHTS = "saved_model.pb", "variables/variables"
LARGEST = 2**31 - 1
"""Bytes of a graph with its variables: protobuf's own bound."""
DEFAULTS = ("serving_default", "default", "image_feature_vector")
"""Signatures that are taken where none is named, the first that there is."""
WEIGHT = "_weight"
"""The mark of a constant that was a variable to be trained."""
PIXELS, FEATURES = "pixels", "features"

NUMBERS = (1, 2, 3, 4, 5, 6, 9, 14, 17, 19, 22, 23)
"""Of tensorflow.DataType the floats and the whole numbers."""
HANDLE, REFERENCE = "VarHandleOp", "VariableV2"
"""A variable, and one as TensorFlow 1 had them."""


@dataclass(frozen=True)
class FrozenSignature:
    """A graph without variables or functions: `graph` (a GraphDef) from the placeholder `given`,
    whose `dims` are 0 where they are free and () where nobody says, to `outputs`, name -> tensor.
    `number` is the input's type in TensorFlow's words, such as "float32"."""

    graph: Any
    given: str
    dims: tuple[int, ...]
    number: str
    outputs: Mapping[str, str]


def library() -> Any:
    """The module tensorflow. Raises MissingExtra."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault(keras_network.BACKEND, "torch")  # it imports Keras, which chooses once
    with contextlib.suppress(ImportError):
        # It and TensorFlow each hold a compiler of their own: loaded after TensorFlow, as torch
        # may do at any time, its kills the process.
        import triton  # noqa: F401
    try:
        with _silent():
            import tensorflow

            tensorflow.get_logger().setLevel("ERROR")
            tensorflow.config.list_physical_devices("CPU")
    except ImportError as error:
        raise missing_extra("tensorflow", "tensorflow", "a SavedModel of TensorFlow") from error
    return tensorflow


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What TensorFlow's own code writes to stderr while it starts is left out."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def files(folder: Path) -> list[Path]:
    """The files that are read: the graph, then its variables, sorted. Raises MissingWeights where
    there is no graph, Unsupported where one lies outside of the folder or all are too large."""
    found = [folders.inside(folder, GRAPH)]
    shards = sorted((folder / WEIGHTS).parent.glob(f"{Path(WEIGHTS).name}.*"))
    found += [folders.inside(folder, path.relative_to(folder).as_posix()) for path in shards]
    if sum(path.stat().st_size for path in found) > LARGEST:
        raise Unsupported(f"{folder}: its files have more than {LARGEST} bytes")
    return found


def frozen(folder: Path, signature: str = "") -> FrozenSignature:
    """The signature of that name, or the first of DEFAULTS, with its variables' values.

    Raises MissingWeights for a file that is damaged or lacks variables, UnknownName for a
    signature, Unsupported for what is refused, MissingExtra.
    """
    tf = library()
    meta = _meta_graph(folder)
    signed = _signature(meta, signature, folder)
    given = _picture_input(signed, folder)
    outputs = {str(key): str(one.name) for key, one in signed.outputs.items()}
    if not all(outputs.values()):
        raise Unsupported(f"{folder}: an output of its signature is no tensor")
    nodes = [name.partition(":")[0] for name in outputs.values()]
    asked = tf_operators.leading_to(tf, meta.graph_def, nodes, folder)
    tf_operators.check(asked, PURE, folder)
    if str(given.name).partition(":")[0] not in {node.name for node in asked.node}:
        raise Unsupported(f"{folder}: what its signature gives does not follow from its input")
    values = _values(tf, meta, asked, folder)
    weights = _trained(meta, asked)
    numbers = tf.as_dtype(given.dtype)
    dims = tuple(max(0, int(one.size)) for one in given.tensor_shape.dim)
    shape = [one or None for one in dims] or None
    spec = tf.TensorSpec(shape, numbers, PIXELS)
    with _said_by_tensorflow(folder):
        graph, tensors = _written_out(tf, asked, str(given.name), spec, outputs, values, weights)
    return FrozenSignature(graph, f"{PIXELS}:0", dims, numbers.name, tensors)


@contextlib.contextmanager
def _said_by_tensorflow(folder: Path) -> Iterator[None]:
    """What TensorFlow says of a stranger's graph becomes Unsupported."""
    try:
        yield
    except (MemoryError, Unsupported, MissingWeights):
        raise
    except Exception as error:  # of many kinds
        raise Unsupported(f"{folder}: {plain(one_line(error))[:300]}") from error


def _meta_graph(folder: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    read = saved_model_pb2.SavedModel()
    path = files(folder)[0]
    try:
        read.ParseFromString(path.read_bytes())
    except (DecodeError, RuntimeError) as error:
        raise MissingWeights(f"{path}: no SavedModel, or damaged") from error
    # Of several, such as one to train and one to serve, that which serves, or the plainest.
    ranked = sorted(read.meta_graphs, key=lambda one: _rank(list(one.meta_info_def.tags)))
    if not ranked:
        raise MissingWeights(f"{path}: no SavedModel, or damaged: it holds no graph")
    return ranked[0]


def _rank(tags: Sequence[str]) -> tuple[bool, int]:
    return ("serve" not in tags, len(tags))


def _signature(meta: Any, name: str, folder: Path) -> Any:
    known = [str(one) for one in meta.signature_def if not one.startswith("__")]
    chosen = name or next((one for one in DEFAULTS if one in known), "")
    if chosen not in known:
        shown = [plain(one) for one in known]
        if name:
            raise unknown("", "signature", name, shown, f"of {folder}")
        said = ", ".join(shown[:SHOWN]) or "none"
        raise Unsupported(f"{folder}: say which of its signatures to take: signature={said}")
    return meta.signature_def[chosen]


def _picture_input(signed: Any, folder: Path) -> Any:
    """The one input, a TensorInfo. Raises Unsupported where it is no batch of pictures."""
    if len(signed.inputs) != 1:
        names = ", ".join(plain(one) for one in sorted(signed.inputs)[:SHOWN])
        raise Unsupported(
            f"{folder}: it has {len(signed.inputs)} inputs ({names}); pictures are one"
        )
    [(name, given)] = signed.inputs.items()
    dims = [one.size for one in given.tensor_shape.dim]
    known = not given.tensor_shape.unknown_rank
    if not given.name or (known and (len(dims) != 4 or dims[3] not in (-1, 3))):
        said = ", ".join("?" if one < 0 else str(one) for one in dims)
        said = f"({said})" if given.name else "no tensor"
        raise Unsupported(
            f"{folder}: its input {plain(name)} is {said}, no batch of pictures (N, H, W, 3)"
        )
    if given.dtype not in NUMBERS:
        raise Unsupported(f"{folder}: its input {plain(name)} is not of numbers that pixels are")
    # TensorFlow makes an input of that size while it freezes the graph.
    if any(side > LARGEST_SIDE for side in dims[1:3]):
        size = f"{dims[1]:,} x {dims[2]:,}"
        raise Unsupported(f"{folder}: its pictures are {size}, more than {LARGEST_SIDE:,} a side")
    return given


def _values(tf: Any, meta: Any, asked: Any, folder: Path) -> dict[str, Any]:
    """name of a variable's node -> its value, restored by the file's own list of names, from the
    folder's own files."""
    variables = [node for node in asked.node if node.op in (HANDLE, REFERENCE)]
    if not variables:
        return {}
    saver = meta.saver_def
    if not saver.restore_op_name:
        raise MissingWeights(f"{folder}: it has variables, and nothing restores them")
    if not (folder / f"{WEIGHTS}.index").is_file():
        raise MissingWeights(f"{folder} holds no file '{WEIGHTS}.index'")
    restore = tf_operators.leading_to(tf, meta.graph_def, [saver.restore_op_name], folder)
    tf_operators.check(restore, RESTORING, folder)
    tf_operators.check_restoring(restore, saver.filename_tensor_name, folder)
    with _said_by_tensorflow(folder), tf.Graph().as_default() as graph:
        tf.import_graph_def(restore, name="")
        reads = {
            node.name: _read(tf, graph, node) for node in variables if _holds(graph, node.name)
        }
        if lost := [node.name for node in variables if node.name not in reads]:
            raise MissingWeights(f"{folder}: nothing restores its variable {plain(lost[0])}")
        with tf.compat.v1.Session() as session:
            path = os.fspath(folder / WEIGHTS)
            operation = graph.get_operation_by_name(saver.restore_op_name)
            try:
                # A restoring function gives its names back; in older files it is an operation.
                session.run(operation, {saver.filename_tensor_name: path})
            except tf.errors.OpError as error:
                why = type(error).__name__
                raise MissingWeights(
                    f"{folder}: its variables are damaged, or not those of its graph ({why})"
                ) from error
            found: dict[str, Any] = session.run(reads)
    return found


def _holds(graph: Any, name: str) -> bool:
    try:
        graph.get_operation_by_name(name)
    except KeyError:
        return False
    return True


def _read(tf: Any, graph: Any, node: Any) -> Any:
    tensor = graph.get_tensor_by_name(f"{node.name}:0")
    if node.op == REFERENCE:
        return tensor
    return tf.raw_ops.ReadVariableOp(resource=tensor, dtype=node.attr["dtype"].type)


def _trained(meta: Any, asked: Any) -> set[str]:
    """Names of the variables' nodes that are to be trained; all where the file does not tell."""
    known: dict[str, bool] = {}
    objects = meta.object_graph_def
    for node in asked.node:
        function = node.attr["f"].func.name if node.op in CALLS else ""
        if function not in objects.concrete_functions:
            continue
        bound = objects.concrete_functions[function].bound_inputs
        plain_inputs = [one for one in node.input if not one.startswith("^")]
        for name, number in zip(plain_inputs[-len(bound) :] if bound else (), bound, strict=False):
            held = objects.nodes[number] if 0 <= number < len(objects.nodes) else None
            if held is not None and held.WhichOneof("kind") == "variable":
                known[name.partition(":")[0]] = bool(held.variable.trainable)
    listed = {bytes(one) for one in meta.collection_def["trainable_variables"].bytes_list.value}
    names = {node.name for node in asked.node if node.op in (HANDLE, REFERENCE)}
    if not known and listed:
        return {name for name in names if any(name.encode() in one for one in listed)}
    return {name for name in names if known.get(name, True)}


def _written_out(
    tf: Any, asked: Any, given: str, spec: Any, outputs: Mapping[str, str],
    values: Mapping[str, Any], weights: set[str],
) -> tuple[Any, dict[str, str]]:  # fmt: skip
    """`asked` with `values` for its variables and its functions written out, and where its
    `outputs` are in that."""
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    kinds = {node.name: node.op for node in asked.node}
    handled = {name: tf.Variable(one) for name, one in values.items() if kinds[name] != REFERENCE}
    marked: set[str] = set()
    rest = [node for node in asked.node if node.name not in values]
    without = tf.compat.v1.GraphDef(library=asked.library, versions=asked.versions, node=rest)

    def _call(pictures: Any) -> list[Any]:
        here = tf.compat.v1.get_default_graph()
        inside = {given: pictures}
        for name, value in values.items():
            if name in handled:
                here.watch_variable(handled[name])
                inside[f"{name}:0"] = here.capture(handled[name].handle)
            else:
                inside[f"{name}:0"] = tf.constant(value)
        marked.update(inside[f"{name}:0"].op.name for name in weights & values.keys())
        found: list[Any] = tf.graph_util.import_graph_def(
            without, input_map=inside, return_elements=list(outputs.values()), name=""
        )
        return found

    concrete = tf.function(_call, autograph=False).get_concrete_function(spec)
    made = convert_variables_to_constants_v2(concrete)
    graph = made.graph.as_graph_def()
    for node in graph.node:
        if node.op == "Const" and node.name in marked:
            node.attr[WEIGHT].b = True
        # All that is left computes values: what waited for a variable waits no more.
        kept = [one for one in node.input if not one.startswith("^")]
        del node.input[:]
        node.input.extend(kept)
    tensors = dict(zip(outputs, (one.name for one in made.outputs), strict=True))
    return graph, tensors


def cut(read: FrozenSignature, tap: str, bgr: bool, size: tuple[int, int], folder: Path) -> bytes:
    """A GraphDef, as bytes, from `pixels` (N, H, W, 3) float32 in RGB at `size` to `features`, the
    tensor `tap` in float32: what does not lead there is left out.

    Raises Unsupported for a graph that cannot be built so.
    """
    tf = library()
    number = tf.as_dtype(read.number)
    with _said_by_tensorflow(folder), tf.Graph().as_default() as graph:
        batch = read.dims[0] if read.dims else 0
        pixels = tf.compat.v1.placeholder(tf.float32, (batch or None, *size, 3), PIXELS)
        pictures = tf.reverse(pixels, [3]) if bgr else pixels
        pictures = tf.round(pictures) if number.is_integer else pictures
        pictures = tf.cast(pictures, number)
        [found] = tf.import_graph_def(
            read.graph, {read.given: pictures}, return_elements=[tap], name="net"
        )
        tf.identity(tf.cast(found, tf.float32), FEATURES)
        whole = graph.as_graph_def()
        content: bytes = tf.compat.v1.graph_util.extract_sub_graph(
            whole, [FEATURES]
        ).SerializeToString(deterministic=True)
    return content
