"""Which models to take under limits: the most accurate and the cheapest good enough, and how sure
one can be of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoobench import metrics
from zoobench.errors import UserError
from zoobench.metrics import difference
from zoobench.ranking.choice import choose, usual_cost
from zoobench.ranking.nouns import TIMED, OverallRanking, OverallRow, Ranking, natural
from zoobench.ranking.outcomes import model_of
from zoobench.ranking.pareto import noisy, one_device
from zoobench.ranking.rank import rank
from zoobench.schema import Ref
from zoobench.statistics import bootstrap, many, plausible
from zoobench.store import Run

COSTLY = {"latency": "latency_ms_p50", "macs": "macs", "params": "params"}
"""What `cheapest` may mean -> the cost metric."""
MEASURED_BY = {
    "mean_retained": "it needs the data with `corrupt` and `severity` beside it, as in `shift`",
    "membership_auc": "it needs a method with `membership = true`",
}
"""How each number of trust comes into a run."""
NOT_RANKED = "not ranked"
"""How the reason begins of a model that has too few scores to be compared."""
PERMISSIVE = frozenset((
    "0bsd", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0",
    "cc-by-3.0", "cc-by-4.0", "cc0-1.0", "cdla-permissive-2.0", "isc", "mit", "mit-0",
    "odc-by-1.0", "pddl", "pddl-1.0", "unlicense", "zlib",
))  # fmt: skip
"""SPDX identifiers, in small letters, of licences that ask for little but attribution: what
`license = "permissive"` admits, and the probe of that name."""


@dataclass(frozen=True)
class Limits:
    """What the chosen model must keep to; None or "" is no limit.

    `max_memory` and `max_bytes` (of the saved weights) in bytes; `license` is "permissive" or SPDX
    identifiers, by comma. `tolerance` is what the cheapest may lose, in points (hundredths of the
    metric's unit; percent of the best value where that unit is the target's), and `cheapest` the
    cost that is looked at: one of COSTLY, or "" for the latency where it was measured on one
    device and is noisy for nobody, else the MACs. `needs` are names of usability probes, and
    `unmet` says of the models that do not keep them (by the text of a private Ref, without a
    variant's head) why not.
    `min_retained` is what must be left of a score under corruptions, on average, as a fraction of
    it, and `max_membership_auc` how well a member of train may be told from others.
    """

    max_params: float | None = None
    max_macs: float | None = None
    max_latency_ms: float | None = None
    max_memory: float | None = None
    license: str = ""
    tolerance: float = 1.0
    cheapest: str = ""
    max_bytes: float | None = None
    needs: tuple[str, ...] = ()
    unmet: Mapping[str, str] = field(default_factory=dict)
    min_retained: float | None = None
    max_membership_auc: float | None = None

    @property
    def trust(self) -> dict[str, float]:
        """number of trust -> its limit: the least of what is better higher, the most of others."""
        named = {"mean_retained": self.min_retained, "membership_auc": self.max_membership_auc}
        return {name: limit for name, limit in named.items() if limit is not None}

    @property
    def costs(self) -> dict[str, float]:
        """cost metric -> most that is allowed."""
        named = {
            "params": self.max_params,
            "macs": self.max_macs,
            "latency_ms_p50": self.max_latency_ms,
            "peak_memory_bytes": self.max_memory,
            "weights_bytes": self.max_bytes,
        }
        return {name: limit for name, limit in named.items() if limit is not None}


@dataclass(frozen=True)
class Recommendation:
    """`accurate` has the least expected loss of those that the limits allow, and `cheapest` costs
    least, by `cost`, of those that are within `tolerance` (in the metric's unit) of the true
    best with probability 0.9; None where nobody is.

    Of each allowed model, `first` is the probability of being the best of them, `loss` how far it
    falls short of the true best on average over what is plausible, and `within` the
    probability of being within the tolerance; all are empty where nothing is known of luck.
    `tied` are those that cannot be told from the observed best, it included; `ruled_out` says
    why each other model was not allowed, `behind` by how much the rest of the allowed trail.
    `needs` are the probes that had to be answered with yes.
    """

    accurate: OverallRow | None
    cheapest: OverallRow | None
    cost: str
    tolerance: float
    tied: tuple[OverallRow, ...]
    first: Mapping[Ref, float]
    loss: Mapping[Ref, float]
    within: Mapping[Ref, float]
    ruled_out: Mapping[Ref, str]
    behind: Mapping[Ref, str]
    method: str
    metric: str
    datasets: tuple[Ref, ...]
    needs: tuple[str, ...] = ()


def recommend_all(
    run: Run,
    limits: Limits | None = None,
    metric: str | None = None,
    ranking: Ranking | None = None,
) -> tuple[Recommendation, ...]:
    """`recommend` from each overall ranking of `run` by `metric`, else by its task's primary one;
    from `ranking`, where the run was ranked already.

    Raises UserError where nothing was measured, and what `recommend` raises.
    """
    ranking = ranking or rank([run], metric)
    if not ranking.overall:
        raise UserError(f"{run.path}: no model was measured: there is nothing to choose from")
    return tuple(recommend(overall, limits) for overall in ranking.overall)


def recommend(overall: OverallRanking, limits: Limits | None = None) -> Recommendation:
    """Choose from one overall ranking. Ties are tested anew among the allowed models.

    Raises UserError for a limit on a timed cost that was measured on several devices,
    or that was not measured at all.
    """
    asked = limits or Limits()
    _check(overall, asked)
    reasons = {row.model: why for row in overall.rows if (why := _excluded(row, asked))}
    allowed = [i for i, row in enumerate(overall.rows) if row.model not in reasons]
    rows = [overall.rows[i] for i in allowed]
    reasons |= {m: f"{NOT_RANKED}: {why}" for m, why in overall.left_out_models.items()}
    tied = [rows[k] for k in _tied(overall, allowed)] if rows else []
    behind = {
        row.model: f"{difference(overall.metric, rows[0].value - row.value)} behind "
        f"{rows[0].model.short}"
        for row in rows
        if row not in tied
    }
    cost = _cost(rows, asked.cheapest)
    tolerance = _tolerance(overall.metric, asked.tolerance, rows[0].value if rows else 0.0)
    accurate, cheapest = next(iter(rows), None), None
    first: dict[Ref, float] = {}
    loss: dict[Ref, float] = {}
    within: dict[Ref, float] = {}
    if rows and overall.posterior:
        scores = np.array(overall.posterior)[:, allowed]
        picked = choose(scores, np.array([row.costs.get(cost, np.nan) for row in rows]), tolerance)
        accurate = rows[picked.accurate]
        cheapest = None if picked.cheapest is None else rows[picked.cheapest]
        models = [row.model for row in rows]
        known = plausible.first_of(scores), picked.loss, picked.within
        first, loss, within = (dict(zip(models, v.tolist(), strict=True)) for v in known)
    return Recommendation(
        accurate=accurate,
        cheapest=cheapest,
        cost=cost,
        tolerance=tolerance,
        tied=tuple(tied),
        first=first,
        loss=loss,
        within=within,
        ruled_out=reasons,
        behind=behind,
        method=overall.method,
        metric=overall.metric,
        datasets=overall.datasets,
        needs=asked.needs,
    )


def _cost(rows: Sequence[OverallRow], asked: str) -> str:
    """The cost that was asked for, among the allowed `rows`, else the usual one. Raises
    UserError."""
    if asked and rows:
        _check_cost(rows, COSTLY[asked], "compared")
        return COSTLY[asked]
    return usual_cost([row.costs for row in rows], one_device(rows) and not _noisy(rows))


def _noisy(rows: Sequence[OverallRow]) -> bool:
    """Whether the latency of any is: a busy machine may make the larger model look the faster."""
    return any("latency_ms_p50" in noisy(row.records) for row in rows)


def _tolerance(metric: str, points: float, best: float) -> float:
    """`points` in the metric's unit: hundredths of it, or of the best value."""
    return points / 100 * (abs(best) if metrics.metric(metric).unit == "target" else 1.0)


def _check(overall: OverallRanking, limits: Limits) -> None:
    for name in limits.costs:
        _check_cost(overall.rows, name, "limited")
    for name in limits.trust:
        if not any(name in row.trust for row in overall.rows):
            raise UserError(
                f"no model has {name} in this run, so it cannot be limited: {MEASURED_BY[name]}"
            )


def _check_cost(rows: Sequence[OverallRow], name: str, what: str) -> None:
    if not any(name in row.costs for row in rows):
        raise UserError(f"no model has {name} in this run, so it cannot be {what}")
    if name in TIMED and not one_device(rows):
        devices = sorted({row.device for row in rows})
        raise UserError(
            f"{name} was measured on several devices ({'; '.join(devices)}), so one limit "
            "cannot hold for all: recommend from a run on one device"
        )


def _excluded(row: OverallRow, limits: Limits) -> str:
    for name, limit in limits.costs.items():
        value = row.costs.get(name)
        if value is None:
            return f"{name} is not known"
        if value > limit:
            return f"{name} {value:.4g} is above {limit:.4g}"
    for name, limit in limits.trust.items():
        if (why := _untrusted(row, name, limit)) is not None:
            return why
    if limits.license and not license_fits(row.license, limits.license):
        return f"licence {row.license} is not {limits.license}"
    return limits.unmet.get(model_of(row.model).text, "")


def _untrusted(row: OverallRow, name: str, limit: float) -> str | None:
    """Why the row does not keep to a limit of trust; None where it does."""
    held = row.trust.get(name)
    if held is None:
        return f"{name} is not known"
    way = metrics.sign(name)
    if way * held.value >= way * limit:
        return None
    ends = "" if held.low is None else f" [{held.low:.3f}, {held.high:.3f}]"
    return f"{name} {held.value:.3f}{ends} is {'below' if way > 0 else 'above'} {limit:g}"


def license_fits(held: str, wanted: str) -> bool:
    """Whether licence `held` is one of `wanted` ("permissive" or SPDX names, by comma)."""
    names = {name.strip().casefold() for name in wanted.split(",") if name.strip()}
    mine = held.casefold()
    return mine in names or ("permissive" in names and mine in PERMISSIVE)


def _tied(overall: OverallRanking, allowed: Sequence[int]) -> list[int]:
    """Positions in `allowed` that no allowed model is significantly better than."""
    value = np.array([overall.rows[i].value for i in allowed])
    if overall.raw:
        p = np.array(overall.raw)[np.ix_(allowed, allowed)]
    else:
        p = _p_from_intervals([overall.rows[i] for i in allowed])
    low, _ = many.rank_ranges(value, p)
    return [k for k in range(len(allowed)) if low[k] == 1]


def _p_from_intervals(rows: Sequence[OverallRow]) -> bootstrap.Floats:
    from scipy.special import ndtr

    value = np.array([row.value for row in rows])
    error = np.array([(row.high - row.low) / 3.92 for row in rows])
    spread = np.sqrt(error[:, None] ** 2 + error[None, :] ** 2)
    gap = np.abs(value[:, None] - value[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(2 * ndtr(-np.where(gap > 0, gap / spread, 0.0)))


def to_json(found: Recommendation) -> dict[str, Any]:
    """Plain JSON types, for `--json`."""

    def row(one: OverallRow | None) -> dict[str, Any] | None:
        if one is None:
            return None
        value, low, high = natural(found.metric, one.value, one.low, one.high)
        return {
            "model": one.model.text,
            "value": value,
            "low": low,
            "high": high,
            "p_first": found.first.get(one.model),
            "expected_loss": found.loss.get(one.model),
            "p_within_tolerance": found.within.get(one.model),
            "license": one.license,
            "flags": {flag.name: flag.why for flag in one.flags},
            "costs": dict(one.costs),
            "trust": {name: dataclasses.asdict(number) for name, number in one.trust.items()},
        }

    return {
        "method": found.method,
        "metric": found.metric,
        "datasets": [dataset.text for dataset in found.datasets],
        "most_accurate": row(found.accurate),
        "cheapest_good_enough": row(found.cheapest),
        "cheapest_by": found.cost,
        "tolerance": found.tolerance,
        "needs": list(found.needs),
        "tied": [row(one) for one in found.tied],
        "ruled_out": {model.text: why for model, why in found.ruled_out.items()},
        "behind": {model.text: why for model, why in found.behind.items()},
    }
