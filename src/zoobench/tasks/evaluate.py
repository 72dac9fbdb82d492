"""Every quality number of one cell with its interval, from what was kept (PROTOCOL section 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from zoobench.errors import StoreError
from zoobench.interfaces import Splits
from zoobench.metrics import METRICS, fraction, measured, metric
from zoobench.schema import Measurement, Outcomes, Record
from zoobench.statistics import intervals
from zoobench.statistics.bootstrap import RESAMPLES, Floats, Units, numbered, resampled, unit_count
from zoobench.tasks import Statistics, Task, task_of

UNKNOWN_CLASSES = "unknown_classes"
"""What a complete model's choice calls the classes that it has no label for."""
BOUNDS = {
    **dict.fromkeys(
        ("wer", "cer", "nll", "mae", "rmse", "bits_per_byte", "document_bits_per_byte",
         "pseudo_bits_per_byte", "document_pseudo_bits_per_byte", "masked_lm_loss", "lpips", "fid"),
        (0.0, np.inf),
    ),
    **dict.fromkeys(("spearman", "ssim"), (-1.0, 1.0)),
    "r2": (-np.inf, 1.0),
}  # fmt: skip
"""Between what a metric lies that is no fraction; what is not named may be any number."""
APART = 5e-3
"""A record's value and what its outcomes give may differ by this share: a baseline's probabilities
are rounded."""


def evaluate(task: Task, outcomes: Outcomes, splits: Splits) -> tuple[Measurement, ...]:
    """Each metric that `task` reports of `outcomes`, with its 95% interval; n = examples.

    The draws depend on the units alone: whoever judges the same units gets the same interval.
    Raises ValueError where there are no test examples.
    """
    if outcomes.n == 0:
        raise ValueError("no test examples to evaluate")
    details = task.reported(outcomes, splits)
    statistics, units = task.statistics(outcomes), outcomes.arrays["unit"]
    count = unit_count(units)
    groups = {"units": count} if count < outcomes.n else {}
    values = statistics(np.ones((1, outcomes.n)), list(details))
    drawn: dict[str, list[Floats]] = {name: [] for name in details}
    for weights in resampled(units):
        for name, block in statistics(weights, list(details)).items():
            drawn[name].append(block)
    out = []
    for name, detail in details.items():
        value, rows = float(values[name][0]), statistics.mean_of(name)
        low: float | None
        high: float | None
        if rows is not None and fraction(name) and np.isin(rows, (0, 1)).all():
            low, high = intervals.of_share(rows, units)
        else:
            all_draws = np.concatenate(drawn[name])
            low, high = intervals.of_draws(value, all_draws, count, bounds=bounds_of(name))
            if count == 1 and not np.isfinite(bounds_of(name)).all():
                low = high = None  # of one speaker, say, nothing is known of others
        detail = {"resamples": RESAMPLES, **groups, **detail}
        out.append(measured(name, value, n=outcomes.n, detail=detail, low=low, high=high))
    return tuple(out)


def of_known(
    task: Task,
    outcomes: Outcomes,
    splits: Splits,
    numbers: Sequence[Measurement],
    unknown: Collection[str],
) -> tuple[Measurement, ...]:
    """The primary metric over the classes that a complete model has a label for, where it lacks
    some (`unknown`): of the test examples of the others, where each is of one class, else the mean
    of its detail by class without those. `numbers` are what `evaluate` gives of the same."""
    name = f"{numbers[0].metric}_known"
    if unknown and task.truth == ("label",):
        missing = [number for number, known in enumerate(splits.classes) if known in unknown]
        rows = np.flatnonzero(~np.isin(outcomes.arrays["label"], missing))
        if not len(rows):
            return ()
        arrays = {array: values[rows] for array, values in outcomes.arrays.items()}
        primary = evaluate(task, Outcomes(len(rows), arrays), splits)[0]
        row = metric(name)
        return (replace(primary, metric=name, unit=row.unit, better=row.better),)
    by_class = next((v for v in numbers[0].detail.values() if isinstance(v, Mapping)), {})
    values = [float(value) for key, value in by_class.items() if key not in unknown]
    if not unknown or not values or name not in METRICS:
        return ()
    return (measured(name, float(np.mean(values)), n=numbers[0].n, detail={"of": len(values)}),)


def bounds_of(metric: str) -> tuple[float, float]:
    """Between what the metric lies, signed as it is."""
    return (0.0, 1.0) if fraction(metric) else BOUNDS.get(metric, (-np.inf, np.inf))


def units_of(record: Record, outcomes: Outcomes) -> Units:
    """(n,) the unit of each test example; of records that kept none, its place in the test split,
    which is another one where the split's fingerprint is."""
    if "unit" in outcomes.arrays:
        return np.asarray(outcomes.arrays["unit"])
    test = (record.provenance.get("splits") or {}).get("test")
    return numbered(outcomes.n, test or record.cell.dataset.located)


def statistics_of(record: Record, outcomes: Outcomes, where: str) -> Statistics:
    """The metrics of what was kept for `record`.

    Raises StoreError where they cannot be those of the record: arrays that are absent, empty, of
    another kind or length, not finite, or that give another value of the primary metric.
    """
    task = task_of(record.cell)
    metric = task.metrics[0]
    try:
        if not outcomes.n or not all(
            _sound(name, a, outcomes) for name, a in outcomes.arrays.items()
        ):
            raise ValueError("arrays of another shape or kind, or not finite")
        statistics = task.statistics(outcomes)
        value = float(statistics(np.ones((1, outcomes.n)), [metric])[metric][0])
    except (KeyError, ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise StoreError(f"{where}: {record.cell.label}: damaged predictions: {error}") from error
    held = record.value(metric)
    if held is not None and not abs(value - held) <= APART * max(abs(held), 1e-9):
        raise StoreError(
            f"{where}: {record.cell.label}: its predictions give {metric} {value:.6g}, "
            f"but its record says {held:.6g}"
        )
    return statistics


def _sound(name: str, array: Units | Floats, outcomes: Outcomes) -> bool:
    ragged = "owner" in outcomes.arrays and name != "unit"
    if array.dtype.kind not in "biuf" or (not ragged and array.shape[:1] != (outcomes.n,)):
        return False
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
