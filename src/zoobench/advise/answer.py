"""From what was measured to who is best, and how sure that is. Pure arrays.

Models leave the race at different rungs, so they are compared in a chain: those at the
last level by their outcomes there, and one that left earlier by its paired difference,
where it was last seen, from the best of the last level. Such a difference is taken to
carry over to more examples but for a drift, whose size is estimated from the models that
were seen at several levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoobench.analysis import stats

DRIFT = 0.01
"""Least standard deviation, in accuracy, of a difference's change from one level to the next."""

Outcomes = Mapping[str, stats.Floats]
"""model -> (N,) 0/1 outcomes on the same N examples."""


@dataclass(frozen=True)
class Verdicts:
    """M models, best first: estimated accuracy at the last level, its draws (B, M), P(best).

    `tied` (M,) whether a model cannot be told from the first; `loss` the first's expected
    shortfall against the true best.
    """

    models: tuple[str, ...]
    value: stats.Floats
    draws: stats.Floats
    first: stats.Floats
    tied: tuple[bool, ...]
    loss: float


def verdicts(levels: Sequence[Outcomes], seed: int = 0) -> Verdicts | None:
    """`levels` from the first to the last; None where no model has an outcome."""
    levels = [level for level in levels if level]
    if not levels:
        return None
    while len(levels) > 1 and len(levels[-1]) < 2 <= len(levels[-2]):
        levels = levels[:-1]  # one model alone says nothing of the others
    samples = [_sample(level, seed, number) for number, level in enumerate(levels)]
    names = list(levels[-1])
    leader = names[int(np.argmax(samples[-1].value))]
    drift = _drift(levels, samples, leader)
    value = dict(zip(names, samples[-1].value.tolist(), strict=True))
    draws = dict(zip(names, samples[-1].draws.T, strict=True))
    rng = np.random.default_rng([seed, 2])
    for number in range(len(levels) - 2, -1, -1):
        here = list(levels[number])
        if leader not in here:
            continue
        one, at = samples[number], here.index(leader)
        gone = np.sqrt(len(levels) - 1 - number) * drift
        for m, name in enumerate(here):
            if name not in value:
                value[name] = value[leader] + float(one.value[m] - one.value[at])
                noise = gone * rng.standard_normal(len(one.draws))
                draws[name] = draws[leader] + (one.draws[:, m] - one.draws[:, at]) + noise
    order = sorted(value, key=lambda name: -value[name])
    order.remove(leader)  # what was seen longest is trusted: nobody passes it by a guess alone
    return _verdicts([leader, *order], value, draws)


def _verdicts(
    order: Sequence[str], value: Mapping[str, float], draws: Mapping[str, stats.Floats]
) -> Verdicts:
    means = np.array([value[name] for name in order])
    drawn = np.stack([draws[name] for name in order], axis=1)
    first = stats.probability_first(means, drawn)
    plausible = stats.posterior(means, drawn)
    loss = float((plausible.max(axis=1) - plausible[:, 0]).mean())
    error = stats.error_against(drawn, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(means[0] > means, (means[0] - means) / error, 0.0)
    from scipy.stats import norm

    bound = norm.isf(stats.ALPHA / (2 * max(1, len(order) - 1)))
    tied = tuple(bool(one <= bound) for one in z)
    return Verdicts(tuple(order), means, drawn, first, tied, loss)


def _sample(level: Outcomes, seed: int, number: int) -> stats.Sample:
    rows = [np.asarray(right, dtype=np.float32)[None, :] for right in level.values()]
    return stats.sample(rows, stats.seed_of(seed, number))


def _drift(levels: Sequence[Outcomes], samples: Sequence[stats.Sample], leader: str) -> float:
    """How much a difference from the leader changes a level, beyond its sampling error."""
    changes = []
    for number in range(1, len(levels)):
        before, after = list(levels[number - 1]), list(levels[number])
        if leader not in before or leader not in after:
            continue
        for name in set(before) & set(after) - {leader}:
            seen = [
                _gap(one, names.index(name), names.index(leader))
                for one, names in ((samples[number - 1], before), (samples[number], after))
            ]
            (old, e1), (new, e2) = seen
            changes.append((new - old) ** 2 - e1**2 - e2**2)
    extra = float(np.mean(changes)) if changes else 0.0
    return float(np.sqrt(max(DRIFT**2, extra)))


def _gap(one: stats.Sample, m: int, leader: int) -> tuple[float, float]:
    """(difference from the leader, its bootstrap standard error)."""
    difference = one.draws[:, m] - one.draws[:, leader]
    return float(one.value[m] - one.value[leader]), float(difference.std(ddof=1))
