"""Two picks that one would defend: the most accurate model, and the cheapest good enough.

Both are read from the same plausible true scores, whoever asks: a ranking, or the advisor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoobench.statistics.bootstrap import Floats

SURE = 0.9
"""How probable it must be that a cheap model is within the tolerance of the true best."""


def usual_cost(costs: Sequence[Mapping[str, float]], timed: bool) -> str:
    """What is looked at where nobody says: the latency where all have it and it may be compared
    (`timed`), the MACs where all have those, else the parameters."""
    names = ("latency_ms_p50", "macs") if timed else ("macs",)
    for name in names:
        if costs and all(name in one for one in costs):
            return name
    return "params"


@dataclass(frozen=True)
class Picks:
    """Positions of the two picks among M models, and what was known of each.

    `accurate` has the least expected loss; `cheapest` costs least of those that are within the
    tolerance of the true best with probability SURE, None where nobody is. `loss` (M,) is how
    far each falls short of the true best on average, `within` (M,) that probability.
    """

    accurate: int
    cheapest: int | None
    loss: Floats
    within: Floats


def choose(scores: Floats, cost: Floats, tolerance: float) -> Picks:
    """The picks from plausible true scores (B, M), larger is better, and costs (M,), nan where
    unknown; `tolerance` in the metric's unit. Of equals the first is taken."""
    short = scores.max(axis=1, keepdims=True) - scores
    loss, within = short.mean(axis=0), (short <= tolerance).mean(axis=0)
    enough = np.flatnonzero((within >= SURE) & np.isfinite(cost))
    cheapest = int(min(enough, key=lambda m: (cost[m], loss[m]))) if len(enough) else None
    return Picks(int(np.argmin(loss)), cheapest, loss, within)
