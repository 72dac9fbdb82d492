"""int8-static: the quantised graph computes what the network does, and is one artefact."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from zoobench import datasets, models
from zoobench.errors import MissingExtra, Unsupported
from zoobench.features.batchnorm import folded
from zoobench.interfaces import InputSpec
from zoobench.models import onnx_session
from zoobench.models.backbones import ImageBackbone
from zoobench.models.graphs import content_of
from zoobench.models.variants import onnx_static
from zoobench.models.variants.coverage import Coverage
from zoobench.models.weights import state_digest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

SIDE = 32


def network() -> Any:
    return models.load(models.resolve(f"timm/test_resnet?weights=random&input_size={SIDE}"))


def pixels(seed: int, n: int) -> torch.Tensor:
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def attending() -> ImageBackbone:
    """Each row of a picture asks the others."""

    def forward(module: Any, batch: torch.Tensor) -> torch.Tensor:
        rows = module(batch.mean(1))
        found: torch.Tensor = ((rows @ rows.transpose(1, 2)).softmax(-1) @ rows).mean(1)
        return found

    spec = InputSpec(modality="image", size=(3, SIDE, SIDE))
    return ImageBackbone(
        torch.nn.Linear(SIDE, 4).eval(), spec, "mean", lambda _: BATCHES[0], forward
    )


BATCHES = [pixels(0, 8), pixels(1, 4)]


@pytest.fixture(scope="module")
def original() -> Any:
    return network()


@pytest.fixture(scope="module")
def made(original: Any) -> tuple[ImageBackbone, Coverage]:
    return onnx_static.static(original, BATCHES)


@pytest.fixture
def quantised(made: tuple[ImageBackbone, Coverage]) -> ImageBackbone:
    return made[0]


def test_the_graph_computes_what_onnx_defines(quantised: ImageBackbone, original: Any) -> None:
    """ONNX's own evaluator, which is numpy, multiplies what was rounded in float32."""
    from onnx.reference import ReferenceEvaluator

    batch = pixels(2, 2)
    graph = ReferenceEvaluator(onnx.load_from_string(content_of(quantised.module)))
    [expected] = graph.run(None, {"pixels": batch.numpy()})
    found = quantised.embed(batch)
    assert found.dtype == torch.float32
    scale = np.abs(expected).max()
    # Sums that are level are rounded one way or the other: a step in 255, averaged over the map.
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=scale / 100)
    with torch.no_grad():
        before = original.embed(batch)
    assert float(torch.nn.functional.cosine_similarity(found, before).min()) > 0.999
    assert float((found - before).abs().max()) > 0


def test_the_same_pictures_give_the_same_bytes(quantised: ImageBackbone, original: Any) -> None:
    """In another order, and in other batches; other pictures give others."""
    one = torch.cat([*reversed(BATCHES)])
    again, _ = onnx_static.static(original, [one[:3], one[3:]])
    assert content_of(again.module) == content_of(quantised.module)
    assert state_digest(again.module) == state_digest(quantised.module)


def test_nothing_of_this_machine_is_in_the_file(quantised: ImageBackbone, original: Any) -> None:
    content = content_of(quantised.module)
    for word in (b"site-packages", b'File "', b"stack_trace", b"EmbedModule"):
        assert word not in content
    assert [one.numel() for one in quantised.module.state_dict().values()] == [len(content)]
    weights = sum(p.numel() for p in original.module.parameters())
    assert len(content) < 1.3 * weights  # a byte each, and the graph


def test_it_is_copied_and_pickled_and_does_not_mind_how_it_is_called(
    quantised: ImageBackbone,
) -> None:
    batch = pixels(3, 5)
    expected = quantised.embed(batch)
    pickled = pickle.loads(pickle.dumps(quantised.module))
    for module in (copy.deepcopy(quantised.module), pickled, quantised.module.to("cpu")):
        own = copy.copy(quantised)
        own.module = module.to(memory_format=torch.channels_last)
        last = batch.contiguous(memory_format=torch.channels_last).requires_grad_()
        torch.testing.assert_close(own.embed(last), expected, rtol=0, atol=0)
    assert folded(quantised) is quantised
    with torch.inference_mode():
        alone = torch.cat([quantised.embed(batch[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone, expected, rtol=0, atol=0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        torch.testing.assert_close(quantised.embed(batch), expected, rtol=0, atol=0)
    finally:
        torch.set_num_threads(before)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(quantised.embed, [batch] * 12):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_it_says_what_it_cannot_do(
    quantised: ImageBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unsupported, match="no maps"):
        quantised.map_reader((SIDE, SIDE))
    with pytest.raises(Unsupported, match="on the CPU, not on meta"):
        quantised.embed(pixels(0, 1).to("meta"))
    with pytest.raises(Unsupported, match="convolutional networks, and this one has attention"):
        onnx_static.static(attending(), BATCHES)
    text: Any = models.load(models.resolve("synthetic/bag"))
    with pytest.raises(Unsupported, match="convolutional networks, and this one reads texts"):
        onnx_static.static(text, BATCHES)
    monkeypatch.setattr(onnx_session, "NEEDED", ("torch", "no_such_package"))
    with pytest.raises(MissingExtra, match=r"no_such_package.*'zoobench\[onnx\]'"):
        onnx_static.static(attending(), BATCHES)


def test_a_convolutional_network_is_covered(made: tuple[ImageBackbone, Coverage]) -> None:
    coverage = made[1]
    assert coverage.macs == 1
    assert 0.999 < coverage.params <= 1


def graph(nodes: Sequence[Any]) -> Any:
    """Of a convolution to 4 channels on 5 x 5 cells, and a linear layer of their sums to 10."""
    value = onnx.helper.make_tensor_value_info
    constants = {"conv": (4, 3, 3, 3), "bias": (4,), "linear": (10, 4)}
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            list(nodes), "by hand", [value("pixels", 1, ["b", 3, 7, 7])],
            [value("features", 1, ["b", 10])],
            [onnx.numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in constants.items()],
        )
    )  # fmt: skip


def test_coverage_is_of_the_layers_whose_inputs_are_integers() -> None:
    node = onnx.helper.make_node
    conv = node("Conv", ["pixels", "conv", "bias"], ["a"], name="one")
    pool = [node("GlobalAveragePool", ["a"], ["g"]), node("Flatten", ["g"], ["p"])]
    linear = node("Gemm", ["p", "linear"], ["features"], name="three", transB=1)
    exported = graph([conv, *pool, linear])
    halves = [node("DequantizeLinear", [f"{n}8"], [f"{n}32"]) for n in ("pixels", "conv", "p")]
    in_8_bits = node("Conv", ["pixels32", "conv32", "bias"], ["a"], name="one")
    half = node("Gemm", ["p32", "linear"], ["features"], name="three", transB=1)
    found = onnx_static._coverage(exported, graph([*halves, in_8_bits, *pool, half]))
    convolved, multiplied = 4 * 27 * 25, 10 * 4
    assert found.params == pytest.approx((4 * 27 + 4) / (4 * 27 + 4 + 40))
    assert found.macs == pytest.approx(convolved / (convolved + multiplied))
    assert onnx_static._coverage(exported, exported) == Coverage(0.0, 0.0)


@pytest.mark.rare
def test_lite0_keeps_its_accuracy_on_photographs() -> None:
    """Of all 720 pictures .861 in float32; in 8 bits .861 by the same head, .863 by its own."""
    data = datasets.load(datasets.resolve("packaged/photo-crops"))
    backbone: Any = models.load(models.resolve("packaged/efficientnet-lite0"))

    def batches(split: Any, step: int) -> list[torch.Tensor]:
        pictures = [backbone.prepare(split.read(i)) for i in range(0, len(split), step)]
        return [*torch.split(torch.stack(pictures), 16)]

    train, test = batches(data.train, 3), batches(data.test, 3)
    made: Any
    made, coverage = onnx_static.static(backbone, train[::6])
    assert min(coverage.params, coverage.macs) > 0.99
    parameters = sum(p.numel() for p in backbone.module.parameters())
    assert made.module.onnx.numel() < 1.3 * parameters
    with torch.inference_mode():
        fitted = torch.cat([backbone.embed(batch) for batch in train]).numpy()
        found = {
            name: torch.cat([one.embed(batch) for batch in test]).numpy()
            for name, one in (("float", backbone), ("int8", made))
        }
    head = LogisticRegression(C=0.1, max_iter=2000).fit(fitted, data.train.targets.strata[::3])
    truth = data.test.targets.strata[::3]
    right = {name: float((head.predict(rows) == truth).mean()) for name, rows in found.items()}
    assert right["float"] > 0.75
    assert right["int8"] > right["float"] - 0.03


def test_a_network_on_another_device_is_refused() -> None:
    elsewhere = network()
    elsewhere.module.to("meta")
    with pytest.raises(Unsupported, match="runs by ONNX Runtime on the CPU, not on meta"):
        onnx_static.static(elsewhere, BATCHES)
