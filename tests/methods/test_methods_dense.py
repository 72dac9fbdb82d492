"""Cells and masks against loops over pixels, and the probe against the problem of all pixels."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from zoobench import datasets, methods, models, tasks
from zoobench.errors import UnknownName, Unsupported, UserError
from zoobench.features.cells import STRIDE
from zoobench.features.source import Features, View
from zoobench.interfaces import Split, Splits
from zoobench.methods.cells import cell_miou, masses, painted, sampled
from zoobench.methods.dense_probe import DenseProbe
from zoobench.models.dense import placement
from zoobench.models.weights import state_digest
from zoobench.tasks.segmentation import IGNORED, masks_of
from zoobench.views import CellFeatures, Placement

SIZE = 96
SMALL = "train=40&valid=12&test=30"


def splits_of(options: str = SMALL) -> Splits:
    return datasets.load(datasets.resolve(f"synthetic/stripes?task=segmentation&{options}"))


def source_of(options: str = "") -> Features:
    ref = models.resolve(f"synthetic/gabor{options}")
    return Features(models.load(ref, seed=0), View(str(ref)))


def adapted(name: str, splits: Splits, source: Any = None, **params: Any) -> Any:
    params = {"size": SIZE, **params} if name != "majority" else params
    method = methods.build(name, params, task="segmentation")
    if method.needs == "nothing":
        return method.adapt(None, splits.sealed(), 0)
    return method.adapt(source or source_of(), splits.sealed(), 0)


def miou(fitted: Any, split: Split) -> float:
    outcomes = tasks.task("segmentation").judge(fitted.predict(split), split, (None, split))
    found = tasks.task("segmentation").statistics(outcomes)(np.ones((1, outcomes.n)), ["miou"])
    return float(found["miou"][0])


@settings(max_examples=30)
@given(
    height=st.integers(1, 70), width=st.integers(1, 70), side=st.sampled_from([32, 48, 100]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_masses_count_each_pixel_where_its_centre_lies(
    height: int, width: int, side: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice([0, 1, 2, IGNORED], (height, width)).astype(np.uint8)
    where = placement((height, width), (side, side), "letterbox")
    found = masses(mask, where, 3)
    expected = np.zeros_like(found)
    down, across = where.scale
    for y in range(height):
        for x in range(width):
            if mask[y, x] != IGNORED:
                cell = int((y + 0.5) * down // STRIDE), int((x + 0.5) * across // STRIDE)
                expected[(*cell, mask[y, x])] += 1
    assert np.array_equal(found, expected)
    assert found.sum() == (mask != IGNORED).sum()


@settings(max_examples=8)
@given(
    height=st.integers(1, 60), width=st.integers(1, 60), side=st.sampled_from([32, 64]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_painting_is_bilinear_between_the_centres_of_cells(
    height: int, width: int, side: int, seed: int
) -> None:
    where = placement((height, width), (side, side), "letterbox")
    cells = side // STRIDE
    scores = torch.from_numpy(np.random.default_rng(seed).standard_normal((cells, cells, 3)))
    found = painted(scores, where)
    last = [min(cells - 1, (content - 1) // STRIDE) for content in where.content]

    def at(place: float, most: int) -> tuple[int, int, float]:
        here = min(max(place / STRIDE - 0.5, 0.0), most)
        low = min(int(here), max(most - 1, 0))
        return low, min(low + 1, most), here - low

    for y in range(height):
        top, below, v = at((y + 0.5) * where.scale[0], last[0])
        for x in range(width):
            left, right, u = at((x + 0.5) * where.scale[1], last[1])
            value = (1 - v) * ((1 - u) * scores[top, left] + u * scores[top, right])
            value = value + v * ((1 - u) * scores[below, left] + u * scores[below, right])
            best = value.topk(2).values
            if float(best[0] - best[1]) > 1e-6:
                assert found[y, x] == int(value.argmax())


def test_painting_agrees_with_torchs_own_interpolation_of_whole_frames() -> None:
    scores = torch.randn(6, 6, 4, generator=torch.Generator().manual_seed(0))
    where = Placement((150, 150), (SIDE := 6 * STRIDE, SIDE), (SIDE, SIDE))
    theirs = torch.nn.functional.interpolate(
        scores.permute(2, 0, 1)[None], (150, 150), mode="bilinear", align_corners=False
    )[0].argmax(dim=0)
    assert float((painted(scores, where) == theirs.numpy()).mean()) > 0.9999


def test_a_large_picture_is_painted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(0))
    where = placement((90, 61), (64, 64), "letterbox")
    whole = painted(scores, where)
    monkeypatch.setattr("zoobench.methods.cells.BLOCK", 1)
    assert np.array_equal(painted(scores, where), whole)


def test_cells_are_drawn_by_hash_wherever_a_picture_stands_and_every_class_is_kept() -> None:
    splits = splits_of()
    split = splits.train
    where = [placement(size, (SIZE, SIZE), "letterbox") for size in masks_of(split).sizes]
    all_of = sampled(split, where)
    assert len(all_of.rows) == len(split) * 36
    few = sampled(split, where, most=100)
    assert 90 <= len(few.rows) <= 104
    assert (few.mass.sum(axis=0) > 0).all()
    order = np.random.default_rng(0).permutation(len(split))
    turned = split.subset(order)
    again = sampled(turned, where, most=100)
    named = {(split.ids[r // 36], r % 36) for r in few.rows}
    assert named == {(turned.ids[r // 36], r % 36) for r in again.rows}
    one = sampled(split, where, most=1)
    assert (one.mass.sum(axis=0) > 0).all(), "a cell of each class, whatever the hash says"
    assert np.array_equal(all_of.mass[np.searchsorted(all_of.rows, few.rows)], few.mass)


def test_the_miou_of_cells_is_that_of_pixels_of_one_class_a_cell() -> None:
    rng = np.random.default_rng(0)
    mass = rng.integers(0, 5, (40, 4))
    best = rng.integers(0, 4, 40)
    said = np.repeat(best, mass.sum(axis=1))
    true = np.concatenate([np.repeat(np.arange(4), row) for row in mass])
    ious = [((said == c) & (true == c)).sum() / ((said == c) | (true == c)).sum() for c in range(4)]
    found = cell_miou(torch.from_numpy(best), torch.from_numpy(mass).float())
    assert found == pytest.approx(np.mean(ious))


class Fixed:
    """Cells whose features are given, by split name."""

    device = torch.device("cpu")

    def __init__(self, cells: dict[str, CellFeatures]) -> None:
        self.given = cells

    def cells(self, split: Split, size: tuple[int, int], layers: str = "last") -> CellFeatures:
        return self.given[split.name]


def test_the_probe_is_the_optimum_of_the_problem_of_all_pixels() -> None:
    """Every pixel is a row with its cell's features, and scikit-learn solves that in float64."""
    splits = splits_of("train=12&valid=6&test=6&noise=60")
    source, size = source_of(), (SIZE, SIZE)
    fitted = adapted("linear-probe", splits, source, refit=False)
    rows, labels = [], []
    held = source.cells(splits.train, size)
    for i, where in enumerate(held.places):
        mask = masks_of(splits.train).read(i)
        for y in range(mask.shape[0]):
            for x in range(mask.shape[1]):
                if mask[y, x] != IGNORED:
                    cell = (
                        int((y + 0.5) * where.scale[0] // 16),
                        int((x + 0.5) * where.scale[1] // 16),
                    )
                    rows.append(held.values[(i, *cell)])
                    labels.append(mask[y, x])
    # A pixel's features are its cell's: the same rows, counted, keep scikit-learn's fit small.
    distinct, index = np.unique(np.asarray(rows, dtype=np.float64), axis=0, return_inverse=True)
    many = np.zeros((len(distinct), 4))
    np.add.at(many, (index.ravel(), np.asarray(labels)), 1)
    flat, weight = np.asarray(rows, dtype=np.float64), len(rows)
    centred = (distinct - flat.mean(axis=0)) / math.sqrt(flat.var(axis=0).mean())
    at, of = np.nonzero(many)
    lam = fitted.chosen["lambda"]
    theirs = LogisticRegression(C=1.0 / (lam * weight), tol=1e-12, max_iter=5000)
    theirs.fit(centred[at], of, sample_weight=many[at, of])
    scores = centred @ theirs.coef_.T + theirs.intercept_
    logs = scores - np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1, keepdims=True))
    logs -= scores.max(axis=1, keepdims=True)
    best = -(many * logs).sum() / weight + lam / 2 * (theirs.coef_**2).sum()

    head = methods.build("linear-probe", {"size": SIZE, "refit": False}, task="segmentation")
    again = head.adapt(source, splits.sealed(), 0)
    assert again.facts["valid_relative_gap"] <= 1e-4
    path_objective = objective_of(source, splits, lam)
    assert path_objective == pytest.approx(best, rel=1e-4)


def objective_of(source: Features, splits: Splits, lam: float) -> float:
    """The probe's own objective on train at `lam`."""
    from zoobench.solvers.logistic import logistic_path

    held = source.cells(splits.train, (SIZE, SIZE))
    drawn = sampled(splits.train, held.places)
    valid = source.cells(splits.valid, (SIZE, SIZE))
    other = sampled(splits.valid, valid.places)
    path = logistic_path(
        held.rows(drawn.rows), torch.from_numpy(drawn.mass), valid.rows(other.rows),
        torch.from_numpy(other.mass), 4,
        judge=lambda scores: 1 - cell_miou(scores.argmax(dim=1), torch.from_numpy(other.mass)),
    )  # fmt: skip
    assert path.fit.lam == lam
    return path.fit.certificate.objective


def test_the_probe_learns_directions_and_the_controls_do_not() -> None:
    splits = splits_of(f"{SMALL}&noise=500")
    source = source_of()
    before = state_digest(source.module)
    fitted = adapted("linear-probe", splits, source)
    assert state_digest(source.module) == before
    found = miou(fitted, splits.test)
    scores = {name: miou(adapted(name, splits), splits.test) for name in ("majority", "raw-input")}
    random = miou(adapted("linear-probe", splits, source_of("?weights=random")), splits.test)
    oracle = miou(adapted("oracle", splits), splits.test)
    assert oracle > found > max(random + 0.05, *scores.values())
    assert oracle > 0.9
    shuffled = splits_of(f"{SMALL}&noise=500&shuffled=true")
    nothing = miou(adapted("linear-probe", shuffled, source_of()), shuffled.test)
    assert nothing < 0.5 * found
    assert fitted.facts["train_cells"] == 40 * 36
    assert 0 < fitted.facts["valid_miou"] <= 1
    again = adapted("linear-probe", splits, source_of()).predict(splits.test)
    assert all(
        np.array_equal(a, b) for a, b in zip(again, fitted.predict(splits.test), strict=True)
    )


def test_the_test_split_and_its_masks_are_sealed_while_adapting() -> None:
    splits = splits_of("train=20&valid=8&test=6")

    def sealed(i: int) -> Any:
        raise AssertionError("test was read while adapting")

    masks = dataclasses.replace(masks_of(splits.test), read=sealed)
    hidden = dataclasses.replace(
        splits, test=dataclasses.replace(splits.test, read=sealed, targets=masks)
    )
    for name in ("linear-probe", "raw-input", "majority", "oracle"):
        fitted = adapted(name, hidden)
        said = fitted.valid_scores
        assert [m.shape for m in said] == masks_of(splits.valid).sizes


def test_a_transposed_map_a_class_off_by_one_and_no_shift_are_told_apart() -> None:
    splits = splits_of()
    plain = miou(adapted("linear-probe", splits), splits.test)

    def spoiled(change: Any) -> float:
        source = source_of()
        held = {
            s.name: source.cells(s, (SIZE, SIZE)) for s in (splits.train, splits.valid, splits.test)
        }
        given = {name: CellFeatures(change(c.values), c.places) for name, c in held.items()}
        return miou(adapted("linear-probe", splits, Fixed(given)), splits.test)

    assert spoiled(lambda values: values) == pytest.approx(plain)
    assert spoiled(lambda values: values.transpose(0, 2, 1, 3)) < plain - 0.1
    assert spoiled(lambda values: np.roll(values, 2, axis=2)) < plain - 0.05

    class OffByOne:
        def predict(self, split: Split) -> Any:
            fitted = adapted("linear-probe", splits)
            return [(mask + 1) % 4 for mask in fitted.predict(split)]

    assert miou(OffByOne(), splits.test) < 0.1


def test_classes_that_train_lacks_are_never_said_and_count() -> None:
    splits = splits_of("train=30&valid=10&test=10")

    def without(i: int) -> Any:
        mask = masks_of(splits.train).read(i).copy()
        mask[mask == 2] = IGNORED
        return mask

    from zoobench.tasks.segmentation import Masks

    fewer = Masks.of(without, 30, 4)
    given = dataclasses.replace(splits, train=dataclasses.replace(splits.train, targets=fewer))
    fitted = adapted("linear-probe", given)
    said = np.unique(np.concatenate([mask.ravel() for mask in fitted.predict(splits.test)]))
    assert set(said.tolist()) <= {0, 1, 3}
    assert fitted.facts["valid_miou"] < 0.8


def test_a_method_may_have_a_class_of_its_own_for_a_task() -> None:
    assert methods.method_class("linear-probe", task="segmentation") is DenseProbe
    assert methods.method_class("linear-probe") is not DenseProbe
    served = methods.served("linear-probe")
    assert served[:3] == ("classification", "segmentation", "detection")
    others = {"token-classification", "question-answering", "speech-recognition"}
    assert set(served[3:]) == others
    with pytest.raises(UnknownName, match="parameter 'size' for linear-probe"):
        methods.build("linear-probe", {"size": 224})
    for size in (0, 8, 10**6):
        with pytest.raises(UserError, match="between 32 and 4096"):
            methods.build("linear-probe", {"size": size}, task="segmentation")
    with pytest.raises(UserError, match="layers"):
        methods.build("linear-probe", {"layers": "first"}, task="segmentation")


def test_a_model_without_maps_is_unsupported() -> None:
    ref = models.resolve("synthetic/bag")
    source = Features(models.load(ref, seed=0), View(str(ref)))
    with pytest.raises(Unsupported):
        adapted("linear-probe", splits_of("train=20&valid=8&test=6"), source)


@pytest.mark.parametrize("name", ["majority", "oracle"])
def test_controls_say_masks_of_the_truths_sizes(name: str) -> None:
    splits = splits_of("train=20&valid=8&test=6")
    said = adapted(name, splits).predict(splits.test)
    assert [m.shape for m in said] == masks_of(splits.test).sizes
    assert all(m.dtype == np.uint8 for m in said)


def test_neighbouring_cells_vote_with_their_shares_of_classes() -> None:
    from zoobench.solvers.knn import knn_log_probs

    rng = np.random.default_rng(0)
    bank, asked = (torch.from_numpy(rng.standard_normal((n, 5))).float() for n in (30, 8))
    shares = torch.from_numpy(rng.dirichlet(np.ones(3), 30))
    found = knn_log_probs(bank, shares, asked, 3, [4]).exp()[0].numpy()
    cosine = np.asarray(torch.nn.functional.cosine_similarity(asked[:, None], bank[None], dim=2))
    for i in range(8):
        near = np.argsort(-cosine[i])[:4]
        weight = np.exp(cosine[i][near] / 0.07)
        vote = weight @ shares.numpy()[near] / weight.sum()
        assert found[i] == pytest.approx((4 * vote + 1 / 3) / 5, abs=1e-4)
    labels = torch.from_numpy(rng.integers(0, 3, 30))
    hard = knn_log_probs(bank, labels, asked, 3, [4])
    soft = knn_log_probs(bank, torch.eye(3)[labels], asked, 3, [4])
    torch.testing.assert_close(hard, soft)


def test_knn_on_cells_learns_directions_and_chooses_k_on_valid() -> None:
    splits = splits_of("train=20&valid=8&test=10")
    fitted = adapted("knn", splits, k=[1, 5, 10**6])
    assert miou(fitted, splits.test) > 0.5
    assert fitted.chosen["k"] in (1, 5)
    assert fitted.facts["train_cells"] == 20 * 36
    assert [m.shape for m in fitted.valid_scores] == masks_of(splits.valid).sizes
    again = adapted("knn", splits, k=[1, 5, 10**6]).predict(splits.test)
    assert all(
        np.array_equal(a, b) for a, b in zip(again, fitted.predict(splits.test), strict=True)
    )
