"""Every quality number of one cell with its interval, from what was kept (PROTOCOL section 3)."""

from __future__ import annotations

import numpy as np

from zoobench.interfaces import Splits
from zoobench.metrics import measured
from zoobench.schema import Measurement, Outcomes, Ref
from zoobench.statistics.bootstrap import RESAMPLES, Floats, interval, resampled, seed_of
from zoobench.tasks import Task


def seed_for(dataset: Ref, task: Task) -> int:
    """The seed of every draw of `dataset`'s test units, in records and rankings alike."""
    return seed_of(dataset.located, task.metrics[0])


def evaluate(task: Task, outcomes: Outcomes, splits: Splits, seed: int) -> tuple[Measurement, ...]:
    """Each metric that `task` reports of `outcomes`, with its 95% interval; n = units.

    The draws depend on `seed` and on n alone: a ranking that draws with the same seed gives
    a lone record the same interval. Raises ValueError where there are no test units.
    """
    if outcomes.n == 0:
        raise ValueError("no test examples to evaluate")
    details = task.reported(outcomes, splits)
    statistics = task.statistics(outcomes)
    values = statistics(np.ones((1, outcomes.n)), list(details))
    drawn: dict[str, list[Floats]] = {name: [] for name in details}
    for weights in resampled(outcomes.n, seed):
        for name, block in statistics(weights, list(details)).items():
            drawn[name].append(block)
    out = []
    for name, detail in details.items():
        value = float(values[name][0])
        low, high = interval(value, np.concatenate(drawn[name]))
        detail = {"resamples": RESAMPLES, **detail}
        out.append(measured(name, value, n=outcomes.n, detail=detail, low=low, high=high))
    return tuple(out)
