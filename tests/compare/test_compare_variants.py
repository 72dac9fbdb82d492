"""Compressed variants against their original: verdicts, ratios, the front."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from variant_runs import DIGITS, KINDS, NET, WORDS, Planted, variant_ref, variant_run
from zoobench.cli.main import main
from zoobench.compare.gates import Gates
from zoobench.compare.variant_verdicts import VariantRow, VariantVerdicts
from zoobench.compare.variants import by_margin, judge_variants, ranked
from zoobench.compare.verdicts import Finding
from zoobench.ranking.outcomes import open_book
from zoobench.ranking.pareto import dominators
from zoobench.ranking.rank import rank
from zoobench.report.models_page import model_pages
from zoobench.schema import Cell, Record, Ref
from zoobench.store import Run


def judged(*runs: Run, gates: Gates | None = None) -> VariantVerdicts:
    return judge_variants(rank(runs), open_book(runs), gates)


def rows(found: VariantVerdicts) -> dict[str, VariantRow]:
    (table,) = found.tables
    return {row.name: row for row in table.rows}


def outcome(row: VariantRow) -> str:
    return row.finding.outcome if row.finding else ""


def test_a_table_of_every_kind(tmp_path: Path) -> None:
    found = judged(variant_run(tmp_path / "run"))
    assert {name: (outcome(row), row.dominated_by) for name, row in rows(found).items()} == {
        "original": ("", "bf16, head anew"),
        "bf16, head carried": ("same", "bf16, head anew"),
        "bf16, head anew": ("same", ""),
        "int8-static": ("", None),
        "int8-weight, head carried": ("inconclusive", ""),
        "int8-weight, head anew": ("regressed", "int8-weight, head carried"),
    }
    row = rows(found)["int8-weight, head carried"]
    assert row.ratios == pytest.approx(
        {"weights_bytes": 0.25, "latency_ms_p50": 0.6, "peak_memory_bytes": 0.25}
    )
    assert (row.coverage, row.covered_macs) == (0.98, 0.95)
    failed = rows(found)["int8-static"]
    assert (failed.status, failed.head) == ("unsupported", "")
    assert "4% of the parameters" in failed.why
    assert found.pooled == {}
    assert list(found.regressed()) == [(variant_ref("int8-weight"), "anew")]


def test_the_numbers_are_those_of_an_exact_test_and_holm(tmp_path: Path) -> None:
    found = judged(variant_run(tmp_path / "run"))
    supported = [kind for kind in KINDS if not kind.why]
    raw = [
        binomtest(kind.lost, kind.lost + kind.gained, alternative="greater").pvalue
        for kind in supported
    ]
    order = np.argsort(raw)
    steps = [min(1.0, raw[m] * (len(raw) - i)) for i, m in enumerate(order)]
    adjusted = np.empty(len(raw))
    adjusted[order] = np.maximum.accumulate(steps)
    for kind, p, holm in zip(supported, raw, adjusted, strict=True):
        finding = rows(found)[f"{kind.variant}, head {kind.head}"].finding
        assert finding is not None
        assert finding.change == pytest.approx((kind.gained - kind.lost) / 1000)
        assert finding.p == pytest.approx(p)
        assert finding.adjusted == pytest.approx(holm)
    assert found.family == len(supported)


def test_values_and_intervals_are_the_rankings(tmp_path: Path) -> None:
    run = variant_run(tmp_path / "run", KINDS[:2])
    shown = {
        frozenset(r.key for r in row.records): (row.value, row.low, row.high)
        for section in rank([run]).sections
        for row in section.rows
    }
    for row in rows(judged(run)).values():
        assert (row.value, row.low, row.high) == shown[frozenset(r.key for r in row.records)]


def test_several_datasets_are_pooled_too(tmp_path: Path) -> None:
    """Twelve lost of a thousand and none won is no sure loss beyond the margin on one dataset."""
    kinds = [Planted("int8-weight", "carried", 14), Planted("bf16", "carried", 1, 1)]
    found = judged(variant_run(tmp_path / "run", kinds, (DIGITS, WORDS)))
    assert len(found.tables) == 2
    pooled = {who[0].option("variant"): one for who, one in found.pooled.items()}
    assert pooled["bf16"].outcome == "same"
    assert pooled["int8-weight"].change == pytest.approx(-0.014)
    assert pooled["int8-weight"].outcome == "regressed"
    assert found.family == 6


def test_a_sure_loss_within_the_margin_is_allowed(tmp_path: Path) -> None:
    run = variant_run(tmp_path / "run", [Planted("bf16", "carried", 14)])
    (strict,) = [r for r in rows(judged(run)).values() if r.variant]
    assert outcome(strict) == "regressed"
    (lenient,) = [r for r in rows(judged(run, gates=Gates(margin=3.0))).values() if r.variant]
    assert outcome(lenient) == "same"
    assert lenient.finding is not None
    assert lenient.finding.why.endswith(": a loss within the margin")


@given(
    st.sampled_from(["same", "improved", "regressed", "inconclusive", "missing"]),
    st.floats(-0.1, 0.1),
    st.floats(0.001, 0.05),
)
def test_the_margin_excuses_a_loss_and_nothing_else(given_: str, low: float, margin: float) -> None:
    cell = Cell(Ref("timm", "net"), Ref("packaged", "digits"), "knn")
    one = Finding(cell, "accuracy", 0.8, 0.7, given_, "why", low=low, margin=margin)  # type: ignore[arg-type]
    excused = given_ == "regressed" and low > -margin
    assert by_margin(one).outcome == ("same" if excused else given_)


@pytest.mark.parametrize(("seeds", "expected"), [(1, "inconclusive"), (3, "regressed")])
def test_one_training_run_proves_nothing(tmp_path: Path, seeds: int, expected: str) -> None:
    kinds = [Planted("bf16", "", 200)]
    found = judged(variant_run(tmp_path / "run", kinds, method="fine-tune", seeds=seeds))
    assert outcome(rows(found)["bf16"]) == expected


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"environment": {"device": "cpu", "device_name": "Other", "threads": 2}}, False),
        ({"environment": {"device": "cpu", "device_name": "Test CPU", "threads": 2,
                          "driver": "9"}}, False),
        ({"environment": {"device": "cpu", "device_name": "Test CPU", "threads": 2,
                          "precision": "bf16"}}, True),
    ],
)  # fmt: skip
def test_times_of_two_machines_have_no_ratio(
    tmp_path: Path, changes: dict[str, object], kept: bool
) -> None:
    found = judged(variant_run(tmp_path / "run", KINDS[:1], changes=changes))
    (row,) = [r for r in rows(found).values() if r.variant]
    assert ("latency_ms_p50" in row.ratios) is kept
    assert "weights_bytes" in row.ratios
    assert bool(row.apart) is not kept
    (table,) = found.tables
    assert ("latency_ms_p50" in table.axes) is kept
    assert outcome(row) == "same"


def test_another_test_set_is_not_compared(tmp_path: Path) -> None:
    other = {"provenance": {"splits": {"train": "a", "valid": "b", "test": "c"}, "classes": 10}}
    (row,) = [
        r
        for r in rows(judged(variant_run(tmp_path / "run", KINDS[:1], changes=other))).values()
        if r.variant
    ]
    assert outcome(row) == "incomparable"
    assert row.finding is not None
    assert "test split" in row.finding.why


def without(run: Run, keep: bool) -> Run:
    """The run's variants alone, or its originals alone."""
    kept = tuple(r for r in run.records if ("variant=" in r.cell.model.text) is keep)
    return dataclasses.replace(run, records=kept)


def test_without_the_original_there_is_no_verdict(tmp_path: Path) -> None:
    found = rows(judged(without(variant_run(tmp_path / "run", KINDS[:1]), True)))
    assert found["original"].status == "missing"
    assert outcome(found["bf16, head carried"]) == "missing"


def test_original_and_variant_may_lie_in_two_runs(tmp_path: Path) -> None:
    run = variant_run(tmp_path / "run")
    both = judged(without(run, True), without(run, False))
    assert [outcome(r) for r in rows(both).values()] == [
        outcome(r) for r in rows(judged(run)).values()
    ]


def test_no_variant_nothing(tmp_path: Path) -> None:
    found = judged(without(variant_run(tmp_path / "run"), False))
    assert (found.tables, found.pooled, found.family) == ((), {}, 0)


def test_random_weights_and_shifted_data_are_no_question(tmp_path: Path) -> None:
    def moved(record: Record) -> Record:
        cell = record.cell
        data = Ref.parse(f"{DIGITS}?corruption=blur&severity=3")
        other = dataclasses.replace(cell, dataset=data)
        return dataclasses.replace(record, cell=other, predictions="")

    def random(record: Record) -> Record:
        cell = dataclasses.replace(
            record.cell, model=record.cell.model.with_options(weights="random")
        )
        return dataclasses.replace(record, cell=cell, predictions="")

    run = variant_run(tmp_path / "run", KINDS[:1])
    more = tuple(change(r) for r in run.records for change in (moved, random))
    found = judged(dataclasses.replace(run, records=run.records + more))
    assert [table.dataset.text for table in found.tables] == [DIGITS]
    assert len(found.tables[0].rows) == 2
    assert found.tables[0].original == Ref.parse(NET)


BAD = Planted("int8-weight", "", 60)


def test_rows_of_what_regressed_are_flagged(tmp_path: Path) -> None:
    run = variant_run(tmp_path / "run", KINDS[:4], (DIGITS, WORDS))
    ranking, found = ranked([run])
    assert list(found.regressed()) == [(variant_ref("int8-weight"), "anew")]
    rows = [row for s in ranking.sections for row in s.rows]
    rows += [row for o in ranking.overall for row in o.rows]
    bad = [row for row in rows if any(f.name == "regressed" for f in row.flags)]
    assert [row.model.text for row in bad] == 3 * [f"{NET}?head=anew&variant=int8-weight"]
    shown = {page["label"]: page["cells"] for page in model_pages(ranking, "t")}
    assert all("regressed" in cell[-1] for cell in shown["net?head=anew&variant=int8-weight"])
    assert not any("regressed" in cell[-1] for cell in shown["net"])
    assert ranking.overall[0].sections == ranking.sections


def test_the_same_variant_by_other_parameters_is_not_flagged(tmp_path: Path) -> None:
    bad, good = (
        variant_run(tmp_path / name, [Planted("bf16", "carried", lost)])
        for name, lost in (("bad", 90), ("good", 0))
    )
    others = [
        dataclasses.replace(
            r, cell=dataclasses.replace(r.cell, params={**r.cell.params, "lambdas": 9}),
            predictions="",
        )
        for r in good.records
    ]  # fmt: skip
    ranking, _ = ranked([bad, dataclasses.replace(good, records=tuple(others))])
    assert len(ranking.sections) == 2
    for section in ranking.sections:
        (variant,) = [row for row in section.rows if row.model.option("variant")]
        regressed = any(flag.name == "regressed" for flag in variant.flags)
        assert regressed is ("lambdas" not in section.key["params"])


def test_recommend_warns_of_what_regressed(tmp_path: Path) -> None:
    """Where the limits leave nothing else, it is named, with what it lost."""
    variant_run(tmp_path / "run", [BAD, Planted("bf16", "", 1, 1, 0.5)])

    def said(*options: str) -> str:
        done = CliRunner().invoke(main, ["recommend", str(tmp_path / "run"), *options])
        assert done.exit_code == 0, done.output
        return done.output

    assert "Beware" not in said()
    told = said("--max-bytes", "6MB")
    assert "Most accurate: net?variant=int8-weight" in told
    assert "Beware: regressed against its original on packaged/digits: -6.00 points" in told
    (body,) = json.loads(said("--max-bytes", "6MB", "--json"))
    assert "regressed" in body["most_accurate"]["flags"]
    assert "weights_bytes 2e+07 is above 6e+06" in body["ruled_out"][NET]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1.0, 2.0, float("nan")]), st.sampled_from([1.0, 2.0]),
            st.sampled_from([0.1, 0.2, 0.3]),
        ),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_dominators_are_those_of_brute_force(table: list[tuple[float, float, float]]) -> None:
    costs, value = np.array([row[:2] for row in table]), np.array([row[2] for row in table])

    def over(i: int, m: int) -> bool:
        a, b = table[i], table[m]
        no_worse = a[0] <= b[0] and a[1] <= b[1] and a[2] >= b[2]
        return no_worse and a != b

    for m, found in enumerate(dominators(costs, value)):
        own = np.isnan(table[m][0])
        those = [i for i in range(len(table)) if over(i, m)]
        if own:
            assert found == m
        elif not those:
            assert found is None
        else:
            assert found in those
            assert not any(over(i, found) for i in range(len(table)) if i != found)
