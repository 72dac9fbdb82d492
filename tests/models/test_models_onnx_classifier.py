"""classifier/onnx/NAME: the scores of a file before its softmax, and labels that somebody says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tinyonnx
from zoobench import models
from zoobench.errors import Unsupported, UserError
from zoobench.models.weights import drawable
from zoobench.runs import planning, suite

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LABELS = ("cat", "dog", "cow", "hen", "fox")
CLEAR = "mean=0&std=1&interpolation=bilinear&crop_pct=1&layout=nchw"


def folder(tmp_path: Path, labels: str = "\n".join(LABELS), ending: str = "Softmax") -> str:
    model = tinyonnx.classifier()
    model.graph.node[-1].op_type = ending
    tinyonnx.write(model, tmp_path / "m.onnx")
    (tmp_path / "labels.txt").write_text(labels, encoding="utf-8")
    return f"classifier/onnx/tiny?path={tmp_path / 'm.onnx'}&{CLEAR}"


@pytest.mark.parametrize("ending", ["Softmax", "Sigmoid", "LogSoftmax", "Identity"])
def test_its_scores_are_those_before_the_softmax(ending: str, tmp_path: Path) -> None:
    ref = models.resolve(folder(tmp_path, ending=ending) + "&labels=labels.txt")
    found: Any = models.load(ref)
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    held = tinyonnx.weights()
    pixels = np.asarray(picture, dtype=np.float64)[None].transpose(0, 3, 1, 2) / 255
    expected = tinyonnx.features_of(pixels) @ held["linear"] + held["bias"]
    scores = found.embed(found.collate([found.prepare(picture)]))
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)
    assert (found.task, found.labels) == ("classification", LABELS)
    assert found.multilabel == (ending == "Sigmoid")
    card = models.card(ref)
    assert (card.id.partition("@")[0], card.answers) == (
        "classifier/onnx/tiny", ("classification",)
    )  # fmt: skip
    assert not drawable(ref)


def test_labels_are_a_file_of_its_folder_and_part_of_the_revision(tmp_path: Path) -> None:
    name = folder(tmp_path)
    with pytest.raises(UserError, match=r"nobody says what its classes are called: .*labels=NAME"):
        models.resolve(name)
    ref = models.resolve(f"{name}&labels=labels.txt")
    folder(tmp_path, "\n".join(LABELS[::-1]))
    assert models.resolve(f"{name}&labels=labels.txt").revision != ref.revision
    folder(tmp_path, "\n".join(LABELS[:3]))
    with pytest.raises(Unsupported, match="it has 5 scores and 3 labels"):
        models.load(models.resolve(f"{name}&labels=labels.txt"))
    for outside in ("../labels.txt", "/etc/hostname"):
        with pytest.raises(UserError, match="lies outside of the folder"):
            models.resolve(f"{name}&labels={outside}")
    with pytest.raises(UserError, match=r"holds no file 'gone\.txt'"):
        models.resolve(f"{name}&labels=gone.txt")
    for content, why in ((b"\xff\xfe\x00", "no text in UTF-8"), (b"\n \n", "holds no label")):
        (tmp_path / "labels.txt").write_bytes(content)
        with pytest.raises(UserError, match=why):
            models.resolve(f"{name}&labels=labels.txt")
    # As editors of other systems write it: a mark at the start, other ends of lines, blank ones.
    (tmp_path / "labels.txt").write_bytes("\ufeffa\r\nb\x0bb\r\nc\u2028\r\nd\r\ne\r\n\r\n".encode())
    found: Any = models.load(models.resolve(f"{name}&labels=labels.txt"))
    assert found.labels == ("a", "b\x0bb", "c", "d", "e")


def test_of_several_outputs_one_is_named(tmp_path: Path) -> None:
    name = folder(tmp_path)
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.output.append(onnx.helper.make_tensor_value_info("flat", 1, ["n", 6]))
    tinyonnx.write(model, tmp_path / "m.onnx")
    named = f"{name}&labels=labels.txt"
    with pytest.raises(Unsupported, match="say which of its outputs are the scores: tap=NAME, of"):
        models.load(models.resolve(named))
    assert models.load(models.resolve(f"{named}&tap=scores")).feature_dim == len(LABELS)
    with pytest.raises(UserError, match="unknown output 'maps'"):
        models.load(models.resolve(f"{named}&tap=maps"))


def test_it_is_judged_as_is_alone(tmp_path: Path) -> None:
    ref = models.resolve(folder(tmp_path) + "&labels=labels.txt")
    body = {
        "name": "any", "models": [ref.text], "datasets": ["synthetic/stripes"],
        "methods": ["knn", "as-is"], "controls": False,
    }  # fmt: skip
    read = suite.resolve(suite.parse(body, "any"), "any", tmp_path)
    assert [cell.method for cell in planning.plan(read)] == ["as-is"]
