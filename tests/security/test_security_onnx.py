"""Files of ONNX that somebody else made: data, whatever is in them, and refused in a line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyonnx
from hostile import Said, refused_model
from savedfolders import change, of_backbone
from zoobench import models
from zoobench.errors import Unsupported, UserError
from zoobench.export.saved import open_saved
from zoobench.models import onnx_graph
from zoobench.models.onnx_description import KEY

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TRANSFORM = {
    "input_size": [3, 16, 16], "mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear",
    "crop_pct": 1.0,
}  # fmt: skip
DESCRIPTION = {"model": "any/thing", "transform": TRANSFORM, "features": "flat", "format": 1}


def load(path: Path, options: str = "") -> Any:
    return models.load(models.resolve(f"onnx/tiny?path={path}&{options}"))


def refused(path: Path, options: str = "") -> str:
    return refused_model(f"onnx/tiny?path={path}&{options}")


def outsourced(path: Path, **place: str) -> Path:
    """The classifier, whose kernel lies in another file."""
    model = tinyonnx.classifier()
    kernel = model.graph.initializer[0]
    content = kernel.raw_data
    kernel.ClearField("raw_data")
    kernel.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", **place}.items():
        kernel.external_data.add(key=key, value=value)
    (path.parent / "weights.bin").write_bytes(content)
    return tinyonnx.write(model, path)


def test_weights_in_a_file_of_the_folder_are_read(inside: Path) -> None:
    path = outsourced(inside / "m.onnx")
    whole = load(tinyonnx.file(inside / "whole.onnx"))
    ref = models.resolve(f"onnx/{path}")
    found: Any = models.load(ref)
    batch = whole.collate([whole.prepare(_picture())])
    assert np.array_equal(found.embed(batch).numpy(), whole.embed(batch).numpy())
    (inside / "weights.bin").write_bytes(bytes(6 * 27 * 4))
    assert models.resolve(f"onnx/{path}").revision != ref.revision


def _picture() -> Any:
    from PIL import Image

    return Image.linear_gradient("L").resize((16, 16)).convert("RGB")


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "below/../../secret.txt", ""])
def test_weights_outside_of_the_folder_are_not(name: str, inside: Path, outside: Path) -> None:
    (inside / "secret.txt").write_bytes(bytes(6 * 27 * 4))
    (inside / "model").mkdir()
    path = outsourced(inside / "model" / "m.onnx", location=name)
    assert "lies outside of the folder" in refused(path) or "holds no file" in refused(path)


def test_nor_behind_a_link(inside: Path, outside: Path) -> None:
    path = outsourced(inside / "m.onnx", location="link.bin")
    (inside / "link.bin").symlink_to(outside / "secret.txt")
    assert "'link.bin' lies outside of the folder" in refused(path)


@pytest.mark.parametrize(
    "place",
    [{"offset": "-4"}, {"length": "1000000"}, {"offset": "9" * 30}, {"length": "many"},
     {"offset": "644"}],
    ids=str,
)  # fmt: skip
def test_no_more_than_the_file_holds_is_read(place: dict[str, str], inside: Path) -> None:
    said = refused(outsourced(inside / "m.onnx", **place))
    assert "its tensor kernel asks for" in said or "ShapeInferenceError" in said or "size" in said


def _as(node: Any) -> Any:
    model = tinyonnx.classifier()
    model.graph.node[1].CopyFrom(node)
    return model


def _with(change: Callable[[Any], None]) -> Any:
    model = tinyonnx.classifier()
    change(model)
    return model


def _node(*arguments: Any, **attributes: Any) -> Any:
    return onnx.helper.make_node(*arguments, **attributes)


def _branch() -> Any:
    body = onnx.helper.make_graph(
        [_node("Identity", ["maps"], ["inner"])], "body", [],
        [onnx.helper.make_tensor_value_info("inner", 1, None)],
    )  # fmt: skip
    return _node("If", ["yes"], ["positive"], then_branch=body, else_branch=body)


def _grown(model: Any) -> None:
    """Ten thousand million copies of the maps."""
    copies = np.array([100_000, 100_000, 1, 1], dtype=np.int64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(copies, "copies"))
    model.graph.node[1].CopyFrom(_node("Tile", ["maps", "copies"], ["positive"]))


def _doubled(model: Any) -> None:
    """Places of pixels that are not 0, nobody knows how many, twice and twice over."""
    nodes = [_node("NonZero", ["image"], ["places0"])]
    for number in range(40):
        before, after = f"places{number}", f"places{number + 1}"
        nodes.append(_node("Concat", [before, before], [after], axis=1))
    nodes += [
        _node("Cast", ["places40"], ["many"], to=1),
        _node("ReduceMax", ["many"], ["most"], keepdims=0),
        _node("Add", ["maps", "most"], ["positive"]),
    ]
    del model.graph.node[1]
    for node in reversed(nodes):
        model.graph.node.insert(1, node)


def _unknown(model: Any) -> None:
    """As many copies as the pixels say."""
    for node in reversed(
        [
            _node("ReduceMax", ["image"], ["largest"], keepdims=0),
            _node("Cast", ["largest"], ["whole"], to=7),
            _node("Unsqueeze", ["whole", "zero"], ["count"]),
            _node("ConstantOfShape", ["count"], ["many"]),
        ]
    ):
        model.graph.node.insert(0, node)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "zero"))
    model.graph.node[5].CopyFrom(_node("Identity", ["maps"], ["positive"]))
    model.graph.node[6].CopyFrom(_node("Add", ["positive", "many"], ["pooled"]))


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "another library's operator": (
        lambda: _as(_node("Run\x1b[2J", ["maps"], ["positive"], domain="evil.\x1b]0;x")),
        "needs a library of its own, never loaded",
    ),
    "a compiled part": (
        lambda: _as(_node("EPContext", ["maps"], ["positive"], domain="com.microsoft")),
        "needs a library of its own",
    ),
    "a graph inside": (lambda: _as(_branch()), "a graph inside of its graph"),
    "a function": (
        lambda: _with(lambda m: m.functions.append(onnx.helper.make_function(
            "mine", "F", ["x"], ["y"], [_node("Relu", ["x"], ["y"])],
            [onnx.helper.make_opsetid("", 17)]))),
        "functions of its own",
    ),
    "an operator that is none": (
        lambda: _as(_node("Rellu", ["maps"], ["positive"])), "No Op registered for Rellu",
    ),
    "values that double and double": (
        lambda: _with(_doubled), "how large the result of its Concat is"
    ),
    "a tensor without bound": (lambda: _with(_grown), "its Tile makes .* numbers at a time"),
    "a picture without bound": (
        lambda: tinyonnx.classifier(sides=(16, 10**5)), "16 x 100,000, more than 8,192 a side",
    ),
    "a size that a picture says": (lambda: _with(_unknown), "nobody can say beforehand"),
    "two inputs": (
        lambda: _with(lambda m: m.graph.input.append(
            onnx.helper.make_tensor_value_info("mask", 1, ["n", 16]))),
        "it has 2 inputs",
    ),
    "an input of sequences": (
        lambda: _with(lambda m: m.graph.input[0].CopyFrom(
            onnx.helper.make_tensor_value_info("image", 7, ["n", 2048]))),
        r"its input image is \(n, 2048\), no batch of pictures",
    ),
    "one channel": (
        lambda: _with(lambda m: m.graph.input[0].CopyFrom(
            onnx.helper.make_tensor_value_info("image", 1, ["n", 1, 16, 16]))),
        r"has 1 channels, not 3",
    ),
    "a circle": (
        lambda: _with(lambda m: m.graph.node[0].CopyFrom(
            _node("Add", ["scores", "image"], ["maps"]))),
        "topologically sorted|acyclic",
    ),
    "a weight that is not there": (
        lambda: _with(lambda m: m.graph.initializer.pop(0)), "Nodes in a graph must|kernel",
    ),
    "no operators": (lambda: _with(lambda m: m.graph.ClearField("node")), "it holds no graph"),
    "an operator set of tomorrow": (
        lambda: _with(lambda m: setattr(m.opset_import[0], "version", 900)), "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_graph_of_known_operators_is_refused(case: str, inside: Path) -> None:
    import re

    make, message = CASES[case]
    said = refused(tinyonnx.write(make(), inside / "m.onnx"))
    assert re.search(message, said), said


@pytest.mark.parametrize("case", CASES)
def test_nor_is_it_read_out_of_a_saved_folder(case: str, inside: Path) -> None:
    folder = of_backbone(f"onnx/tiny?path={tinyonnx.file(inside / 'm.onnx')}", inside / "saved")
    assert open_saved(folder).classes == ["yes", "no"]
    tinyonnx.write(CASES[case][0](), folder / "model.onnx")
    with pytest.raises(UserError):
        open_saved(folder)
    refused_model(f"saved/mine?path={folder}")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"variant": "bf16"}, "of a graph of ONNX there are no variants"),
        ({"model__pool": "median"}, "Invalid enum value 'median'"),
        ({"model__transform__input_size": [3, 16, 10**6]}, "<= 8192"),
        ({"library": "timm"}, "model"),
    ],
)
def test_what_a_saved_folder_says_of_a_graph_is_checked(
    fields: dict[str, Any], said: str, inside: Path
) -> None:
    folder = of_backbone(f"onnx/tiny?path={tinyonnx.file(inside / 'm.onnx')}", inside / "saved")
    change(folder, **fields)
    with pytest.raises(UserError, match=said):
        open_saved(folder)


def test_weights_of_a_saved_graph_lie_inside_of_its_file(inside: Path) -> None:
    folder = of_backbone(f"onnx/tiny?path={tinyonnx.file(inside / 'm.onnx')}", inside / "saved")
    outsourced(folder / "model.onnx")
    with pytest.raises(UserError, match="its weights inside"):
        open_saved(folder)


@pytest.mark.parametrize(
    "content", [b"", b"no model", os.urandom(4096), b"\x08\x08" * 1000, b"<html></html>"], ids=len
)
def test_damaged_files_are_said_to_be(content: bytes, inside: Path) -> None:
    path = inside / "m.onnx"
    path.write_bytes(content)
    assert "no file of ONNX, or damaged" in refused(path)
    whole = tinyonnx.file(path).read_bytes()
    for end in (len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert str(path) in refused(path)


def test_a_circle_of_endings_has_an_end(inside: Path) -> None:
    model = tinyonnx.classifier()
    model.graph.node[-1].CopyFrom(_node("Identity", ["round"], ["scores"]))
    model.graph.node.append(_node("Identity", ["scores"], ["round"]))
    (inside / "labels.txt").write_text("a\nb\nc\nd\ne\n", encoding="utf-8")
    path = tinyonnx.write(model, inside / "m.onnx")
    assert "no linear layer" in refused(path)
    with pytest.raises(Unsupported, match=r"Nodes in a graph must|acyclic|topologically"):
        models.load(models.resolve(f"classifier/onnx/m?path={path}&labels=labels.txt"))


def test_special_files_are_not_opened(inside: Path) -> None:
    os.mkfifo(inside / "pipe.onnx")
    assert "no file" in refused(inside / "pipe.onnx")
    (inside / "folder.onnx").mkdir()
    assert "no file" in refused(inside / "folder.onnx")


def test_a_file_that_is_too_large_is_not_read(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tinyonnx.file(inside / "m.onnx")
    monkeypatch.setattr(onnx_graph, "LARGEST", path.stat().st_size - 1)
    assert "it is larger than" in refused(path)


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{", '{"a": 1, "a": 2}', "[" * 100_000, "x" * 2**21, json.dumps({}),
        json.dumps({**DESCRIPTION, "format": 2}),
        json.dumps({**DESCRIPTION, "features": 5}),
        json.dumps({**DESCRIPTION, "transform": {**TRANSFORM, "std": [1, 1, 0]}}),
        json.dumps({**DESCRIPTION, "transform": {**TRANSFORM, "input_size": [3, 10**9, 16]}}),
        json.dumps({**DESCRIPTION, "transform": {**TRANSFORM, "interpolation": "eval"}}),
        json.dumps({**DESCRIPTION, "transform": {**TRANSFORM, "mean": [float("nan"), 0, 0]}}),
    ],
    ids=lambda text: text[-24:],
)  # fmt: skip
def test_a_description_that_nobody_would_write_is_refused(text: str, inside: Path) -> None:
    path = tinyonnx.file(inside / "m.onnx", {KEY: text})
    assert refused(path).startswith(str(path))


def test_a_description_names_what_there_is(inside: Path) -> None:
    told = {KEY: json.dumps({**DESCRIPTION, "features": "nothing"})}
    assert "unknown tap 'nothing'" in refused(tinyonnx.file(inside / "m.onnx", told))
    told = {KEY: json.dumps(DESCRIPTION)}
    assert load(tinyonnx.file(inside / "m.onnx", told)).provenance["exported_from"] == "any/thing"


def test_its_words_act_on_no_terminal(inside: Path, zoobench: Callable[..., Said]) -> None:
    evil = "\x1b]0;owned\x07<script>"
    model = tinyonnx.classifier()
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = evil
    path = tinyonnx.write(model, inside / "m.onnx", {"license": evil})
    said = zoobench("profile", f"onnx/m?path={path}&tap={'ow'}")
    assert said.code == 2
    assert "\x1b" not in said.out + said.err
    said = zoobench("profile", f"onnx/m?path={path}")
    assert said.code == 0, said
    assert "\x1b" not in said.out
