"""TASKS: what a dataset can ask for, and the metrics that answer it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """`target` is the kind of label; `metrics` are names in metrics.METRICS, primary first."""

    target: str
    metrics: tuple[str, ...]
    version: int

    @property
    def primary(self) -> str:
        return self.metrics[0]


TASKS: dict[str, Task] = {
    "classification": Task(
        target="one class of C",
        metrics=(
            "accuracy",
            "balanced_accuracy",
            "macro_precision",
            "macro_recall",
            "macro_f1",
            "top5_accuracy",
            "nll",
            "ece",
            "ece_calibrated",
        ),
        version=1,
    ),
}
