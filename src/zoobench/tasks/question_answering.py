"""Extractive question answering: a part of a text that answers a question (PROTOCOL sections 2, 3).

    TextQuestion("What colour is the sky?", "By day the sky is blue.")  ->  "blue"

n questions. An answer is a part of its context, or the empty text where the context holds none.
What is compared is what the evaluation script of SQuAD 2.0 makes of a text: lower case, without
ASCII punctuation, without the words a, an and the, blanks collapsed (Rajpurkar et al. 2018,
arXiv:1806.03822). Of several answers of a question the one that fits best counts. On SQuAD 1.1 its
numbers are those of the script of 1.1, but for answers of which nothing is left, such as "the": 2.0
takes a question that has no others for one without an answer.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.ratios import Ratio, Ratios, Sums
from zoobench.tasks.targets import targets_of


@dataclass(frozen=True)
class TextQuestion:
    """One raw example: what is asked, and the text that is to answer it."""

    question: str
    context: str


@dataclass(frozen=True)
class AnswerSpan:
    """`text` stands in the context from its character `start` on, counted in code points."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character after the last one."""
        return self.start + len(self.text)


@dataclass(frozen=True, eq=False)
class Answers:
    """Targets: the right answers of each question, the first one to be learned from; a question
    without any cannot be answered from its context."""

    golds: tuple[tuple[AnswerSpan, ...], ...]

    def __len__(self) -> int:
        return len(self.golds)

    @property
    def answerable(self) -> NDArray[np.bool_]:
        """(N,)."""
        return np.asarray([bool(gold) for gold in self.golds], dtype=np.bool_)

    @property
    def strata(self) -> NDArray[np.int64]:
        """(N,) 0 where there is no answer, else 1 to 3: of one word, of up to four, of more."""
        words = [len(gold[0].text.split()) if gold else 0 for gold in self.golds]
        return np.digitize(words, [1, 2, 5]).astype(np.int64)

    def subset(self, rows: NDArray[np.intp]) -> Self:
        return type(self)(tuple(self.golds[i] for i in rows))

    def keys(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(sorted({one.text for one in gold})) for gold in self.golds)

    def content(self) -> bytes:
        rows = [[[one.text, one.start] for one in gold] for gold in self.golds]
        return json.dumps(rows).encode()  # ASCII: half a surrogate pair is no UTF-8


def answers_of(split: Split) -> Answers:
    return targets_of(split, Answers)


_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(text: str) -> str:
    """What of an answer is compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def overlap(said: str, gold: str) -> float:
    """F1 of the words that two normalised answers share, each as often as both have it; where one
    of them is empty 1 for two empty ones, else 0."""
    ours, theirs = said.split(), gold.split()
    if not ours or not theirs:
        return float(ours == theirs)
    same = (Counter(ours) & Counter(theirs)).total()
    return 2 * same / (len(ours) + len(theirs))


def scored(said: str, golds: Sequence[AnswerSpan]) -> tuple[bool, float]:
    """(exact match, F1) of an answer, each with the gold answer that it fits best."""
    plain = normalised(said)
    known = [text for text in (normalised(gold.text) for gold in golds) if text] or [""]
    return plain in known, max(overlap(plain, text) for text in known)


@dataclass(frozen=True)
class QuestionAnswering:
    """A part of the context of each question. Outputs are n texts, "" where nothing answers it, and
    None where a model's scores are no numbers."""

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("f1", "exact_match", "has_answer_f1", "no_answer_f1")
    truth: ClassVar[tuple[str, ...]] = ("answerable",)
    rounded: ClassVar[tuple[str, ...]] = ()

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """Of each question `f1` (n,) float64, `exact` and `answerable` (n,) bool; nothing is
        calibrated.

        Raises ValueError where there are not n answers, NotFinite where one is no text.
        """
        golds = answers_of(split).golds
        if len(output) != len(golds):
            raise ValueError(f"predictions must be {len(golds)} answers, not {len(output)}")
        if bad := sum(not isinstance(said, str) for said in output):
            raise NotFinite(
                f"{bad} of {len(golds)} test examples have predictions that are no number"
            )
        judged = [scored(said, gold) for said, gold in zip(output, golds, strict=True)]
        exact, f1 = (np.asarray(column) for column in zip(*judged, strict=True))
        arrays = {"f1": f1, "exact": exact, "answerable": answers_of(split).answerable}
        return Outcomes(len(golds), arrays)

    def statistics(self, outcomes: Outcomes) -> Ratios:
        f1, has = outcomes.arrays["f1"], outcomes.arrays["answerable"].astype(np.bool_)
        kinds = {"has_answer": has, "no_answer": ~has}

        def block(kind: NDArray[np.bool_]) -> Callable[[], Floats]:
            return lambda: np.stack([f1 * kind, kind], axis=1).astype(np.float64)

        return Ratios(
            {"f1": f1, "exact_match": outcomes.arrays["exact"]},
            {name: block(kind) for name, kind in kinds.items()},
            {f"{name}_f1": Ratio((name,), _mean(name, f1[kind])) for name, kind in kinds.items()},
        )

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        """F1 of either kind of question where the test set has both."""
        has = outcomes.arrays["answerable"]
        names = self.metrics if 0 < has.sum() < len(has) else self.metrics[:2]
        return {name: {} for name in names}


def _mean(name: str, values: Floats) -> Callable[[Sums, Floats], Floats]:
    """The mean over one kind of questions; of a resample without any, that of the whole set."""
    whole = float(values.mean()) if len(values) else 0.0

    def of(sums: Sums, total: Floats) -> Floats:
        score, many = sums[name][:, 0], sums[name][:, 1]
        return np.where(many > 0, score / np.maximum(many, 1e-300), whole)

    return of
