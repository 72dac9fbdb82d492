"""Which model to take under limits, what it is tied with, and what a mistake would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoobench.errors import UserError
from zoobench.metrics import difference
from zoobench.ranking.nouns import TIMED, OverallRanking, OverallRow, natural
from zoobench.ranking.pareto import one_device
from zoobench.ranking.rank import rank
from zoobench.schema import Ref
from zoobench.statistics import bootstrap, many, plausible
from zoobench.store import Run

PERMISSIVE = frozenset((
    "0bsd", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0",
    "cc-by-3.0", "cc-by-4.0", "cc0-1.0", "isc", "mit", "odc-by-1.0", "pddl", "pddl-1.0",
    "unlicense", "zlib",
))  # fmt: skip
"""SPDX identifiers, in small letters, that `license = "permissive"` admits."""


@dataclass(frozen=True)
class Limits:
    """What the chosen model must keep to; None or "" is no limit.

    `max_memory` in bytes; `license` is "permissive" or SPDX identifiers, by comma.
    """

    max_params: float | None = None
    max_macs: float | None = None
    max_latency_ms: float | None = None
    max_memory: float | None = None
    license: str = ""

    @property
    def costs(self) -> dict[str, float]:
        """cost metric -> most that is allowed."""
        named = {
            "params": self.max_params,
            "macs": self.max_macs,
            "latency_ms_p50": self.max_latency_ms,
            "peak_memory_bytes": self.max_memory,
        }
        return {name: limit for name, limit in named.items() if limit is not None}


@dataclass(frozen=True)
class Recommendation:
    """`pick` is the smallest model tied with the best that the limits allow.

    `first` is each allowed model's probability of being the best of the allowed;
    `expected_loss` how far, on average over what is plausible, the pick falls short of
    the true best of them; `ruled_out` says why each other model was not allowed.
    """

    pick: OverallRow | None
    best: OverallRow | None
    tied: tuple[OverallRow, ...]
    next_best: OverallRow | None
    expected_loss: float | None
    first: Mapping[Ref, float]
    ruled_out: Mapping[Ref, str]
    behind: Mapping[Ref, str]
    method: str
    metric: str
    datasets: tuple[Ref, ...]


def recommend_all(
    run: Run, limits: Limits | None = None, metric: str | None = None
) -> tuple[Recommendation, ...]:
    """`recommend` from each overall ranking of `run` by `metric`, else by its task's primary one.

    Raises UserError where nothing was measured, and what `recommend` raises.
    """
    ranking = rank([run], metric)
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
    reasons |= {m: f"not ranked: {why}" for m, why in overall.left_out_models.items()}
    if not rows:
        return _none(overall, reasons)
    tied = [rows[k] for k in _tied(overall, allowed)]
    pick = min(tied, key=lambda r: (r.costs.get("params", float("inf")), -r.value))
    first, loss = _chances(overall, allowed, rows.index(pick))
    best = rows[0]
    behind = {
        row.model: f"{difference(overall.metric, best.value - row.value)} behind {best.model.short}"
        for row in rows
        if row not in tied
    }
    return Recommendation(
        pick=pick,
        best=rows[0],
        tied=tuple(row for row in tied if row is not pick),
        next_best=next((row for row in rows if row is not pick), None),
        expected_loss=loss,
        first=first,
        ruled_out=reasons,
        behind=behind,
        method=overall.method,
        metric=overall.metric,
        datasets=overall.datasets,
    )


def _none(overall: OverallRanking, reasons: Mapping[Ref, str]) -> Recommendation:
    return Recommendation(
        None, None, (), None, None, {}, reasons, {}, overall.method, overall.metric,
        overall.datasets,
    )  # fmt: skip


def _check(overall: OverallRanking, limits: Limits) -> None:
    for name in limits.costs:
        if not any(name in row.costs for row in overall.rows):
            raise UserError(f"no model has {name} in this run, so it cannot be limited")
        if name in TIMED and not one_device(overall.rows):
            devices = sorted({row.device for row in overall.rows})
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
    if limits.license and not license_fits(row.license, limits.license):
        return f"licence {row.license} is not {limits.license}"
    return ""


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


def _chances(
    overall: OverallRanking, allowed: Sequence[int], pick: int
) -> tuple[dict[Ref, float], float | None]:
    """P(best of the allowed) of each, and the pick's expected shortfall."""
    if not overall.posterior:
        return {}, None
    scores = np.array(overall.posterior)[:, list(allowed)]
    first = plausible.first_of(scores)
    loss = float((scores.max(axis=1) - scores[:, pick]).mean())
    return {overall.rows[i].model: float(p) for i, p in zip(allowed, first, strict=True)}, loss


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
            "license": one.license,
            "costs": dict(one.costs),
        }

    return {
        "method": found.method,
        "metric": found.metric,
        "datasets": [dataset.text for dataset in found.datasets],
        "pick": row(found.pick),
        "best": row(found.best),
        "tied": [row(one) for one in found.tied],
        "next_best": row(found.next_best),
        "expected_loss": found.expected_loss,
        "ruled_out": {model.text: why for model, why in found.ruled_out.items()},
        "behind": {model.text: why for model, why in found.behind.items()},
    }
