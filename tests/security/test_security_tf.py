"""SavedModels that somebody else made: TensorFlow calls them programs, here they are data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import tinysavedmodel
from hostile import refused_model
from zoobench import models
from zoobench.models import graphs, tf_, tf_graph, tf_operators

pytestmark = [
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.skipif(not tf_.libraries()[2:], reason="pip install 'zoobench[tensorflow]'"),
]
SIDE = tinysavedmodel.SIDE


def load(path: Path, options: str = "") -> Any:
    return models.load(models.resolve(f"tf/tiny?path={path}&{options}"))


def refused(path: Path, options: str = "") -> str:
    return refused_model(f"tf/tiny?path={path}&{options}")


def spec(tf: Any) -> dict[str, Any]:
    return {"image": tf.TensorSpec((None, SIDE, SIDE, 3), "float32", name="image")}


@pytest.mark.parametrize("where", ["answer", "beside"])
def test_an_operator_that_writes_is_never_run(where: str, tmp_path: Path) -> None:
    """Where it leads to the answer the file is refused; where it does not, as in what a loader
    would run by itself, it is left out."""
    tf = tf_graph.library()
    planted = tmp_path / "planted"

    class Net(tf.Module):  # type: ignore[name-defined,misc]
        @tf.function(input_signature=[])  # type: ignore[untyped-decorator]
        def _initialize(self) -> Any:
            tf.io.write_file(str(planted), "x")
            return tf.constant(1)

        def call(self, image: Any) -> Any:
            if where == "answer":
                tf.io.write_file(str(planted), "x")
            return {"out": tf.reduce_mean(image, [1, 2])}

    net = Net()
    call = tf.function(net.call, input_signature=list(spec(tf).values()))
    tf.saved_model.save(net, str(tmp_path / "n"), signatures={"serving_default": call})
    if where == "answer":
        # A node of its own need not lead to an output: a control input is enough.
        assert "operators that are not run here: WriteFile" in refused(tmp_path / "n")
    else:
        assert load(tmp_path / "n").feature_dim == 3
    assert not planted.exists()


@pytest.mark.parametrize("kind", ["python", "read", "loop"])
def test_python_files_and_loops_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    tf = tf_graph.library()
    calls: dict[str, tuple[str, Any]] = {
        "python": ("PyFunc", lambda x: tf.numpy_function(lambda y: y, [x], tf.float32)),
        "read": (
            "ReadFile",
            lambda x: x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32),
        ),
        "loop": ("While", lambda x: tf.while_loop(lambda y: True, lambda y: y + 1, [x])[0]),
    }
    name, call = calls[kind]
    path = tinysavedmodel.signed(
        tmp_path / "n", spec(tf), lambda image: {"out": tf.reduce_mean(call(image), [1, 2])}
    )
    assert f"operators that are not run here: {name}" in refused(path).replace("Stateless", "")


def test_variables_come_from_its_own_folder_alone(tmp_path: Path) -> None:
    path, other = (tinysavedmodel.folder(tmp_path / name) for name in ("mine", "other"))

    def elsewhere(meta: Any) -> None:
        saver = meta.saver_def
        [restore] = [one for one in meta.graph_def.node if one.name == saver.restore_op_name]
        named = meta.graph_def.node.add(name="named", op="Const")
        named.attr["dtype"].type = 7
        named.attr["value"].tensor.dtype = 7
        named.attr["value"].tensor.tensor_shape.SetInParent()
        named.attr["value"].tensor.string_val.append(os.fsencode(other / "variables/variables"))
        restore.input[0] = "named"

    tinysavedmodel.changed(path, elsewhere)
    assert "restores its variables from a file of its choice" in refused(path)
    path = tinysavedmodel.folder(tmp_path / "linked")
    data = next((path / "variables").glob("*.data*"))
    data.unlink()
    data.symlink_to(next((other / "variables").glob("*.data*")))
    assert "lies outside of the folder and is not read" in refused(path)
    path = tinysavedmodel.folder(tmp_path / "none")
    (path / "variables/variables.index").unlink()
    assert "holds no file 'variables/variables.index'" in refused(path)


def test_what_is_damaged_or_no_picture_s_is_said(tmp_path: Path) -> None:
    tf = tf_graph.library()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/saved_model.pb").write_bytes(b"")
    assert "it holds no graph" in refused(tmp_path / "empty")
    (tmp_path / "empty/saved_model.pb").write_bytes(os.urandom(999))
    assert "no SavedModel, or damaged" in refused(tmp_path / "empty")
    path = tinysavedmodel.folder(tmp_path / "cut")
    file = path / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:-500])
    assert "damaged" in refused(path)
    flat = tinysavedmodel.signed(
        tmp_path / "flat", {"x": tf.TensorSpec((None, 7), "float32", name="x")},
        lambda x: {"out": x},
    )  # fmt: skip
    assert "no batch of pictures (N, H, W, 3)" in refused(flat)
    two = {**spec(tf), "scale": tf.TensorSpec((), "float32", name="scale")}
    several = tinysavedmodel.signed(tmp_path / "two", two, lambda a, b: {"out": a * b})
    assert "it has 2 inputs (image, scale); pictures are one" in refused(several)
    path = tinysavedmodel.folder(tmp_path / "data")
    for data in (path / "variables").glob("*.data*"):
        data.write_bytes(data.read_bytes()[:-8])
    refused(path)


def test_tensors_without_bound_are_refused_before_they_are_made(tmp_path: Path) -> None:
    tf = tf_graph.library()
    huge = tinysavedmodel.signed(
        tmp_path / "huge", spec(tf),
        lambda image: {"out": tf.reduce_mean(tf.tile(image, [1, 9999, 9999, 9]), [1, 2])},
    )  # fmt: skip
    assert "numbers at a time, more than" in refused(huge)
    free = tinysavedmodel.signed(
        tmp_path / "free", spec(tf),
        lambda image: {
            "out": tf.reduce_mean(
                tf.tile(image, [1, tf.cast(tf.reduce_sum(image), tf.int32), 1, 1]), [1, 2]
            )
        },
    )  # fmt: skip
    assert "nobody can say beforehand how large the result of its Tile is" in refused(free)


def calls(meta: Any) -> list[Any]:
    """All nodes that call a function."""
    nodes = [*meta.graph_def.node]
    for function in meta.graph_def.library.function:
        nodes += function.node_def
    return [node for node in nodes if node.op in tf_operators.CALLS]


def test_functions_are_counted_before_they_are_written_out(tmp_path: Path) -> None:
    def itself(meta: Any) -> None:
        names = {call.attr["f"].func.name for call in calls(meta)}
        for function in meta.graph_def.library.function:
            for node in function.node_def:
                if node.op in tf_operators.CALLS and function.signature.name in names:
                    node.attr["f"].func.name = function.signature.name

    def absent(meta: Any) -> None:
        for call in calls(meta):
            call.attr["f"].func.name = "\x1b[1mnone"

    def doubling(meta: Any) -> None:
        """The last function holds one operator, each other calls the next twice."""
        library = meta.graph_def.library
        [first] = {
            node.attr["f"].func.name for f in library.function for node in f.node_def
            if node.op in tf_operators.CALLS
        }  # fmt: skip
        [innermost] = [one for one in library.function if one.signature.name == first]
        innermost.signature.name = "f0"
        for number in range(1, 40):
            made = library.function.add()
            made.signature.name = f"f{number}" if number < 39 else first
            for name in ("a", "b"):
                node = made.node_def.add(name=name, op="PartitionedCall")
                node.attr["f"].func.name = f"f{number - 1}"

    path = tinysavedmodel.changed(tinysavedmodel.folder(tmp_path / "itself"), itself)
    assert "calls itself" in refused(path)
    path = tinysavedmodel.changed(tinysavedmodel.folder(tmp_path / "absent"), absent)
    assert r"it calls a function \x1b[1mnone, and holds none" in refused(path)
    path = tinysavedmodel.changed(tinysavedmodel.folder(tmp_path / "doubling"), doubling)
    assert "its functions written out are" in refused(path)


def test_what_a_file_says_beside_its_operators_is_not_heard(tmp_path: Path) -> None:
    """A function that is to be kept would be one operator of no known cost; a stated size stands
    where none is inferred."""

    def kept(meta: Any) -> None:
        for function in meta.graph_def.library.function:
            function.attr["_noinline"].b = True
            for node in function.node_def:
                node.attr["_output_shapes"].list.shape.add().dim.add(size=1)

    whole = load(tinysavedmodel.folder(tmp_path / "n"))
    hinted = load(tinysavedmodel.changed(tmp_path / "n", kept))
    assert hinted.feature_dim == whole.feature_dim == 6
    assert graphs.counted(hinted.module) == graphs.counted(whole.module)


def test_an_odd_signature_is_refused_in_a_sentence(tmp_path: Path) -> None:
    def given(change: Any) -> Any:
        return lambda meta: change(meta.signature_def["serving_default"].inputs["image"])

    def answered(meta: Any) -> None:
        meta.signature_def["serving_default"].outputs["scores"].name = ""

    def sides(image: Any) -> None:
        image.tensor_shape.dim[1].size = 10**5

    def text(image: Any) -> None:
        image.dtype = 7

    def elsewhere(image: Any) -> None:
        image.name = "nowhere:0"

    def numbered(meta: Any) -> None:
        for one in meta.object_graph_def.concrete_functions.values():
            one.bound_inputs[:] = [10**6] * len(one.bound_inputs)

    for change, why in (
        (answered, "an output of its signature is no tensor"),
        (given(sides), "more than 8,192 a side"),
        (given(text), "not of numbers that pixels are"),
        (given(elsewhere), "does not follow from its input"),
    ):
        assert why in refused(tinysavedmodel.changed(tinysavedmodel.folder(tmp_path / why), change))
    odd = tinysavedmodel.changed(tinysavedmodel.folder(tmp_path / "odd"), numbered)
    assert load(odd).feature_dim == 6
    for data in (odd / "variables").glob("*.data*"):
        data.write_bytes(b"x" * data.stat().st_size)
    assert "its variables are damaged" in refused(odd)
