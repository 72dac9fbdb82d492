"""The grid of boxes against loops over cells and objects, its loss against formulas in numpy, and
the probe between controls that know nothing and an oracle."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoobench import datasets, methods, models, tasks
from zoobench.errors import NotFinite, Unsupported, UserError
from zoobench.features.source import Features, View
from zoobench.interfaces import Split, Splits
from zoobench.methods.box_grid import BORDER, CROWD, NOBODY, BoxGrid, detections, framed
from zoobench.methods.box_probe import (
    BoxProbe,
    CellReader,
    CellTargets,
    giou_loss,
    loss,
    new_head,
    spoken,
)
from zoobench.models.dense import placement
from zoobench.models.weights import state_digest
from zoobench.tasks.detection import Annotation, Boxes, boxes_of
from zoobench.views import CellFeatures

QUICK = {"size": 96, "steps": 60}


def splits_of(options: str = "train=40&valid=8&test=20&noise=50") -> Splits:
    return datasets.load(datasets.resolve(f"synthetic/stripes?task=detection&{options}"))


def source_of(name: str = "synthetic/gabor") -> Features:
    ref = models.resolve(name)
    return Features(models.load(ref, seed=0), View(str(ref)))


def adapted(name: str, splits: Splits, source: Any = None, **params: Any) -> Any:
    method = methods.build(name, params, task="detection")
    return method.adapt(source, splits.sealed(), 0)


def ap(fitted: Any, split: Split, name: str = "ap50") -> float:
    task = tasks.task("detection")
    outcomes = task.judge(fitted.predict(split), split, (None, split))
    return float(task.statistics(outcomes)(np.ones((1, outcomes.n)), [name])[name][0])


@pytest.fixture(scope="module")
def splits() -> Splits:
    return splits_of()


@pytest.fixture(scope="module")
def source() -> Features:
    return source_of()


@pytest.fixture(scope="module")
def probe(splits: Splits, source: Features) -> Any:
    return adapted("linear-probe", splits, source, **QUICK)


def objects(rng: np.random.Generator, size: tuple[int, int], many: int) -> Annotation:
    """Some of which lie over each other, some in crowds, some smaller than a cell."""
    height, width = size
    x, y = (np.sort(rng.uniform(0, side, (many, 2)), axis=1) for side in (width, height))
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
    return Annotation.of(size, boxes, rng.integers(0, 3, many), rng.random(many) < 0.2)


@settings(max_examples=40)
@given(
    height=st.integers(1, 300), width=st.integers(1, 300), many=st.integers(0, 6),
    side=st.sampled_from([32, 80, 100, 160]), seed=st.integers(0, 999),
)  # fmt: skip
def test_a_cell_answers_for_the_smallest_object_of_its_level_around_its_centre(
    height: int, width: int, many: int, side: int, seed: int
) -> None:
    truth = objects(np.random.default_rng(seed), (height, width), many)
    where, grid = placement((height, width), (side, side), "letterbox"), BoxGrid((side, side))
    found = grid.assigned(truth, where)
    at = 0
    for level, stride in enumerate((16, 32)):
        cells = math.ceil(math.ceil(side / 16) * 16 / stride)
        for row in range(cells):
            for column in range(cells):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                assert grid.centres[at].tolist() == [x, y]
                best, expected = math.inf, NOBODY
                for k, box in enumerate(truth.boxes):
                    left, right = (box[i] * where.scale[1] for i in (0, 2))
                    top, bottom = (box[i] * where.scale[0] for i in (1, 3))
                    area = (right - left) * (bottom - top)
                    if not (left < x < right and top < y < bottom):
                        continue
                    if truth.crowd[k]:
                        expected = CROWD if expected == NOBODY else expected
                    elif (math.sqrt(area) > BORDER) == bool(level) and area < best:
                        best, expected = area, k
                assert found[at] == expected
                at += 1
    assert at == len(found)


@settings(max_examples=40)
@given(
    height=st.integers(1, 300), width=st.integers(1, 300), many=st.integers(0, 6),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_what_the_cells_are_asked_comes_back_as_the_objects_in_the_pictures_pixels(
    height: int, width: int, many: int, seed: int
) -> None:
    truth = objects(np.random.default_rng(seed), (height, width), many)
    where, grid = placement((height, width), (96, 96), "letterbox"), BoxGrid((96, 96))
    owner = grid.assigned(truth, where)
    mine = owner[owner >= 0]
    scores = torch.eye(3, dtype=torch.float64)[torch.from_numpy(truth.labels[mine])]
    found = detections(scores, torch.from_numpy(framed(truth.boxes, where)[mine]), where)
    assert len(found.boxes) <= len(set(mine.tolist()))
    assert (found.boxes[:, 2:] <= (width, height)).all()
    for box, label in zip(found.boxes, found.labels, strict=True):
        same = np.abs(truth.boxes - box).max(axis=1) < 1e-3 * max(height, width)
        assert (same & (truth.labels == label) & ~truth.crowd).any()


def test_equal_boxes_of_one_class_are_said_once_and_of_two_classes_twice() -> None:
    where = placement((60, 80), (96, 96), "letterbox")
    box = torch.tensor([[10.0, 10.0, 50.0, 50.0], [11.0, 10.0, 50.0, 50.0]])
    scores = torch.tensor([[0.9, 0.0005], [0.4, 0.5]])
    found = detections(scores, box, where)
    assert sorted(zip(found.scores.round(3).tolist(), found.labels.tolist(), strict=True)) == [
        (0.5, 1), (0.9, 0),
    ]  # fmt: skip
    np.testing.assert_allclose(found.boxes[0], np.array([10, 10, 50, 50]) / 1.2)
    outside = torch.tensor([[-9.0, -9.0, 500.0, 500.0], [90.0, 90.0, 95.0, 95.0]])
    found = detections(torch.tensor([[0.9, 0.0], [0.8, 0.0]]), outside, where)
    assert found.boxes.tolist() == [[0, 0, 80, 60]], "clipped; nothing lies in the padding"
    many = torch.rand(400, 4, generator=torch.Generator().manual_seed(0)).sort(dim=1).values * 72
    assert len(detections(torch.full((400, 2), 0.5), many, where).scores) <= 100


def test_the_loss_is_focal_and_giou_over_the_cells_with_an_object() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 5, 3))
    labels = np.array([[0, NOBODY, 2, CROWD, NOBODY], [NOBODY] * 5])
    corner = rng.uniform(0, 20, (2, 2, 5, 2))
    said, true = (np.concatenate([c, c + rng.uniform(5, 30, c.shape)], axis=2) for c in corner)
    focal = giou = 0.0
    for b, p in np.ndindex(2, 5):
        for c in range(3):
            if labels[b, p] != CROWD:
                q = 1 / (1 + math.exp(-logits[b, p, c]))
                hit = labels[b, p] == c
                focal -= 0.25 * (1 - q) ** 2 * math.log(q) if hit else 0
                focal -= 0.75 * q**2 * math.log(1 - q) if not hit else 0
        if labels[b, p] >= 0:
            (l1, t1, r1, b1), (l2, t2, r2, b2) = said[b, p], true[b, p]
            both = max(0, min(r1, r2) - max(l1, l2)) * max(0, min(b1, b2) - max(t1, t2))
            either = (r1 - l1) * (b1 - t1) + (r2 - l2) * (b2 - t2) - both
            hull = (max(r1, r2) - min(l1, l2)) * (max(b1, b2) - min(t1, t2))
            giou += 1 - (both / either - (hull - either) / hull)
    scores, boxes = (torch.from_numpy(a) for a in (logits, said))
    truth, cpu = torch.from_numpy(true), torch.device("cpu")
    targets = CellTargets.of(torch.from_numpy(labels), truth, cpu)
    assert float(loss(scores, boxes, targets)) == pytest.approx((focal + giou) / 2, rel=1e-5)
    nothing = CellTargets.of(torch.full((2, 5), NOBODY), truth, cpu)
    assert bool(torch.isfinite(loss(scores, boxes, nothing)))


def test_giou_and_its_gradient_are_torchvision_s() -> None:
    """Of boxes that meet, that lie apart and that are one in the other."""
    from torchvision.ops import generalized_box_iou_loss

    drawn = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 300, 4, generator=drawn) * 10
    boxes, truth = torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:]], dim=2)
    ours, theirs = (boxes.clone().requires_grad_() for _ in range(2))
    found = giou_loss(ours, truth)
    expected = generalized_box_iou_loss(theirs, truth)
    assert 0.1 < float((expected > 1).float().mean()) < 0.9
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    found.sum().backward()  # type: ignore[no-untyped-call]
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-5)


def test_levels_are_standardised_cells_and_their_means() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, 5, 5, 3)) * [1, 30, 0] + [0, 5, 7]
    held = CellFeatures(values.astype(np.float16), ())
    reader = CellReader.of(held, torch.device("cpu"))
    fine, coarse = reader.levels(held, np.arange(4))
    flat = fine.reshape(-1, 3).numpy()
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(flat.std(axis=0), [1, 1, 0], atol=1e-4)
    whole = fine.reshape(4, 5, 5, 3).numpy()
    assert coarse.shape == (4, 9, 3)
    np.testing.assert_allclose(coarse[:, 0], whole[:, :2, :2].mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(coarse[:, 8], whole[:, 4, 4], atol=1e-6)


def test_before_the_first_step_every_class_is_said_with_the_prior() -> None:
    grid = BoxGrid((96, 64))
    logits, boxes = spoken(new_head(7, 3), [torch.randn(2, h * w, 7) for h, w in grid.shapes], grid)
    torch.testing.assert_close(logits.sigmoid(), torch.full((2, len(grid.levels), 3), 0.01))
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    np.testing.assert_allclose(centres[0].detach(), grid.centres, atol=1e-4)


def test_the_probe_stands_between_what_knows_nothing_and_the_oracle(
    splits: Splits, source: Features, probe: Any
) -> None:
    before = state_digest(source.module)
    found = ap(probe, splits.test)
    blind = ap(adapted("majority", splits), splits.test)
    oracle = ap(adapted("oracle", splits, size=96), splits.test, "ap")
    assert blind < 0.1 < 0.35 < found < oracle
    assert oracle > 0.99
    assert state_digest(source.module) == before
    assert probe.facts["trainable_params"] == 2 * (splits_features(source, splits) + 1) * 8
    assert probe.facts["steps"] == 60
    assert set(probe.chosen) == {"rate"}
    assert len(probe.valid_scores) == len(splits.valid)


def splits_features(source: Features, splits: Splits) -> int:
    return int(source.cells(splits.valid, (96, 96)).values.shape[-1])


def test_the_control_by_colour_takes_the_same_way(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoobench.methods import box_controls

    monkeypatch.setattr(box_controls, "BoxProbe", lambda size: BoxProbe(size=size, steps=5))
    fitted = adapted("raw-input", splits, size=96)
    assert fitted.facts["trainable_params"] == 2 * 12 * 8
    assert ap(fitted, splits.test) < 0.2


def test_the_same_seed_gives_the_same_boxes(splits: Splits, source: Features) -> None:
    params = {**QUICK, "steps": 5, "rates": [3e-3]}
    one, two = (adapted("linear-probe", splits, source, **params) for _ in range(2))
    for a, b in zip(one.predict(splits.test), two.predict(splits.test), strict=True):
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.scores, b.scores)


class Given:
    """Cells that are given, by split name."""

    device = torch.device("cpu")
    progress = None

    def __init__(self, cells: dict[str, CellFeatures]) -> None:
        self.given = cells

    def cells(self, split: Split, size: tuple[int, int], layers: str = "last") -> CellFeatures:
        return self.given[split.name]


def test_a_transposed_map_and_a_class_off_by_one_are_seen(
    splits: Splits, source: Features, probe: Any
) -> None:
    good = ap(probe, splits.test)
    held = {s.name: source.cells(s, (96, 96)) for s in (splits.train, splits.valid, splits.test)}
    turned = {
        name: CellFeatures(cells.values.transpose(0, 2, 1, 3), cells.places)
        for name, cells in held.items()
    }
    assert ap(adapted("linear-probe", splits, Given(turned), **QUICK), splits.test) < good / 2

    class OffByOne:
        def predict(self, split: Split) -> Any:
            said = probe.predict(split)
            return [dataclasses.replace(one, labels=(one.labels + 1) % 4) for one in said]

    assert ap(OffByOne(), splits.test) < good / 2


def test_boxes_of_test_are_sealed_and_rates_that_diverge_are_left_out(
    splits: Splits, source: Features
) -> None:
    def sealed(i: int) -> Any:
        raise AssertionError("test was read while adapting")

    hidden = dataclasses.replace(splits, test=dataclasses.replace(splits.test, read=sealed))
    fitted = adapted("linear-probe", hidden, source, **{**QUICK, "steps": 4, "rates": [1e-3, 1e30]})
    assert fitted.chosen == {"rate": 1e-3}
    assert fitted.flags == ("rate-on-edge",)
    with pytest.raises(NotFinite, match="every learning rate"):
        adapted("linear-probe", hidden, source, **{**QUICK, "steps": 4, "rates": [1e30]})
    with pytest.raises(Unsupported):
        adapted("linear-probe", hidden, source_of("synthetic/bag"), **QUICK)
    wrong: list[dict[str, Any]] = [{"steps": 0}, {"rates": []}, {"size": 8}, {"layers": "first"}]
    for params in wrong:
        with pytest.raises(UserError):
            methods.build("linear-probe", params, task="detection")


def test_usual_boxes_are_of_the_most_frequent_class_and_scale_with_the_picture() -> None:
    boxes = [[10, 10, 30, 30], [12, 10, 30, 30], [0, 0, 100, 50]]
    train = Boxes((Annotation.of((50, 100), boxes, [1, 1, 1]),
                   Annotation.of((50, 100), [[1, 1, 2, 2]], [0])), 2)  # fmt: skip
    test = Boxes((Annotation.of((100, 200), [], []), Annotation.of((50, 100), [], [])), 2)
    of = {
        name: Split(name, tuple(map(str, range(len(targets)))), targets, lambda i: None)
        for name, targets in (("train", train), ("valid", test), ("test", test))
    }
    splits = Splits(of["train"], of["valid"], of["test"], ("a", "b"), "image", task="detection")
    large, same = adapted("majority", splits).predict(splits.test)
    assert set(same.labels.tolist()) == {1}
    np.testing.assert_allclose(np.sort(same.boxes, axis=0), np.sort(np.array(boxes), axis=0))
    np.testing.assert_allclose(large.boxes, 2 * same.boxes)
    assert sorted(same.scores.round(3).tolist()) == [0.333, 0.667, 0.667]
    nothing = dataclasses.replace(splits, train=splits.test)
    assert [len(one.boxes) for one in adapted("majority", nothing).predict(splits.test)] == [0, 0]


def test_an_oracle_loses_what_the_grid_cannot_say(splits: Splits) -> None:
    """Of two objects in one cell one is lost, and a speck between the centres of cells."""
    truth = Annotation.of(
        (96, 96), [[20, 20, 36, 36], [21, 21, 35, 35], [1, 1, 6, 6], [50, 50, 90, 90]], [0, 1, 2, 3]
    )
    one = Boxes((truth,), 4)
    small = dataclasses.replace(splits.test.subset(np.array([0])), targets=one)
    (found,) = adapted("oracle", splits, size=96).predict(small)
    assert sorted(found.labels.tolist()) == [1, 3]
    assert boxes_of(small) is one
