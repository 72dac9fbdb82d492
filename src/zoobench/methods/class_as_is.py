"""Complete classifiers, judged untouched (PROTOCOL section 2, `as-is`). N examples, K labels of the
model's, C classes of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods import zero_shot
from zoobench.methods.as_is import (
    UNKNOWN,
    AsIs,
    check_pairs,
    facts_of,
    headed,
    known_of,
    mapping,
    names_of,
)
from zoobench.methods.predictor import Predictor

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ClassesAsIs(AsIs):
    """A complete classifier with its own head; its labels are matched with the classes by name.

    `labels` says what the names do not, as "THEIR LABEL=CLASS". The choice is among the classes
    that the model has a label for: what it says by another name is left out. A class of the data
    that it has no label for is never said, and wrong.

    A network of pictures and texts, which has no head, is asked by the names of the classes in
    `templates`: one of `zero_shot.TEMPLATES`, or texts with a {} each; `names` says what a class is
    called, as "CLASS=WORDS".
    """

    templates: tuple[str, ...] = ("general",)
    names: tuple[str, ...] = ()

    version: ClassVar[int] = 2
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    view: ClassVar[str] = "scores"

    def __post_init__(self) -> None:
        super().__post_init__()
        zero_shot.check(self.templates)
        check_pairs(self.names, "names are written CLASS=WORDS")

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Raises Unsupported for a model without a head, and where none of the classes is known."""
        inner = getattr(backbone, "backbone", backbone)
        if not getattr(inner, "task", "") and getattr(inner, "reads_texts", None):
            return zero_shot.zero_shot(backbone, splits, self.templates, self.names)
        model = headed(inner, splits.task)
        numbers = meanings(model.labels, splits.classes, self.labels)
        known = known_of(numbers, splits.classes, model.labels)

        def answer(split: Split) -> torch.Tensor:
            scores = backbone.features(split)
            return class_log_probs(scores, numbers, len(splits.classes), model.multilabel)

        return Predictor(answer, splits.valid, answer, *facts_of(splits.classes, known))


def meanings(theirs: Sequence[str], classes: Sequence[str], said: Sequence[str] = ()) -> list[int]:
    """`mapping`, where what follows a comma or semicolon in a label is another name of it
    ("Chicken, rooster"): of a class that is the first name of no label."""
    numbers = mapping(theirs, classes, said)
    first = set(numbers)
    others = [
        (label, name)
        for label, number in enumerate(numbers)
        if number == UNKNOWN
        for name in names_of(theirs[label])[1:]
    ]
    found = mapping([name for _, name in others], classes)
    for (label, _), number in zip(others, found, strict=True):
        if number not in first and numbers[label] == UNKNOWN:
            numbers[label] = number
    return numbers


def class_log_probs(
    scores: torch.Tensor, numbers: Sequence[int], classes: int, multilabel: bool
) -> torch.Tensor:
    """(N, C) float32 log-probabilities of classes from (N, K) scores of labels.

    A label's probability is its softmax, or of a `multilabel` head its sigmoid; a class has those
    of all labels that mean it (`numbers`) together, and the classes' sum is made one. Of a class
    without a label it is -inf.
    """
    import torch

    normal = torch.nn.functional.logsigmoid if multilabel else torch.nn.LogSoftmax(dim=1)
    of_labels = normal(scores.double())
    means = torch.tensor(numbers)
    columns = [of_labels[:, means == k].logsumexp(dim=1) for k in range(classes)]
    return torch.stack(columns, dim=1).log_softmax(dim=1).float()
