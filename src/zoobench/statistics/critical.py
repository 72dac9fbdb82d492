"""The critical-difference diagram: mean ranks over datasets, and who cannot be told apart.

Demsar 2006 (JMLR 7, 1-30) for the ranks, Friedman's test and the picture; pairs by
Wilcoxon's signed-rank test with Holm's correction, as Benavoli, Corani and Mangili 2016
(JMLR 17, 1-10) advise in place of the mean-ranks post-hoc test. The unit is the dataset:
it asks whether a model is better on datasets like these, whatever each test set's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from zoobench.statistics.bootstrap import ALPHA, Floats, Matrix
from zoobench.statistics.many import ranks as ranked
from zoobench.statistics.paired import holm, sign_flip

Model = TypeVar("Model")

FEWEST = 5
"""Datasets below which no diagram is drawn: ranks over so few say nothing of others."""
MOST = 30
"""Models above which none is drawn: nobody could read it."""


@dataclass(frozen=True)
class CriticalDifference(Generic[Model]):
    """M models, by whatever names them, over D datasets; best mean rank first.

    `ranks` (M,) mean ranks; `friedman` the p-value that all models are alike; `p` the
    Holm-corrected matrix of Wilcoxon tests; `cliques` (first, last) positions of the
    largest groups in which no pair differs; `smallest` the least corrected p-value that
    D datasets allow: above 0.05 no pair could be told apart, whatever the scores.
    """

    models: tuple[Model, ...]
    ranks: tuple[float, ...]
    friedman: float
    p: Matrix
    cliques: tuple[tuple[int, int], ...]
    datasets: int
    smallest: float


def wilcoxon(difference: Floats) -> float:
    """Two-sided exact p of Wilcoxon's signed-rank test on D differences (Wilcoxon 1945).

    Zeros are dropped and ties get their mean rank; the distribution over all sign flips
    is exact with ties too. Without them it is `scipy.stats.wilcoxon(method="exact")`.
    """
    moved = np.round(difference, 12)
    moved = moved[moved != 0]
    ranks = ranked(np.abs(moved)[None])[0]
    less, greater = sign_flip((2 * ranks * np.sign(moved)).astype(np.int64))
    return min(1.0, 2 * min(less, greater))


def critical_difference(
    models: Sequence[Model], values: Floats
) -> CriticalDifference[Model] | None:
    """The diagram of `values` (D, M), larger better; None outside 3..MOST models or D < FEWEST."""
    count, many = values.shape
    if count < FEWEST or not 3 <= many <= MOST:
        return None
    from scipy.stats import friedmanchisquare

    rounded = np.round(values, 12)
    ranks = ranked(-rounded).mean(axis=0)
    order = sorted(range(many), key=lambda m: (ranks[m], str(models[m])))
    p = np.ones((many, many))
    rows, columns = np.triu_indices(many, 1)
    raw = [
        wilcoxon(rounded[:, order[i]] - rounded[:, order[j]])
        for i, j in zip(rows, columns, strict=True)
    ]
    p[rows, columns] = p[columns, rows] = holm(raw)
    alike = bool((rounded == rounded[:, :1]).all())  # Friedman's statistic is 0/0 then
    return CriticalDifference(
        models=tuple(models[m] for m in order),
        ranks=tuple(float(ranks[m]) for m in order),
        friedman=1.0 if alike else float(friedmanchisquare(*rounded.T).pvalue),
        p=tuple(map(tuple, p.tolist())),
        cliques=tuple(_cliques(p)),
        datasets=count,
        smallest=min(1.0, len(raw) * 2.0 ** (1 - count)),
    )


def _cliques(p: Floats) -> list[tuple[int, int]]:
    """(first, last) of each run of models without a significant pair, inside no other run."""
    found: list[tuple[int, int]] = []
    for first in range(len(p)):
        last = first
        while last + 1 < len(p) and (p[first : last + 1, last + 1] > ALPHA).all():
            last += 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
