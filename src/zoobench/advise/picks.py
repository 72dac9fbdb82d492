"""The two picks of an advice, by the rule that rankings use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from zoobench.advise.nouns import METHOD, Standing
from zoobench.advise.verdict import Verdicts
from zoobench.ranking.choice import choose, usual_cost
from zoobench.ranking.recommend import COSTLY, Limits


class Chosen(TypedDict):
    """The fields of `Advice` that tell the two picks."""

    pick: Standing | None
    cheapest: Standing | None
    cost: str
    tolerance: float
    method: str
    loss: Mapping[str, float]
    within: float | None


def picks(standings: Sequence[Standing], found: Verdicts | None, limits: Limits) -> Chosen:
    """The most accurate and the cheapest good enough (ranking/choice.py)."""
    usual = usual_cost([one.facts for one in standings], timed=False)
    cost = COSTLY[limits.cheapest] if limits.cheapest else usual
    tolerance = limits.tolerance / 100
    if found is None:
        return {
            "pick": None,
            "cheapest": None,
            "cost": cost,
            "tolerance": tolerance,
            "method": "",
            "loss": {},
            "within": None,
        }
    spent = np.array([one.facts.get(cost, np.nan) for one in standings])
    chosen = choose(found.scores, spent, tolerance)
    cheap, pick = chosen.cheapest, standings[chosen.accurate]
    names = [one.candidate.model for one in standings]
    return {
        "pick": pick,
        "cheapest": None if cheap is None else standings[cheap],
        "cost": cost,
        "tolerance": tolerance,
        "method": METHOD[pick.stage],
        "loss": dict(zip(names, chosen.loss.tolist(), strict=True)),
        "within": None if cheap is None else float(chosen.within[cheap]),
    }
