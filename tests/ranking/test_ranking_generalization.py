"""Shift, label efficiency and the train-test gap, from records with known truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fakes import make_outcomes, make_record
from zoobench.ranking.rank import rank
from zoobench.report.terminal import print_ranking
from zoobench.report.text import dataset_labels
from zoobench.report.transfer import transfer_tables
from zoobench.schema import Ref
from zoobench.store import Run, Store, load

A, B = "timm/netA@1", "timm/netB@1"
CLEAN = "packaged/mnist-5k@1"


def right(share: float, n: int = 500) -> np.ndarray:
    return np.random.default_rng(int(1000 * share)).permutation(np.arange(n) < share * n)


def write(path: Path) -> Run:
    """A keeps 7/8 under blur, B half; A has a few-shot curve, both have train accuracies."""
    labels = np.zeros(500, dtype=np.int32)
    with Store(path, 'identity = "x"\n', "x") as store:
        for model, levels in ((A, (0.8, 0.75, 0.65)), (B, (0.9, 0.5, 0.4))):
            for level, severity in zip(levels, (0, 1, 5), strict=True):
                name = f"{CLEAN}?corrupt=gaussian_blur&severity={severity}" if severity else CLEAN
                outcome = right(level)
                store.append(make_record(model, name, right=outcome),
                             make_outcomes(outcome, labels, 10))  # fmt: skip
            other = right(levels[0] / 2)
            moved = f"{CLEAN}?test_from=packaged%2Fdigits"
            store.append(make_record(model, moved, right=other),
                         make_outcomes(other, labels, 10))  # fmt: skip
        for k, level in ((1, 0.4), (4, 0.77), (16, 0.79)):
            outcome = right(level)
            store.append(make_record(A, CLEAN, right=outcome, shots=k),
                         make_outcomes(outcome, labels, 10))  # fmt: skip
    return load(path)


def test_retained_is_shifted_over_clean(tmp_path: Path) -> None:
    ranking = rank([write(tmp_path)])
    found = {(s.model.text, s.kind): s for s in ranking.shifts}
    one = found[A, "gaussian_blur"]
    assert one.retained == pytest.approx(0.70 / 0.80)
    assert one.severities == {1: pytest.approx(0.75 / 0.8), 5: pytest.approx(0.65 / 0.8)}
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.retained < one.high
    assert one.high - one.low < 0.2
    assert found[B, "gaussian_blur"].retained == pytest.approx(0.5)
    assert found[A, "to packaged/digits"].retained == pytest.approx(0.5)
    assert found[A, "to packaged/digits"].severities == {0: pytest.approx(0.5)}


def test_shifted_data_is_no_further_dataset_of_the_ranking(tmp_path: Path) -> None:
    ranking = rank([write(tmp_path)])
    assert {s.dataset.text for s in ranking.sections} == {CLEAN}
    assert {o.datasets for o in ranking.overall} == {(Ref.parse(CLEAN),)}


def test_the_k_that_reaches_95_percent(tmp_path: Path) -> None:
    (curve,) = rank([write(tmp_path)]).efficiency
    assert curve.curve == {k: pytest.approx(v) for k, v in ((1, 0.4), (4, 0.77), (16, 0.79))}
    assert curve.full == pytest.approx(0.8)
    assert curve.enough == 4


def test_the_gap_is_train_minus_test_on_clean_data(tmp_path: Path) -> None:
    ranking = rank([write(tmp_path)])
    assert {(g.model.text, g.datasets) for g in ranking.gaps} == {(A, 1), (B, 1)}
    for gap in ranking.gaps:
        assert gap.train - gap.test == pytest.approx(0.02)
    tables = {t.name: t for t in transfer_tables(ranking)}
    assert set(tables) == {"shifted", "labelled", "gapped", "trusted"}
    for table in tables.values():
        assert {len(row) for row in table.rows} == {len(table.header)}
    assert tables["labelled"].rows[0][-1] == "4"


def test_a_narrow_terminal_says_once_what_rows_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_ranking(rank([write(tmp_path)]))
    said = capsys.readouterr().out.splitlines()
    assert max(map(len, said)) <= 80
    at = next(i for i, line in enumerate(said) if line.strip().startswith("Under shift"))
    table = [line.strip() for line in said[at:]]
    assert (
        sum(line.startswith("linear-probe on mnist-5k:") for line in table) == 3
    )  # and labels, and trust
    assert not any("packaged" in line for line in table)


def test_datasets_keep_what_tells_them_apart() -> None:
    few, many = (Ref.parse(f"{CLEAN}?max_train={n}") for n in (10, 99))
    digits = Ref.parse("packaged/digits@1")
    assert dataset_labels([few, digits]) == {
        few: "mnist-5k",
        digits: "digits",
    }
    assert dataset_labels([few, many]) == {
        few: "mnist-5k?max_train=10",
        many: "mnist-5k?max_train=99",
    }


def test_labels_are_enough_where_an_error_is_near_the_full_one(tmp_path: Path) -> None:
    """NLL is 1.2 - accuracy here: .55, .41, .38 of k = 4, 8, 16 against .40 of all data."""
    records = [
        make_record(A, CLEAN, right=np.arange(500) < 500 * level, shots=k)
        for k, level in ((4, 0.65), (8, 0.79), (16, 0.82), (None, 0.80))
    ]
    (one,) = rank([Run(tmp_path, tuple(records), {})], "nll").efficiency
    assert one.enough == 8


def test_each_head_of_a_variant_has_a_gap_and_a_shift_of_its_own(tmp_path: Path) -> None:
    moved = f"{CLEAN}?test_from=packaged%2Fdigits"
    records = []
    for head, level in (("carried", 0.5), ("anew", 0.75)):
        for dataset, share in ((CLEAN, level), (moved, level * level)):
            one = make_record(f"{A}?variant=bf16", dataset, right=np.arange(500) < 500 * share)
            cell = dataclasses.replace(one.cell, params={**one.cell.params, "head": head})
            records.append(dataclasses.replace(one, cell=cell))
    ranking = rank([Run(tmp_path, tuple(records), {})])
    gaps = {g.model.option("head"): g.test for g in ranking.gaps}
    assert gaps == {"carried": pytest.approx(0.5), "anew": pytest.approx(0.75)}
    kept = {s.model.option("head"): s.retained for s in ranking.shifts}
    assert kept == pytest.approx({"carried": 0.5, "anew": 0.75}, abs=0.01)
