"""One contract, checked for every row of the tables: a new row is tested by being there."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from cells import cell, settings
from zoobench import datasets, methods, models
from zoobench.audio import Clip
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits, TestSetRead
from zoobench.metrics import METRICS
from zoobench.models.weights import state_digest
from zoobench.tasks import TASKS
from zoobench.tasks.classification import labels_of
from zoobench.tasks.detection import boxes_of
from zoobench.tasks.question_answering import answers_of
from zoobench.tasks.segmentation import masks_of
from zoobench.tasks.token_classification import tags_of
from zoobench.workers.runner import Bench

QUICK: dict[str, dict[str, Any]] = {
    "fine-tune": {"steps": 60, "batch_size": 32, "rates": [0.01]},
    "from-scratch": {"steps": 60, "batch_size": 32, "rates": [0.01]},
    "lora": {"steps": 60, "batch_size": 32, "rates": [0.01]},
}
"""Smaller budgets for methods that train: they learn what there is to learn."""
BRIEF = {name: {**params, "steps": 8} for name, params in QUICK.items()}
"""Budgets for what holds after few steps as after many."""

KNOWS_NOTHING = ("chance", "majority")
MODALITIES = {
    "image": ("gabor", "stripes"), "text": ("bag", "phrases"), "audio": ("chirplet", "tones"),
}  # fmt: skip

CLASSIFIERS = sorted(
    name for name in methods.METHODS if "classification" in methods.method_class(name).tasks
)
every_method = pytest.mark.parametrize(  # what is fitted once is shared within a worker
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in CLASSIFIERS]
)
every_modality = pytest.mark.parametrize("modality", sorted(MODALITIES))


@cache
def splits_of(modality: str, options: str = "train=160&test=100") -> Splits:
    name = MODALITIES[modality][1]
    return datasets.load(datasets.resolve(f"synthetic/{name}?{options}"))


def source_of(modality: str, options: str = "") -> Features:
    ref = models.resolve(f"synthetic/{MODALITIES[modality][0]}{options}")
    return Features(models.load(ref, seed=0), View(str(ref)))


def adapted(name: str, modality: str, splits: Splits, seed: int = 0, budgets: Any = QUICK) -> Any:
    if name == "lora" and modality != "image":
        pytest.skip("it has no layer that lora adapts: see test_methods_lora.py")
    method = methods.build(name, budgets.get(name, {}))
    source = None if method.needs == "nothing" else source_of(modality)
    return method.adapt(source, splits.sealed(), seed)


@cache
def learned(name: str, modality: str) -> Any:
    """What the method makes of the usual splits."""
    return adapted(name, modality, splits_of(modality))


def accuracy(scores: torch.Tensor, labels: Any) -> float:
    return float(np.mean(scores.argmax(dim=1).numpy() == labels))


@every_method
@every_modality
def test_scores_are_log_probabilities(name: str, modality: str) -> None:
    splits, fitted = splits_of(modality), learned(name, modality)
    for scores, split in (
        (fitted.predict(splits.test), splits.test),
        (fitted.valid_scores, splits.valid),
    ):
        assert scores.shape == (len(split), len(splits.classes))
        assert scores.dtype == torch.float32
        assert scores.device.type == "cpu"
        assert bool(torch.isfinite(scores).all())
        torch.testing.assert_close(
            scores.exp().sum(dim=1), torch.ones(len(split)), rtol=0, atol=1e-3
        )
    assert all(isinstance(value, float) for value in fitted.facts.values())
    assert all(isinstance(flag, str) for flag in fitted.flags)


@every_method
def test_the_same_seed_gives_the_same_scores(name: str) -> None:
    splits = splits_of("image")
    first, second = (
        adapted(name, "image", splits, budgets=BRIEF).predict(splits.test) for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["fine-tune", "from-scratch", "lora", "chance"])
def test_another_seed_gives_others_where_a_method_draws(name: str) -> None:
    splits = splits_of("image")
    first, second = (
        adapted(name, "image", splits, seed, BRIEF).predict(splits.test) for seed in (0, 1)
    )
    assert not torch.equal(first, second)


@every_method
def test_the_backbone_is_left_as_it_was(name: str) -> None:
    method = methods.build(name, BRIEF.get(name, {}))
    if method.needs == "nothing":
        pytest.skip("it is given no backbone")
    source, splits = source_of("image"), splits_of("image", "train=60&test=20")
    before = state_digest(source.module)
    method.adapt(source, splits.sealed(), 0).predict(splits.test)
    assert state_digest(source.module) == before
    assert all(p.requires_grad for p in source.module.parameters())


@every_method
@every_modality
def test_better_than_chance_on_what_can_be_learned(name: str, modality: str) -> None:
    splits = splits_of(modality)
    found = accuracy(learned(name, modality).predict(splits.test), labels_of(splits.test))
    if name in KNOWS_NOTHING:
        assert found < 0.45
    elif name == "raw-input" and modality == "image":
        assert found < 0.6, "directions with a random phase are not linear in the pixels"
    else:
        assert found > 0.45


@every_method
def test_chance_on_shuffled_labels(name: str) -> None:
    splits = splits_of("image", "train=160&test=400&shuffled=true")
    found = accuracy(adapted(name, "image", splits).predict(splits.test), labels_of(splits.test))
    assert abs(found - 0.25) < 0.09, "0.09 is four standard deviations at 400 examples"


@every_method
def test_the_test_split_is_sealed_while_adapting(name: str) -> None:
    splits = splits_of("image", "train=60&test=20")
    read: list[int] = []
    test = splits.test

    def spy(i: int) -> Any:
        read.append(i)
        return test.read(i)

    splits = dataclasses.replace(splits, test=dataclasses.replace(test, read=spy))
    fitted = adapted(name, "image", splits, budgets=BRIEF)
    assert read == []
    fitted.predict(splits.test)
    assert name in KNOWS_NOTHING or sorted(set(read)) == list(range(20))


def test_reading_test_during_adaptation_raises() -> None:
    with pytest.raises(TestSetRead, match="after adaptation"):
        _ = splits_of("image").sealed().test


def test_pretrained_beats_random_where_there_is_something_to_know() -> None:
    splits = splits_of("image", "train=160&test=200")
    probe = methods.build("linear-probe", {})
    known, unknown = (
        accuracy(
            probe.adapt(source_of("image", options), splits.sealed(), 0).predict(splits.test),
            labels_of(splits.test),
        )
        for options in ("", "?weights=random")
    )
    assert known > unknown + 0.05


@every_method
def test_every_method_says_what_it_is(name: str) -> None:
    method = methods.build(name, {})
    assert isinstance(type(method).version, int)
    assert method.needs in ("features", "module", "nothing")
    assert (type(method).__doc__ or "").strip()
    assert methods.build(name, methods.params_of(method)) == method


@pytest.mark.parametrize("source", sorted(datasets.SOURCES))
def test_every_dataset_card_is_complete(source: str) -> None:
    for card in datasets.list_cards(f"{source}/*"):
        assert card.task in TASKS
        assert card.classes > 1 or card.task != "classification"
        assert card.license
        assert any(card.sizes)
        assert card.nature in ("real", "composite", "rendered")


PRESENT = (
    "packaged/digits",
    "packaged/mnist-5k",
    "packaged/word-polarity",
    "packaged/word-valence",
    "packaged/language-id",
    "synthetic/stripes",
    "synthetic/phrases",
    "synthetic/tones",
    "synthetic/phrases?task=regression",
    "synthetic/phrases?task=language-modelling",
    "synthetic/phrases?task=multiple-choice",
    "packaged/docstrings",
    "packaged/photo-mosaic",
    "synthetic/stripes?task=segmentation",
    "packaged/photo-patches",
    "packaged/photo-shapes",
    "synthetic/stripes?task=detection",
    "synthetic/stripes?task=retrieval",
    "synthetic/phrases?task=token-classification",
    "packaged/home-slots",
    "synthetic/phrases?task=question-answering",
    "synthetic/phrases?task=speech-recognition",
    "packaged/docstring-qa",
)


PARSED = pytest.mark.xdist_group("docstrings")  # whose source files a worker parses once


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=PARSED) if "docstring" in n else n for n in PRESENT]
)
def test_every_dataset_that_is_here_obeys_the_contract(name: str) -> None:
    ref = datasets.resolve(name)
    splits = datasets.load(ref)
    again = datasets.load(ref)
    assert splits.fingerprints == again.fingerprints
    card = datasets.card(ref)
    assert len(splits.classes) == card.classes
    ids = [set(s.ids) for s in (splits.train, splits.valid, splits.test)]
    assert not ids[0] & ids[1]
    assert not (ids[0] | ids[1]) & ids[2], "an example of test was seen in training"
    for split in (splits.train, splits.valid, splits.test):
        if card.task == "classification":
            assert set(np.unique(labels_of(split))) == set(range(card.classes)), "a class is absent"
        if card.task == "segmentation":
            assert (masks_of(split).counts.sum(axis=0) > 0).all(), "a class is absent"
            assert masks_of(split).read(0).shape == split.read(0).size[::-1]
        if card.task == "detection":
            assert (boxes_of(split).counts.sum(axis=0) > 0).all(), "a class is absent"
            assert (boxes_of(split).counts.sum(axis=1) == 0).any(), "no picture without objects"
            for i, one in enumerate(boxes_of(split).pictures):
                width, height = split.read(i).size
                assert one.size == (height, width)
                assert (one.boxes >= 0).all()
                assert (one.boxes[:, 2:] <= (width, height)).all()
                assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()
        raw = split.read(0)
        if card.task == "token-classification":
            rendered = card.nature == "rendered" and card.source == "packaged"
            assert (tags_of(split).counts.sum(axis=0) > 0).all() or rendered, "a type is absent"
            assert len(raw) == len(tags_of(split).row(0))
            assert all(isinstance(word, str) and word for word in raw)
            continue
        if card.task == "question-answering":
            assert answers_of(split).answerable.any()
            for i, gold in enumerate(answers_of(split).golds):
                for span in gold:
                    assert split.read(i).context[span.start : span.end] == span.text != ""
            continue
        if card.task == "multiple-choice":
            assert len(set(raw.options)) == len(raw.options) > 1
            continue
        if card.modality == "audio":
            assert isinstance(raw, Clip)
            continue
        assert isinstance(raw, str) if card.modality == "text" else raw.mode == "RGB"


def test_every_number_of_a_record_is_in_the_table() -> None:
    for name in CLASSIFIERS:
        own = cell(method=name, **QUICK.get(name, {}))
        record = Bench(settings()).run(own).record
        assert record.status == "ok", record.error
        unknown = {m.metric for m in record.measurements} - METRICS.keys()
        assert not unknown, name
        wrong = {
            m.metric: (m.unit, m.better)
            for m in record.measurements
            if (m.unit, m.better) != (METRICS[m.metric].unit, METRICS[m.metric].better)
        }
        assert not wrong, name
        primary = record.get("accuracy")
        assert primary is not None
        assert primary.low is not None and primary.high is not None  # noqa: PT018
        assert primary.low <= primary.value <= primary.high
