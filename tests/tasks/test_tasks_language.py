"""Language modelling and multiple choice: golden numbers, ties, and what cannot be judged."""

from __future__ import annotations

import numpy as np
import pytest

from zoobench import tasks
from zoobench.errors import NotFinite
from zoobench.interfaces import Split
from zoobench.schema import Outcomes
from zoobench.tasks.language_modelling import Documents, outcomes_of, size_of
from zoobench.tasks.multiple_choice import RightOptions
from zoobench.tasks.multiple_choice import outcomes_of as chosen_of

TEXTS = ("plain", "zażółć", "日本語", "🙂", "half \ud83d")


def test_bytes_are_those_of_utf_8_whatever_is_written() -> None:
    assert [size_of(text) for text in TEXTS] == [5, 10, 9, 4, 6]
    assert Documents.of(TEXTS).values.tolist() == [5, 10, 9, 4, 6]


def test_bits_per_byte_weighs_documents_by_their_bytes() -> None:
    judge = tasks.task("language-modelling")
    outcomes = outcomes_of([10.0, 80.0], np.array([10, 20]))
    found = judge.statistics(outcomes)(np.array([[1.0, 1.0], [2.0, 0.0]]), judge.metrics)
    assert found["bits_per_byte"].tolist() == [3.0, 1.0]
    assert found["document_bits_per_byte"].tolist() == [2.5, 1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.5])
def test_bits_that_no_code_has_are_refused(bad: float) -> None:
    with pytest.raises(NotFinite, match="1 of 2"):
        outcomes_of([1.0, bad], np.array([3, 3]))


def test_a_pseudo_likelihood_never_goes_by_the_name_of_a_likelihood() -> None:
    causal, masked = (tasks.task(f"{kind}language-modelling") for kind in ("", "masked-"))
    assert not set(causal.metrics) & set(masked.metrics)


def test_a_tie_is_shared_and_not_given_to_the_first() -> None:
    truth = RightOptions.of([0, 2, 1, 0], [2, 3, 4, 2])
    said: list[list[float]] = [[1, 1], [1, 3, 3], [0, 5, 4, 4], [-2.5, -2]]
    outcomes = chosen_of(said, truth)
    assert outcomes.arrays["share"].tolist() == [0.5, 0.5, 1.0, 0.0]
    assert outcomes.arrays["owner"].tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert outcomes.arrays["scores"].tolist() == [one for row in said for one in row]
    judge = tasks.task("multiple-choice")
    accuracy = judge.statistics(outcomes)(np.ones((1, 4)), ["accuracy"])["accuracy"]
    assert accuracy.tolist() == [0.5]


def test_scores_must_be_one_an_option() -> None:
    with pytest.raises(ValueError, match="question 0 must be one an option"):
        chosen_of([[1, 2, 3]], RightOptions.of([0], [2]))
    with pytest.raises(ValueError, match="must be one of the options"):
        RightOptions.of([2], [2])


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [
        ("language-modelling", "bits", -1.0),
        ("language-modelling", "bytes", 0),
        ("multiple-choice", "share", 1.5),
    ],
)
def test_what_was_kept_must_be_what_a_task_can_give(task: str, name: str, value: float) -> None:
    kept = {
        "language-modelling": outcomes_of([10.0, 80.0], np.array([10, 20])),
        "multiple-choice": chosen_of([[1, 2], [2, 1]], RightOptions.of([0, 1], [2, 2])),
    }[task]
    damaged = dict(kept.arrays) | {name: np.full(2, value)}
    tasks.task(task).statistics(kept)
    with pytest.raises(ValueError, match=r"document|question"):
        tasks.task(task).statistics(Outcomes(2, damaged))


def test_a_split_of_another_task_is_refused() -> None:
    split = Split("test", ("a",), Documents.of(["a"]), lambda i: "a")
    with pytest.raises(TypeError, match="not RightOptions"):
        tasks.task("multiple-choice").judge([[1, 2]], split, (None, split))
