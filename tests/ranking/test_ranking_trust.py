"""What is known of trust: computed by hand, in the table, and as limits of a recommendation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import make_outcomes, make_record
from zoobench import api
from zoobench.errors import UserError
from zoobench.metrics import measured
from zoobench.ranking.rank import rank
from zoobench.ranking.recommend import Limits, recommend, to_json
from zoobench.report.tables import ranking_table
from zoobench.report.transfer import transfer_tables
from zoobench.schema import Ref
from zoobench.statistics.bootstrap import percentile, resampled
from zoobench.store import Run, Store, load

A, B, C = "timm/netA@1", "timm/netB@1", "timm/netC@1"
CLEAN = "packaged/mnist-5k@1"
N = 300
COPIES = [("gaussian_blur", 1), ("gaussian_blur", 5), ("contrast", 3)]


def right(share: float, seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).permutation(np.arange(N) < round(share * N))


ANSWERS = {
    A: [right(share, i) for i, share in enumerate((0.8, 0.6, 0.4, 0.72))],
    B: [right(share, i + 9) for i, share in enumerate((0.7, 0.35, 0.35, 0.07))],
    C: [right(0.6, 20)],
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A and B on three corrupted copies; A and C were asked about membership."""
    labels = np.zeros(N, dtype=np.int32)
    with Store(tmp_path, 'identity = "x"\n', "x") as store:
        for model, answers in ANSWERS.items():
            for i, answer in enumerate(answers):
                kind, severity = COPIES[i - 1]
                name = f"{CLEAN}?corrupt={kind}&severity={severity}" if i else CLEAN
                record = make_record(model, name, right=answer)
                if i == 0 and model != B:
                    auc = measured("membership_auc", 0.7 if model == A else 0.55, low=0.5, high=0.8)
                    record = dataclasses.replace(record, measurements=(*record.measurements, auc))
                store.append(record, make_outcomes(answer, labels, 10))
    return load(tmp_path)


def test_mean_retained_is_a_mean_over_corruptions_not_over_copies(run: Run) -> None:
    (overall,) = rank([run]).overall
    trust = {row.model.text: row.trust for row in overall.rows}
    found = trust[A]["mean_retained"]
    assert found.value == pytest.approx(np.mean([0.5 / 0.8, 0.72 / 0.8]))
    assert trust[B]["mean_retained"].value == pytest.approx(np.mean([0.5, 0.1]))
    assert "mean_retained" not in trust[C]


def test_the_interval_is_the_bootstraps_of_the_ratios(run: Run, tmp_path: Path) -> None:
    units = np.arange(N, dtype=np.uint64) * 977
    folder = tmp_path / "named"
    with Store(folder, 'identity = "x"\n', "x") as store:
        for record in run.records:
            arrays = run.outcomes(record)
            assert arrays is not None
            store.append(record, arrays.of(units))
    row = next(r for r in rank([load(folder)]).sections[0].rows if r.model.text == A)
    draws = []
    for weights in resampled(units):
        clean, light, heavy, contrast = (weights @ answer for answer in ANSWERS[A])
        draws.append(((light + heavy) / 2 / clean + contrast / clean) / 2)
    found = row.trust["mean_retained"]
    assert (found.low, found.high) == pytest.approx(percentile(np.concatenate(draws)))


def test_the_table_and_every_report_hold_it(run: Run) -> None:
    ranking = rank([run])
    table = ranking_table(ranking)
    at = [i for i, model in enumerate(table["model"]) if model == A]
    assert len(at) == 2, "on the dataset, and overall"
    for i in at:
        assert table["membership_auc"][i] == 0.7
        assert (table["membership_auc_low"][i], table["membership_auc_high"][i]) == (0.5, 0.8)
        assert table["mean_retained"][i] == pytest.approx(0.7625)
        assert table["membership_tpr_at_1pct_fpr"][i] is None
    shown = {t.name: t for t in transfer_tables(ranking)}["trusted"]
    assert shown.header[3:] == ("membership AUC [95%]", "mean retained [95%]")
    assert {row[0]: row[3] for row in shown.rows} == {
        "netA": "70.0 [50.0, 80.0]", "netB": "", "netC": "55.0 [50.0, 80.0]",
    }  # fmt: skip


def test_limits_rule_out_with_numbers(run: Run) -> None:
    (overall,) = rank([run]).overall
    steady = recommend(overall, Limits(min_retained=0.5))
    assert steady.accurate is not None
    assert steady.accurate.model.text == A
    why = steady.ruled_out[Ref.parse(B)]
    assert why.startswith("mean_retained 0.300")
    assert why.endswith("is below 0.5")
    assert steady.ruled_out[Ref.parse(C)] == "mean_retained is not known"
    private = recommend(overall, Limits(max_membership_auc=0.6))
    assert private.accurate is not None
    assert private.accurate.model.text == C
    expected = "membership_auc 0.700 [0.500, 0.800] is above 0.6"
    assert private.ruled_out[Ref.parse(A)] == expected
    most = to_json(private)["most_accurate"]
    assert most["trust"]["membership_auc"] == {"value": 0.55, "low": 0.5, "high": 0.8}


def test_a_limit_on_what_was_not_measured_says_what_would_measure_it(run: Run) -> None:
    (overall,) = rank([run]).overall
    bare = dataclasses.replace(
        overall, rows=tuple(dataclasses.replace(row, trust={}) for row in overall.rows)
    )
    with pytest.raises(UserError, match=r"no model has membership_auc .*`membership = true`"):
        recommend(bare, Limits(max_membership_auc=0.6))
    with pytest.raises(UserError, match=r"no model has mean_retained .*`corrupt`"):
        recommend(bare, Limits(min_retained=0.6))
    with pytest.raises(UserError, match="min_retained: expected a fraction from 0 to 1, got 80"):
        api.recommend(run, min_retained=80)
    (found,) = api.recommend(run, min_retained=0.5)
    assert found.accurate is not None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["RUN", "--min-retained", "80"],
            "--min-retained: expected a fraction from 0 to 1, got 80",
        ),
        (["RUN", "--max-membership-auc", "nan"], "--max-membership-auc"),
        (["--data", "x", "--min-retained", "0.5"], "--min-retained: it is a limit of a RUN"),
    ],
)
def test_a_limit_that_cannot_be_is_the_users_mistake(options: list[str], said: str) -> None:
    from click.testing import CliRunner

    from zoobench.cli.main import main

    found = CliRunner().invoke(main, ["recommend", *options])
    assert found.exit_code == 2
    assert said in found.output
