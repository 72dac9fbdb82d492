"""From how many examples of a class does a probe beat the same network as it is?

A network of pictures and texts tells classes by their names; whoever labels some examples can probe
it instead. Each k of the few-shot cells is compared with the zero-shot answers on the same test
examples (PROTOCOL section 6).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoobench.metrics import sign
from zoobench.ranking.comparability import Section
from zoobench.ranking.nouns import Crossing, Lead
from zoobench.ranking.outcomes import Book, Kept, by_model, kept_of, primary_of
from zoobench.schema import Record, Ref
from zoobench.statistics.bootstrap import unit_count
from zoobench.statistics.intervals import satterthwaite, student_quantile

AS_IS = "as-is"


def crossings(book: Book, sections: Sequence[Section], metric: str | None) -> tuple[Crossing, ...]:
    """A row for each model that was judged as it is and probed with few examples of a class of the
    same data, and each probe; () where there is none. Of several ways in which it was asked that of
    most templates counts."""
    untouched: dict[tuple[Ref, Ref], list[Record]] = {}
    probed: dict[tuple[Ref, Ref, str], dict[int, list[Record]]] = {}
    for section in sections:
        for model, records in by_model(r for r in section.records if r.status == "ok").items():
            if section.method == AS_IS:
                known = untouched.get((model, section.dataset))
                if known is None or _templates(records[0]) > _templates(known[0]):
                    untouched[model, section.dataset] = records
            elif section.shots is not None:
                at = probed.setdefault((model, section.dataset, section.method), {})
                at[section.shots] = records
    found = []
    for (model, dataset, method), by_shots in probed.items():
        base = untouched.get((model, dataset))
        if base is None:
            continue
        wanted = metric or primary_of(base[0])
        kept = kept_of(book, base, wanted)
        few = {k: kept_of(book, records, wanted) for k, records in sorted(by_shots.items())}
        leads = {
            k: lead(one, kept)
            for k, one in few.items()
            if one is not None and kept is not None and np.array_equal(one.units, kept.units)
        }
        if kept is None or not leads:
            continue
        value = float(kept.values().mean())
        found.append(Crossing(model, dataset, method, wanted, value, leads, _first(leads)))
    return tuple(sorted(found, key=lambda one: (one.dataset, one.method, one.model)))


def _templates(record: Record) -> tuple[int, str]:
    return len(record.chosen.get("templates", ())), record.key


def lead(probe: Kept, untouched: Kept) -> Lead:
    """The probe's mean over its draws of examples minus the score of the network as it is, larger
    better, with its 95% interval over test examples and draws: the two variances added, by
    Student's t with the degrees of freedom that Welch and Satterthwaite give the sum. Of one draw,
    or of one group of test examples, nothing is known: there is no interval."""
    way, values = sign(probe.metric), probe.values()
    difference = way * float(values.mean() - untouched.values().mean())
    draws, groups = len(values), unit_count(probe.units)
    if min(draws, groups) < 2:
        return Lead(difference, None, None, draws)
    of_examples = float(np.var(probe.draws() - untouched.draws())) * groups / (groups - 1)
    of_draws = float(np.var(values, ddof=1)) / draws
    dof = satterthwaite((of_examples, groups - 1.0), (of_draws, draws - 1.0))
    half = student_quantile(dof) * float(np.sqrt(of_examples + of_draws))
    return Lead(difference, difference - half, difference + half, draws)


def _first(leads: dict[int, Lead]) -> int | None:
    """The least k from which on every interval lies above 0."""
    first = None
    for k in sorted(leads, reverse=True):
        low = leads[k].low
        if low is None or low <= 0:
            break
        first = k
    return first
