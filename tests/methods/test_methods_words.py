"""Probes and controls of token classification: what they learn, and that nothing else is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from zoobench import datasets, methods, models
from zoobench.features.source import Features, View
from zoobench.interfaces import Split, Splits, TestSetRead
from zoobench.methods.word_controls import FormFeatures, counted, shape
from zoobench.methods.word_probe import some_sentences
from zoobench.models.weights import state_digest
from zoobench.tasks.token_classification import Tags, entity_f1, tags_of

TASK = "token-classification"
FROZEN = ("majority", "raw-input", "linear-probe")
QUICK: dict[str, dict[str, Any]] = {}


def splits_of(options: str = "") -> Splits:
    return datasets.load(datasets.resolve(f"synthetic/phrases?task={TASK}{options}"))


def source_of(options: str = "") -> Features:
    ref = models.resolve(f"synthetic/bag{options}")
    return Features(models.load(ref, 0), View(str(ref)))


def adapted(name: str, splits: Splits, **params: Any) -> Any:
    method = methods.build(name, {**QUICK.get(name, {}), **params}, task=TASK)
    source = None if method.needs == "nothing" else source_of()
    before = None if source is None else state_digest(source.module)
    fitted = method.adapt(source, splits.sealed(), 0)
    assert source is None or state_digest(source.module) == before
    return fitted


def f1_of(fitted: Any, split: Split) -> float:
    return entity_f1(fitted.predict(split), tags_of(split))


every = pytest.mark.parametrize("name", [*FROZEN, *QUICK])


@every
def test_every_word_has_a_tag_the_same_again_and_test_is_not_read(name: str) -> None:
    splits = splits_of()

    def sealed(i: int) -> Any:
        raise AssertionError("test was read while adapting")

    hidden = dataclasses.replace(splits, test=dataclasses.replace(splits.test, read=sealed))
    fitted = adapted(name, hidden)
    said = fitted.predict(splits.test)
    assert [len(row) for row in said] == tags_of(splits.test).words.tolist()
    assert all(np.issubdtype(row.dtype, np.integer) for row in said)
    assert [len(row) for row in fitted.valid_scores] == tags_of(splits.valid).words.tolist()
    again = adapted(name, splits).predict(splits.test)
    assert all(np.array_equal(one, other) for one, other in zip(said, again, strict=True))
    with pytest.raises(TestSetRead):
        _ = splits.sealed().test


@every
def test_what_can_be_learned_is_and_nothing_of_shuffled_tags(name: str) -> None:
    splits, shuffled = splits_of(), splits_of("&shuffled=true")
    learned = f1_of(adapted(name, splits), splits.test)
    assert learned == 0 if name == "majority" else learned > 0.8
    assert f1_of(adapted(name, shuffled), shuffled.test) < 0.2


def test_the_usual_tag_is_said_of_plain_tags() -> None:
    splits = splits_of()
    tags = tags_of(splits.train)
    names = tuple(name.replace("-", "") for name in tags.names)
    plain = dataclasses.replace(splits.train, targets=Tags(tags.values, tags.starts, names))
    fitted = adapted("majority", dataclasses.replace(splits, train=plain))
    assert {int(tag) for row in fitted.predict(splits.test) for tag in row} == {0}


def test_the_control_knows_words_and_no_neighbours() -> None:
    splits = splits_of()
    said = adapted("raw-input", splits).predict(splits.test)
    tag_of: dict[str, int] = {}
    for i, row in enumerate(said):
        for word, tag in zip(splits.test.read(i), row.tolist(), strict=True):
            assert tag_of.setdefault(word, tag) == tag


def test_forms_have_words_affixes_and_a_shape() -> None:
    features = FormFeatures.of({"Oslo": 3, "oslo": 1, "Paris": 2})
    rows = features(["Oslo", "oslo", "Lima", "2005", ""])
    assert rows.shape == (5, len(features.columns) + len(shape("a")))
    assert (rows[0] != rows[1]).sum() == 1  # the capital alone
    assert not rows[2, : len(features.columns)].any()
    assert shape("2005") != shape("x005") != shape("X005")


def test_a_form_counts_as_often_as_it_stands() -> None:
    splits = splits_of()
    found: Mapping[str, Any] = counted(splits.train, len(splits.classes))
    total = sum(found.values())
    assert total.tolist() == np.bincount(tags_of(splits.train).values, minlength=9).tolist()


def test_a_layer_is_chosen_on_some_sentences_by_their_ids() -> None:
    train = splits_of().train
    some = some_sentences(train, 200)
    assert len(some) == 25
    other = train.subset(np.arange(len(train))[::-1])
    assert {train.ids[i] for i in some} == {other.ids[i] for i in some_sentences(other, 200)}
    assert len(some_sentences(train)) == len(train)
    assert len(some_sentences(train, 1)) == 1


def test_the_probe_chooses_the_layer_that_knows_most() -> None:
    splits = splits_of()
    source = source_of()
    words = source.words

    class Blurred:
        """Three layers, of which the second alone is the network's."""

        device = source.device

        def words(self, split: Split) -> Any:
            held = words(split)
            noise = np.random.default_rng(0).normal(size=held.values.shape).astype(np.float16)
            values = np.concatenate([noise, held.values, 0.1 * held.values + noise], axis=1)
            return dataclasses.replace(held, values=values, layers=(1, 2, 3))

    method = methods.build("linear-probe", {}, task=TASK)
    fitted = method.adapt(Blurred(), splits.sealed(), 0)
    assert fitted.chosen["layer"] == 2
    assert f1_of(fitted, splits.test) == f1_of(adapted("linear-probe", splits), splits.test)
    assert fitted.facts["train_words"] == 1280
    assert fitted.facts["valid_entity_f1"] > 0.8
