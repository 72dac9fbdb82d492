"""The controls of question answering: what they say, and that they read no test set."""

from __future__ import annotations

import numpy as np
import pytest

from zoobench import datasets, methods
from zoobench.interfaces import SealedSplits, Split
from zoobench.methods.answer_controls import sentences
from zoobench.tasks.question_answering import Answers, AnswerSpan, QuestionAnswering, TextQuestion

TEXT = (
    "Rain fell on Mars in 1.5 hours! A river of the north dried up...\nNobody saw. Ships 東京。船"
)


def split_of(rows: list[tuple[str, str, str]], name: str = "train") -> Split:
    read = tuple(TextQuestion(question, text) for question, text, _ in rows)
    golds = tuple(
        (AnswerSpan(answer, text.find(answer)),) if answer else () for _, text, answer in rows
    )
    return Split(
        name, tuple(f"{name}{i}" for i in range(len(rows))), Answers(golds), read.__getitem__
    )


def said(name: str, train: Split, test: Split) -> list[str]:
    method = methods.build(name, {}, task="question-answering")
    sealed = SealedSplits(train, train, (), "text", "question-answering")
    found: list[str] = method.adapt(None, sealed, 0).predict(test)
    return found


def test_sentences_are_exact_parts_of_the_text_and_all_of_it() -> None:
    found = sentences(TEXT)
    assert found == [
        "Rain fell on Mars in 1.5 hours!", "A river of the north dried up...", "Nobody saw.",
        "Ships 東京。", "船",
    ]  # fmt: skip
    assert all(one in TEXT for one in found)
    assert sentences(" . ") == ["."]
    assert sentences("") == [""]
    draw = np.random.default_rng(0)
    for _ in range(300):
        text = "".join(draw.choice(list("ab .!?\n。"), 25))
        inside = "".join("".join(sentences(text)).split())
        assert inside == "".join(text.split())


def test_the_nearest_sentence_shares_rare_words_with_the_question() -> None:
    common = "The ship is old. The ship is red. The ship is at sea."
    rows = [("?", common, "red"), ("Where did the river flow?", TEXT, "north")]
    train, test = split_of(rows[:1]), split_of(rows, "test")
    assert said("raw-input", train, test) == [
        "The ship is old.",
        "A river of the north dried up...",
    ]


def test_majority_says_the_usual_answer_or_none() -> None:
    rows = [("a?", "x the Red y", "the Red"), ("b?", "so red", "red"), ("c?", "blue", "blue")]
    none = [("d?", "n", ""), ("e?", "n", ""), ("f?", "n", "")]
    test = split_of(rows, "test")
    assert said("majority", split_of(rows), test) == ["red"] * 3
    assert said("majority", split_of(rows + none), test) == [""] * 3


@pytest.mark.parametrize("name", ["majority", "raw-input"])
def test_they_can_be_judged_and_say_the_same_again(name: str) -> None:
    splits = datasets.load(datasets.resolve("synthetic/phrases?task=question-answering"))
    method = methods.build(name, {}, task="question-answering")
    first = method.adapt(None, splits.sealed(), 0)
    outcomes = QuestionAnswering().judge(
        first.predict(splits.test), splits.test, (None, splits.valid)
    )
    assert outcomes.n == 100
    assert len(first.valid_scores) == len(splits.valid)
    assert method.adapt(None, splits.sealed(), 1).predict(splits.test) == first.predict(splits.test)
