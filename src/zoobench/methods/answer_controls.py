"""Controls of question answering: what F1 says nothing below (PROTOCOL section 2)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.predictor import Predictor
from zoobench.tasks.question_answering import TextQuestion, answers_of, normalised

WORD = re.compile(r"\w+")
SENTENCE = re.compile(r"(?:[^.!?。！？\n]|[.!?](?!\s|$))+[.!?。！？]*|[.!?。！？]+")
"""Up to a full stop and its like before a blank, or a new line."""


class WordsAlone:
    """Abstract: a control that reads words, and no network's features of them."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("question-answering",)
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        say = self.answerer(splits)

        def answer(split: Split) -> list[str]:
            return [say(split.read(i)) for i in range(len(split))]

        return Predictor(answer, splits.valid, answer)

    def answerer(self, splits: SealedSplits) -> Callable[[TextQuestion], str]:
        raise NotImplementedError


@dataclass(frozen=True)
class UsualAnswer(WordsAlone):
    """One answer for every question: the most frequent of train, none included.

    A question counts as its first answer, normalised; of equally frequent ones the first in the
    alphabet is said.
    """

    def answerer(self, splits: SealedSplits) -> Callable[[TextQuestion], str]:
        golds = answers_of(splits.train).golds
        counts = Counter(normalised(gold[0].text) if gold else "" for gold in golds)
        usual = min(counts, key=lambda text: (-counts[text], text))
        return lambda asked: usual


@dataclass(frozen=True)
class LikeliestSentence(WordsAlone):
    """The sentence of the context that is nearest to the question, whole: the greatest cosine of
    TF-IDF vectors, the first of equals. Document frequencies are those of train's sentences.

    It knows no better span of a sentence than all of it, and never says that there is no answer.
    """

    def answerer(self, splits: SealedSplits) -> Callable[[TextQuestion], str]:
        train = splits.train
        contexts = dict.fromkeys(train.read(i).context for i in range(len(train)))
        inside: Counter[str] = Counter()
        many = 0
        for text in contexts:
            for sentence in sentences(text):
                inside.update(set(_words(sentence)))
                many += 1

        def weights(text: str) -> dict[str, float]:
            """Word -> its share of a vector of length 1; idf is smoothed, as if one more sentence
            held every word."""
            counts = Counter(_words(text))
            found = {
                word: count * (np.log((1 + many) / (1 + inside[word])) + 1)
                for word, count in counts.items()
            }
            length = float(np.sqrt(sum(value * value for value in found.values()))) or 1.0
            return {word: value / length for word, value in found.items()}

        def answer(asked: TextQuestion) -> str:
            question = weights(asked.question)

            def near(sentence: str) -> float:
                return sum(v * question.get(word, 0.0) for word, v in weights(sentence).items())

            # max gives the first of equals
            return max(sentences(asked.context), key=near)

        return answer


def sentences(text: str) -> list[str]:
    """The sentences of a text without the blanks around them, exact parts of it; never none."""
    found = [one.group().strip() for one in SENTENCE.finditer(text)]
    return [one for one in found if one] or [text]


def _words(text: str) -> list[str]:
    return [word.casefold() for word in WORD.findall(text)]
