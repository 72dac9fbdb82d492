"""Controls of language modelling and multiple choice, against counts made by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from zoobench import datasets, methods, tasks
from zoobench.errors import UserError
from zoobench.interfaces import Splits
from zoobench.methods.language_controls import ByteModel

DOCUMENTS = [b"abracadabra", b"abba", bytes(range(20)), b"hello hello hell", b"\0\0\0"]


def counted(order: int, before: bytes, byte: int) -> float:
    """p(byte | the order - 1 bytes before it), from the definition."""
    if order == 0:
        return 1 / 256
    head = before[len(before) - (order - 1) :]
    padded = [bytes(7) + document for document in DOCUMENTS]
    after = Counter(
        one[i] for one in padded for i in range(7, len(one)) if one[i - order + 1 : i] == head
    )
    lower = counted(order - 1, before, byte)
    if not after:
        return lower
    return (after[byte] + len(after) * lower) / (after.total() + len(after))


@pytest.mark.parametrize("order", [1, 2, 5, 8])
def test_a_byte_model_is_its_definition(order: int) -> None:
    model = ByteModel(DOCUMENTS, order)
    for document in (b"abrac", b"never seen", b"\0\0ab\xff", b"a", b""):
        padded = bytes(7) + document
        wanted = [
            [counted(k, padded[i : i + 7], document[i]) for i in range(len(document))]
            for k in range(1, order + 1)
        ]
        np.testing.assert_allclose(model.probabilities(document), wanted, rtol=1e-12)


@pytest.mark.parametrize("before", [b"", b"abr", b"unseen", b"hell"])
def test_the_probabilities_of_all_bytes_sum_to_1(before: bytes) -> None:
    model = ByteModel(DOCUMENTS, 5)
    last = [model.probabilities(before + bytes([byte]))[:, -1] for byte in range(256)]
    np.testing.assert_allclose(np.sum(last, axis=0), 1, rtol=1e-12)


def splits_of(task: str, options: str = "") -> Splits:
    return datasets.load(datasets.resolve(f"synthetic/phrases?task={task}{options}"))


def scored(task: str, name: str, splits: Splits) -> float:
    control = methods.build(name, {}, task=task).adapt(None, splits.sealed(), 0)
    judge = tasks.task(task)
    said, valid = control.predict(splits.test), (control.valid_scores, splits.valid)
    statistics = judge.statistics(judge.judge(said, splits.test, valid))
    return float(statistics(np.ones((1, len(splits.test))), judge.metrics[:1])[judge.metrics[0]][0])


def test_ngrams_know_an_order_of_words_that_frequencies_do_not() -> None:
    splits = splits_of("language-modelling")
    frequencies, ngrams = (scored(splits.task, name, splits) for name in ("majority", "raw-input"))
    assert ngrams < 0.2 * frequencies
    noise = splits_of("language-modelling", "&shuffled=true")
    assert scored(noise.task, "raw-input", noise) == pytest.approx(
        scored(noise.task, "majority", noise), abs=0.01
    ), "of letters drawn alone the order that is chosen on valid is 1"


def test_controls_of_multiple_choice_are_what_they_say() -> None:
    splits = splits_of("multiple-choice")
    known = {name: scored(splits.task, name, splits) for name in ("chance", "majority")}
    assert known == pytest.approx({"chance": 0.25, "majority": 0.25})
    assert scored(splits.task, "raw-input", splits) > 0.6, "the options repeat words"
    shuffled = splits_of("multiple-choice", "&shuffled=true")
    assert abs(scored(shuffled.task, "raw-input", shuffled) - 0.25) < 0.15


@pytest.mark.parametrize("order", [0, 9])
def test_an_order_that_cannot_be_is_refused(order: int) -> None:
    with pytest.raises(UserError, match="the order must be 1 to 8"):
        methods.build("raw-input", {"order": order}, task="language-modelling")
