"""The critical-difference diagram against scipy's and statsmodels' tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import PermutationMethod, friedmanchisquare, wilcoxon

from zoobench.report.figures import lanes, ranks_diagram
from zoobench.schema import Ref
from zoobench.statistics import critical
from zoobench.statistics.critical import critical_difference


def test_the_signed_rank_test_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 8, 13, 30):
        difference = rng.normal(0.3, 1, count)
        expected = wilcoxon(difference, method="exact").pvalue
        assert critical.wilcoxon(difference) == pytest.approx(expected, rel=1e-10)


def test_it_stays_exact_with_ties_and_zeros() -> None:
    difference = np.array([0.02, -0.01, 0.01, 0.0, 0.03, 0.02, 0.02, -0.01])
    moved = difference[difference != 0]
    method = PermutationMethod(n_resamples=10_000)  # all 128 flips
    expected = wilcoxon(moved, method=method).pvalue
    assert critical.wilcoxon(difference) == pytest.approx(expected, rel=1e-10)
    assert critical.wilcoxon(np.zeros(6)) == 1.0


def test_ranks_pairs_and_groups_are_what_the_libraries_say() -> None:
    rng = np.random.default_rng(1)
    level = np.array([0.9, 0.895, 0.8, 0.795, 0.6])
    values = level + rng.normal(0, 0.02, (20, 5))
    found = critical_difference("abcde", values)
    assert found is not None
    order = [found.models.index(m) for m in "abcde"]
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    raw = [wilcoxon(values[:, i], values[:, j], method="exact").pvalue for i, j in pairs]
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    adjusted = multitest.multipletests(raw, method="holm")[1]
    mine = [found.p[order[i]][order[j]] for i, j in pairs]
    assert mine == pytest.approx(adjusted, rel=1e-9)
    assert found.friedman == pytest.approx(friedmanchisquare(*values.T).pvalue)
    assert sum(found.ranks) == pytest.approx(15)
    assert [found.models[first : last + 1] for first, last in found.cliques] == [
        tuple(sorted("ab", key=found.models.index)),
        tuple(sorted("cd", key=found.models.index)),
    ]


def test_few_datasets_part_nobody_and_it_says_so() -> None:
    values = np.array([0.9, 0.7, 0.5, 0.3]) + np.zeros((5, 1))
    found = critical_difference("abcd", values)
    assert found is not None
    assert found.cliques == ((0, 3),)
    assert found.smallest == pytest.approx(6 * 2 / 32)
    assert critical_difference("abcd", values[:4]) is None
    assert critical_difference("ab", values[:, :2]) is None
    assert critical_difference([str(m) for m in range(31)], np.zeros((9, 31))) is None
    alike = critical_difference("abc", np.ones((6, 3)))
    assert alike is not None
    assert (alike.friedman, alike.cliques) == (1.0, ((0, 2),))


def test_bars_that_share_a_model_lie_on_lanes_of_their_own() -> None:
    assert lanes(((0, 2), (1, 3), (3, 5), (4, 6))) == [0, 1, 0, 1]
    assert lanes(()) == []


def test_the_figure_names_every_model() -> None:
    rng = np.random.default_rng(1)
    models = [Ref("timm", f"net{m}") for m in range(7)]
    found = critical_difference(models, np.arange(7) / 10 + rng.normal(0, 0.1, (12, 7)))
    assert found is not None
    figure = ranks_diagram(found, "knn")
    said = " ".join(text.get_text() for text in figure.axes[0].texts)
    for model in models:
        assert model.name in said
