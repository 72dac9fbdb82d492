"""Question answering by frozen states: which answer is said, and what the probe learns."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from zoobench import datasets, methods, models
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits
from zoobench.methods import answers as answering
from zoobench.methods.span_probe import first_by_hash
from zoobench.models.pairs import PairWindow
from zoobench.models.weights import state_digest
from zoobench.tasks.question_answering import QuestionAnswering

TEXT = "one two three four five six"
SPANS = ((0, 3), (4, 7), (8, 13), (14, 18), (19, 23), (24, 27))


def window(begin: int, end: int) -> PairWindow:
    many = end - begin
    return PairWindow((0,) * (1 + many), (0,) * (1 + many), 1, begin, end, SPANS)


def scores(none: float, *rows: tuple[float, float]) -> Any:
    return np.asarray([(none / 2, none / 2), *rows], dtype=np.float32)


def test_the_best_pair_is_in_order_short_enough_and_the_first_of_equals() -> None:
    assert answering.best_pair(scores(9, (0, 5), (4, 0), (0, 3))) == (7.0, 2, 3)
    assert answering.best_pair(scores(9, (1, 1), (1, 1), (1, 1))) == (2.0, 1, 1)
    assert answering.best_pair(scores(9)) is None
    long = np.zeros((80, 2), dtype=np.float32)
    long[1, 0], long[31, 1], long[30, 1] = 5, 9, 3
    assert answering.best_pair(long) == (9.0, 2, 31), "thirty pieces, and not thirty-one"
    draw = np.random.default_rng(0)
    for _ in range(50):
        some = draw.normal(size=(15, 2)).astype(np.float32)
        pairs = {
            (i, j): float(some[i, 0]) + float(some[j, 1])
            for i in range(1, 15)
            for j in range(i, 15)
        }
        best = max(pairs, key=lambda pair: pairs[pair])
        assert answering.best_pair(some) == (pairs[best], *best)


def test_windows_of_a_question_compete_by_their_scores() -> None:
    own = [window(0, 3), window(3, 6)]
    first, second = scores(0, (1, 0), (0, 2), (0, 0)), scores(1, (0, 0), (5, 0), (0, 3))
    assert answering.answer(own, [first, second], TEXT, True) == "five six"
    assert answering.answer(own[:1], [first], TEXT, True) == "one two"
    none = [scores(9, (1, 0), (0, 2), (0, 0)), scores(8.5, (0, 0), (5, 0), (0, 3))]
    assert answering.answer(own, none, TEXT, True) == ""
    assert answering.answer(own, none, TEXT, False) == "five six"
    assert (
        answering.answer(own, [none[0], scores(7.5, (0, 0), (5, 0), (0, 3))], TEXT, True)
        == "five six"
    )
    broken = scores(0, (np.nan, 0), (0, 2), (0, 0))
    assert answering.answer(own, [first, broken], TEXT, True) is None


def splits_of(options: str = "") -> Splits:
    name = f"synthetic/phrases?task=question-answering&train=120&test=60{options}"
    return datasets.load(datasets.resolve(name))


def adapted(splits: Splits, **params: Any) -> Any:
    ref = models.resolve("synthetic/bag")
    source = Features(models.load(ref, 0), View(str(ref)))
    before = state_digest(source.module)
    method = methods.build("linear-probe", params, task="question-answering")
    fitted = method.adapt(source, splits.sealed(), 0)
    assert state_digest(source.module) == before
    return fitted


def f1(said: Any, splits: Splits) -> float:
    outcomes = QuestionAnswering().judge(said, splits.test, (None, splits.valid))
    return float(outcomes.arrays["f1"].mean())


def test_it_learns_what_can_be_learned_and_nothing_else_and_never_reads_test() -> None:
    splits = splits_of()

    def sealed(i: int) -> Any:
        raise AssertionError("test was read while adapting")

    hidden = dataclasses.replace(splits, test=dataclasses.replace(splits.test, read=sealed))
    fitted = adapted(hidden)
    said = fitted.predict(splits.test)
    assert f1(said, splits) > 0.7
    assert said == adapted(splits).predict(splits.test)
    assert len(fitted.valid_scores) == len(splits.valid)
    assert fitted.flags == ()
    assert fitted.facts["relative_gap"] <= 1e-4
    assert fitted.chosen["layer"] == 1
    shuffled = splits_of("&shuffled=true")
    found = adapted(shuffled).predict(shuffled.test)
    usual = methods.build("majority", {}, task="question-answering")
    said = usual.adapt(None, shuffled.sealed(), 0).predict(shuffled.test)
    assert f1(found, shuffled) < f1(said, shuffled) + 0.1


def test_a_planted_slip_of_one_place_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = splits_of()
    sound = f1(adapted(splits).predict(splits.test), splits)
    exact = PairWindow.said

    def slipped(self: PairWindow, context: str, start: int, end: int) -> str:
        move = 1 if 0 < end < len(self.places) - 1 else 0
        return exact(self, context, start + move, end + move)

    monkeypatch.setattr(PairWindow, "said", slipped)
    assert f1(adapted(splits).predict(splits.test), splits) < sound - 0.3


def test_what_is_learned_from_is_bounded_by_characters_and_chosen_by_hash() -> None:
    train = splits_of().train
    lengths = [len(train.read(i).context) for i in range(len(train))]
    some = first_by_hash(train, sum(lengths) // 3)
    assert 0 < sum(len(some.read(i).context) for i in range(len(some))) <= sum(lengths) // 3
    assert len(some) > len(train) // 4
    turned = train.subset(np.arange(len(train))[::-1])
    assert set(first_by_hash(turned, sum(lengths) // 3).ids) == set(some.ids)
    assert first_by_hash(train, 10**9) is train
    assert len(first_by_hash(train, 1)) == 1


def test_blocks_of_questions_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = splits_of()
    fitted = adapted(splits, lambdas=5)
    whole = fitted.predict(splits.test)
    monkeypatch.setattr(answering, "BLOCK", 7)
    assert fitted.predict(splits.test) == whole


def test_answers_on_valid_are_read_when_they_are_asked_for() -> None:
    asked: list[int] = []

    def read() -> list[str | None]:
        asked.append(1)
        return ["a", None]

    later = answering.LaterAnswers(read)
    assert asked == []
    assert (len(later), list(later), later[0]) == (2, ["a", None], "a")
    assert asked == [1]


def test_parameters_that_cannot_be_are_refused() -> None:
    with pytest.raises(Exception, match="at least 1"):
        methods.build("linear-probe", {"characters": 0}, task="question-answering")
