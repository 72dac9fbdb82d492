"""From what was measured to who is best, and how sure that is. Pure arrays.

Models leave the race at different rungs, so they are compared in a chain: those at the
last level by their outcomes there, and one that left earlier by its paired difference,
where it was last seen, from the mean of those that went on. Levels are not pooled: their test
examples are nested.

Such differences are wanted on all of the data, and learning curves cross. How much accuracy
will yet rise is taken from a power law of the error; models differ in it by a share of it, and
that is the drift of a difference: much where few of the examples were seen, nothing at the end.

The observed best was partly lucky. True scores are therefore taken to be normal about a
common mean, and the bootstrap covariance is the noise: those measured on less are drawn
further to the mean (Morris 1983). How far true scores lie apart cannot be estimated from
three of them: every spread that may be has its weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoobench.statistics import bootstrap, plausible
from zoobench.statistics.paired import holm, mcnemar

DRIFT = 0.01
"""Least standard deviation, in accuracy, of a difference's change between two levels."""

DECAY = 1 / 2
"""The error is taken to fall with the number of examples to the power of minus this."""

APART = 0.2
"""Standard deviation of the difference of two models' rises, as a share of the rise."""

Outcomes = Mapping[str, bootstrap.Floats]
"""model -> (N,) 0/1 outcomes on the same N examples."""


@dataclass(frozen=True)
class Verdicts:
    """M models, best first: estimated accuracy at the last level, its draws (B, M), P(best).

    `tied` (M,) whether a model cannot be told from the first; `scores` (B, M) plausible true
    scores at the last level.
    """

    models: tuple[str, ...]
    value: bootstrap.Floats
    draws: bootstrap.Floats
    first: bootstrap.Floats
    tied: tuple[bool, ...]
    scores: bootstrap.Floats


@dataclass(frozen=True)
class _Sample:
    """M models on the same examples: accuracies (M,), and their bootstrap draws (B, M)."""

    value: bootstrap.Floats
    draws: bootstrap.Floats


def telling(levels: Sequence[Outcomes]) -> int:
    """How many of `levels`, from the first, tell models apart: at the end one model alone says
    nothing of the others, where earlier two or more were seen."""
    several = [number for number, level in enumerate(levels) if len(level) >= 2]
    return several[-1] + 1 if several else len(levels)


def verdicts(
    levels: Sequence[Outcomes], shares: Sequence[float], untried: int = 0
) -> Verdicts | None:
    """`levels` from the first to the last; None where no model has an outcome. `shares` are
    the parts of all the data that they were seen on.

    Of `untried` more candidates nothing is known: before any was measured each of all was as
    likely the best, and how those that were compare with each other does not change that, so
    each untried one keeps its share.
    """
    seen = [(level, share) for level, share in zip(levels, shares, strict=True) if level]
    if not seen:
        return None
    seen = seen[: telling([level for level, _ in seen])]
    levels, shares = [level for level, _ in seen], [share for _, share in seen]
    samples = [_sample(level, number) for number, level in enumerate(levels)]
    names = list(levels[-1])
    leader = names[int(np.argmax(samples[-1].value))]
    rng = np.random.default_rng([0, 2])
    last = samples[-1].draws
    # Each model's own; a difference of two then has the drift's variance.
    own = drift(float(samples[-1].value.max()), shares[-1]) / np.sqrt(2)
    own = np.hypot(own, np.sqrt(plausible.unseen(len(levels[-1][leader]))))
    last = last + own * rng.standard_normal(last.shape)
    value = dict(zip(names, samples[-1].value.tolist(), strict=True))
    draws = dict(zip(names, last.T, strict=True))
    for number in range(len(levels) - 2, -1, -1):
        here, one = list(levels[number]), samples[number]
        on = [name for name in here if name in value]
        if not on:
            continue
        at = [here.index(name) for name in on]
        mean = float(np.mean([value[name] for name in on]) - one.value[at].mean())
        shift = np.mean([draws[name] for name in on], axis=0) - one.draws[:, at].mean(axis=1)
        least = np.sqrt(len(levels) - 1 - number) * DRIFT
        gone = max(least, drift(float(one.value.max()), shares[number]))
        hidden = plausible.unseen(len(levels[number][here[0]])) * (1 + 1 / len(on))
        gone = float(np.hypot(gone, np.sqrt(hidden)))
        for m, name in enumerate(here):
            if name not in value:
                value[name] = mean + float(one.value[m])
                noise = gone * rng.standard_normal(len(one.draws))
                draws[name] = shift + one.draws[:, m] + noise
    order = sorted(value, key=lambda name: -value[name])
    order.remove(leader)  # what was seen longest is trusted: nobody passes it by a guess alone
    return _verdicts([leader, *order], value, draws, untried)


def drift(best: float, share: float) -> float:
    """Standard deviation of how a difference of two models will yet change, on the way from
    `share` of the data, where the best accuracy is `best`, to all of it."""
    return float(APART * (1.0 - best) * (1.0 - share**DECAY))


def beaten(level: Outcomes, share: float) -> list[str]:
    """The models of `level`, seen on `share` of the data, that are significantly worse than its
    leader.

    McNemar's exact test on each paired difference, and a z-test that allows for its drift; the
    larger p-value of the two, Holm over all models.
    """
    from scipy.special import ndtr

    if len(level) < 2:
        return []
    rows = {name: np.asarray(right, dtype=np.float64) for name, right in level.items()}
    leader = max(rows, key=lambda name: rows[name].mean())
    others = [name for name in rows if name != leader]
    lost = np.array([(rows[leader] > rows[name]).sum() for name in others])
    won = np.array([(rows[leader] < rows[name]).sum() for name in others])
    n = len(rows[leader])
    gap = (lost - won) / n
    variance = (lost + won) / n**2 - gap**2 / n
    change = max(DRIFT, drift(float(rows[leader].mean()), share))
    p = np.maximum(mcnemar(lost, won), 2 * ndtr(-gap / np.sqrt(variance + change**2)))
    return [
        name
        for name, one in zip(others, holm(np.minimum(p, 1.0)), strict=True)
        if one <= bootstrap.ALPHA
    ]


def _verdicts(
    order: Sequence[str],
    value: Mapping[str, float],
    draws: Mapping[str, bootstrap.Floats],
    untried: int,
) -> Verdicts:
    means = np.array([value[name] for name in order])
    drawn = np.stack([draws[name] for name in order], axis=1)
    scores = plausible.posterior(means, drawn)
    first = plausible.first_of(scores) * (len(order) / (len(order) + untried))
    error = bootstrap.error_against(drawn, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(means[0] > means, (means[0] - means) / error, 0.0)
    from scipy.special import ndtri

    bound = -ndtri(bootstrap.ALPHA / (2 * max(1, len(order) - 1)))
    tied = tuple(bool(one <= bound) for one in z)
    return Verdicts(tuple(order), means, drawn, first, tied, scores)


def _sample(level: Outcomes, number: int) -> _Sample:
    """The paired bootstrap over examples, drawn by patterns of outcomes: few are distinct."""
    rows = np.stack([np.asarray(right, dtype=np.float64) for right in level.values()], axis=1)
    patterns, counts = np.unique(rows, axis=0, return_counts=True)
    rng = np.random.default_rng(bootstrap.seed_of(0, number))
    drawn = rng.multinomial(len(rows), counts / len(rows), size=bootstrap.RESAMPLES)
    return _Sample(rows.mean(axis=0), drawn @ patterns / len(rows))
