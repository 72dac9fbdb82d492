"""Compressed variants beside their original: what each loses, and what it gains for that.

A variant (`MODEL?variant=int8-weight`) is a model of its own. It is judged as a release of its
original would be (PROTOCOL sections 4 and 6): the paired difference of the task's primary metric on
the same test units, one test a variant, head and question, and one pooled over the questions, all
of them one family for Holm. What is compared is the precision, so that precision alone may differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from zoobench.compare.gates import Gates
from zoobench.compare.match import Pair, by_seed, differing, identity, stands_for
from zoobench.compare.quality import Evidence, gather, verdicts
from zoobench.compare.times import differing_times
from zoobench.compare.variant_verdicts import (
    CARRIED,
    HEAD,
    NO_VARIANTS,
    VARIANT,
    VariantRow,
    VariantTable,
    VariantVerdicts,
)
from zoobench.compare.verdicts import POOLED, Finding
from zoobench.datasets.shift import is_shifted
from zoobench.metrics import sign
from zoobench.ranking.comparability import asked_params, is_control, precision_taken
from zoobench.ranking.nouns import TIMED, Flag, Ranking, natural
from zoobench.ranking.outcomes import Book, costs_of, open_book, sample_of
from zoobench.ranking.pareto import AnyRow, dominators
from zoobench.ranking.rank import rank
from zoobench.schema import Cell, Outcome, Outcomes, Record, Ref, canonical
from zoobench.store import Run
from zoobench.tasks import task_of

COMPARED = ("weights_bytes", "latency_ms_p50", "peak_memory_bytes")
"""Costs that are said as ratios, too."""
REGRESSED = "regressed"
"""The flag of a variant that lost against its original."""
OWN = ("precision", "dtype", "layout")
"""Of a time's setting what belongs to a variant itself."""

Question: TypeAlias = tuple[str, str, str, str, int | None]
"""original, dataset, method, parameters without the head, shots."""


@dataclass(frozen=True)
class _BookRun(Run):
    """The runs of a book as one, for whoever reads a record's outcomes."""

    book: Book

    def outcomes(self, record: Record) -> Outcomes | None:
        return self.book.outcomes(record)


def is_variant(record: Record) -> bool:
    # A report asks this of each of its records, and an option is found by parsing all of them.
    model = record.cell.model
    return f"{VARIANT}=" in model.text and model.option(VARIANT) is not None


def question_of(record: Record) -> Question:
    """What a record asks, whichever variant of the model answers it with whichever head."""
    cell = record.cell
    own = is_variant(record)
    params = {k: v for k, v in cell.params.items() if not (own and k == HEAD)}
    return (
        cell.model.without(VARIANT).located.text,
        cell.dataset.located.text,
        cell.method,
        canonical(params),
        cell.shots,
    )


def judge_variants(ranking: Ranking, book: Book, gates: Gates | None = None) -> VariantVerdicts:
    """Every variant of `ranking`'s records against its original; nothing where there is none.

    `book` holds the same records and where their outcomes lie. Raises StoreError for damaged ones.
    """
    gates = gates or Gates()
    variants: dict[Question, list[Record]] = {}
    for record in ranking.records:
        if is_variant(record) and not is_control(record) and not is_shifted(record.cell.dataset):
            variants.setdefault(question_of(record), []).append(record)
    if not variants:
        return NO_VARIANTS
    originals: dict[Question, list[Record]] = {}
    for record in ranking.records:
        if not is_variant(record) and (asked := question_of(record)) in variants:
            originals.setdefault(asked, []).append(record)
    named = {asked: _by_contender(found) for asked, found in variants.items()}
    pairs = {
        (asked, who): _paired(originals.get(asked, ()), found)
        for asked, each in named.items()
        for who, found in each.items()
    }
    decided, pooled, family = _decided(pairs, book, gates)
    intervals = _intervals(ranking)
    tables = []
    for asked in sorted(named, key=str):
        mine = {who: pairs[asked, who] for who in named[asked]}
        given = {who: decided.get((asked, who)) for who in mine}
        rows = _rows(originals.get(asked, ()), named[asked], mine, given)
        tables.append(_table(rows, variants[asked][0].cell, book, intervals))
    return VariantVerdicts(tuple(tables), pooled, family, gates)


Contender: TypeAlias = tuple[Ref, str]
"""A variant and its head."""


def _by_contender(records: Iterable[Record]) -> dict[Contender, list[Record]]:
    found: dict[Contender, list[Record]] = {}
    for record in records:
        head = str(record.cell.params.get(HEAD, ""))
        found.setdefault((record.cell.model, head), []).append(record)
    return {who: found[who] for who in sorted(found, key=lambda w: (w[0], w[1] != CARRIED, w[1]))}


def _paired(originals: Sequence[Record], variants: Sequence[Record]) -> list[Pair]:
    """Each ok record of a variant with the original's of its seed; of several, which differ in
    precision or version, the one that differs least, in float32 where that is open."""
    found = []
    for record in variants:
        twins = [
            Pair(identity(record.cell), one, record, differing(one, record, any_precision=True))
            for one in originals
            if one.cell.seed == record.cell.seed and one.status == "ok"
        ]
        if twins and record.status == "ok":
            found.append(
                min(twins, key=lambda p: (p.differing, precision_taken(p.baseline) != "fp32"))
            )
    return found


_Place: TypeAlias = tuple[Question, Contender]


def _decided(
    pairs: Mapping[_Place, Sequence[Pair]], book: Book, gates: Gates
) -> tuple[dict[_Place, Finding], dict[Contender, Finding], int]:
    """(finding of each question and contender, pooled finding of each contender, family)."""
    run = _BookRun(next(iter(book.homes.values())).path, book.records, {}, book)
    places = {stands_for(g).key: p for p, found in pairs.items() if (g := _alike(found))}
    gates = gates.model_copy(update={"metrics": ()})  # the primary one alone
    tests: list[Evidence] = []
    owners: list[Contender] = []
    settled: list[Finding] = []
    for who in dict.fromkeys(who for _, who in pairs):
        mine = [p for (_, other), found in pairs.items() if other == who for p in found]
        gathered = gather(by_seed(mine), run, run, gates)
        tests += gathered.tests
        owners += [who] * len(gathered.tests)
        settled += gathered.settled
    findings, family = verdicts(tests, gates)
    pooled, decided = {}, {places[one.cell.key]: one for one in settled}
    for who, found in zip(owners, map(by_margin, findings), strict=True):
        if found.cell.dataset == POOLED:
            pooled[who] = found
        else:
            decided[places[found.cell.key]] = found
    return decided, pooled, family


def _alike(pairs: Iterable[Pair]) -> list[Pair]:
    return [pair for pair in pairs if not pair.differing]


def by_margin(found: Finding) -> Finding:
    """A sure loss that lies within the margin is one that was allowed: of a release nobody expects
    any loss, and a variant is made to lose a little."""
    allowed = found.low is not None and found.low > -(found.margin or 0.0)
    if found.outcome != "regressed" or not allowed:
        return found
    return dataclasses.replace(found, outcome="same", why=f"{found.why}: a loss within the margin")


def _rows(
    originals: Sequence[Record],
    variants: Mapping[Contender, Sequence[Record]],
    pairs: Mapping[Contender, Sequence[Pair]],
    findings: Mapping[Contender, Finding | None],
) -> list[VariantRow]:
    """The original's row, then the variants', without intervals and the front. Heads that failed
    for one reason are one row."""
    used = [p.baseline for found in pairs.values() for p in found]
    first = next(iter(variants))[0].without(VARIANT)
    rows = [_row(first, "", _one_a_seed(used or originals))]
    for (model, head), found in variants.items():
        row = _row(model, head, found)
        twin = (model, row.status, row.why)
        if row.status != "ok" and (rows[-1].model, rows[-1].status, rows[-1].why) == twin:
            rows[-1] = dataclasses.replace(rows[-1], head="")
        else:
            rows.append(_compared(row, pairs[model, head], findings[model, head], rows[0]))
    return rows


def _one_a_seed(records: Iterable[Record]) -> list[Record]:
    return list({record.cell.seed: record for record in records}.values())


def _row(model: Ref, head: str, records: Sequence[Record]) -> VariantRow:
    """From a row's records, ok ones and failed ones."""
    if not records:
        return VariantRow(model, head, status="missing", why="it was not run")
    ok = tuple(sorted((r for r in records if r.status == "ok"), key=lambda r: r.cell.seed))
    if not ok:
        why = str((records[0].error or {}).get("message", "")).strip().partition("\n")[0]
        return VariantRow(model, head, status=records[0].status, why=why)
    covered = ok[0].get("coverage")
    macs = _share(covered.detail.get("macs")) if covered else None
    return VariantRow(
        model,
        head,
        ok,
        costs=costs_of(ok),
        coverage=covered.value if covered else None,
        covered_macs=macs,
    )


def _share(told: Any) -> float | None:
    """A share that a record's detail tells; None where it is no number."""
    return float(told) if type(told) in (int, float) and 0 <= told <= 1 else None


def _compared(
    row: VariantRow, pairs: Sequence[Pair], finding: Finding | None, original: VariantRow
) -> VariantRow:
    """`row` with its verdict, and its costs over the original's where they may be compared."""
    if row.status != "ok":
        return row
    alike = _alike(pairs)
    if not alike:
        why = ", ".join(pairs[0].differing) if pairs else f"the original: {original.status}"
        cell = row.records[0].cell
        outcome: Outcome = "incomparable" if pairs else "missing"
        metric = task_of(cell).metrics[0]
        return dataclasses.replace(row, finding=Finding(cell, metric, None, None, outcome, why))
    ratios, apart = {}, ""
    for name in COMPARED:
        old, new = alike[0].baseline.get(name), alike[0].candidate.get(name)
        if old is None or new is None or not original.costs[name]:
            continue
        unlike = name in TIMED and differing_times(alike[0], old, new, but_for=OWN)
        if unlike:
            apart = ", ".join(unlike)
        else:
            ratios[name] = row.costs[name] / original.costs[name]
    return dataclasses.replace(row, finding=finding, ratios=ratios, apart=apart)


def _table(
    rows: Sequence[VariantRow],
    cell: Cell,
    book: Book,
    intervals: Mapping[tuple[str, frozenset[str]], tuple[float, float, float]],
) -> VariantTable:
    """The rows of one question with their intervals and the front."""
    metric = task_of(cell).metrics[0]
    out = []
    for row in rows:
        ends = None
        if row.records:
            key = metric, frozenset(r.key for r in row.records)
            ends = intervals.get(key) or _interval(book, row.records, metric)
        out.append(row if ends is None else _valued(row, ends))
    axes = _axes(out)
    return VariantTable(
        cell.model.without(VARIANT), cell.dataset, cell.method, cell.shots, metric,
        tuple(_fronted(out, axes, metric)), axes,
    )  # fmt: skip


def _valued(row: VariantRow, ends: tuple[float, float, float]) -> VariantRow:
    value, low, high = ends
    return dataclasses.replace(row, value=value, low=low, high=high)


def _intervals(
    ranking: Ranking,
) -> dict[tuple[str, frozenset[str]], tuple[float, float, float]]:
    """(metric, keys of a row's records) -> value and interval, as the ranking shows them."""
    return {
        (s.metric, frozenset(r.key for r in row.records)): natural(
            s.metric, row.value, row.low, row.high
        )
        for s in ranking.sections
        for row in s.rows
    }


def _interval(
    book: Book, records: Sequence[Record], metric: str
) -> tuple[float, float, float] | None:
    """Of records that no row of the ranking has: it was made by another metric."""
    if any(record.get(metric) is None for record in records):
        return None
    one, _ = sample_of(book, [records], metric)
    return natural(metric, float(one.value[0]), float(one.low[0]), float(one.high[0]))


def _axes(rows: Sequence[VariantRow]) -> tuple[str, ...]:
    """Bytes, and the latency where it may be compared, of those that a row has."""
    ok = [row for row in rows if row.status == "ok"]
    timed = not any(row.apart for row in ok)
    names = COMPARED[:2] if timed else COMPARED[:1]
    return tuple(name for name in names if any(name in row.costs for row in ok))


def _fronted(rows: Sequence[VariantRow], axes: Sequence[str], metric: str) -> Iterable[VariantRow]:
    costs = np.array([[row.costs.get(a, np.nan) for a in axes] for row in rows])
    value = [np.nan if row.value is None else sign(metric) * row.value for row in rows]
    over = dominators(costs, np.array(value, dtype=np.float64))
    for m, (row, other) in enumerate(zip(rows, over, strict=True)):
        known = axes and other != m
        name = "" if other is None else rows[other].name
        yield dataclasses.replace(row, dominated_by=name) if known else row


def flagged(ranking: Ranking, found: VariantVerdicts) -> Ranking:
    """`ranking` whose rows of a variant that lost for sure say so: nobody takes one unwarned."""
    by_place = {
        (table.dataset, table.method, table.shots, canonical(asked_params(row.records[0].cell)),
         _contender(row.model, row.head)): row.finding
        for table in found.tables
        for row in table.rows
        if row.finding is not None and row.finding.outcome == "regressed"
    }  # fmt: skip
    worst = {_contender(*who): one for who, one in found.regressed().items()}
    if not worst:
        return ranking
    sections = tuple(
        dataclasses.replace(s, rows=tuple(
            _warned(row, by_place.get((s.dataset, s.method, s.shots, s.key["params"], row.model)))
            for row in s.rows
        ))
        for s in ranking.sections
    )  # fmt: skip
    at = {id(old): new for old, new in zip(ranking.sections, sections, strict=True)}
    overall = tuple(
        dataclasses.replace(
            o,
            rows=tuple(_warned(row, worst.get(row.model)) for row in o.rows),
            sections=tuple(at.get(id(s), s) for s in o.sections),
        )
        for o in ranking.overall
    )
    return dataclasses.replace(ranking, sections=sections, overall=overall)


def _contender(model: Ref, head: str) -> Ref:
    return model.with_options(head=head) if head else model


def _warned(row: AnyRow, found: Finding | None) -> AnyRow:
    if found is None:
        return row
    data = "" if found.cell.dataset == POOLED else f" on {found.cell.dataset.short}"
    why = f"against its original{data}: {found.why}"
    return dataclasses.replace(row, flags=(*row.flags, Flag(REGRESSED, why)))


def ranked(runs: Sequence[Run], metric: str | None = None) -> tuple[Ranking, VariantVerdicts]:
    """`rank` of `runs`, its regressed variants flagged, and the verdicts of all variants.

    Raises StoreError for damaged outcomes.
    """
    ranking = rank(runs, metric)
    found = judge_variants(ranking, open_book(runs))
    return flagged(ranking, found), found
