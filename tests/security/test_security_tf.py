"""SavedModels that somebody else made: TensorFlow calls them programs, here they are data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import tinysavedmodel
from zoobench import models
from zoobench.errors import MissingWeights, Unsupported, UserError
from zoobench.models import tf_, tf_graph

pytestmark = [
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.skipif(not tf_.libraries()[2:], reason="pip install 'zoobench[tensorflow]'"),
]
SIDE = tinysavedmodel.SIDE


def load(path: Path, options: str = "") -> Any:
    return models.load(models.resolve(f"tf/tiny?path={path}&{options}"))


def refused(path: Path, options: str = "") -> str:
    with pytest.raises((UserError, Unsupported, MissingWeights)) as caught:
        load(path, options)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    return str(caught.value)


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
