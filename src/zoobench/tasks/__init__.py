"""TASKS: what a dataset can ask, how an answer is judged, and the metrics that follow.

One literal table, one lookup; a third party adds a task by an entry point in the group
`zoobench.tasks`. Nothing above this room knows what an answer looks like: the runner hands
a method's output to `judge`, the store keeps the outcomes' arrays, and the record's interval,
the ranking's paired draws and the gate's test all come from the same `Statistics`.
n independent units, B weightings of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from zoobench import plugins
from zoobench.interfaces import Split, Splits
from zoobench.schema import Cell, Outcomes
from zoobench.statistics.bootstrap import Floats

TASKS: dict[str, str] = {
    "classification": "zoobench.tasks.classification:Classification",
    "regression": "zoobench.tasks.regression:Regression",
    "detection": "zoobench.tasks.detection:Detection",
    "segmentation": "zoobench.tasks.segmentation:Segmentation",
    "token-classification": "zoobench.tasks.token_classification:TokenClassification",
    "question-answering": "zoobench.tasks.question_answering:QuestionAnswering",
    "language-modelling": "zoobench.tasks.language_modelling:LanguageModelling",
    "masked-language-modelling": "zoobench.tasks.language_modelling:MaskedLanguageModelling",
    "multiple-choice": "zoobench.tasks.multiple_choice:MultipleChoice",
    "speech-recognition": "zoobench.tasks.speech_recognition:SpeechRecognition",
    "retrieval": "zoobench.tasks.retrieval:Retrieval",
}


class Statistics(Protocol):
    """Every metric of some outcomes, as a function of the units' weights."""

    def __call__(self, weights: Floats, names: Sequence[str]) -> dict[str, Floats]:
        """(B, n) weights of units -> metric -> (B,). One row of ones is the test set itself, a
        row of counts the test set in which each unit stands that often."""

    def mean_of(self, name: str) -> Floats | None:
        """(n,) whose weighted mean is the metric; None for a ratio or a curve.

        Where it is 0 or 1 throughout, exact tests apply (McNemar).
        """


class Task(Protocol):
    """A frozen dataclass without fields: the task is the same wherever it is asked.

    `version` changes when a number it gives may change; `metrics` are names in METRICS, the
    primary one first; `truth` names the arrays that the test set decides and no model:
    outcomes whose truths differ are not of one test set. `rounded` names the arrays of
    probabilities and their like, which a baseline may keep as float16 and whose differences
    below 0.002 are the processor's; all others count as they are.
    """

    version: ClassVar[int]
    metrics: ClassVar[tuple[str, ...]]
    truth: ClassVar[tuple[str, ...]]
    rounded: ClassVar[tuple[str, ...]]

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """What is kept of the method's `output` on `split`. `calibration` is its output on
        `valid`, and `valid`. Raises NotFinite where an output is no number, ValueError where
        its shape is not the split's."""

    def statistics(self, outcomes: Outcomes) -> Statistics:
        """The metrics of `outcomes`. Raises KeyError where an array of it is absent."""

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        """The metrics that a record of `splits` gives, in order, with each one's detail."""


def every() -> Iterator[tuple[str, Task]]:
    """Every task by its name, but for plug-ins that cannot be loaded."""
    for name, kind in plugins.every("tasks", TASKS):
        yield name, kind()


def task(name: str, where: str = "") -> Task:
    """The task called `name`; UnknownName with the nearest otherwise."""
    kind: type[Task] = plugins.named("tasks", TASKS, name, where)
    return kind()


def name_of(cell: Cell) -> str:
    """The name of the task that `cell` asks; some early records did not name it."""
    name, at, _ = str(cell.versions.get("task", "")).partition("@")
    return name if at else "classification"


def task_of(cell: Cell) -> Task:
    return task(name_of(cell))
