"""SavedModels made by TensorFlow: `tinyonnx`'s classifier of three layers, and what is
wrong with others. TensorFlow is imported as the product does it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tinyonnx
from zoobench.models import tf_graph

SIDE = tinyonnx.SIDE


def folder(
    path: Path, number: str = "float32", batch: int | None = None, side: int | None = SIDE,
    outputs: str = "scores",
) -> Path:  # fmt: skip
    """(N, 16, 16, 3) of `number` -> "scores" of 5 classes; also "features", or maps alone, as
    `outputs` names them with spaces between."""
    tf = tf_graph.library()
    held = {name: one.astype("float32") for name, one in tinyonnx.weights().items()}

    class Tiny(tf.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            self.kernel = tf.Variable(held["kernel"].transpose(2, 3, 1, 0), name="kernel")
            # Two variables of one name, and one that is not trained, as networks have them.
            self.shift = tf.Variable(held["shift"], name="kernel")
            self.linear = tf.Variable(held["linear"], name="linear")
            self.bias = tf.Variable(held["bias"], name="bias")
            self.seen = tf.Variable(0.0, trainable=False, name="seen")

        def call(self, image: Any) -> dict[str, Any]:
            pixels = tf.cast(image, tf.float32) + self.seen
            maps = tf.nn.relu(tf.nn.conv2d(pixels, self.kernel, 1, "VALID") + self.shift)
            features = tf.reduce_mean(maps, [1, 2])
            logits = tf.matmul(features, self.linear) + self.bias
            made = {"scores": tf.nn.softmax(logits), "features": features, "maps": maps}
            return {name: made[name] for name in outputs.split()}

    made = Tiny()
    spec = tf.TensorSpec((batch, side, side, 3), number, name="image")
    call = tf.function(made.call, input_signature=[spec])
    tf.saved_model.save(made, str(path), signatures={"serving_default": call})
    return path


def old(path: Path) -> Path:
    """The same as TensorFlow 1 saved it: variables that are references, a saver of operators."""
    tf = tf_graph.library()
    v1 = tf.compat.v1
    held = {name: one.astype("float32") for name, one in tinyonnx.weights().items()}
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, (None, SIDE, SIDE, 3), "image")

        def variable(name: str, value: Any) -> Any:
            return v1.get_variable(name, initializer=value, use_resource=False)

        kernel = variable("kernel", held["kernel"].transpose(2, 3, 1, 0))
        maps = tf.nn.relu(
            tf.nn.conv2d(image, kernel, 1, "VALID") + variable("shift", held["shift"])
        )
        logits = tf.matmul(tf.reduce_mean(maps, [1, 2]), variable("linear", held["linear"]))
        scores = tf.nn.softmax(logits + variable("bias", held["bias"]))
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), {"image": image}, {"scores": scores})
    return path


def changed(path: Path, change: Any) -> Path:
    """`path` after `change(meta)` of its MetaGraphDef."""
    tf_graph.library()
    from tensorflow.core.protobuf import saved_model_pb2

    read = saved_model_pb2.SavedModel()
    file = path / tf_graph.GRAPH
    read.ParseFromString(file.read_bytes())
    change(read.meta_graphs[0])
    file.write_bytes(read.SerializeToString())
    return path


def signed(path: Path, inputs: Mapping[str, Any], call: Any) -> Path:
    """A SavedModel of `call` with the specs `inputs`."""
    tf = tf_graph.library()
    made = tf.Module()
    function = tf.function(call, input_signature=list(inputs.values()))
    tf.saved_model.save(made, str(path), signatures={"serving_default": function})
    return path
