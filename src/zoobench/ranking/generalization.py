"""Beyond the clean test split: shift, label efficiency, train-test gap (PROTOCOL section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from zoobench.datasets.shift import clean, is_shifted, named
from zoobench.metrics import sign
from zoobench.ranking.comparability import is_control
from zoobench.ranking.nouns import Efficiency, Gap, SectionRanking, Shift
from zoobench.ranking.outcomes import Book, contender, kept_of, primary_of
from zoobench.schema import Record, Ref, canonical
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


def shifts(book: Book, metric: str | None) -> tuple[Shift, ...]:
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
    return tuple(sorted(found, key=lambda s: (s.dataset, s.method, s.kind, -s.retained)))


def _shift(book: Book, base: Record, kind: str, records: dict[int, Record], metric: str) -> Shift:
    reference = base.value(metric) or 0.0
    values = {severity: r.value(metric) or 0.0 for severity, r in records.items()}
    low = high = None
    before, after = (kept_of(book, same, metric) for same in ([base], [*records.values()]))
    if before is not None and after is not None:
        low, high = _interval(_share(before.draws(), after.draws(), metric))
    mean_value = float(np.mean(list(values.values())))
    return Shift(
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


def _share(clean: Any, shifted: Any, metric: str) -> Any:
    """What is retained of a score, or of (B,) draws of it; NaN or inf where nothing is left to
    divide by."""
    over, under = (shifted, clean) if sign(metric) > 0 else (clean, shifted)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(over, under) if np.ndim(over) else (over / under if under else np.inf)


def _interval(retained: bootstrap.Floats) -> tuple[float | None, float | None]:
    """95% interval from draws (B,); unknown where a draw has no ratio."""
    if not (np.isfinite(retained) & (retained >= 0)).all():
        return None, None
    low, high = percentile(retained)
    return float(low), float(high)


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
