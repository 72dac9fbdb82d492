"""Every quality number of one cell, from a model's scores on `test` (PROTOCOL section 3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoobench.metrics import measured
from zoobench.schema import Measurement, Predictions
from zoobench.statistics.bootstrap import _resamples
from zoobench.tasks.classification import BINS, TOP5_FROM, Floats, Statistics


def evaluate(
    p: Predictions, classes: int, seed: int, resamples: int = 1000
) -> tuple[Measurement, ...]:
    """Every classification metric of `p` with its 95% interval; n = N.

    Deterministic in `seed`; the draws do not depend on `classes`. `top5_accuracy` only
    where `classes` > 10. Raises ValueError for no examples or fewer than 1000 resamples
    (PROTOCOL section 3).
    """
    n = len(p.label)
    if n == 0:
        raise ValueError("no test examples to evaluate")
    if resamples < 1000:
        raise ValueError(f"at least 1000 resamples are needed, not {resamples}")
    statistics = Statistics(p, classes)
    values = {name: float(v[0]) for name, v in statistics(np.ones((1, n))).items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in values}
    for weights in _resamples(n, seed, resamples):
        for name, v in statistics(weights).items():
            drawn[name].append(v)
    if classes < TOP5_FROM:
        del values["top5_accuracy"]
    absent = classes - len(np.unique(p.label))
    out = []
    for name, value in values.items():
        low, high = np.quantile(np.concatenate(drawn[name]), [0.025, 0.975])
        detail: dict[str, Any] = {"resamples": resamples}
        if absent and name.startswith(("macro", "balanced")):
            detail["classes_not_in_test"] = absent
        if name.startswith("ece"):
            detail["bins"] = BINS
        bounds = {"low": min(float(low), value), "high": max(float(high), value)}
        out.append(measured(name, value, n=n, detail=detail, **bounds))
    return tuple(out)
