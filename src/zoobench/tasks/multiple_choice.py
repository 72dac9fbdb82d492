"""Multiple choice: which of a question's options is the right one.

One worked example: "The capital of France is" with the options "Paris", "Rome" and "a river", of
which number 0 is right. Questions of one data set may have different numbers of options. A method
gives every option a score, and the best is its answer; a language model's score is the likelihood
per byte (Brown et al. 2020, arXiv:2005.14165, section 2.4, divide by tokens; bytes are the same
for every tokenizer). n questions, K options of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.tasks.ratios import Ratios
from zoobench.tasks.targets import targets_of


@dataclass(frozen=True)
class Choices:
    """One example as its data set gives it."""

    question: str
    options: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class RightOptions:
    """Targets of multiple choice: `right` (N,) int64, the number of the right option from 0, and
    `options` (N,) int64, how many there are."""

    right: NDArray[np.int64]
    options: NDArray[np.int64]

    @classmethod
    def of(cls, right: Sequence[int], options: Sequence[int]) -> RightOptions:
        """Raises ValueError where a right option is none of the options."""
        pair = (np.asarray(side, dtype=np.int64) for side in (right, options))
        made = cls(*pair)
        if ((made.right < 0) | (made.right >= made.options)).any():
            raise ValueError("the right option must be one of the options")
        return made

    def __len__(self) -> int:
        return len(self.right)

    @property
    def strata(self) -> NDArray[np.int64]:
        return self.right

    def subset(self, rows: NDArray[np.intp]) -> Self:
        return type(self)(self.right[rows], self.options[rows])

    def keys(self) -> list[tuple[int, int]]:
        return list(zip(self.right.tolist(), self.options.tolist(), strict=True))

    def content(self) -> bytes:
        return np.stack([self.right, self.options]).astype("<i8").tobytes()


def right_options_of(split: Split) -> RightOptions:
    return targets_of(split, RightOptions)


def outcomes_of(said: Sequence[ArrayLike], answers: RightOptions) -> Outcomes:
    """What is kept of n questions: `right` and `options` (n,) int64 of the truth, `share` (n,)
    float64, 1 where the option with the best score is the right one, 1/t where t share the best
    score and the right one is among them, else 0; and the `scores` (K,) float64 with their `owner`
    (K,) int32.

    A tie is not broken by the place of an option, or whoever finds all alike would be right
    wherever the first is. Raises ValueError where a question's scores are not one an option,
    NotFinite where one is no number.
    """
    n, bad = len(answers), 0
    if len(said) != n:
        raise ValueError(f"scores must be {n} lists, not {len(said)}")
    share, kept = np.zeros(n), []
    for i, scores in enumerate(np.asarray(one, dtype=np.float64) for one in said):
        if not np.isfinite(scores).all():
            bad += 1
            continue
        if scores.shape != (answers.options[i],):
            raise ValueError(f"scores of question {i} must be one an option, not {scores.shape}")
        best = scores == scores.max()
        share[i] = best[answers.right[i]] / best.sum()
        kept.append(scores)
    if bad:
        raise NotFinite(f"{bad} of {n} test examples have scores that are no number")
    arrays = {
        "right": answers.right, "options": answers.options, "share": share,
        "scores": np.concatenate([*kept, np.zeros(0)]),
        "owner": np.repeat(np.arange(n, dtype=np.int32), answers.options),
    }  # fmt: skip
    return Outcomes(n, arrays)


@dataclass(frozen=True)
class MultipleChoice:
    """Options to choose from. Outputs are N arrays, a score for each option; the best is chosen."""

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    truth: ClassVar[tuple[str, ...]] = ("right", "options")
    rounded: ClassVar[tuple[str, ...]] = ("scores",)

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """See `outcomes_of`; nothing is calibrated."""
        return outcomes_of(output, right_options_of(split))

    def statistics(self, outcomes: Outcomes) -> Ratios:
        """Raises ValueError for shares that no question can have."""
        share = outcomes.arrays["share"]
        if share.shape != (outcomes.n,) or ((share < 0) | (share > 1)).any():
            raise ValueError("what counts of a question lies between 0 and 1")
        return Ratios({"accuracy": share})

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        """Accuracy, and beside it what guessing reaches: the mean of 1 / options."""
        guessing = float((1 / outcomes.arrays["options"]).mean())
        return {"accuracy": {"guessing": round(guessing, 6)}}
