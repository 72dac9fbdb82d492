"""Over several datasets: mean, mean rank, mean z-score, and where they disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from zoobench import metrics
from zoobench.ranking.comparability import UNKNOWN
from zoobench.ranking.generalization import mean_bounds
from zoobench.ranking.nouns import TRUST, Flag, OverallRanking, OverallRow, Row, SectionRanking
from zoobench.ranking.outcomes import costs_of, device_of, signed_bounds
from zoobench.schema import Ref, canonical
from zoobench.statistics import bootstrap, intervals, many, plausible
from zoobench.statistics.critical import critical_difference

T = TypeVar("T")

GENERAL = 5
"""With fewer datasets than this, resampling datasets says nothing: they stand for themselves."""

_KEPT = 80_000
"""Most numbers of a posterior that are kept: draws times models."""


@dataclass(frozen=True)
class Ranked:
    """A section's ranking, and the sample behind it with its models' names (M,)."""

    ranking: SectionRanking
    models: tuple[Ref, ...]
    sample: many.Sample | None


def rank_overall(ranked: Sequence[Ranked]) -> tuple[OverallRanking, ...]:
    """One overall ranking for each method and each set of models that share datasets."""
    return tuple(
        found
        for sections in _comparable(ranked)
        for group in _connected(sections)
        if (found := _overall(group)) is not None
    )


def _comparable(ranked: Sequence[Ranked]) -> Iterator[list[Ranked]]:
    groups: dict[str, list[Ranked]] = {}
    for one in ranked:
        about_data = ("dataset", "dataset_version", "splits")
        key = {k: v for k, v in one.ranking.key.items() if k not in about_data}
        if metrics.metric(one.ranking.metric).unit == "target":
            key["dataset"] = one.ranking.dataset.text  # errors in two units have no mean
        groups.setdefault(canonical(key), []).append(one)
    yield from groups.values()


def _entrants(one: Ranked) -> set[Ref]:
    """Models that were tried there; "unsupported" ones (another modality) tie nothing together."""
    failed = {f.model for f in one.ranking.failures if f.status != "unsupported"}
    return set(one.models) | {m for m in failed if m.option("weights") != "random"}


def _connected(sections: Sequence[Ranked]) -> list[list[Ranked]]:
    """Sections joined by common models: image and text models never meet in one ranking."""
    found = joined([_entrants(one) for one in sections])
    return [[sections[i] for i in members] for members in found]


def joined(sets: Sequence[set[T]]) -> list[list[int]]:
    """The numbers of the sets, those together that something in common joins."""
    groups: list[tuple[set[T], list[int]]] = []
    for number, own in enumerate(sets):
        together, members = own, [number]
        apart = []
        for known, others in groups:
            if known & together:
                together, members = known | together, others + members
            else:
                apart.append((known, others))
        groups = [*apart, (together, members)]
    return [members for _, members in groups]


def _block(
    group: Sequence[Ranked],
) -> tuple[list[Ref], list[Ranked], dict[Ref, str], dict[Ref, str]]:
    """The models and sections to rank on, with what was left out and why.

    One section a dataset (the one with most models). A model without more than half of the
    datasets is left out. Then, as long as a dataset lacks a remaining model, whichever is
    the smaller share goes: that dataset of the datasets, or the models that it lacks of
    the models. One model of a thousand costs no dataset, one of three may.
    """
    chosen: dict[Ref, Ranked] = {}
    for one in group:
        held = chosen.get(one.ranking.dataset)
        if held is None or len(one.models) > len(held.models):
            chosen[one.ranking.dataset] = one
    owned = {dataset: set(one.models) for dataset, one in chosen.items()}
    every = sorted(set().union(*map(_entrants, group)))
    have = {model: sum(model in own for own in owned.values()) for model in every}
    models = [m for m in every if 2 * have[m] > len(chosen)]
    kept = dict(chosen)
    out_data: dict[Ref, str] = {}
    while models and kept:
        lacking = {d: [m for m in models if m not in owned[d]] for d in kept}
        worst = max(lacking, key=lambda d: len(lacking[d]))
        gone = lacking[worst]
        if not gone:
            break
        if len(gone) * len(kept) < len(models) or len(kept) == 1:
            models = [m for m in models if m in owned[worst]]
        else:
            del kept[worst]
            names = ", ".join(m.short for m in gone[:5])
            out_data[worst] = f"lacks {names}" + (f" and {len(gone) - 5} more" * (len(gone) > 5))
    out_models = {m: f"{have[m]} of {len(chosen)} datasets" for m in every if m not in models}
    return models, list(kept.values()) if models else [], out_models, out_data


def _overall(group: Sequence[Ranked]) -> OverallRanking | None:
    models, common, out_models, out_data = _block(group)
    if not common:
        return None
    samples = []
    for one in common:
        if one.sample is not None:
            at = {model: i for i, model in enumerate(one.models)}
            samples.append(many.pick(one.sample, [at[m] for m in models]))
    values = np.stack([one.value for one in samples])
    parts = _independent(samples, [_test_of(one) for one in common])
    general = len(parts) >= GENERAL and not _views(common)
    mean = (
        samples[0]
        if len(samples) == 1
        else _mean(samples, parts if general else (), signed_bounds(group[0].ranking.metric))
    )
    p = many.pairwise(mean)
    rows = _rows(models, common, values, mean, p)
    first = group[0].ranking
    order = [models.index(row.model) for row in rows]
    few = len(order) <= many.MATRIX_LIMIT
    return OverallRanking(
        name=_name(group),
        method=first.method,
        shots=first.shots,
        metric=first.metric,
        datasets=tuple(one.ranking.dataset for one in common),
        rows=rows,
        left_out_models=out_models,
        left_out_datasets=out_data,
        disagreements=disagreements(rows),
        gap=many.resolvable_gap(mean),
        general=general,
        sections=tuple(one.ranking for one in group),
        p=many.holm_matrix(p, order),
        raw=_nested(p[np.ix_(order, order)]) if few else (),
        posterior=_kept_posterior(mean, order) if few and not mean.lone and mean.groups > 1 else (),
        critical=critical_difference(
            models, np.stack([values[part].mean(axis=0) for part in parts])
        ),
    )


def _test_of(one: Ranked) -> tuple[str, str]:
    """The fingerprint of a section's test split; of what has none the dataset's name."""
    splits = one.ranking.key["splits"]
    return splits.split()[-1], one.ranking.dataset.text if UNKNOWN in splits else ""


def _independent(samples: Sequence[many.Sample], tests: Sequence[object]) -> list[list[int]]:
    """The samples in groups that share no unit: test sets with examples in common are one, and so
    are those of one fingerprint (`tests`), where no units were kept."""
    named = zip(samples, tests, strict=True)
    return joined([{*one.units.tolist(), name} for one, name in named])


def _mean(
    samples: Sequence[many.Sample],
    parts: Sequence[list[int]],
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> many.Sample:
    """The mean over D datasets.

    Without `parts` the datasets stand for themselves: units move together wherever they stand.
    With them, groups of datasets that share no unit, the groups are what is drawn, so that the
    intervals speak of datasets like these; what units and training add is in their spread. The
    metric lies within `bounds`.
    """
    count = len(samples)
    value = np.mean([one.value for one in samples], axis=0)
    luck, common, dof = np.zeros(len(value)), 0.0, np.inf
    if parts:
        apart = np.stack([one.value for one in samples]) - value
        totals = np.stack([apart[part].sum(axis=0) for part in parts])
        drawn = np.random.default_rng(count).standard_normal((bootstrap.RESAMPLES, len(parts)))
        draws, units = value + drawn @ totals / count, bootstrap.numbered(len(parts), "datasets")
    else:
        draws = np.mean([one.draws for one in samples], axis=0)
        units = np.unique(np.concatenate([one.units for one in samples]))
        luck = sum((one.luck for one in samples), luck) / count**2
        common = sum(one.common for one in samples) / count**2
        # Pooled over datasets the variance is one; of few-shot draws each has its own.
        each = [(float(one.luck.mean()) + one.common, one.dof) for one in samples]
        lucky = [free for variance, free in each if variance > 0]
        dof = min(lucky, default=np.inf) if common == 0 else intervals.satterthwaite(*each)
    shares = all(one.shares for one in samples)
    rows = sum(one.n for one in samples)
    # Datasets that all are perfect say little of others: nothing is said of how little.
    within = None if shares else (-np.inf, np.inf) if parts else bounds
    ends = [
        _interval(draws[:, m], value[m], len(units), rows, luck[m] + common, dof, within)
        for m in range(len(value))
    ]
    low, high = np.clip(np.array(ends).T, *bounds)
    return dataclasses.replace(
        samples[0], value=value, low=low, high=high, draws=draws, luck=luck, common=common,
        dof=dof, seeds=np.min([one.seeds for one in samples], axis=0),
        exact=np.zeros(len(value), dtype=bool), units=units, n=len(units),
        lone=any(one.lone for one in samples), shares=shares,
        unseen=sum(one.unseen for one in samples) / count**2,
    )  # fmt: skip


def _interval(
    draws: bootstrap.Floats,
    value: float,
    units: int,
    rows: int,
    luck: float,
    dof: float,
    bounds: tuple[float, float] | None,
) -> tuple[float, float]:
    """Of a mean within `bounds`; of shares of right answers they are None."""
    if bounds is not None:
        return intervals.of_draws(float(value), draws, units, luck, dof, bounds)
    own = float(draws.var(ddof=1)) * units / max(units - 1, 1)
    free = intervals.satterthwaite((own, max(units - 1.0, 1.0)), (luck, dof))
    return intervals.of_mean_share(float(value), own + luck, rows, free)


def _kept_posterior(mean: many.Sample, order: list[int]) -> bootstrap.Matrix:
    """Plausible true scores in `order`, as many draws as leave a page light."""
    kept = min(bootstrap.RESAMPLES, _KEPT // len(order))
    return _nested(plausible.posterior(mean.value, mean.with_unseen())[:kept, order])


def _views(sections: Sequence[Ranked]) -> bool:
    """Whether the numbers are published ones: test sets of one task, no draw of tasks."""
    return any(flag.name == "imported" for one in sections for flag in one.ranking.flags)


def _nested(matrix: bootstrap.Floats) -> bootstrap.Matrix:
    return tuple(map(tuple, matrix.tolist()))


def _name(group: Sequence[Ranked]) -> str:
    """What the models of a group have in common, for people: their modality where it is known."""
    records = [r for one in group for row in one.ranking.rows for r in row.records]
    for record in records:
        modality = (record.provenance.get("model") or {}).get("modality")
        if modality:
            return str(modality)
    return ""


def _settled(values: bootstrap.Floats) -> bootstrap.Floats:
    """(D, M) scores as shares of each dataset's largest, without what rounding alone parts."""
    largest = np.abs(values).max(axis=1, keepdims=True)
    return np.asarray(np.round(values / np.where(largest > 0, largest, 1.0), 12))


def z_scores(values: bootstrap.Floats) -> bootstrap.Floats:
    """(D, M) scores, each dataset with mean 0 and standard deviation 1 over the models."""
    centred = _settled(values) - _settled(values).mean(axis=1, keepdims=True)
    centred[np.abs(centred) < 1e-12] = 0.0
    spread = centred.std(axis=1, keepdims=True)
    return np.asarray(np.where(spread > 0, centred / np.where(spread > 0, spread, 1), 0.0))


def _rows(
    models: Sequence[Ref],
    common: Sequence[Ranked],
    values: bootstrap.Floats,
    mean: many.Sample,
    p: bootstrap.Floats,
) -> tuple[OverallRow, ...]:
    ranks = many.ranks(-_settled(values)).mean(axis=0)
    z = z_scores(values).mean(axis=0)
    best, worst = many.rank_ranges(mean.value, p)
    first = many.probability_first(mean)
    by_rank, by_z = many.ranks(np.stack([ranks, -z]), "min")
    names = [one.ranking.dataset.short for one in common]
    rows = []
    held = [{row.model: row for row in one.ranking.rows} for one in common]
    for m in sorted(range(len(models)), key=lambda m: (-mean.value[m], models[m])):
        own = [rows_there[models[m]] for rows_there in held]
        records = tuple(r for row in own for r in row.records)
        low_at = int(np.argmin(values[:, m]))
        devices = {row.device for row in own}
        rows.append(
            OverallRow(
                model=models[m],
                value=float(mean.value[m]),
                low=float(mean.low[m]),
                high=float(mean.high[m]),
                rank_low=int(best[m]),
                rank_high=int(worst[m]),
                first=float(first[m]),
                tied=bool(best[m] == 1),
                seeds=min(row.seeds for row in own),
                costs=costs_of(records),
                device=devices.pop() if len(devices) == 1 else device_of(records),
                license=own[0].license,
                family=own[0].family,
                flags=_flags(own, names),
                records=records,
                trust={
                    name: mean_bounds(each)
                    for name in TRUST
                    if (each := [row.trust[name] for row in own if name in row.trust])
                },
                mean_rank=float(ranks[m]),
                mean_z=float(z[m]),
                worst=float(values[low_at, m]),
                worst_dataset=common[low_at].ranking.dataset,
                order_by_rank=int(by_rank[m]),
                order_by_z=int(by_z[m]),
            )
        )
    return tuple(rows)


def _flags(own: Sequence[Row], names: Sequence[str]) -> tuple[Flag, ...]:
    """Each flag once, with the datasets where it stands."""
    where: dict[str, list[str]] = {}
    for row, name in zip(own, names, strict=True):
        for flag in row.flags:
            where.setdefault(flag.name, []).append(name)
    return tuple(Flag(name, "on " + ", ".join(found)) for name, found in where.items())


def disagreements(rows: Sequence[OverallRow]) -> tuple[str, ...]:
    """One sentence for each model whose place differs between the three orders by more than its
    ties allow."""
    said = []
    for row in rows:
        place = 1 + sum(other.value > row.value for other in rows)  # equal ones share theirs
        others = (row.order_by_rank, row.order_by_z)
        if not all(row.rank_low <= order <= row.rank_high for order in others):
            said.append(
                f"{row.model.short} is {_nth(place)} by mean, "
                f"{_nth(row.order_by_rank)} by mean rank, {_nth(row.order_by_z)} by mean z-score"
            )
    return tuple(said)


def _nth(place: int) -> str:
    suffix = "th" if 10 <= place % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{suffix}"
