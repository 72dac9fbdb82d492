"""How well cheap scores foresee fine-tuning (PROTOCOL section 6).

For each dataset on which models were fine-tuned, every score that a record holds is
judged as a ranker of those models: regret@k, and Vigna's weighted Kendall tau (2015).
Static rankers, which never look at the data, stand beside: what does not beat them is
not worth computing.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from zoobench import metrics
from zoobench.ranking.comparability import Section, is_control
from zoobench.ranking.nouns import Judged
from zoobench.ranking.outcomes import by_model, mean_of, primary_of
from zoobench.schema import Record, Ref

TARGET = "fine-tune"
FEWEST = 3
"""Models below which there is nothing to rank."""

SCORES: Mapping[str, tuple[str, str]] = {
    "LogME": ("", "logme"),
    "H-score": ("", "h_score"),
    "LEEP": ("", "leep"),
    "NCE": ("", "nce"),
    "TransRate": ("", "transrate"),
    "kNN": ("knn", "valid_accuracy"),
    "linear probe": ("linear-probe", "valid_accuracy"),
}
"""Name -> (method whose record holds it, "" for any, and the metric). None looks at `test`."""

STATIC = ("parameters", "published ImageNet top-1", "mean over the other datasets")
PUBLISHED = Ref("published", "imagenet")


def judge(sections: Sequence[Section], metric: str | None) -> tuple[Judged, ...]:
    """Every ranker on every dataset with FEWEST fine-tuned models, by `metric` or by the task's
    primary one; () where there is none."""
    truths: dict[tuple[Ref, str], dict[Ref, float]] = {}
    names: dict[tuple[Ref, str], str] = {}
    for s in sections:
        if s.method == TARGET and s.shots is None:
            wanted = metric or primary_of(s.records[0])
            truth = _truth(s, wanted)
            if len(truth) >= FEWEST:
                truths[s.dataset, s.key["splits"]], names[s.dataset, s.key["splits"]] = (
                    truth,
                    wanted,
                )
    found: list[Judged] = []
    for (dataset, splits), truth in truths.items():
        wanted = names[dataset, splits]
        own = [r for s in sections if (s.dataset, s.key["splits"]) == (dataset, splits)
               and s.shots is None for r in s.records if r.status == "ok"]  # fmt: skip
        for name, (method, held) in SCORES.items():
            scores = _scores(own, method, held)
            found += _judged(name, False, dataset, wanted, truth, scores)
        others = (
            []
            if _in_units(wanted)
            else [t for (d, s), t in truths.items() if d != dataset and names[d, s] == wanted]
        )
        for name, scores in _static(own, sections, truth, others).items():
            found += _judged(name, True, dataset, wanted, truth, scores)
    return tuple(found)


def _in_units(metric: str) -> bool:
    """Whether the metric is an error in the target's own unit, which no two datasets share."""
    return metrics.metric(metric).unit == "target"


def _truth(section: Section, metric: str) -> dict[Ref, float]:
    """Of whole models: what is carried over to a variant was fine-tuned once, and is foreseen by
    no score of its own."""
    usable = [r for r in section.records if r.status == "ok" and r.get(metric)
              and not is_control(r) and r.cell.model.option("variant") is None]  # fmt: skip
    return {model: mean_of(records, metric) for model, records in by_model(usable).items()}


def _scores(records: Sequence[Record], method: str, metric: str) -> dict[Ref, float]:
    """model -> its score: a mean over seeds, where several records hold one."""
    held: dict[Ref, list[float]] = {}
    for record in records:
        value = record.value(metric)
        if value is not None and method in ("", record.cell.method):
            held.setdefault(record.cell.model, []).append(value)
    return {model: float(np.mean(values)) for model, values in held.items()}


def _static(
    own: Sequence[Record],
    sections: Sequence[Section],
    truth: Mapping[Ref, float],
    others: Sequence[Mapping[Ref, float]],
) -> dict[str, dict[Ref, float]]:
    top1: dict[str, float] = {}
    for record in (r for s in sections if s.dataset == PUBLISHED for r in s.records):
        name = record.cell.model.name  # some are published at several picture sizes
        top1[name] = max(top1.get(name, 0.0), record.value("accuracy") or 0.0)
    elsewhere = [o for o in others if truth.keys() <= o.keys()]
    return {
        STATIC[0]: _scores(own, "", "params"),
        STATIC[1]: {m: top1[a] for m in truth if (a := m.name) in top1},
        STATIC[2]: {m: float(np.mean([o[m] for o in elsewhere])) for m in truth if elsewhere},
    }


def _judged(
    ranker: str,
    static: bool,
    dataset: Ref,
    metric: str,
    truth: Mapping[Ref, float],
    scores: Mapping[Ref, float],
) -> list[Judged]:
    """[] where fewer than FEWEST of the fine-tuned models have this score."""
    models = sorted(truth.keys() & scores.keys())
    if len(models) < FEWEST:
        return []
    accuracy = np.array([truth[m] for m in models])
    score = np.array([scores[m] for m in models])
    regrets = {k: regret(accuracy, score, k) for k in (1, 3) if k < len(models)}
    tau = weighted_tau(accuracy, score)
    return [Judged(ranker, static, (dataset,), metric, regrets, tau, len(models), len(truth))]


def regret(accuracy: np.ndarray, score: np.ndarray, k: int) -> float:
    """Best accuracy minus the best among the k highest scores; both (M,).

    Models of equal score are taken in every order alike: the mean over all choices of k
    that the score allows, so that a score which says nothing is no luckier than chance.
    """
    cutoff = np.sort(score)[-k]
    sure, level = accuracy[score > cutoff], np.sort(accuracy[score == cutoff])[::-1]
    take, many = k - len(sure), len(level)
    floor = sure.max() if len(sure) else -np.inf
    # P(the best of `take` drawn from `many` is the i-th best), i = 0, 1, ...
    left, expected = 1.0, 0.0
    for i, value in enumerate(level[: many - take + 1]):
        chance = left * take / (many - i)
        expected += chance * max(float(value), float(floor))
        left -= chance
    return float(accuracy.max()) - expected


def weighted_tau(accuracy: np.ndarray, score: np.ndarray) -> float | None:
    """Vigna's weighted Kendall tau in [-1, 1], hyperbolic weights; None where it is undefined."""
    from scipy.stats import weightedtau

    if len(np.unique(score)) < 2 or len(np.unique(accuracy)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(weightedtau(accuracy, score).statistic)


def mean_over(judged: Sequence[Judged]) -> list[Judged]:
    """One row a ranker and metric over the datasets that it was judged on, in the order given.
    Errors in the targets' own units have no mean: of them only the ranks' agreement is given."""
    groups: dict[tuple[str, str], list[Judged]] = {}
    for one in judged:
        groups.setdefault((one.ranker, one.metric), []).append(one)
    rows = []
    for (ranker, metric), found in groups.items():
        ks = set.intersection(*(set(one.regret) for one in found))
        if _in_units(metric) and len(found) > 1:
            ks = set()
        taus = [one.tau for one in found if one.tau is not None]
        rows.append(
            Judged(
                ranker,
                found[0].static,
                tuple(dataset for one in found for dataset in one.datasets),
                metric,
                {k: float(np.mean([one.regret[k] for one in found])) for k in sorted(ks)},
                float(np.mean(taus)) if taus else None,
                min(one.models for one in found),
                min(one.of for one in found),
            )
        )
    return rows
