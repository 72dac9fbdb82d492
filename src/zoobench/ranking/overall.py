"""Over several datasets: mean, mean rank, mean z-score, and where they disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr

from zoobench import metrics
from zoobench.ranking.nouns import Flag, OverallRanking, OverallRow, Row, SectionRanking
from zoobench.ranking.outcomes import costs_of, device_of
from zoobench.schema import Ref, canonical
from zoobench.statistics import bootstrap, many, plausible
from zoobench.statistics.bootstrap import percentile
from zoobench.statistics.critical import critical_difference

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
    groups: list[tuple[set[Ref], list[Ranked]]] = []
    for one in sections:
        models, members = _entrants(one), [one]
        apart = []
        for known, others in groups:
            if known & models:
                models, members = known | models, others + members
            else:
                apart.append((known, others))
        groups = [*apart, (models, members)]
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
            samples.append((one.sample, [at[m] for m in models]))
    values = np.stack([one.value[at] for one, at in samples])
    general = len(common) >= GENERAL and not _views(common)
    mean_draws = _mean_draws([one.draws[:, at] for one, at in samples], general)
    if len(samples) == 1:
        p = many.pairwise(many.pick(*samples[0]))
    else:
        p = _pairwise(values, mean_draws, general)
    rows = _rows(models, common, values, mean_draws, p)
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
        gap=_gap(values.mean(axis=0), mean_draws),
        general=general,
        sections=tuple(one.ranking for one in group),
        p=many.holm_matrix(p, order),
        raw=_nested(p[np.ix_(order, order)]) if few else (),
        posterior=_kept_posterior(values.mean(axis=0), mean_draws, order) if few else (),
        critical=critical_difference(models, values),
    )


def _kept_posterior(
    mean: bootstrap.Floats, draws: bootstrap.Floats, order: list[int]
) -> bootstrap.Matrix:
    """Plausible true scores in `order`, as many draws as leave a page light."""
    kept = min(bootstrap.RESAMPLES, _KEPT // len(order))
    return _nested(plausible.posterior(mean, draws)[:kept, order])


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


def _mean_draws(draws: Sequence[bootstrap.Floats], general: bool) -> bootstrap.Floats:
    """(B, M) draws of the mean over D datasets, from (B, M) draws of each.

    With `general`, datasets are drawn with replacement too (spread corrected by
    sqrt(D / (D - 1)) about the mean), so the interval speaks of datasets like these.
    """
    count, resamples = len(draws), len(draws[0])
    if not general:
        return np.asarray(sum(draws[1:], start=draws[0]) / count)
    rng = np.random.default_rng(count)
    picks = rng.integers(0, count, (resamples, count))
    drawn = np.zeros_like(draws[0])
    for at, own in enumerate(draws):
        drawn += own * ((picks == at).sum(axis=1)[:, None] / count)
    centre = sum((own.mean(axis=0) for own in draws), start=np.zeros(drawn.shape[1])) / count
    return np.asarray(centre + (drawn - centre) * np.sqrt(count / (count - 1)))


def _pairwise(
    values: bootstrap.Floats, mean_draws: bootstrap.Floats, general: bool
) -> bootstrap.Floats:
    """(M, M) two-sided p of differences of means: normal, or Student's t over D datasets."""
    score = many.scores(values.mean(axis=0), many.difference_error(mean_draws))
    p = 2 * (stdtr(len(values) - 1, -score) if general else ndtr(-score))
    np.fill_diagonal(p, 1.0)
    return np.asarray(p)


def _gap(mean: bootstrap.Floats, mean_draws: bootstrap.Floats) -> float:
    count = len(mean)
    if count < 2:
        return 0.0
    best = int(np.argmax(mean))
    rivals = np.arange(count) != best
    error = bootstrap.error_against(mean_draws, best)[rivals]
    return float(-ndtri(bootstrap.ALPHA / (2 * (count - 1))) * np.median(error))


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
    mean_draws: bootstrap.Floats,
    p: bootstrap.Floats,
) -> tuple[OverallRow, ...]:
    mean = values.mean(axis=0)
    ranks = many.ranks(-_settled(values)).mean(axis=0)
    z = z_scores(values).mean(axis=0)
    low, high = percentile(mean_draws)
    best, worst = many.rank_ranges(mean, p)
    first = plausible.probability_first(mean, mean_draws)
    by_rank, by_z = many.ranks(np.stack([ranks, -z]), "min")
    names = [one.ranking.dataset.short for one in common]
    rows = []
    held = [{row.model: row for row in one.ranking.rows} for one in common]
    for m in sorted(range(len(models)), key=lambda m: (-mean[m], models[m])):
        own = [rows_there[models[m]] for rows_there in held]
        records = tuple(r for row in own for r in row.records)
        low_at = int(np.argmin(values[:, m]))
        devices = {row.device for row in own}
        rows.append(
            OverallRow(
                model=models[m],
                value=float(mean[m]),
                low=float(low[m]),
                high=float(high[m]),
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
    """One sentence for each model whose place differs between the three orders."""
    said = []
    for row in rows:
        place = 1 + sum(other.value > row.value for other in rows)  # equal ones share theirs
        if len({place, row.order_by_rank, row.order_by_z}) > 1:
            said.append(
                f"{row.model.short} is {_nth(place)} by mean, "
                f"{_nth(row.order_by_rank)} by mean rank, {_nth(row.order_by_z)} by mean z-score"
            )
    return tuple(said)


def _nth(place: int) -> str:
    suffix = "th" if 10 <= place % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{suffix}"
