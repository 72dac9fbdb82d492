"""The gate on segmentations: a loss in one class is caught, and equals are not accused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cells import cell, settings
from compare_runs import ENVIRONMENT, MODEL
from zoobench.compare.compare import compare_paths
from zoobench.compare.gates import Gates
from zoobench.compare.pairs import PairedOutcomes, estimate
from zoobench.compare.quality import Evidence, verdicts
from zoobench.interfaces import Split, Splits
from zoobench.models.dense import DenseView
from zoobench.schema import Cell, Outcomes, Record, Ref
from zoobench.statistics.bootstrap import numbered, resampled
from zoobench.statistics.intervals import of_draws
from zoobench.store import Store
from zoobench.tasks.evaluate import evaluate
from zoobench.tasks.segmentation import Masks, Segmentation, statistics
from zoobench.workers.runner import run_group

CLASSES = 8
SHARES = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.04, 0.01])
Ints = NDArray[np.int64]


def pictures(rng: np.random.Generator, n: int) -> Ints:
    """(n, C) pixels of 1,000: a picture holds about three classes."""
    held = rng.random((n, CLASSES)) < np.maximum(2.5 * SHARES, 0.1)
    held[np.arange(n), rng.choice(CLASSES, n, p=SHARES)] = True
    shares = rng.dirichlet(np.ones(CLASSES), n) * held
    return np.asarray(np.rint(1000 * shares / shares.sum(axis=1, keepdims=True)), dtype=np.int64)


def answers(true: Ints, skill: NDArray[np.float64], rng: np.random.Generator) -> Outcomes:
    """Of each class in each picture the share `skill` (n, C) is found; the rest goes anywhere."""
    hit = rng.binomial(true, skill)
    lost = (true - hit).sum(axis=1)
    wrong = rng.multinomial(lost, SHARES)
    arrays = {"intersection": hit, "predicted": hit + wrong, "true": true}
    return Outcomes(len(true), {name: array.astype(np.int32) for name, array in arrays.items()})


def skills(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """A segmenter's luck with each class of each picture, drawn anew each time."""
    return rng.beta(6, 2, (n, CLASSES))


def written(path: Path, outcomes: Outcomes) -> Path:
    n = outcomes.n
    masks = Masks(lambda i: np.zeros((1, 1), np.uint8), (), CLASSES)
    empty = Split("test", (), masks, str)
    names = tuple(f"class{c}" for c in range(CLASSES))
    splits = Splits(empty, empty, empty, names, "image", task="segmentation")
    kept = outcomes.of(numbered(n, "scenes"))
    cell = Cell(
        Ref.parse("packaged/efficientnet-lite0@1"), Ref.parse("folder/scenes@1"), "linear-probe",
        versions={"protocol": 1, "task": "segmentation@1", "method": 1},
    )  # fmt: skip
    facts = {"splits": {"test": "s"}, "sizes": {"test": n}, "classes": CLASSES, "model": MODEL}
    record = Record(
        cell, "ok", evaluate(Segmentation(), kept, splits), environment=ENVIRONMENT,
        provenance=facts,
    )  # fmt: skip
    with Store(path, 'name = "dense"\nidentity = "dense"\n', "dense") as store:
        store.append(record, kept)
    return path


@pytest.mark.parametrize("lost", [2, 6], ids=["a common class", "a rare class"])
def test_a_loss_in_one_class_is_caught(lost: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    true = pictures(rng, 300)
    before = answers(true, skills(rng, 300), rng)
    hit = before.arrays["intersection"].copy()
    predicted = before.arrays["predicted"].copy()
    gone = hit[:, lost] // 2
    hit[:, lost] -= gone
    predicted[:, lost] -= gone
    predicted[:, (lost + 1) % CLASSES] += gone
    after = Outcomes(300, {**before.arrays, "intersection": hit, "predicted": predicted})
    old, new = written(tmp_path / "old", before), written(tmp_path / "new", after)
    found = compare_paths(old, new)
    assert found.exit_code == 1
    (finding,) = [f for f in found.findings if f.kind == "quality"]
    assert (finding.metric, finding.outcome) == ("miou", "regressed")
    assert compare_paths(old, old).exit_code == 0
    back = compare_paths(new, old)
    assert [f.outcome for f in back.findings if f.kind == "quality"] == ["improved"]


def test_masks_that_differ_are_no_comparison(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sides = []
    for name in ("old", "new"):
        true = pictures(rng, 50)
        sides.append(written(tmp_path / name, answers(true, skills(rng, 50), rng)))
    found = compare_paths(sides[0], sides[1])
    assert found.exit_code == 4
    assert found.findings[0].outcome == "incomparable"


def test_equal_segmenters_are_accused_in_at_most_one_comparison_of_twenty() -> None:
    """A against A: both find each class of each picture by luck of one distribution. By the
    bootstrap's standard error alone it was 6.4% of 3,000 such comparisons of 150 pictures."""
    rng, n, runs = np.random.default_rng(0), 40, 100
    cell = Cell(Ref.parse("a/b"), Ref.parse("c/d"), "linear-probe")
    accused = sure = 0
    for run in range(runs):
        true = pictures(rng, n)
        units = numbered(n, "scenes", run)
        sides = [statistics(answers(true, skills(rng, n), rng)) for _ in range(2)]
        pair = PairedOutcomes(Segmentation(), n, units, ((sides[0], sides[1]),))
        old, new = (float(s(np.ones((1, n)), ["miou"])["miou"][0]) for s in sides)
        found = estimate(pair, "miou", ())
        assert found is not None
        sure += found.less < 0.05
        (finding,), _ = verdicts([Evidence(cell, "miou", old, new, n, found=found)], Gates())
        accused += finding.outcome == "regressed"
    assert accused <= sure
    assert accused <= 0.05 * runs
    assert sure >= 1, "a test that never finds anything proves nothing"


def test_intervals_of_few_pictures_hold_the_truth() -> None:
    """Plain percentiles held it in 84% of 300 such sets: mIoU of a resample is below the set's."""
    rng, n, runs = np.random.default_rng(5), 40, 150
    one = np.ones((1, 20_000))
    large = answers(pictures(rng, 20_000), skills(rng, 20_000), rng)
    truth = float(statistics(large)(one, ["miou"])["miou"][0])
    held = 0
    for run in range(runs):
        some = statistics(answers(pictures(rng, n), skills(rng, n), rng))
        value = float(some(np.ones((1, n)), ["miou"])["miou"][0])
        draws = [some(w, ["miou"])["miou"] for w in resampled(numbered(n, "scenes", run))]
        low, high = of_draws(value, np.concatenate(draws), n, bounds=(0.0, 1.0))
        held += low <= truth <= high
    assert held >= 0.89 * runs


def test_channels_the_other_way_round_are_named_where_grey_pictures_hide_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stripes are grey, so that no score moves; the fixed pictures have colours."""
    plain = cell(dataset="synthetic/stripes@1?task=segmentation&train=12&valid=4&test=6")
    params = {"lambdas": 5, "decades": 4.0, "refit": True, "size": 96, "layers": "last"}
    versions = {**plain.versions, "task": "segmentation@1"}
    asked = replace(plain, method="linear-probe", params=params, versions=versions)

    def write(path: Path) -> Path:
        with Store(path, 'name = "t"\nidentity = "t"\n', "t") as store:
            (result,) = run_group([asked], settings())
            assert result.record.status == "ok", result.record.error
            store.append(result.record, result.outcomes)
        return path

    old, same = write(tmp_path / "old"), write(tmp_path / "same")
    tensor = DenseView.tensor
    monkeypatch.setattr(DenseView, "tensor", lambda self, pixels: tensor(self, pixels.flip(-1)))
    assert compare_paths(old, same).exit_code == 0
    found = compare_paths(old, write(tmp_path / "new"))
    (digest,) = [f for f in found.findings if f.outcome == "regressed"]
    assert digest.stage == "pixels"
