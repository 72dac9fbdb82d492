"""SavedModels of TensorFlow as frozen backbones and complete classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tinyonnx
import tinysavedmodel
from zoobench import models
from zoobench.costs.counted import static_costs
from zoobench.costs.profile import profile
from zoobench.errors import MissingWeights, Unsupported, UserError
from zoobench.models import graphs, tf_, tf_graph
from zoobench.runs import planning
from zoobench.runs import suite as suites
from zoobench.schema import Ref

pytestmark = [
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.skipif(not tf_.libraries()[2:], reason="pip install 'zoobench[tensorflow]'"),
]
CLEAR = "mean=0&std=1&interpolation=bilinear&crop_pct=1&range=0,1"
SIDE = tinysavedmodel.SIDE


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinysavedmodel.folder(tmp_path_factory.mktemp("plain") / "tiny")


def load(path: Path, options: str = CLEAR) -> Any:
    return models.load(models.resolve(f"tf/tiny?path={path}&{options}"))


def picture(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def pixels(*pictures: Image.Image) -> Any:
    """(N, 3, H, W) in [0, 1]."""
    return np.stack([np.asarray(one, np.float64).transpose(2, 0, 1) / 255 for one in pictures])


def embed(found: Any, *pictures: Image.Image) -> Any:
    with torch.no_grad():
        return found.embed(found.collate([found.prepare(one) for one in pictures])).numpy()


@pytest.mark.parametrize(
    "how",
    [{}, {"side": None}, {"batch": 2}, {"number": "uint8"}, {"outputs": "scores features"}],
    ids=str,
)
def test_features_are_what_the_last_linear_layer_reads(how: Any, tmp_path: Path) -> None:
    options = CLEAR + (f"&input_size={SIDE}" if "side" in how else "")
    if "number" in how:  # its values are bytes, and so they stay
        options = "interpolation=bilinear&crop_pct=1"
    found = load(
        tinysavedmodel.folder(tmp_path / "m", **how),
        options + ("&tap=features" if "outputs" in how else ""),
    )
    pictures = [picture(seed) for seed in range(5)]
    expected = tinyonnx.features_of((255 if "number" in how else 1) * pixels(*pictures))
    np.testing.assert_allclose(embed(found, *pictures), expected, rtol=1e-5)
    assert found.feature_dim == tinyonnx.CHANNELS
    assert "guessed" not in found.provenance
    if "outputs" not in how:
        assert found.pooling == "input of the last linear layer"


def test_whole_numbers_that_are_no_bytes_are_guessed_to_be_bytes(tmp_path: Path) -> None:
    path = tinysavedmodel.folder(tmp_path / "int32", number="int32")
    found, one = load(path, "interpolation=bilinear&crop_pct=1"), picture()
    np.testing.assert_allclose(
        embed(found, one), tinyonnx.features_of(255 * pixels(one)), rtol=1e-5
    )
    assert found.provenance["guessed"] == ["range"]
    path = tinysavedmodel.folder(tmp_path / "int8", number="int8")
    with pytest.raises(Unsupported, match="say range, such as range=-128,127"):
        load(path, "crop_pct=1")
    found = load(path, "interpolation=bilinear&crop_pct=1&range=-128,127")
    np.testing.assert_allclose(
        embed(found, one), tinyonnx.features_of(255 * pixels(one) - 128), rtol=1e-5
    )


def test_a_model_of_tensorflow_1_is_read(tmp_path: Path) -> None:
    found = load(tinysavedmodel.old(tmp_path / "old"))
    np.testing.assert_allclose(
        embed(found, picture()), tinyonnx.features_of(pixels(picture())), rtol=1e-5
    )


def test_costs_are_those_of_the_same_network_in_onnx(plain: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ours = {one.metric: one for one in static_costs(load(plain))}
    other = models.load(models.resolve(f"onnx/t?path={tinyonnx.file(tmp_path / 'm.onnx')}"))
    theirs = {one.metric: one for one in static_costs(other)}
    for name in ("params", "macs", "feature_dim"):
        assert ours[name].value == theirs[name].value, name
    assert ours["params"].value == 6 * 3 * 9 + 6, "without the layer that was cut off"
    assert ours["macs"].value == 14 * 14 * 6 * 27
    assert ours["macs"].detail["uncounted_ops"] == []
    assert graphs.widest(load(plain).module) == 2 * 14 * 14 * 6


def test_a_profile_says_that_nothing_trains_it(plain: Path) -> None:
    found = profile(f"tf/tiny?path={plain}")
    assert found["macs"] == 14 * 14 * 6 * 27
    assert found["train_error"] == "a graph of TensorFlow, without gradients: nothing trains it"


def test_keras_s_own_export_counts_as_its_twin(tmp_path: Path) -> None:
    """Batch norms are written out there, and their statistics are no parameters."""
    tf = tf_graph.library()
    rng = np.random.default_rng(0)
    held = {"k": rng.normal(size=(3, 3, 3, 8)), "d": rng.normal(size=(3, 3, 8, 1))}

    class Net(tf.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            self.k, self.d = (tf.Variable(one.astype("f4")) for one in held.values())
            self.gamma, self.beta = tf.Variable(tf.ones(8)), tf.Variable(tf.zeros(8))
            self.mean = tf.Variable(tf.ones(8), trainable=False)
            self.var = tf.Variable(tf.ones(8) * 2, trainable=False)

        def call(self, x: Any) -> Any:
            y = tf.nn.conv2d(x, self.k, 2, "SAME")
            y = tf.nn.batch_normalization(y, self.mean, self.var, self.beta, self.gamma, 1e-3)
            y = tf.nn.depthwise_conv2d(tf.nn.relu6(y), self.d, (1, 1, 1, 1), "SAME")
            return {"out": tf.reduce_mean(y, [1, 2])}

    net = Net()
    spec = tf.TensorSpec((None, 16, 16, 3), "float32")
    call = tf.function(net.call, input_signature=[spec])
    tf.saved_model.save(net, str(tmp_path / "n"), signatures={"serving_default": call})
    found = load(tmp_path / "n")
    assert found.pooling == "its output", "a network without a classifier gives its features"
    costs = {one.metric: one.value for one in static_costs(found)}
    assert costs["params"] == 3 * 3 * 3 * 8 + 3 * 3 * 8 + 16
    assert costs["macs"] == 8 * 8 * 8 * (27 + 9)
    expected = net.call(tf.constant(pixels(picture()).transpose(0, 2, 3, 1), "float32"))["out"]
    np.testing.assert_allclose(embed(found, picture()), expected.numpy(), rtol=1e-4)


def test_channels_and_ranges_are_followed(plain: Path) -> None:
    one, rest = picture(), "interpolation=bilinear&crop_pct=1"
    for options, expected in (
        ("range=0,255", 255 * pixels(one)),
        ("range=-1,1", 2 * pixels(one) - 1),
        ("mean=0.5&std=0.25&channels=bgr", (pixels(one)[:, ::-1] - 0.5) / 0.25),
    ):
        np.testing.assert_allclose(
            embed(load(plain, f"{rest}&{options}"), one), tinyonnx.features_of(expected), rtol=1e-4
        )
    assert load(plain, "").provenance["guessed"] == ["interpolation", "crop_pct", "range"]
    np.testing.assert_allclose(  # from 0 to 1, as the hub of TensorFlow has it
        embed(load(plain, "crop_pct=1"), one), tinyonnx.features_of(pixels(one)), rtol=1e-4
    )


def test_a_tap_is_an_output_or_an_operator(plain: Path, tmp_path: Path) -> None:
    one = picture()
    expected = tinyonnx.features_of(pixels(one))
    np.testing.assert_allclose(embed(load(plain, f"{CLEAR}&tap=Mean"), one), expected, rtol=1e-5)
    for pool in ("avg", "max"):
        found = embed(load(plain, f"{CLEAR}&tap=Relu&pool={pool}"), one)
        assert np.allclose(found, expected, rtol=1e-5) == (pool == "avg")
    assert load(plain, f"{CLEAR}&tap=scores").feature_dim == tinyonnx.CLASSES
    with pytest.raises(Unsupported, match=r"features of a picture are \(14, 14, 6\): say pool="):
        load(plain, "tap=Relu")
    with pytest.raises(UserError, match=r"unknown tap 'scorse' of .*Did you mean 'scores'\?"):
        load(plain, "tap=scorse")
    several = tinysavedmodel.folder(tmp_path / "several", outputs="maps features")
    with pytest.raises(
        Unsupported, match="which of its outputs are the features: tap=NAME, of fea"
    ):
        load(several)


def test_signatures_are_named_and_chosen(plain: Path) -> None:
    assert load(plain, f"{CLEAR}&signature=serving_default").feature_dim == tinyonnx.CHANNELS
    with pytest.raises(UserError, match=r"unknown signature 'serving' of .*Known: serving_default"):
        load(plain, "signature=serving")


def test_a_folder_is_told_by_its_content(plain: Path, tmp_path: Path) -> None:
    ref = models.resolve(f"tf/{plain}")
    assert (ref.name, ref.option("path")) == ("tiny", str(plain))
    assert models.available(ref) == (True, f"the folder {plain}")
    assert models.card(ref).family == "tiny"
    assert models.card(ref).license == "unknown"
    with pytest.raises(UserError, match=r"unknown option 'tape' of tf/tiny.*Did you mean 'tap'"):
        models.resolve(f"tf/tiny?path={plain}&tape=x")
    with pytest.raises(UserError, match=r"there is no folder .*nowhere: say path=FOLDER"):
        models.resolve("tf/nowhere")
    with pytest.raises(UserError, match=r"holds no file 'saved_model.pb'"):
        models.resolve(f"tf/{tmp_path}")
    with pytest.raises(UserError, match="its content is not that of"):
        models.resolve(f"tf/tiny@0123456789abcdef?path={plain}")
    copy = tinysavedmodel.folder(tmp_path / "copy")
    ref = models.resolve(f"tf/{copy}")
    next((copy / "variables").glob("*.data*")).write_bytes(b"\0" * 2000)
    with pytest.raises(MissingWeights, match="it has changed since it was named"):
        models.load(ref)
    with pytest.raises(Unsupported, match="of a SavedModel there are no random weights"):
        models.load(models.resolve(f"tf/{plain}").with_options(weights="random"))


def test_its_own_answers_are_judged(plain: Path, tmp_path: Path) -> None:
    folder = tinysavedmodel.folder(tmp_path / "labelled")
    with pytest.raises(UserError, match=r"s\.toml: tf/t: nobody says what its classes are called"):
        models.resolve(f"classifier/tf/t?path={folder}", "s.toml")
    (folder / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    options = f"path={folder}&labels=labels.txt&{CLEAR}"
    found: Any = models.load(models.resolve(f"classifier/tf/t?{options}"))
    assert found.labels == tuple("abcde")
    assert not found.multilabel
    held = tinyonnx.weights()
    expected = tinyonnx.features_of(pixels(picture())) @ held["linear"] + held["bias"]
    np.testing.assert_allclose(embed(found, picture()), expected, rtol=1e-4)
    assert models.card(Ref.parse("classifier/tf/t?path=x")).name == "tf/t"


def test_a_run_probes_it_and_refuses_to_train_it(plain: Path, tmp_path: Path) -> None:
    """In a worker of its own, where torch's libraries came before TensorFlow's."""
    import zoobench

    suite = tmp_path / "s.toml"
    suite.write_text(
        'name = "s"\n'
        f'models = [{{ id = "tf/tiny", path = "{plain}", range = [0, 1] }}]\n'
        f'datasets = ["synthetic/stripes?train=40&valid=20&test=20"]\n'
        'methods = ["knn", { name = "fine-tune", steps = 2 }]\ncontrols = false\nseeds = [0]\n'
        "[limits]\ncost_seconds = 0.2\n"
    )
    found = zoobench.run(suite, out=tmp_path / "out", device="cpu")
    [record] = found.records
    assert record.status == "ok", record.error
    values = {one.metric: one.value for one in record.measurements}
    assert values["macs"] == 14 * 14 * 6 * 27
    assert values["latency_ms_p50"] > 0
    assert "tensorflow" in str(record.provenance), "its version stands in the record"
    [why] = planning.left_out(suites.read(str(suite)))
    assert "is a fixed graph, without gradients or maps: fine-tune trains its layers" in why
