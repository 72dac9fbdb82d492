from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from fakes import kept
from zoobench import tasks
from zoobench.errors import NotFinite, UnknownName
from zoobench.interfaces import Split, Splits
from zoobench.metrics import METRICS, metric
from zoobench.schema import Measurement, Outcomes
from zoobench.statistics.bootstrap import numbered
from zoobench.statistics.paired import wilson
from zoobench.tasks import evaluate as evaluating
from zoobench.tasks.classification import Classification, Labels, outcomes_of


def log_softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = x - x.max(axis=1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))


def made(n: int, classes: int, seed: int = 0, signal: float = 2.0) -> Outcomes:
    """Predictions of a plausible classifier over an unbalanced label distribution."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.geometric(2.0 / classes, size=2 * n) - 1, classes - 1)
    logits = rng.normal(size=(2 * n, classes))
    logits[np.arange(2 * n), labels] += signal
    scores = log_softmax(2 * logits)
    return outcomes_of(scores[:n], labels[:n], scores[n:], labels[n:])


def evaluate(p: Outcomes, classes: int, seed: int) -> tuple[Measurement, ...]:
    """`evaluate` of a dataset of so many classes."""
    empty = Split("test", (), Labels(np.zeros(0, dtype=np.int64)), str)
    names = tuple(f"class {c}" for c in range(classes))
    splits = Splits(empty, empty, empty, names, "image")
    return evaluating.evaluate(Classification(), p.of(numbered(p.n, seed)), splits)


def by_name(found: tuple[Measurement, ...]) -> dict[str, Measurement]:
    return {m.metric: m for m in found}


def oracle(p: Outcomes) -> dict[str, float]:
    """scikit-learn's value of each metric, and ECE as Guo et al. write it."""
    import warnings

    import sklearn.metrics as sk

    y, z = p.arrays["label"], p.arrays["predicted"]
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        y, z, average="macro", zero_division=0
    )
    with warnings.catch_warnings():
        # "y_pred contains classes not in y_true": meant, see the module's docstring.
        warnings.simplefilter("ignore", UserWarning)
        balanced = sk.balanced_accuracy_score(y, z)
    out = {
        "accuracy": sk.accuracy_score(y, z),
        "balanced_accuracy": balanced,
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_f1": f1,
        "nll": float(np.mean(p.arrays["nll"], dtype=np.float64)),
    }
    for name, confidence in (
        ("ece", p.arrays["confidence"]),
        ("ece_calibrated", p.arrays["calibrated"]),
    ):
        total = 0.0
        for b in range(15):
            inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
            if inside.any():
                right = float(np.mean(y[inside] == z[inside]))
                sure = float(np.mean(confidence[inside], dtype=np.float64))
                total += float(inside.mean()) * abs(right - sure)
        out[name] = total
    return out


def taken(p: Outcomes, rows: NDArray[np.int64]) -> Outcomes:
    return Outcomes(len(rows), {name: array[rows] for name, array in p.arrays.items()})


@pytest.mark.parametrize(("n", "classes"), [(1, 3), (7, 20), (500, 2), (800, 30)])
def test_agrees_with_scikit_learn(n: int, classes: int) -> None:
    p = made(n, classes, seed=n)
    found = by_name(evaluate(p, classes, seed=0))
    expected = oracle(p)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-6), name
    assert ("top5_accuracy" in found) == (classes > 10)
    assert all(m.n == n and m.unit == METRICS[m.metric].unit for m in found.values())


def test_top5_agrees_with_scikit_learn() -> None:
    import sklearn.metrics as sk

    rng = np.random.default_rng(3)
    labels = rng.integers(0, 40, size=600)
    scores = log_softmax(rng.normal(size=(600, 40)) + 1.5 * np.eye(40)[labels])
    p = outcomes_of(scores, labels, scores, labels)
    found = by_name(evaluate(p, 40, seed=0))
    expected = sk.top_k_accuracy_score(labels, scores, k=5, labels=np.arange(40))
    assert found["top5_accuracy"].value == pytest.approx(expected)
    assert found["nll"].value == pytest.approx(sk.log_loss(labels, np.exp(scores)), rel=1e-5)


def test_intervals_agree_with_a_naive_bootstrap() -> None:
    p = made(300, 12, seed=5)
    found = by_name(evaluate(p, 12, seed=1))
    rng = np.random.default_rng(99)
    draws: dict[str, list[float]] = {}
    for _ in range(600):
        for name, value in oracle(taken(p, rng.integers(0, 300, size=300))).items():
            draws.setdefault(name, []).append(value)
    for name, values in draws.items():
        m = found[name]
        # Efron's bias-corrected percentiles; a share has an interval of its own.
        bias = 0.0 if name == "accuracy" else norm.ppf(np.mean(np.array(values) < m.value))
        levels = norm.cdf(2 * np.clip(bias, -1, 1) + norm.ppf([0.025, 0.975]))
        low, high = np.quantile(values, levels)
        low, high = min(low, m.value), max(high, m.value)
        # Two Monte Carlo estimates of one interval, and of its bias: within a seventh of its width.
        slack = (high - low) / 7
        if bias < -0.9:  # its lower end is the least of all draws, which no two estimates share
            assert m.low <= low + slack, name
            low = m.low
        assert m.low == pytest.approx(low, abs=slack), name
        assert m.high == pytest.approx(high, abs=slack), name


def test_accuracy_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(60):
        right = rng.random(200) < 0.8
        label = np.zeros(200, np.int32)
        p = kept(
            label, (1 - right).astype(np.int32), (1 - right).astype(np.int32),
            np.ones(200, np.float32), np.full(200, 0.8, np.float32), np.full(200, 0.8, np.float32),
        )  # fmt: skip
        m = by_name(evaluate(p, 2, seed=trial))["accuracy"]
        assert m.low is not None
        assert m.high is not None
        held += m.low <= 0.8 <= m.high
    assert held >= 51  # 57 expected; 51 or fewer has probability below 1%


def test_same_seed_same_interval_other_seed_other_interval() -> None:
    p = made(200, 5)
    assert evaluate(p, 5, seed=3) == evaluate(p, 5, seed=3)
    assert evaluate(p, 5, seed=3) != evaluate(p, 5, seed=4)


def test_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    p = made(150, 6)
    whole = evaluate(p, 6, seed=0)
    monkeypatch.setattr("zoobench.statistics.bootstrap.CHUNK", 1000)
    assert [m.low for m in evaluate(p, 6, seed=0)] == pytest.approx([m.low for m in whole])


def test_large_problem_is_fast() -> None:
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 1000, size=(2, 10_000)).astype(np.int32)
    nll, confidence, calibrated = rng.random((3, 10_000)).astype(np.float32)
    rank = np.where(label == predicted, 0, 1).astype(np.int32)
    p = kept(label, predicted, rank, nll, confidence, calibrated)
    started = time.process_time()
    evaluate(p, 1000, seed=0)
    # Processor time: other processes on the machine do not count. 0.4 s is usual.
    assert time.process_time() - started < 2.0


def test_ties_behind_the_first_place_count_against() -> None:
    scores = np.log(np.full((4, 4), 0.25))
    p = outcomes_of(scores, np.array([0, 1, 2, 3]), scores, np.array([0, 1, 2, 3]))
    assert p.arrays["predicted"].tolist() == [0, 0, 0, 0]
    assert p.arrays["rank"].tolist() == [0, 3, 3, 3]
    # A classifier that knows nothing is right once in C times, not never.
    assert by_name(evaluate(p, 4, seed=0))["accuracy"].value == 0.25


def test_temperature_repairs_overconfidence() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 5))
    probabilities = np.exp(log_softmax(logits))
    labels = np.array([rng.choice(5, p=row) for row in probabilities])
    sharp = log_softmax(3 * logits)
    p = outcomes_of(sharp[:2000], labels[:2000], sharp[2000:], labels[2000:])
    found = by_name(evaluate(p, 5, seed=0))
    assert found["ece"].value > 0.2
    assert found["ece_calibrated"].value < 0.06


def test_a_temperature_is_not_fitted_to_one_example() -> None:
    scores = log_softmax(np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    one = outcomes_of(scores, np.array([0, 1, 1]), scores[:1], np.array([0]))
    assert np.array_equal(one.arrays["calibrated"], one.arrays["confidence"])
    two = outcomes_of(scores, np.array([0, 1, 1]), scores[:2], np.array([0, 1]))
    assert not np.array_equal(two.arrays["calibrated"], two.arrays["confidence"])


def test_no_temperature_is_sought_for_classes_that_cannot_be_said() -> None:
    """Calibrated scores of eight classes of ten; a fiftieth of the examples are of the others."""
    rng = np.random.default_rng(0)
    scores = np.full((4000, 10), -np.inf)
    scores[:, :8] = log_softmax(2 * rng.normal(size=(4000, 8)))
    labels = np.array([rng.choice(10, p=row) for row in np.exp(scores)])
    labels[::50] = 8 + np.arange(80) % 2
    p = outcomes_of(scores[:2000], labels[:2000], scores[2000:], labels[2000:])
    found = by_name(evaluate(p, 10, seed=0))
    assert found["ece"].value < 0.05
    assert found["ece_calibrated"].value == pytest.approx(found["ece"].value, abs=0.01)
    rest = 2000 + np.flatnonzero(labels[2000:] < 8)
    same = outcomes_of(scores[:2000], labels[:2000], scores[rest], labels[rest])
    assert np.array_equal(p.arrays["calibrated"], same.arrays["calibrated"])
    none = outcomes_of(scores[:2000], labels[:2000], scores[2000:], np.full(2000, 9))
    assert np.array_equal(none.arrays["calibrated"], none.arrays["confidence"])


def test_impossible_class_gives_a_finite_nll() -> None:
    with np.errstate(divide="ignore"):
        scores = np.log(np.array([[1.0, 0.0], [0.5, 0.5]]))
    p = outcomes_of(scores, np.array([1, 0]), scores, np.array([0, 1]))
    assert np.isfinite(p.arrays["nll"]).all()
    assert p.arrays["nll"][0] == pytest.approx(87.3, abs=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_scores_raise(bad: float) -> None:
    scores = np.log(np.full((3, 2), 0.5))
    broken = scores.copy()
    broken[1, 0] = bad
    labels = np.array([0, 1, 0])
    with pytest.raises(NotFinite, match="1 of 3 test examples"):
        outcomes_of(broken, labels, scores, labels)
    with pytest.raises(NotFinite, match="1 of 3 valid examples"):
        outcomes_of(scores, labels, broken, labels)


def test_bad_calls_raise() -> None:
    p = made(10, 3)
    with pytest.raises(ValueError, match="no test examples"):
        evaluate(taken(p, np.array([], dtype=np.int64)), 3, seed=0)
    scores = np.log(np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        outcomes_of(scores, np.array([0, 2]), scores, np.array([0, 1]))


def test_classes_that_test_lacks_are_counted() -> None:
    p = made(30, 40)
    m = by_name(evaluate(p, 40, seed=0))["macro_f1"]
    assert m.detail["classes_not_in_test"] == 40 - len(np.unique(p.arrays["label"]))


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
    st.integers(0, 2**32),
)
def test_values_lie_in_their_intervals(pairs: list[tuple[int, int]], seed: int) -> None:
    label, predicted = (np.array(side, np.int32) for side in zip(*pairs, strict=True))
    ones = np.ones(len(pairs), np.float32)
    p = kept(label, predicted, (label != predicted).astype(np.int32), ones, ones, ones)
    for m in evaluate(p, 4, seed=seed):
        if m.metric == "nll" and len(pairs) == 1:  # of one example and without bounds: unknown
            assert m.low is m.high is None
            continue
        assert m.low is not None
        assert m.high is not None
        assert 0 <= m.low <= m.value <= m.high <= 1


def test_no_interval_holds_what_a_metric_cannot_be() -> None:
    """Of nine examples one is very wrong: a log-likelihood is negative of none of them."""
    nll = np.array([0.01] * 8 + [8.0], np.float32)
    right, ones = np.zeros(9, np.int32), np.ones(9, np.float32)
    found = by_name(evaluate(kept(right, right, right, nll, ones, ones), 4, seed=0))["nll"]
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low < found.value < found.high
    for name, row in METRICS.items():
        if row.section == "quality" and row.better == "lower":
            least = -np.inf if name in ("kid", "bits_per_dim") else 0  # unbiased; of densities
            assert evaluating.bounds_of(name)[0] == least, name


def test_what_is_right_on_all_of_few_examples_has_no_closed_interval() -> None:
    right, ones = np.arange(12, dtype=np.int32) % 3, np.ones(12, np.float32)
    rank = np.zeros(12, np.int32)
    found = by_name(evaluate(kept(right, right, rank, ones, ones, ones), 3, seed=0))
    for name in ("accuracy", "macro_f1", "balanced_accuracy"):
        assert (found[name].value, found[name].high) == (1, 1)
        assert found[name].low == pytest.approx(0.025 ** (1 / 12)), name


def test_every_metric_of_a_task_has_a_row() -> None:
    for each in tasks.TASKS:
        for name in tasks.task(each).metrics:
            assert metric(name).section == "quality"


def test_unknown_metric_says_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'accuracy'"):
        metric("acuracy", "suite.toml: sort")


def test_importing_the_package_does_not_load_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, zoobench.tasks.classification, zoobench.metrics; print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_the_interval_is_wilsons() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for share, n in ((0.802, 50_000), (0.0, 7_500), (1.0, 10_000)):
        expected = proportion.proportion_confint(share * n, n, method="wilson")
        assert wilson(share, n) == pytest.approx(expected, abs=1e-12)
