"""What is drawn is the unit: shared test parts, families, corrupted copies; and lone runs."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from fakes import make_outcomes, make_record
from zoobench import datasets
from zoobench.ranking.outcomes import luck_of
from zoobench.ranking.rank import rank
from zoobench.ranking.recommend import recommend
from zoobench.report.terminal import overall_notes
from zoobench.schema import Record
from zoobench.statistics.bootstrap import unit_count, units_of
from zoobench.store import Run, Store, load

MODELS = ("timm/netA@1", "timm/netB@1", "timm/netC@1")
LABELS = (np.arange(500) % 10).astype(np.int32)


def written(path: Path, answers: dict[tuple[str, str, str, int], np.ndarray]) -> Run:
    """A run of (model, dataset, method, seed) -> which of the 500 examples are right."""
    with Store(path, 'identity = "x"\n', "x") as store:
        for (model, dataset, method, seed), right in answers.items():
            record = make_record(model, dataset, method, right=right, seed=seed)
            store.append(record, make_outcomes(right, LABELS, 10))
    return load(path)


def test_one_test_part_under_three_names_is_one(tmp_path: Path) -> None:
    """mnist-5k after 400, 800 and 1,600 training examples: the mean is hardly surer than one."""
    rng = np.random.default_rng(1)
    answers = {}
    for model, level in zip(MODELS, (0.85, 0.82, 0.8), strict=True):
        right = rng.random(500) < level
        for size in (400, 800, 1600):
            again = np.where(rng.random(500) < 0.02, ~right, right)
            answers[model, f"packaged/mnist-5k@1?max_train={size}", "knn", 0] = again
    (overall,) = rank([written(tmp_path, answers)]).overall
    assert len(overall.datasets) == 3
    one = max(section.rows[0].high - section.rows[0].low for section in overall.sections)
    assert overall.rows[0].high - overall.rows[0].low > 0.85 * one


def test_single_training_runs_are_all_tied_and_seeds_tell_them_apart(tmp_path: Path) -> None:
    """Five copies of one checkpoint came to 76.8, 76.8, 73.3, 66.4 and 61.7 after 40 steps."""
    names = [f"timm/copy{m}@1" for m in range(5)]
    levels = (0.768, 0.768, 0.733, 0.664, 0.617)
    rng = np.random.default_rng(0)
    lone = {
        (name, "packaged/digits@1", "fine-tune", 0): rng.random(500) < level
        for name, level in zip(names, levels, strict=True)
    }
    (overall,) = rank([written(tmp_path / "lone", lone)]).overall
    assert [(row.rank_low, row.rank_high, row.tied) for row in overall.rows] == [(1, 5, True)] * 5
    assert all("one run" in [flag.name for flag in row.flags] for row in overall.rows)
    assert overall.gap is None
    assert any("one training run each" in line for line in overall_notes(overall))
    chosen = recommend(overall)
    assert not chosen.loss
    assert chosen.cheapest is None
    several = lone | {
        (name, "packaged/digits@1", "fine-tune", seed): rng.random(500) < level + luck
        for name, level in zip(names, levels, strict=True)
        for seed, luck in ((1, 0.01), (2, -0.01))
    }
    (overall,) = rank([written(tmp_path / "several", several)]).overall
    assert overall.rows[-1].rank_low > 1
    assert overall.gap is not None
    assert not any("one run" in [flag.name for flag in row.flags] for row in overall.rows)


@pytest.mark.parametrize(("draws", "tied"), [(1, 2), (3, 1)])
def test_of_one_few_shot_draw_nothing_follows(tmp_path: Path, draws: int, tied: int) -> None:
    rng = np.random.default_rng(0)
    with Store(tmp_path, 'identity = "x"\n', "x") as store:
        for model, level in zip(MODELS[:2], (0.9, 0.7), strict=True):
            for seed in range(draws):
                right = rng.random(500) < level
                made = make_record(model, "packaged/digits@1", "ridge", right=right, seed=seed,
                                   shots=4)  # fmt: skip
                store.append(made, make_outcomes(right, LABELS, 10))
    (section,) = rank([load(tmp_path)]).sections
    assert sum(row.tied for row in section.rows) == tied
    said = {flag.name for row in section.rows for flag in row.flags}
    assert ("one draw" in said) == (draws == 1)


def test_words_of_a_family_and_copies_of_a_picture_are_units() -> None:
    words = datasets.load(datasets.resolve("packaged/word-polarity")).test
    assert unit_count(words.units) < len(words)
    assert unit_count(words.units) < 0.8 * len(words)
    digits = datasets.load(datasets.resolve("packaged/digits")).test
    assert unit_count(digits.units) == len(digits)
    spoilt = datasets.load(
        datasets.resolve("packaged/digits?corrupt=gaussian_blur&severity=3")
    ).test
    assert spoilt.ids != digits.ids
    np.testing.assert_array_equal(spoilt.units, digits.units)


def test_predictions_of_another_record_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    first, second = rng.random(500) < 0.8, rng.random(500) < 0.3
    run = written(
        tmp_path,
        {(MODELS[0], "packaged/digits@1", "knn", 0): first,
         (MODELS[1], "packaged/digits@1", "knn", 0): second},
    )  # fmt: skip
    one, other = (tmp_path / "predictions" / f"{record.key}.npz" for record in run.records)
    shutil.copy(one, other)
    with pytest.raises(Exception, match="not those of the record"):
        rank([load(tmp_path)])


def test_eight_names_of_one_test_set_make_no_diagram_and_no_general_claim(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    answers = {}
    for model in MODELS:
        right = rng.random(500) < 0.8
        for size in range(8):
            again = np.where(rng.random(500) < 0.01, ~right, right)
            answers[model, f"packaged/mnist-5k@1?max_train={100 + size}", "knn", 0] = again
    run = written(tmp_path, answers)
    (overall,) = rank([run]).overall
    assert (overall.general, overall.critical) == (False, None)
    bare = [dataclasses.replace(record, predictions="") for record in run.records]
    (overall,) = rank([Run(tmp_path, tuple(bare), {})]).overall
    assert (overall.general, overall.critical) == (False, None)


def test_one_seed_in_two_precisions_is_still_one_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    with Store(tmp_path, 'identity = "x"\n', "x") as store:
        for model, level in zip(MODELS[:2], (0.9, 0.6), strict=True):
            right = rng.random(500) < level
            for kind in ("fp32", "bf16"):
                record = make_record(model, "packaged/digits@1", "fine-tune", right=right)
                versions = {**record.cell.versions, "precision": kind}
                cell = dataclasses.replace(record.cell, versions=versions)
                environment = {**record.environment, "precision": kind}
                record = dataclasses.replace(record, cell=cell, environment=environment)
                store.append(record, make_outcomes(right, LABELS, 10))
    for section in rank([load(tmp_path)]).sections:
        assert [(row.rank_low, row.rank_high) for row in section.rows] == [(1, 2), (1, 2)]


@pytest.mark.parametrize("seeds", [1, 3])
def test_of_one_example_nothing_is_known(tmp_path: Path, seeds: int) -> None:
    method = "fine-tune" if seeds > 1 else "knn"
    records = []
    with Store(tmp_path, 'identity = "x"\n', "x") as store:
        for model, right in zip(MODELS[:2], (True, False), strict=True):
            for seed in range(seeds):
                one = np.array([right])
                record = make_record(model, "packaged/digits@1", method, right=one, seed=seed)
                records.append(store.append(record, make_outcomes(one, LABELS[:1], 10)))
    (section,) = rank([load(tmp_path)]).sections
    assert [(row.rank_low, row.rank_high, row.first) for row in section.rows] == [(1, 2, 0.5)] * 2
    assert section.gap is None


def test_records_without_units_are_paired_with_those_that_have_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    first = rng.random(500) < 0.8
    second = np.where(np.arange(500) < 12, False, first)
    with Store(tmp_path, 'identity = "x"\n', "x") as store:
        for model, right, units in ((MODELS[0], first, True), (MODELS[1], second, False)):
            kept = make_outcomes(right, LABELS, 10)
            record = make_record(model, "packaged/digits@1", "knn", right=right)
            store.append(record, kept.of(units_of([str(i) for i in range(500)])) if units else kept)
    (section,) = rank([load(tmp_path)]).sections
    assert section.paired
    assert section.rows[1].rank_low == 2


def seeds_of(model: str, head: str, lost: int = 0) -> list[Record]:
    """Three fine-tunes of other luck, of each of which `lost` thousandths are lost."""
    found = []
    for seed, hits in enumerate((700, 720, 750)):
        one = make_record(
            model, "packaged/digits@1", "fine-tune", right=np.arange(1000) < hits - lost, seed=seed
        )
        head_ = {"head": head} if head else {}
        cell = dataclasses.replace(one.cell, params={**one.cell.params, **head_})
        found.append(dataclasses.replace(one, cell=cell))
    return found


def test_what_was_carried_over_is_the_same_training_run() -> None:
    """Its seeds say nothing more of luck, and no head's difference is taken for luck."""
    original = seeds_of("timm/net@1", "")
    carried = seeds_of("timm/net@1?variant=bf16", "carried", 40)
    anew = seeds_of("timm/net@1?variant=bf16", "anew", 90)
    alone = luck_of(original)
    assert luck_of([*original, *carried]) == alone
    assert luck_of([*original[:2], *carried]) == luck_of(carried)
    (of_three,) = {luck.dof for luck in alone.values()}
    assert of_three == 1
    both = luck_of([*original, *carried, *anew])
    assert {luck.dof for luck in both.values()} == {3}
    for key, luck in both.items():
        assert luck.variance == pytest.approx(alone[key].variance)
