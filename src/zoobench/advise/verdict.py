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

EQUAL = 0.1
"""Prior probability that the contenders are all alike. Anything up to this has the same Brier and
log scores of P(best) in drawn worlds, and this says the expected loss best
(benchmarks/bench_chances.py)."""

TWINS = 1e-12
"""A variance is at least this, where two models are right on the same examples."""

SPREADS = 64
"""Steps of the distribution of the true scores' spread."""

Outcomes = Mapping[str, bootstrap.Floats]
"""model -> (N,) 0/1 outcomes on the same N examples."""


@dataclass(frozen=True)
class Verdicts:
    """M models, best first: estimated accuracy at the last level, its draws (B, M), P(best).

    `tied` (M,) whether a model cannot be told from the first; `loss` the first's expected
    shortfall against the true best.
    """

    models: tuple[str, ...]
    value: bootstrap.Floats
    draws: bootstrap.Floats
    first: bootstrap.Floats
    tied: tuple[bool, ...]
    loss: float


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
    levels: Sequence[Outcomes],
    shares: Sequence[float],
    seed: int = 0,
    *,
    untried: int = 0,
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
    samples = [_sample(level, seed, number) for number, level in enumerate(levels)]
    names = list(levels[-1])
    leader = names[int(np.argmax(samples[-1].value))]
    rng = np.random.default_rng([seed, 2])
    last = samples[-1].draws
    # Each model's own; a difference of two then has the drift's variance.
    own = drift(float(samples[-1].value.max()), shares[-1]) / np.sqrt(2)
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
    plausible = posterior(means, drawn)
    tops = np.round(plausible, 9) == np.round(plausible.max(axis=1, keepdims=True), 9)
    first = np.asarray((tops / tops.sum(axis=1, keepdims=True)).mean(axis=0))
    first *= len(order) / (len(order) + untried)
    loss = float((plausible.max(axis=1) - plausible[:, 0]).mean())
    error = bootstrap.error_against(drawn, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(means[0] > means, (means[0] - means) / error, 0.0)
    from scipy.special import ndtri

    bound = -ndtri(bootstrap.ALPHA / (2 * max(1, len(order) - 1)))
    tied = tuple(bool(one <= bound) for one in z)
    return Verdicts(tuple(order), means, drawn, first, tied, loss)


def posterior(value: bootstrap.Floats, draws: bootstrap.Floats) -> bootstrap.Floats:
    """(B, M) plausible true scores from `value` (M,) and its bootstrap `draws` (B, M).

    The contenders' are normal about a common mean; what else is known of their spread is a
    distribution (`_spreads`), and each draw has a spread of its own.
    """
    near = np.flatnonzero(plausible.contenders(value, draws))
    scores = np.asarray(value + draws - draws.mean(axis=0))
    if len(near) < 2:
        return scores
    own, noise = value[near], np.cov(draws[:, near], rowvar=False)
    spreads, weights = _spreads(own, noise)
    taken = np.searchsorted(np.cumsum(weights)[:-1], plausible.even_shares(len(draws)))
    normal = np.random.default_rng(len(value)).standard_normal((len(draws), len(near)))
    for number in np.unique(taken):
        mean, cov = _given(spreads[number], own, noise)
        values, vectors = np.linalg.eigh(cov)
        # Without spread all are equal: rounding must not part them.
        root = vectors * np.sqrt(np.where(values > 1e-9 * values.max(), values, 0.0))
        rows = np.flatnonzero(taken == number)
        scores[np.ix_(rows, near)] = mean + normal[rows] @ root.T
    return scores


def _given(
    spread: float, value: bootstrap.Floats, noise: bootstrap.Floats
) -> tuple[bootstrap.Floats, bootstrap.Floats]:
    """Mean (M,) and covariance (M, M) of true scores with variance `spread` about an unknown
    mean (Morris 1983): each is drawn to it by its share of noise."""
    inverse = np.linalg.inv(max(spread, TWINS) * np.eye(len(value)) + noise)
    sure = float(inverse.sum())
    centre = float((inverse @ value).sum()) / sure
    drawn = np.eye(len(value)) - spread * inverse
    mean = value - drawn @ (value - centre)
    shared = drawn.sum(axis=1)  # how far each follows the mean, which is not known exactly
    return mean, spread * drawn + np.outer(shared, shared) / sure


def _spreads(
    value: bootstrap.Floats, noise: bootstrap.Floats
) -> tuple[bootstrap.Floats, bootstrap.Floats]:
    """Plausible variances of true scores, and their weights, from `value` (M,) and the
    covariance of its noise (M, M).

    The prior is of the kind of `stats.shrinkage`, for scores known unequally well: none with
    probability EQUAL, else such that spread / (spread + noise) is uniform (Daniels 1999), where
    noise is the harmonic mean over models (Christiansen and Morris 1997). The likelihood is
    that of the distances to the mean (REML), each with its own noise as if the others' had
    nothing to do with it: two models that are right on the same examples are near-copies, no
    proof that all models are alike.
    """
    count = len(value)
    centring = np.eye(count) - 1 / count
    apart = np.maximum(np.diag(centring @ noise @ centring) * count / (count - 1), TWINS)
    share = (np.arange(SPREADS) + 0.5) / SPREADS
    spreads = np.concatenate([[0.0], share / (1 - share) / np.mean(1 / apart)])
    sure = 1 / (spreads[:, None] + apart)
    total = sure.sum(axis=1)
    rest = value - ((sure @ value) / total)[:, None]
    log = 0.5 * (np.log(sure).sum(axis=1) - np.log(total) - (sure * rest**2).sum(axis=1))
    prior = np.concatenate([[EQUAL], np.full(SPREADS, (1 - EQUAL) / SPREADS)])
    weights = prior * np.exp(log - log.max())
    return spreads, weights / weights.sum()


def _sample(level: Outcomes, seed: int, number: int) -> _Sample:
    """The paired bootstrap over examples, drawn by patterns of outcomes: few are distinct."""
    rows = np.stack([np.asarray(right, dtype=np.float64) for right in level.values()], axis=1)
    patterns, counts = np.unique(rows, axis=0, return_counts=True)
    rng = np.random.default_rng(bootstrap.seed_of(seed, number))
    drawn = rng.multinomial(len(rows), counts / len(rows), size=bootstrap.RESAMPLES)
    return _Sample(rows.mean(axis=0), drawn @ patterns / len(rows))
