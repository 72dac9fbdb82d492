"""Question answering: what is compared of an answer, and that its numbers are SQuAD's script's."""

from __future__ import annotations

import collections
import random
import re
import string

import numpy as np
import pytest

from zoobench import tasks
from zoobench.errors import NotFinite
from zoobench.interfaces import Split
from zoobench.tasks.question_answering import (
    Answers,
    AnswerSpan,
    QuestionAnswering,
    TextQuestion,
    normalised,
    overlap,
    scored,
)


def plain(text: str) -> str:
    """SQuAD's normalisation again, step by step from its description."""
    lowered = "".join(c for c in text.lower() if c not in set(string.punctuation))
    without = re.sub(r"\b(a|an|the)\b", " ", lowered, flags=re.UNICODE)
    return " ".join(without.split())


def f1(gold: str, said: str) -> float:
    """As evaluate-v2.0 defines it: over two lists of words."""
    ours, theirs = plain(said).split(), plain(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    left = list(theirs)
    same = 0
    for word in ours:
        if word in left:
            left.remove(word)
            same += 1
    if not same:
        return 0.0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


ODD = [
    "", "the", "The  A an", "...", "a", "the a", "U.S.", "don’t", "–dash—", "«quoted»", "“The” cat",
    "cat cat cat", "cat cat dog", "A-the-B", "the_a", "東京 タワー", "東京タワー。", "İstanbul",
    "ß SS", "ﬁne", "e\u0301t\u00e9", "\u00a0no\u2003break\u3000", "\u200bzero", "1,000.5",
    "$5 & %", "an\nold\tman", "\ud800half", "🙂 smile", "THE THEATRE", "than the then", "a.m.",
    "`tick`", "one's",
]  # fmt: skip
WORDS = ["a", "the", "an", "cat", "Cat", "dog,", "3.5", "THE", "–", "東京", "!", "the-cat", "x" * 9]


def pairs() -> list[tuple[str, list[str]]]:
    draw = random.Random(0)
    some = [(said, [gold]) for said in ODD for gold in ODD]
    for _ in range(600):
        texts = [
            draw.choice((" ", "  ", "\n")).join(draw.choices(WORDS, k=draw.randint(0, 6)))
            for _ in range(draw.randint(1, 5))
        ]
        some.append((texts[0], texts[1:]))
    return some


def test_exact_match_and_f1_are_what_the_published_definition_gives() -> None:
    for said, golds in pairs():
        known = [gold for gold in golds if plain(gold)] or [""]
        exact, score = scored(said, [AnswerSpan(gold, 0) for gold in golds])
        assert exact == any(plain(said) == plain(gold) for gold in known), (said, golds)
        assert score == pytest.approx(max(f1(gold, said) for gold in known), abs=1e-12)


def test_they_equal_those_of_transformers() -> None:
    squad_metrics = pytest.importorskip("transformers.data.metrics.squad_metrics")
    for said, golds in pairs():
        assert normalised(said) == squad_metrics.normalize_answer(said)
        known = [gold for gold in golds if squad_metrics.normalize_answer(gold)] or [""]
        exact, score = scored(said, [AnswerSpan(gold, 0) for gold in golds])
        assert exact == bool(max(squad_metrics.compute_exact(gold, said) for gold in known))
        assert score == pytest.approx(max(squad_metrics.compute_f1(gold, said) for gold in known))


@pytest.mark.parametrize(
    ("text", "kept"),
    [("The Cat!", "cat"), ("an a the", ""), ("U.S.", "us"), ("“a”", "“ ”"), ("A–B", "–b"),
     ("«the»", "« »"), ("theatre", "theatre"), ("the_a", "thea"), ("a\u00a0b", "b"),
     ("東京。", "東京。")],
)  # fmt: skip
def test_only_ascii_punctuation_and_whole_articles_go(text: str, kept: str) -> None:
    assert normalised(text) == kept


def test_a_word_counts_as_often_as_both_have_it() -> None:
    assert overlap("cat cat cat", "cat") == pytest.approx(0.5)
    assert overlap("cat cat dog", "cat cat bird") == pytest.approx(2 / 3)
    counts = collections.Counter(["cat", "cat", "dog"]) & collections.Counter(["dog", "cat"])
    assert overlap("cat cat dog", "dog cat") == pytest.approx(2 * counts.total() / 5)


def made(golds: list[tuple[str, ...]]) -> Split:
    asked = tuple(TextQuestion(f"q{i}", " ".join(("x", *gold))) for i, gold in enumerate(golds))
    targets = Answers(tuple(tuple(AnswerSpan(text, 2) for text in gold) for gold in golds))
    return Split("test", tuple(map(str, range(len(golds)))), targets, asked.__getitem__)


def test_the_better_gold_answer_counts_and_none_is_right_where_there_is_none() -> None:
    split = made([("red", "dark red"), (), (), ("blue sky",)])
    said = ["dark red", "", "red", "the blue"]
    outcomes = QuestionAnswering().judge(said, split, (None, split))
    assert outcomes.arrays["f1"].tolist() == pytest.approx([1, 1, 0, 2 / 3])
    assert outcomes.arrays["exact"].tolist() == [True, True, False, False]
    statistics = QuestionAnswering().statistics(outcomes)
    found = statistics(np.ones((1, 4)), QuestionAnswering.metrics)
    assert found["f1"][0] == pytest.approx((2 + 2 / 3) / 4)
    assert found["exact_match"][0] == pytest.approx(0.5)
    assert found["has_answer_f1"][0] == pytest.approx(5 / 6)
    assert found["no_answer_f1"][0] == pytest.approx(0.5)
    exact = statistics.mean_of("exact_match")
    assert exact is not None
    assert set(exact.tolist()) <= {0.0, 1.0}


def test_a_resample_without_a_kind_counts_as_the_set_itself() -> None:
    split = made([("red",), (), ()])
    outcomes = QuestionAnswering().judge(["red", "", "red"], split, (None, split))
    weights = np.array([[1.0, 0, 0], [0, 2, 1]])
    found = QuestionAnswering().statistics(outcomes)(weights, QuestionAnswering.metrics)
    assert found["no_answer_f1"].tolist() == pytest.approx([0.5, 2 / 3])
    assert found["has_answer_f1"].tolist() == pytest.approx([1.0, 1.0])


def test_either_kind_is_reported_where_there_are_both() -> None:
    task = tasks.task("question-answering")
    both, one = made([("red",), ()]), made([("red",), ("blue",)])
    for split, many in ((both, 4), (one, 2)):
        outcomes = task.judge(["red", "red"], split, (None, split))
        assert len(task.reported(outcomes, None)) == many  # type: ignore[arg-type]


def test_an_answer_that_is_no_text_is_refused() -> None:
    split = made([("red",), ()])
    with pytest.raises(NotFinite, match="1 of 2 test examples"):
        QuestionAnswering().judge(["red", None], split, (None, split))
