"""Regression's metrics against scikit-learn and scipy, and a ranking on real words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import write_suite
from zoobench import store
from zoobench.datasets.splits import hold_out
from zoobench.errors import NotFinite
from zoobench.interfaces import Split
from zoobench.ranking.rank import rank
from zoobench.runs import session, suite
from zoobench.tasks.regression import Numbers, Regression, outcomes_of

METRICS = Regression.metrics


def values(predicted: np.ndarray, target: np.ndarray) -> dict[str, float]:
    statistics = Regression().statistics(outcomes_of(predicted, target))
    found = statistics(np.ones((1, len(target))), METRICS)
    return {name: float(value[0]) for name, value in found.items()}


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_agrees_with_scikit_learn_and_scipy(offset: float) -> None:
    import sklearn.metrics as sk
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    target = np.round(rng.normal(size=300), 1) + offset  # with ties
    predicted = target + rng.normal(size=300)
    found = values(predicted, target)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(target, predicted))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(target, predicted))
    assert found["r2"] == pytest.approx(sk.r2_score(target, predicted), abs=1e-6)
    assert found["spearman"] == pytest.approx(spearmanr(target, predicted).statistic)


def test_constants_have_a_stated_value() -> None:
    flat, rising = np.full(10, 1e7), np.arange(10.0)
    assert values(flat, rising)["spearman"] == 0
    assert values(rising, flat) == pytest.approx(
        {"mae": 1e7 - 4.5, "rmse": float(np.sqrt(np.mean((rising - 1e7) ** 2))), "r2": 0,
         "spearman": 0}
    )  # fmt: skip
    assert values(np.full(10, 4.5), rising)["r2"] == pytest.approx(0)


@settings(max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_strata_are_quantiles_of_at_least_five(numbers: list[float]) -> None:
    targets = Numbers(np.array(numbers))
    strata = targets.strata
    assert strata.min() >= 0
    assert strata.max() < max(1, min(10, len(numbers) // 5))
    order = np.argsort(targets.values, kind="stable")
    assert (np.diff(strata[order]) >= 0).all(), "a larger number is never in a lower stratum"
    for value in numbers:
        assert len(set(strata[targets.values == value])) == 1, "equal numbers share one"


@pytest.mark.rare
def test_ratings_of_words_rank_sentences_above_word_vectors_above_controls(tmp_path: Path) -> None:
    file = write_suite(
        tmp_path / "valence.toml",
        models=["packaged/minilm-l6-v2?length=8", "packaged/glove-6b-50d?length=8"],
        datasets=["packaged/word-valence?max_train=600&max_valid=60&max_test=400"],
        methods=["ridge"],
        controls="true",
        rest="[limits]\ncost_seconds = 0\n",
    )
    options = session.RunOptions(tmp_path / "run", device="cpu")
    session.execute(suite.read(str(file)), options, lambda plan, event: None)
    (section,) = rank([store.load(tmp_path / "run")]).sections
    assert section.metric == "mae"
    minilm, glove = section.rows
    assert ["minilm" in minilm.model.name, "glove" in glove.model.name] == [True, True]
    assert not glove.tied
    assert minilm.low > glove.high, "rows are signed: larger is better"
    controls = {control.model.id: control for control in section.controls}
    assert {"control/mean", "control/raw-input"} < controls.keys()
    for control in section.controls:
        assert control.low is not None
        assert -glove.low < control.low, "the errors' intervals lie apart"


def test_a_prediction_too_large_to_square_is_no_number() -> None:
    with pytest.raises(NotFinite, match="1 of 2"):
        outcomes_of([1e160, 0.0], [0.0, 1.0])


@pytest.mark.parametrize("n", [54, 70, 150, 250])
def test_derived_splits_of_numbers_have_their_shares(n: int) -> None:
    values = Numbers(np.random.default_rng(n).normal(size=n))
    pool = Split("train", tuple(f"{i:03}" for i in range(n)), values, str)
    rest, held = hold_out(pool, "test", 0.2, every_class=False)
    assert len(held) == int(0.2 * n + 0.5)
    assert len(rest) + len(held) == n
