"""Beyond the clean test split: shift, label efficiency, train-test gap (PROTOCOL section 5), and
what is known of a model's trust (section 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoobench.datasets.shift import clean, is_shifted, named
from zoobench.metrics import sign
from zoobench.ranking.comparability import is_control
from zoobench.ranking.nouns import TRUST, Bounded, Efficiency, Gap, SectionRanking, Shift
from zoobench.ranking.outcomes import Book, contender, kept_of, primary_of
from zoobench.schema import Cell, Record, Ref, canonical
from zoobench.statistics import bootstrap
from zoobench.statistics.bootstrap import percentile

ENOUGH = 0.95
"""The share of the full-data score that a few-shot curve is asked to reach."""


def shifted(record: Record) -> bool:
    return is_shifted(record.cell.dataset)


def _twin(record: Record, dataset: Ref) -> tuple[object, ...]:
    """What a shifted cell and its clean one share."""
    cell = record.cell
    params = canonical(dict(cell.params))
    return cell.model, dataset, cell.method, params, cell.seed, cell.shots


@dataclass(frozen=True)
class Moved:
    """A shift, the clean record that it starts from, and (B,) draws of what is retained: None where
    there are none, or one has no ratio."""

    shift: Shift
    base: Record
    draws: bootstrap.Floats | None


def shifts(book: Book, metric: str | None) -> tuple[Moved, ...]:
    """Every model's retained share of `metric`, or of its task's primary one, a row a kind of
    shift; () where no clean cell is there. Of an error, what is retained is clean / shifted.

    Corrupted copies are of the clean examples' units, so that both are resampled together.
    """
    usable = [
        r
        for r in book.records
        if r.status == "ok" and r.get(metric or primary_of(r)) and not is_control(r)
    ]
    moved = [r for r in usable if shifted(r)]
    about = {r.cell.model for r in moved}
    plain = {
        _twin(r, r.cell.dataset): r for r in usable if r.cell.model in about and not shifted(r)
    }
    groups: dict[tuple[tuple[object, ...], str], dict[int, Record]] = {}
    for record in moved:
        ref = record.cell.dataset
        kind, severity = named(ref)
        groups.setdefault((_twin(record, clean(ref)), kind), {})[severity or 0] = record
    found = [
        _shift(book, plain[key], kind, dict(sorted(records.items())), wanted)
        for (key, kind), records in groups.items()
        if key in plain and (plain[key].value(wanted := metric or primary_of(plain[key])) or 0) > 0
    ]
    order = [(s.dataset, s.method, s.kind, -s.retained) for s in (one.shift for one in found)]
    return tuple(found[i] for i in sorted(range(len(found)), key=order.__getitem__))


def mean_retained(found: Iterable[Moved]) -> dict[object, Bounded]:
    """`asked_of` a clean cell -> the mean over its corruptions of what is retained, of each a mean
    over severities. Other datasets are no corruptions."""
    groups: dict[object, list[Moved]] = {}
    for one in found:
        if 0 not in one.shift.severities:
            groups.setdefault(asked_of(one.base.cell), []).append(one)
    out = {}
    for key, group in groups.items():
        draws = [one.draws for one in group if one.draws is not None]
        low = high = None
        if len(draws) == len(group):
            low, high = map(float, percentile(np.mean(draws, axis=0)))
        out[key] = Bounded(float(np.mean([one.shift.retained for one in group])), low, high)
    return out


def asked_of(cell: Cell) -> tuple[object, ...]:
    """What the seeds of a clean cell share."""
    return contender(cell), cell.dataset, cell.method, canonical(dict(cell.params)), cell.shots


def trust_of(records: Sequence[Record], steady: Mapping[object, Bounded]) -> dict[str, Bounded]:
    """What of TRUST is known of one model's `records`, the seeds of a cell; `steady` is
    `mean_retained` of the run."""
    found = {name: [m for r in records if (m := r.get(name))] for name in TRUST}
    known = {
        name: mean_bounds([Bounded(m.value, m.low, m.high) for m in each])
        for name, each in found.items()
        if each
    }
    retained = steady.get(asked_of(records[0].cell))
    return known if retained is None else {**known, "mean_retained": retained}


def mean_bounds(each: Sequence[Bounded]) -> Bounded:
    """The means of values and of ends: at least as wide as the interval of the mean is."""
    lows = [one.low for one in each if one.low is not None]
    highs = [one.high for one in each if one.high is not None]
    known = len(lows) == len(highs) == len(each)
    ends = (float(np.mean(lows)), float(np.mean(highs))) if known else (None, None)
    return Bounded(float(np.mean([one.value for one in each])), *ends)


def _shift(book: Book, base: Record, kind: str, records: dict[int, Record], metric: str) -> Moved:
    reference = base.value(metric) or 0.0
    values = {severity: r.value(metric) or 0.0 for severity, r in records.items()}
    draws = None
    before, after = (kept_of(book, same, metric) for same in ([base], [*records.values()]))
    if before is not None and after is not None:
        draws = _usable(_share(before.draws(), after.draws(), metric))
    low, high = (None, None) if draws is None else map(float, percentile(draws))
    mean_value = float(np.mean(list(values.values())))
    found = Shift(
        model=contender(base.cell),
        dataset=base.cell.dataset,
        method=base.cell.method,
        metric=metric,
        kind=kind,
        clean=reference,
        shifted=mean_value,
        retained=_share(reference, mean_value, metric),
        low=low,
        high=high,
        severities={s: _share(reference, value, metric) for s, value in values.items()},
    )
    return Moved(found, base, draws)


def _share(clean: Any, shifted: Any, metric: str) -> Any:
    """What is retained of a score, or of (B,) draws of it; NaN or inf where nothing is left to
    divide by."""
    over, under = (shifted, clean) if sign(metric) > 0 else (clean, shifted)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(over, under) if np.ndim(over) else (over / under if under else np.inf)


def _usable(retained: bootstrap.Floats) -> bootstrap.Floats | None:
    """The draws (B,); None where one has no ratio."""
    return retained if (np.isfinite(retained) & (retained >= 0)).all() else None


def label_efficiency(sections: Sequence[SectionRanking]) -> tuple[Efficiency, ...]:
    """The few-shot curves, and the k that reaches 95% of the full-data score."""
    curves: dict[tuple[Ref, Ref, str, str], dict[int, float]] = {}
    full: dict[tuple[Ref, Ref, str, str], float] = {}
    for section in sections:
        for row in section.rows:
            key = (row.model, section.dataset, section.method, section.metric)
            if section.shots is None:
                full[key] = row.value
            else:
                curves.setdefault(key, {})[section.shots] = row.value
    found = []
    for (model, dataset, method, metric), curve in curves.items():
        whole = full.get((model, dataset, method, metric))
        reached = [k for k, v in sorted(curve.items()) if whole and _reaches(v, whole, metric)]
        found.append(
            Efficiency(
                model, dataset, method, metric, dict(sorted(curve.items())), whole,
                reached[0] if reached else None,
            )
        )  # fmt: skip
    return tuple(found)


def _reaches(few: float, whole: float, metric: str) -> bool:
    """Whether a row's score `few` is ENOUGH of `whole`, both signed so that larger is better."""
    way = sign(metric)
    return whole * way > 0 and bool(_share(way * whole, way * few, metric) >= ENOUGH)


def gaps(records: Iterable[Record]) -> tuple[Gap, ...]:
    """Train minus test accuracy, a row a model and method, the largest gap first."""
    held: dict[tuple[Ref, str], dict[Ref, list[tuple[float, float]]]] = {}
    for record in records:
        train, test = record.value("train_accuracy"), record.value("accuracy")
        if train is None or test is None or record.cell.shots is not None:
            continue
        if record.status == "ok" and not is_control(record) and not shifted(record):
            key = (contender(record.cell), record.cell.method)
            held.setdefault(key, {}).setdefault(record.cell.dataset, []).append((train, test))
    found = []
    for (model, method), by_dataset in held.items():
        both = np.array([np.mean(pairs, axis=0) for pairs in by_dataset.values()]).mean(axis=0)
        found.append(Gap(model, method, float(both[0]), float(both[1]), len(by_dataset)))
    return tuple(sorted(found, key=lambda g: (g.method, g.test - g.train, g.model)))
