"""The ranking of a run: per dataset and overall, with its ties (PROTOCOL sections 5-7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from zoobench.metrics import bounded
from zoobench.ranking.comparability import Section, is_control, split_comparable
from zoobench.ranking.controls import (
    DATASET_FLAGS,
    FEW_RUNS,
    LONE,
    LONE_DRAW,
    RECORD_FLAGS,
    Controls,
    control_rows,
    flags_of,
)
from zoobench.ranking.foresight import judge
from zoobench.ranking.generalization import (
    gaps,
    label_efficiency,
    mean_retained,
    shifted,
    shifts,
    trust_of,
)
from zoobench.ranking.nouns import Bounded, Control, Failure, Flag, Ranking, Row, SectionRanking
from zoobench.ranking.outcomes import (
    by_model,
    contender,
    costs_of,
    device_of,
    family_of,
    license_of,
    open_book,
    primary_of,
    sample_of,
)
from zoobench.ranking.overall import Ranked, rank_overall
from zoobench.ranking.pretrained import bought, encoders
from zoobench.ranking.untrained import crossings
from zoobench.schema import PRETRAIN, Record, Ref
from zoobench.statistics import bootstrap, many
from zoobench.store import Run, no_collection

METHODS = ("fine-tune", "lora", "linear-probe", "ridge", "knn", "zero-shot", "from-scratch")
"""Order in which methods are shown; others follow by name."""


@no_collection()
def rank(runs: Iterable[Run], metric: str | None = None) -> Ranking:
    """Rank everything in `runs` by `metric`, or each section by its task's primary one.

    Deterministic. Records of several comparability keys become several sections;
    controls are attached to the sections they check and are not ranked.
    """
    book = open_book(runs)
    judged_here = (r for r in book.records if not shifted(r) and r.cell.method != PRETRAIN)
    sections = split_comparable(judged_here)
    controls = Controls(book, sections)
    moved = shifts(book, metric)
    steady = mean_retained(moved)
    every = (
        rank_section(controls, section, metric or primary_of(section.records[0]), steady)
        for section in sorted(sections, key=_order)
    )
    ranked = [found for found in every if found is not None]
    failures = tuple(_failure(r) for r in book.records if r.status != "ok")
    rankings = tuple(found.ranking for found in ranked)
    return Ranking(
        rankings,
        rank_overall(ranked),
        failures,
        book.records,
        judged=judge(sections, metric),
        shifts=tuple(one.shift for one in moved),
        efficiency=label_efficiency(rankings),
        crossings=crossings(book, sections, metric),
        gaps=gaps(book.records),
        encoders=encoders(book.records),
        bought=bought(controls, sections),
    )


def _order(section: Section) -> tuple[int, str, int, str]:
    """By names alone: workers end in another order each time."""
    known = METHODS.index(section.method) if section.method in METHODS else len(METHODS)
    shots = 10**9 if section.shots is None else section.shots
    return known, section.method, shots, section.dataset.text


def _failure(record: Record) -> Failure:
    cell = record.cell
    why = str((record.error or {}).get("message", ""))
    return Failure(
        contender(cell), cell.dataset, cell.method, record.status, why, cell.shots, cell.seed
    )


def rank_section(
    controls: Controls, section: Section, metric: str, steady: Mapping[object, Bounded]
) -> Ranked | None:
    """Rank the pretrained models of one section; None where it holds controls only, or was
    measured by other metrics. `steady` is what they retain under shift."""
    entrants = [r for r in section.records if not is_control(r)]
    if not entrants:
        return None
    ok = [r for r in entrants if r.status == "ok"]
    if ok and all(r.get(metric) is None for r in ok):
        return None
    usable = [r for r in entrants if r.status == "ok" and r.get(metric) is not None]
    models = by_model(usable)
    failures = tuple(_failure(r) for r in section.records if r.status != "ok")
    shown, random = control_rows(controls, section, metric)
    if not models:
        empty = _section(section, metric, (), shown, failures, entrants)
        return Ranked(empty, (), None)
    names = list(models)
    one, paired = sample_of(controls.book, [models[name] for name in names], metric)
    attempted = by_model(entrants)
    flags = {
        name: flags_of(controls, section, models[name], random, metric)
        + _lost_seeds(attempted[name])
        + _of_luck(one, models[name])
        for name in names
    }
    trust = {name: trust_of(models[name], steady) for name in names}
    rows, order, p = _rows(one, models, flags, trust)
    ranking = _section(section, metric, rows, shown, failures, usable)
    gap = many.resolvable_gap(one)
    top = float(one.value.max())
    ranking = dataclasses.replace(
        ranking,
        p=many.holm_matrix(p, order),
        gap=gap,
        saturated=bounded(metric) and gap is not None and 1 - top < gap,
        paired=paired,
        n=one.n,
    )
    return Ranked(ranking, tuple(names), one)


def _lost_seeds(mine: Sequence[Record]) -> tuple[Flag, ...]:
    lost = [r for r in mine if r.status != "ok"]
    if not lost:
        return ()
    kinds = ", ".join(sorted({r.status for r in lost}))
    return (Flag("seeds lost", f"{len(lost)} of {len(mine)} seeds failed ({kinds})"),)


def _of_luck(one: many.Sample, mine: Sequence[Record]) -> tuple[Flag, ...]:
    """What a lone sample's rows say of it."""
    if not one.lone:
        return ()
    if one.luck.any():
        return (Flag(FEW_RUNS, "too little is known of their luck to call a model better"),)
    name = LONE if mine[0].cell.shots is None else LONE_DRAW
    return (Flag(name, "its luck is in no interval"),)


def _rows(
    one: many.Sample,
    models: Mapping[Ref, Sequence[Record]],
    flags: Mapping[Ref, tuple[Flag, ...]],
    trust: Mapping[Ref, Mapping[str, Bounded]],
) -> tuple[tuple[Row, ...], list[int], bootstrap.Floats]:
    names = list(models)
    p = many.pairwise(one)
    best, worst = many.rank_ranges(one.value, p)
    first = many.probability_first(one)
    order = sorted(range(len(names)), key=lambda m: (-one.value[m], names[m]))
    rows = tuple(
        Row(
            model=names[m],
            value=float(one.value[m]),
            low=float(one.low[m]),
            high=float(one.high[m]),
            rank_low=int(best[m]),
            rank_high=int(worst[m]),
            first=float(first[m]),
            tied=bool(best[m] == 1),
            seeds=int(one.seeds[m]),
            costs=costs_of(models[names[m]]),
            device=device_of(models[names[m]]),
            license=license_of(models[names[m]]),
            family=family_of(models[names[m]]),
            flags=flags[names[m]],
            records=tuple(models[names[m]]),
            trust=trust[names[m]],
        )
        for m in order
    )
    return rows, order, p


def _section(
    section: Section,
    metric: str,
    rows: tuple[Row, ...],
    shown: tuple[Control, ...],
    failures: tuple[Failure, ...],
    records: Sequence[Record],
) -> SectionRanking:
    provenance = next((r.provenance for r in records if r.provenance.get("sizes")), {})
    classes = provenance.get("classes")
    flags = dict.fromkeys(f for r in records for f in r.flags if f in DATASET_FLAGS)
    return SectionRanking(
        key=dict(section.key),
        dataset=section.dataset,
        method=section.method,
        shots=section.shots,
        metric=metric,
        rows=rows,
        controls=shown,
        failures=failures,
        p=(),
        gap=None,
        saturated=False,
        paired=True,
        n=0,
        classes=int(classes) if classes is not None else None,
        nature=str(provenance.get("nature", "")),
        sizes={k: int(v) for k, v in (provenance.get("sizes") or {}).items()},
        flags=tuple(Flag(name, RECORD_FLAGS[name]) for name in flags),
    )
