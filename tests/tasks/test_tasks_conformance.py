"""One contract for every row of TASKS, and for every method that serves a task beside classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from zoobench import datasets, methods, models, tasks
from zoobench.errors import NotFinite, UnknownName
from zoobench.features.source import Features, View
from zoobench.interfaces import Split, Splits, TestSetRead
from zoobench.metrics import METRICS
from zoobench.models.weights import state_digest
from zoobench.schema import Outcomes
from zoobench.tasks.classification import Labels
from zoobench.tasks.detection import Annotation, Boxes, Detections, boxes_of
from zoobench.tasks.evaluate import evaluate
from zoobench.tasks.language_modelling import Documents
from zoobench.tasks.multiple_choice import RightOptions
from zoobench.tasks.question_answering import Answers, AnswerSpan, answers_of
from zoobench.tasks.regression import Numbers, numbers_of
from zoobench.tasks.retrieval import Captions, Embedded
from zoobench.tasks.segmentation import IGNORED, Masks, masks_of
from zoobench.tasks.speech_recognition import Transcripts
from zoobench.tasks.token_classification import Tags, tags_of

N = 60


def splits_of(task: str, options: str = "") -> Splits:
    of = "stripes" if task in ("segmentation", "detection", "retrieval") else "phrases"
    name = f"synthetic/{of}?test={N}&task={task}{options}"
    return datasets.load(datasets.resolve(name))


def outputs_of(splits: Splits, split: Split, seed: int = 0) -> Any:
    """What a middling model might say."""
    rng = np.random.default_rng([seed, len(split)])
    if splits.task == "detection":
        return [
            Detections.of(one.boxes + rng.normal(0, 3, one.boxes.shape).clip(-4, 4),
                          rng.random(len(one.labels)), one.labels)
            for one in boxes_of(split).pictures
        ]  # fmt: skip
    if splits.task == "regression":
        return numbers_of(split) + rng.normal(0, 1, len(split))
    if isinstance(split.targets, Documents):
        return split.targets.values * rng.uniform(0.5, 1.5, len(split))
    if isinstance(split.targets, RightOptions):
        scores = [rng.normal(size=n) for n in split.targets.options]
        for one, right in zip(scores, split.targets.right, strict=True):
            one[right] += 1
        return scores
    if splits.task == "segmentation":
        masks = np.stack([masks_of(split).read(i) for i in range(len(split))])
        wrong = rng.random(masks.shape) < rng.random((len(split), 1, 1))
        drawn = rng.integers(0, len(splits.classes), masks.shape)
        return np.where(wrong | (masks == IGNORED), drawn, masks).astype(np.float64)
    if splits.task == "token-classification":
        rows = [tags_of(split).row(i) for i in range(len(split))]
        classes = len(splits.classes)
        return [
            np.where(rng.random(len(row)) < 0.3, rng.integers(0, classes, len(row)), row)
            for row in rows
        ]
    if isinstance(split.targets, Captions):
        pictures = rng.normal(size=(len(split), 8))
        near = pictures[split.targets.owner] + rng.normal(0, 0.7, (len(split.targets.texts), 8))
        return Embedded(pictures.astype(np.float32), near.astype(np.float32))
    if isinstance(split.targets, Transcripts):
        return [
            " ".join(rng.choice([word, "hmm", "", f"{word} again"]) for word in text.split())
            for text in split.targets.texts
        ]
    if splits.task == "question-answering":
        golds = answers_of(split).golds
        return [
            (gold[0].text if gold else "") if rng.random() < 0.5 else split.read(i).context[:20]
            for i, gold in enumerate(golds)
        ]
    logits = rng.normal(size=(len(split), len(splits.classes)))
    logits[np.arange(len(split)), split.targets.strata] += 1
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def judged(task: str, seed: int = 0) -> tuple[Splits, Outcomes]:
    splits = splits_of(task)
    calibration = (outputs_of(splits, splits.valid, seed), splits.valid)
    said = outputs_of(splits, splits.test, seed)
    return splits, tasks.task(task).judge(said, splits.test, calibration)


def repeated(outcomes: Outcomes, counts: NDArray[np.intp]) -> Outcomes:
    """The outcomes of a test set in which unit i stands counts[i] times."""
    units, owner = np.repeat(np.arange(outcomes.n), counts), outcomes.arrays.get("owner")
    if owner is None:
        return Outcomes(len(units), {name: a[units] for name, a in outcomes.arrays.items()})
    rows = [np.flatnonzero(owner == i) for i in units]
    at = np.concatenate(rows)
    arrays = {k: a[at if len(a) == len(owner) else units] for k, a in outcomes.arrays.items()}
    arrays["owner"] = np.repeat(np.arange(len(units)), [len(r) for r in rows])
    return Outcomes(len(units), arrays)


every_task = pytest.mark.parametrize("task", sorted(tasks.TASKS))


@every_task
def test_a_task_names_rows_of_the_table_and_arrays_that_it_keeps(task: str) -> None:
    asked, (_, outcomes) = tasks.task(task), judged(task)
    assert all(METRICS[name].section == "quality" for name in asked.metrics)
    assert METRICS[asked.metrics[0]].better != "none"
    assert set(asked.truth) <= outcomes.arrays.keys()
    rows = len(outcomes.arrays.get("owner", range(N)))
    assert outcomes.n == N
    assert all(len(array) in (N, rows) for array in outcomes.arrays.values())


@every_task
def test_weights_are_what_really_repeated_units_give(task: str) -> None:
    splits, outcomes = judged(task)
    asked = tasks.task(task)
    names = list(asked.reported(outcomes, splits))
    statistics = asked.statistics(outcomes)
    rng = np.random.default_rng(1)
    counts = rng.multinomial(N, np.full(N, 1 / N), size=20)
    weighted = statistics(counts.astype(np.float64), names)
    for name in names:
        plain = [
            asked.statistics(whole := repeated(outcomes, row))(np.ones((1, whole.n)), [name])[name]
            for row in counts
        ]
        assert weighted[name] == pytest.approx(np.concatenate(plain), abs=1e-9), name


@every_task
def test_a_metric_that_is_a_mean_is_the_mean_of_its_units(task: str) -> None:
    splits, outcomes = judged(task)
    statistics = tasks.task(task).statistics(outcomes)
    names = list(tasks.task(task).reported(outcomes, splits))
    whole = statistics(np.ones((1, N)), names)
    means = {name: statistics.mean_of(name) for name in names}
    assert any(values is not None for values in means.values()) or task == "detection"
    for name, values in means.items():
        if values is not None:
            assert values.mean() == pytest.approx(whole[name][0], abs=1e-12), name


@every_task
def test_every_reported_metric_lies_in_its_interval(task: str) -> None:
    splits, outcomes = judged(task)
    measured = evaluate(tasks.task(task), outcomes.of(splits.test.units), splits)
    assert {m.metric for m in measured} <= set(tasks.task(task).metrics)
    for m in measured:
        assert m.low is not None
        assert m.high is not None
        assert m.low <= m.value <= m.high
        assert m.n == N
        assert (m.unit, m.better) == (METRICS[m.metric].unit, METRICS[m.metric].better)


@every_task
def test_outputs_that_cannot_be_judged_are_refused(task: str) -> None:
    splits, asked = splits_of(task), tasks.task(task)
    said, calibration = outputs_of(splits, splits.test), outputs_of(splits, splits.valid)
    with pytest.raises(ValueError, match="must be"):
        asked.judge(said[:-1], splits.test, (calibration, splits.valid))
    if task == "retrieval":
        said.pictures[3] = np.nan
        with pytest.raises(NotFinite, match="1 of 60 pictures"):
            asked.judge(said, splits.test, (calibration, splits.valid))
        return
    broken = said.copy()
    broken[3] = Detections.of([[0, 0, 9, 9]], [np.nan], [0]) if task == "detection" else np.nan
    with pytest.raises(NotFinite, match="1 of 60 test examples"):
        asked.judge(broken, splits.test, (calibration, splits.valid))
    other = splits_of("regression" if task == "classification" else "classification")
    with pytest.raises(TypeError, match="test has"):
        asked.judge(said, other.test, (calibration, splits.valid))


def some_masks(i: int) -> NDArray[np.uint8]:
    return np.full((2, 3), i % 5, dtype=np.uint8)


@pytest.mark.parametrize(
    "targets",
    [
        Labels(np.arange(40) % 3),
        Numbers(np.linspace(-1, 1, 40) ** 3),
        Masks.of(some_masks, 40, 5),
        Documents.of(["word " * 4**i for i in range(4)] * 10),
        RightOptions.of([i % 3 for i in range(40)], [3 + i % 2 for i in range(40)]),
        Boxes(tuple(Annotation.of((9, 9), [[0, 0, i % 5, 9]], [i % 5]) for i in range(40)), 5),
        Tags.of(
            [["O", ("O", "B-a", "B-b")[i % 3], "O"][i % 2 :] for i in range(40)],
            ("O", "B-a", "B-b"),
        ),
        Transcripts.of(["word " * (i % 8) for i in range(40)]),
        Answers(tuple((AnswerSpan("one more " * (i % 5), i),) if i % 5 else () for i in range(40))),
    ],
    ids=type,
)
def test_targets_keep_their_laws(targets: Any) -> None:
    rows = np.array([5, 0, 5, 39])
    assert len(targets) == len(targets.strata) == len(targets.keys()) == 40
    some = targets.subset(rows)
    assert list(some.keys()) == [targets.keys()[i] for i in rows]
    assert targets.content() == targets.subset(np.arange(40)).content() != some.content()
    assert targets.strata.dtype == np.int64
    assert 1 < len(np.unique(targets.strata)) <= 10


def test_an_unknown_task_says_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'regression'"):
        tasks.task("regresion", "here")


QUICK: dict[str, dict[str, Any]] = {
    name: {"steps": 60, "batch_size": 32, "rates": [0.03]} for name in ("fine-tune", "from-scratch")
}
every_regressor = pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name in methods.METHODS
        # The bag of words has no layer that lora adapts: see test_methods_lora.py.
        if "regression" in methods.method_class(name).tasks and name != "lora"
    ),
)


def adapted(name: str, splits: Splits, weights: str = "") -> Any:
    method = methods.build(name, QUICK.get(name, {}))
    ref = models.resolve(f"synthetic/bag{weights}")
    source = None if method.needs == "nothing" else Features(models.load(ref, 0), View(str(ref)))
    before = None if source is None else state_digest(source.module)
    fitted = method.adapt(source, splits.sealed(), 0)
    assert source is None or state_digest(source.module) == before
    return fitted


def mae(said: torch.Tensor, split: Split) -> float:
    return float(np.abs(said.numpy() - numbers_of(split)).mean())


@every_regressor
def test_regressors_say_numbers_the_same_again_and_never_read_test(name: str) -> None:
    splits = splits_of("regression")

    def sealed(i: int) -> Any:
        raise AssertionError("test was read while adapting")

    hidden = dataclasses.replace(splits, test=dataclasses.replace(splits.test, read=sealed))
    fitted = adapted(name, hidden)
    for said, split in (
        (fitted.valid_scores, splits.valid),
        (fitted.predict(splits.test), splits.test),
    ):
        assert said.shape == (len(split),)
        assert said.dtype == torch.float64
        assert bool(torch.isfinite(said).all())
    assert torch.equal(adapted(name, splits).predict(splits.test), fitted.predict(splits.test))
    with pytest.raises(TestSetRead):
        _ = splits.sealed().test


@every_regressor
def test_regressors_learn_what_can_be_learned_and_nothing_of_shuffled_numbers(name: str) -> None:
    splits, shuffled = splits_of("regression"), splits_of("regression", "&shuffled=true")
    at_random = mae(adapted("mean", splits).predict(splits.test), splits.test)
    learned = mae(adapted(name, splits).predict(splits.test), splits.test)
    assert learned == pytest.approx(at_random) if name == "mean" else learned < 0.8 * at_random
    nothing = mae(adapted(name, shuffled).predict(shuffled.test), shuffled.test)
    assert nothing > 0.9 * at_random


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1e6, 0.0), (0.1, 2000.0)])
@pytest.mark.parametrize("name", ["ridge", "fine-tune"])
def test_a_regressor_does_not_care_for_the_targets_unit(
    name: str, scale: float, offset: float
) -> None:
    splits = splits_of("regression")

    def moved(split: Split) -> Split:
        return dataclasses.replace(split, targets=Numbers(numbers_of(split) * scale + offset))

    other = dataclasses.replace(
        splits, train=moved(splits.train), valid=moved(splits.valid), test=moved(splits.test)
    )
    plain = adapted(name, splits).predict(splits.test).numpy() * scale + offset
    assert adapted(name, other).predict(other.test).numpy() == pytest.approx(plain, rel=1e-3)
