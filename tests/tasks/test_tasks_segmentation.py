"""mIoU against scikit-learn's confusion matrix and a loop over pixels, and masks as targets."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zoobench import tasks
from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.statistics.bootstrap import resampled, units_of
from zoobench.tasks.evaluate import evaluate
from zoobench.tasks.segmentation import (
    IGNORED,
    LabelMaps,
    Masks,
    Segmentation,
    masks_of,
    outcomes_of,
    statistics,
)

Mask = NDArray[np.uint8]
NAMES = Segmentation.metrics


def judged(truth: list[Mask], said: list[Mask], classes: int) -> Outcomes:
    return outcomes_of(said, truth.__getitem__, len(truth), classes)


def values(outcomes: Outcomes) -> dict[str, float]:
    found = statistics(outcomes)(np.ones((1, outcomes.n)), NAMES)
    return {name: float(value[0]) for name, value in found.items()}


def by_hand(truth: list[Mask], said: list[Mask], classes: int) -> dict[str, float]:
    """Pixel by pixel; the means as their definitions say."""
    inside = np.zeros((len(truth), classes, 3))
    for i, (mask, guess) in enumerate(zip(truth, said, strict=True)):
        for right, named in zip(mask.ravel().tolist(), guess.ravel().tolist(), strict=True):
            if right == IGNORED:
                continue
            for c in range(classes):
                inside[i, c] += (right == c == named, named == c, right == c)

    def mean(table: NDArray[np.float64]) -> float:
        ious = [hit / (said + true - hit) for hit, said, true in table.tolist() if true]
        return sum(ious) / len(ious) if ious else 0.0

    whole = inside.sum(axis=0)
    return {
        "miou": mean(whole),
        "miou_foreground": mean(whole[1:]),
        "pixel_accuracy": whole[:, 0].sum() / max(1, whole[:, 2].sum()),
        "picture_miou": float(np.mean([mean(picture) for picture in inside])),
    }


def drawn(seed: int, n: int, classes: int, ignored: float = 0.1) -> tuple[list[Mask], list[Mask]]:
    """Pictures of different sizes; some classes are rare, and some in no truth."""
    rng = np.random.default_rng(seed)
    truth, said = [], []
    shares = rng.dirichlet(np.full(classes, 0.5))
    for _ in range(n):
        size = tuple(rng.integers(1, 8, 2))
        mask = rng.choice(classes, size, p=shares).astype(np.uint8)
        guess = np.where(rng.random(size) < 0.5, mask, rng.integers(0, classes, size))
        mask[rng.random(size) < ignored] = IGNORED
        truth.append(mask)
        said.append(guess.astype(np.uint8))
    return truth, said


@settings(max_examples=40)
@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 6),
    classes=st.integers(1, 7),
    ignored=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_equals_a_loop_over_pixels(seed: int, n: int, classes: int, ignored: float) -> None:
    truth, said = drawn(seed, n, classes, ignored)
    assert values(judged(truth, said, classes)) == pytest.approx(by_hand(truth, said, classes))


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learns_confusion_matrix_and_jaccard_score(seed: int) -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

    truth, said = drawn(seed, 30, 6)
    valid = [mask != IGNORED for mask in truth]
    flat = np.concatenate([mask[ok] for mask, ok in zip(truth, valid, strict=True)])
    named = np.concatenate([mask[ok] for mask, ok in zip(said, valid, strict=True)])
    here = np.unique(flat)
    found = values(judged(truth, said, 6))
    table = confusion_matrix(flat, named, labels=range(6))
    union = table.sum(axis=0) + table.sum(axis=1) - table.diagonal()
    assert found["miou"] == pytest.approx((table.diagonal() / np.maximum(union, 1))[here].mean())
    assert found["miou"] == pytest.approx(
        jaccard_score(flat, named, labels=here, average="macro", zero_division=0)
    )
    assert found["pixel_accuracy"] == pytest.approx(accuracy_score(flat, named))


def test_corners_have_a_stated_value() -> None:
    one = np.zeros((2, 2), dtype=np.uint8)
    none = np.full((2, 2), IGNORED, dtype=np.uint8)
    assert values(judged([one], [one], 3))["miou"] == 1
    assert values(judged([one], [one], 3))["miou_foreground"] == 0, "no foreground in the truth"
    assert values(judged([one], [one + 1], 3))["miou"] == 0, "what is only predicted is no class"
    assert values(judged([one], [none], 3)) == dict.fromkeys(NAMES, 0.0), "none of the classes"
    assert values(judged([none], [one], 3))["miou"] == 0, "nothing to judge"
    assert values(judged([one, none], [one, one], 3))["pixel_accuracy"] == 1


def test_a_class_is_left_out_of_a_resample_that_lacks_it_for_every_model_alike() -> None:
    truth = [np.full((1, 4), c, dtype=np.uint8) for c in (0, 0, 0, 1)]
    good, bad = [m.copy() for m in truth], [np.zeros_like(m) for m in truth]
    weights = np.array([[1.0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 2]])
    known, poor = (statistics(judged(truth, said, 3))(weights, ["miou"])["miou"]
                   for said in (good, bad))  # fmt: skip
    assert known.tolist() == [1, 1, 1]
    assert poor == pytest.approx([1.0, (0.75 + 0) / 2, 0.0])


def test_what_cannot_be_judged_is_refused() -> None:
    mask = np.zeros((2, 3), dtype=np.uint8)
    for said, why in [
        ([mask.T], r"must be \(2, 3\) pixels, not \(3, 2\)"),
        ([mask + 3], "must lie in 0 to 2"),
        ([mask.astype(int) - 1], "must lie in 0 to 2"),
        ([mask, mask], "must be 1 masks, not 2"),
    ]:
        with pytest.raises(ValueError, match=why):
            judged([mask], said, 3)
    with pytest.raises(NotFinite, match="1 of 1 test examples"):
        judged([mask], [np.where(mask, 0.0, np.nan)], 3)
    with pytest.raises(ValueError, match="holds the class 3; 0 to 2 are known, and 255 is ignored"):
        Masks.of(lambda i: mask + 3, 1, 3)


def splits_of(names: tuple[str, ...], seed: int = 0, n: int = 40) -> tuple[Splits, Outcomes]:
    truth, said = drawn(seed, n, len(names))
    masks = Masks.of(truth.__getitem__, n, len(names))
    test = Split("test", tuple(f"{seed}-{i}" for i in range(n)), masks, str)
    splits = Splits(test, test, test, names, "image", task="segmentation")
    return splits, Segmentation().judge(said, test, (None, test)).of(test.units)


def test_a_record_has_the_iou_of_each_class_and_the_foreground_where_there_is_a_background() -> (
    None
):
    splits, outcomes = splits_of(("Background", "cat", "dog", "unicorn"))
    outcomes.arrays["true"][:, 3] = 0
    measured = {m.metric: m for m in evaluate(Segmentation(), outcomes, splits)}
    assert list(measured) == list(NAMES)
    ious = measured["miou"].detail["iou"]
    assert list(ious) == ["Background", "cat", "dog"]
    assert measured["miou"].detail["classes_not_in_test"] == 1
    assert measured["miou"].value == pytest.approx(np.mean(list(ious.values())), abs=1e-6)
    plain, outcomes = splits_of(("cat", "dog", "cow", "unicorn"))
    assert "miou_foreground" not in Segmentation().reported(outcomes, plain)


def test_predictions_are_kept_packed_and_come_back() -> None:
    masks = [np.full((i + 1, 5), i, dtype=np.uint8) for i in range(4)]
    kept = LabelMaps(iter(masks))
    assert len(kept) == 4
    assert all(np.array_equal(a, b) for a, b in zip(kept, masks, strict=True))
    assert [m.shape for m in kept[1:3]] == [(2, 5), (3, 5)]


def test_masks_are_stratified_by_their_rarest_class_and_known_by_content() -> None:
    read = [np.array(row, dtype=np.uint8)[None] for row in ([0, 0], [0, 1], [1, 2], [0, 0])]
    masks = Masks.of(read.__getitem__, 4, 3)
    assert masks.strata.tolist() == [0, 1, 2, 0]
    assert masks.keys()[0] == masks.keys()[3] != masks.keys()[1]
    assert masks.sizes == [(1, 2)] * 4
    assert masks.subset(np.array([2])).read(0).tolist() == [[1, 2]]
    other = Masks.of(read.__getitem__, 4, 4)
    assert other.content() != masks.content(), "another number of classes is another question"
    split = Split("train", ("a", "b", "c", "d"), masks, str)
    assert masks_of(split) is masks
    assert (
        hashlib.sha256(masks.content()).hexdigest()
        == hashlib.sha256(Masks.of(read.__getitem__, 4, 3).content()).hexdigest()
    )


def test_intervals_of_miou_cover_what_they_say() -> None:
    """Test sets of 60 pictures out of one population, whose mIoU is known."""
    rng = np.random.default_rng(0)
    classes, population, n = 4, 20_000, 60
    true = rng.multinomial(100, [0.5, 0.3, 0.15, 0.05], population)
    skill = rng.beta(6, 3, (population, 1))
    hit = rng.binomial(true, skill)
    wrong = rng.multinomial(1, [0.25] * classes, population) * (true - hit).sum(axis=1)[:, None]
    arrays = {"intersection": hit, "predicted": hit + wrong, "true": true}
    whole = values(Outcomes(population, arrays))["miou"]
    covered, runs = 0, 150
    for run in range(runs):
        rows = rng.choice(population, n, replace=False)
        some = Outcomes(n, {name: array[rows] for name, array in arrays.items()})
        units = units_of([f"{run}-{i}" for i in rows])
        draws = np.concatenate(
            [statistics(some)(w, ["miou"])["miou"] for w in resampled(units, 400)]
        )
        low, high = np.quantile(draws, [0.025, 0.975])
        covered += low <= whole <= high
    assert covered >= 0.88 * runs


def test_the_task_is_in_the_table() -> None:
    assert isinstance(tasks.task("segmentation"), Segmentation)
