"""Detectors on maps: what they learn, what they leave as it was, and that boxes keep to their
objects through augmentation, frame, pyramid and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoobench import datasets, methods, models, tasks
from zoobench.errors import NotFinite, Unsupported, UserError
from zoobench.features.source import Features, View
from zoobench.interfaces import Split, Splits
from zoobench.methods import box_finetune, box_pyramid
from zoobench.methods.augmentation import Jitter
from zoobench.methods.box_finetune import batch, detector, network
from zoobench.methods.box_pyramid import frame_pyramid
from zoobench.models.dense import Colours, DenseView, dense
from zoobench.models.weights import state_digest
from zoobench.tasks.detection import Annotation, boxes_of
from zoobench.views import MapReader, MapSpec

QUICK = {"size": 64, "steps": 2, "batch_size": 2, "rates": [1e-3], "head": "fcos"}
HEADS = ("faster-rcnn", "retinanet", "fcos")
GREY = Colours(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.0, 0.0, 0.0))


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_pyramid, "WIDTH", 32)
    monkeypatch.setattr(box_finetune, "ROIS", 32)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return datasets.load(
        datasets.resolve("synthetic/stripes?task=detection&train=24&valid=4&test=8&noise=20")
    )


def source_of(name: str = "synthetic/gabor") -> Features:
    ref = models.resolve(name)
    return Features(models.load(ref, seed=0), View(str(ref)))


def adapted(splits: Splits, source: Features, name: str = "fine-tune", **params: Any) -> Any:
    method = methods.build(name, {**QUICK, **params}, task="detection")
    return method.adapt(source, splits.sealed(), 0)


def ap50(fitted: Any, split: Split) -> float:
    task = tasks.task("detection")
    outcomes = task.judge(fitted.predict(split), split, (None, split))
    return float(task.statistics(outcomes)(np.ones((1, outcomes.n)), ["ap50"])["ap50"][0])


def view_of(strides: list[int], size: int) -> DenseView:
    """Maps of three channels, each the mean of the pixels of its cells, of any strides."""

    def read(module: Any, pixels: torch.Tensor, wanted: Any) -> list[torch.Tensor]:
        return [torch.nn.functional.avg_pool2d(pixels, strides[i]) for i in wanted]

    covered = -(-size // max(strides)) * max(strides)
    reader = MapReader(torch.nn.Conv2d(3, 3, 1), (covered, covered), ("",) * len(strides), read)
    specs = tuple(MapSpec(stride, 3, "") for stride in strides)
    return DenseView(reader, (size, size), "letterbox", tuple(range(len(strides))), specs, GREY)


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_of_every_head_falls(head: str, splits: Splits) -> None:
    view = dense(source_of().backbone, (64, 64))
    torch.manual_seed(0)
    net = network(view, 4, head)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    pixels, targets = batch(view, splits.train, np.arange(2), [0, 0])
    losses = []
    for _ in range(6):
        parts = net(pixels, targets)
        total = torch.stack(list(parts.values())).sum()
        losses.append(float(total.detach()))
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert np.mean(losses[-2:]) < 0.9 * np.mean(losses[:2])
    net.eval()
    for one in net(pixels):
        assert len(one["boxes"]) <= 100
        assert set(one["labels"].tolist()) <= {0, 1, 2, 3}, "a background is no class"
        assert (one["scores"] >= 0.001).all()
        assert ((one["boxes"] >= 0) & (one["boxes"] <= 64)).all()


def test_fcos_finds_stripes_and_a_transposed_map_hurts(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    params: dict[str, Any] = {
        "size": 96,
        "steps": 25,
        "batch_size": 4,
        "rates": [3e-3],
        "freeze": "encoder",
    }
    source = source_of()
    before = state_digest(source.module)

    def sealed(i: int) -> Any:
        raise AssertionError("test was read while adapting")

    hidden = dataclasses.replace(splits, test=dataclasses.replace(splits.test, read=sealed))
    fitted = adapted(hidden, source, **params)
    found = ap50(fitted, splits.train)
    assert found > 0.3
    assert fitted.chosen == {"rate": 3e-3}
    assert fitted.flags == ()
    assert fitted.facts["valid_ap"] == fitted.quality
    assert len(fitted.valid_scores) == len(splits.valid)
    for one, truth in zip(fitted.predict(splits.test), boxes_of(splits.test).pictures, strict=True):
        assert ((one.boxes >= 0) & (one.boxes <= np.tile(truth.size[::-1], 2))).all()
        assert len(one.scores) <= 100
    assert state_digest(source.module) == before
    maps = DenseView.maps
    monkeypatch.setattr(DenseView, "maps", lambda view, b: tuple(one.mT for one in maps(view, b)))
    assert ap50(fitted, splits.train) < found / 2


def test_a_frozen_encoder_stays_a_free_one_moves_and_a_seed_says_all(splits: Splits) -> None:
    source = source_of()
    start = dense(source.backbone, (64, 64)).module.state_dict()
    for freeze, same in (("encoder", True), ("none", False)):
        one, other = (adapted(splits, source, freeze=freeze) for _ in range(2))
        moved = one.network.encoder.state_dict()
        assert all(torch.equal(start[k], moved[k]) for k in start) == same
        assert state_digest(one.network) == state_digest(other.network)
    with pytest.raises(NotFinite, match="every learning rate"):
        adapted(splits, source, rates=[1e30], steps=4)
    with pytest.raises(Unsupported):
        adapted(splits, source_of("synthetic/bag"))
    wrong: list[dict[str, Any]] = [{"steps": 0}, {"rates": []}, {"size": 3}, {"head": "yolo"}]
    for params in wrong:
        with pytest.raises(UserError):
            methods.build("fine-tune", params, task="detection")


def test_from_scratch_is_the_same_recipe_from_random_weights() -> None:
    kind = methods.method_class("from-scratch", task="detection")
    assert getattr(kind, "random_weights", False)
    built = methods.params_of(methods.build("from-scratch", {}, task="detection"))
    assert built == methods.params_of(methods.build("fine-tune", {}, task="detection"))
    assert built["rates"] == (8e-5, 1e-4, 2e-4, 3e-4)


@settings(max_examples=40)
@given(height=st.integers(20, 90), width=st.integers(20, 90), seed=st.integers(0, 9999))
def test_a_box_goes_where_its_object_goes(height: int, width: int, seed: int) -> None:
    """A white rectangle on black: its box is where white is found in the frame."""
    rng = np.random.default_rng(seed)
    left, top = int(rng.integers(0, width - 8)), int(rng.integers(0, height - 8))
    right, bottom = int(rng.integers(left + 6, width)), int(rng.integers(top + 6, height))
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[top:bottom, left:right] = 255
    view = view_of([4], 64)
    drawn = Jitter.drawn((height, width), view, rng)
    frame = drawn.laid(Image.fromarray(pixels), (0, 0, 0), Image.Resampling.BILINEAR)
    boxes, kept = drawn.boxes(np.array([[left, top, right, bottom]], dtype=np.float64))
    white = np.argwhere(frame[..., 0] > 127)
    if len(kept) and len(white):
        low, high = white.min(axis=0), white.max(axis=0) + 1
        seen = [low[1], low[0], high[1], high[0]]
        np.testing.assert_allclose(boxes[0], seen, atol=1.01)
    elif len(white):
        assert min(np.ptp(white, axis=0)) <= 1, "less than a pixel was left"


def test_crowds_are_not_learned_and_negatives_are_empty(splits: Splits) -> None:
    truth = Annotation.of((96, 96), [[10, 10, 80, 80], [0, 0, 90, 90]], [2, 1], [False, True])
    empty = Annotation.of((96, 96), [], [])
    targets = dataclasses.replace(boxes_of(splits.train), pictures=(truth, empty))
    split = dataclasses.replace(splits.train.subset(np.arange(2)), targets=targets)
    frames, said = batch(view_of([4], 64), split, np.arange(2), [0, 0])
    assert frames.shape == (2, 64, 64, 3)
    assert said[0]["labels"].tolist() == [2]
    assert said[1]["boxes"].shape == (0, 4)


@pytest.mark.parametrize("strides", [[4, 8, 16, 32], [14], [16] * 4, [8, 16], [7, 14, 28]])
@pytest.mark.parametrize("size", [64, 100])
def test_levels_are_of_strides_of_two_and_lie_where_the_picture_does(
    strides: list[int], size: int
) -> None:
    view = view_of(strides, size)
    for finest, pools in ((4, 1), (8, 2)):
        body = frame_pyramid(view, finest, pools)
        whole = -(-size // body.strides[-1]) * body.strides[-1]
        maps = body(torch.rand(1, 3, whole, whole) * 255)
        assert len(maps) == len(body.strides)
        for one, stride in zip(maps.values(), body.strides, strict=True):
            assert tuple(one.shape) == (1, 32, -(-whole // stride), -(-whole // stride))
            assert stride & (stride - 1) == 0
        assert body.names == [str(k) for k in range(len(maps) - pools)]
    read: dict[int, torch.Tensor] = {}
    body = frame_pyramid(view, 4, 1)
    own = box_pyramid._on_grid

    def spied(one: torch.Tensor, covered: Any, whole: Any, stride: int) -> torch.Tensor:
        read[stride] = own(one, covered, whole, stride)
        return read[stride]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(box_pyramid, "_on_grid", spied)
        # Brightness that grows to the right is where it was, whatever the stride.
        ramp = torch.arange(size).float().expand(1, 3, size, size)
        body(torch.nn.functional.pad(ramp, (0, 28, 0, 28)))
    for stride, one in read.items():
        inside = one[0, 0, 0, : size // stride - 1]
        centres = (torch.arange(len(inside)) + 0.5) * stride - 0.5
        assert float((inside - centres)[1:].abs().max()) < 2 if len(inside) > 2 else True


def test_torchvisions_own_scaling_of_frames_changes_nothing() -> None:
    view = view_of([4, 8, 16, 32], 100)
    for head in HEADS:
        own = detector(view, 3, head).eval()  # type: ignore[arg-type]
        frame = torch.rand(3, 100, 100)
        images, _ = own.transform([frame])
        assert torch.equal(images.tensors[0, :, :100, :100], frame)
        assert images.image_sizes == [(100, 100)]
        last = own.backbone.strides[-1]
        assert images.tensors.shape[2] % last == 0
        if head != "fcos":
            anchors = own.rpn.anchor_generator if head == "faster-rcnn" else own.anchor_generator
            per = 8 if head == "faster-rcnn" else 4
            assert anchors.sizes[0][0] == pytest.approx(per * own.backbone.strides[0] / 8)


def test_a_transformer_gets_the_simple_pyramid(splits: Splits) -> None:
    fitted = adapted(splits, source_of("timm/test_vit?weights=random"), steps=1)
    levels = fitted.network.decoder.backbone.levels
    assert isinstance(levels, torch.nn.ModuleList)
