"""A model as a file of ONNX and back: the same input, features, scores, costs, and one family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoobench import datasets, methods, models
from zoobench.costs.counted import static_costs
from zoobench.errors import MissingExtra, UserError
from zoobench.export import onnx_file
from zoobench.features.source import Features, View
from zoobench.models import onnx_session
from zoobench.tasks.classification import labels_of
from zoobench.usability.subject import apart

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

NAME = "timm/test_resnet?weights=random&input_size=32&mean=0.3,0.4,0.5&crop_pct=0.8"


@pytest.fixture(scope="module", autouse=True)
def index(index_folder: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOOBENCH_CACHE", str(index_folder))
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, index: None) -> onnx_file.OnnxExport:
    return onnx_file.export(NAME, tmp_path_factory.mktemp("export") / "resnet.onnx")


def test_it_comes_back_as_the_same_model(written: onnx_file.OnnxExport) -> None:
    before: Any = models.load(models.resolve(NAME))
    ref = models.resolve(f"onnx/{written.path}")
    back: Any = models.load(ref)
    assert written.distance < 1e-5
    assert back.input_spec == before.input_spec
    assert "guessed" not in back.provenance
    assert models.card(ref).pretrained_on == "nothing: random weights"
    assert back.provenance["exported_from"] == models.resolve(NAME).text
    assert models.card(ref).family == models.card(models.resolve(NAME)).family == "resnet"
    rng = torch.Generator().manual_seed(1)
    batch = torch.randn(3, 3, 32, 32, generator=rng)
    with torch.no_grad():
        assert apart(before.embed(batch), back.embed(batch)) < 1e-5
    costs = [{one.metric: one.value for one in static_costs(m)} for m in (before, back)]
    assert costs[0]["macs"] == costs[1]["macs"]
    assert costs[0]["params"] == pytest.approx(costs[1]["params"], rel=0.02)  # norms are folded


def test_options_may_say_otherwise(written: onnx_file.OnnxExport) -> None:
    plain = models.resolve(f"onnx/{written.path}")
    same = models.resolve(f"onnx/{written.path}?mean=0.3,0.4,0.5&crop_pct=0.8&family=resnet")
    assert same == plain
    other: Any = models.load(models.resolve(f"onnx/{written.path}?mean=0.5&pool=avg"))
    assert other.input_spec.mean == (0.5,) * 3


def test_the_file_names_nothing_of_this_machine(written: onnx_file.OnnxExport) -> None:
    content = written.path.read_bytes()
    for word in (b"site-packages", b"stack_trace", str(Path.home()).encode(), b"EmbedModule"):
        assert word not in content
    assert [path.name for path in written.path.parent.iterdir()] == ["resnet.onnx"]


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoobench: Callable[..., Any],
    written: onnx_file.OnnxExport,
) -> None:  # fmt: skip
    monkeypatch.setattr(onnx_file, "_graph", lambda *_: onnx.load(written.path))
    path = tmp_path / "again.onnx"
    said = zoobench("export", NAME, "--onnx", path, "--json")
    assert said.code == 0, said
    body = json.loads(said.out)
    assert (body["file"], body["bytes"]) == (str(path), path.stat().st_size)
    said = zoobench("export", NAME, "--onnx", path)
    assert (said.code, said.error) == (
        2, f"Error: {path}: is there already; nothing was written"
    )  # fmt: skip


def test_what_comes_back_as_another_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: onnx_file.OnnxExport
) -> None:
    def spoilt(*_: Any) -> Any:
        model = onnx.load(written.path)
        for one in model.graph.initializer:
            if len(one.dims) == 4:
                array = onnx.numpy_helper.to_array(one) * np.float32(1.01)
                one.CopyFrom(onnx.numpy_helper.from_array(array, one.name))
        return model

    monkeypatch.setattr(onnx_file, "_graph", spoilt)
    with pytest.raises(UserError, match=r"its features are off by .*: nothing was written"):
        onnx_file.export(NAME, tmp_path / "m.onnx")
    monkeypatch.setattr(onnx_file, "_three", lambda values: (0.1, 0.1, 0.1))
    with pytest.raises(UserError, match="cannot say its preprocessing"):
        onnx_file.export(NAME, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("synthetic/bag", "backbones of pictures are exported, and it is a model of text"),
        ("synthetic/gabor", "a plug-in's own"),
        ("tagger/any/thing", "it is a complete model"),
    ],
)
def test_what_is_not_exported(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        onnx_file.export(name, tmp_path / "m.onnx")


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_session, "NEEDED", ("no_such_package",))
    with pytest.raises(MissingExtra, match=r"no_such_package.*'zoobench\[onnx\]'"):
        onnx_file.export(NAME, tmp_path / "m.onnx")


@pytest.mark.rare
def test_lite0_is_one_family_with_its_file(tmp_path: Path) -> None:
    """Features, predictions of probes, and MACs are the same through the file."""
    written = onnx_file.export("packaged/efficientnet-lite0", tmp_path / "lite0.onnx")
    assert written.distance < 1e-5
    assert written.classes == 1000
    names = ("packaged/efficientnet-lite0", f"onnx/{written.path}")
    splits = datasets.load(datasets.resolve("packaged/photo-crops?max_train=120&max_test=120"))
    found = []
    for name in names:
        ref = models.resolve(name)
        assert models.card(ref).family == "efficientnet-lite"
        assert models.card(ref).license == "Apache-2.0"
        backbone = models.load(ref)
        source = Features(backbone, View(ref.text))
        fits = [
            methods.build(method, {}).adapt(source, splits.sealed(), 0).predict(splits.test)
            for method in ("knn", "linear-probe")
        ]
        costs = {one.metric: one.value for one in static_costs(backbone)}
        found.append((fits, costs["macs"]))
    for one, other in zip(found[0][0], found[1][0], strict=True):
        assert torch.equal(one.argmax(1), other.argmax(1))
        assert float((one.exp() - other.exp()).abs().max()) < 1e-3
        assert float((one.argmax(1).numpy() == labels_of(splits.test)).mean()) > 0.5
    assert found[0][1] == pytest.approx(found[1][1], rel=0.01)
    complete: list[Any] = [models.load(models.resolve(f"classifier/{name}")) for name in (
        names[0], f"onnx/lite0?path={written.path}"
    )]  # fmt: skip
    assert complete[0].labels == complete[1].labels
    assert len(complete[0].labels) == 1000
    batch = complete[0].collate([complete[0].prepare(splits.test.read(i)) for i in range(8)])
    with torch.no_grad():
        scores = [one.embed(batch) for one in complete]
    assert apart(*scores) < 1e-4
