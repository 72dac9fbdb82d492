"""Where a GPU and its host wait for each other: in no step of a hot loop, but where it says so.

On a card that is imitated (imitated_card.py). Each loop is run for few steps and for more: what
waits once a training is there both times, so that the difference is what each step waits.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imitated_card import DEVICE, imitated
from zoobench import datasets, machine, methods, models
from zoobench.features import extraction
from zoobench.features.pairs import pairs_of
from zoobench.features.source import Features, View
from zoobench.interfaces import Split
from zoobench.methods.training import FiniteLosses
from zoobench.models import small
from zoobench.pretraining import PretrainingRecipe
from zoobench.pretraining.training import PretrainingRun
from zoobench.solvers import basis, logistic, softmax
from zoobench.solvers.grid import grid
from zoobench.solvers.knn import knn_log_probs
from zoobench.solvers.logistic import PathOptions, logistic_path
from zoobench.solvers.ridge import ridge_path

FEW, MORE = 2, 6
NETWORK = "timm/test_resnet?input_size=32&weights=random"

# Trainings: (model, data, method, parameters). Batches are of 4.
TRAININGS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "pictures": (NETWORK, "stripes", "fine-tune", {}),
    "texts": ("synthetic/bag", "phrases", "fine-tune", {}),
    "numbers": ("synthetic/gabor", "stripes?task=regression", "fine-tune", {}),
    "recordings": ("synthetic/chirplet", "tones", "fine-tune", {}),
    "masks": ("synthetic/gabor", "stripes?task=segmentation", "fine-tune", {"size": 64}),
    "boxes": ("synthetic/gabor", "stripes?task=detection", "linear-probe", {"size": 64}),
    "words": ("synthetic/bag", "phrases?task=token-classification", "fine-tune", {}),
    "answers": ("synthetic/bag", "phrases?task=question-answering", "fine-tune", {}),
    "speech": ("synthetic/chirplet", "phrases?task=speech-recognition", "fine-tune", {}),
    "frames": ("synthetic/chirplet", "phrases?task=speech-recognition", "linear-probe", {}),
}


def splits_of(name: str, train: int = 24) -> Any:
    joint = "&" if "?" in name else "?"
    return datasets.load(datasets.resolve(f"synthetic/{name}{joint}train={train}&valid=8&test=8"))


def source_of(model: str, device: str) -> Features:
    return Features(models.load(models.resolve(model), 0), View(model, device, batch_size=4))


def trained(name: str, device: str, steps: int) -> Any:
    model, data, method, more = TRAININGS[name]
    task = data.partition("task=")[2] or "classification"
    budget = {"steps": steps, "batch_size": 4, "rates": [1e-3], **more}
    recipe = methods.build(method, budget, task=task)
    return recipe.adapt(source_of(model, device), splits_of(data).sealed(), 0)


def each_step(monkeypatch: pytest.MonkeyPatch, run: Callable[[int], Any]) -> Counter[str]:
    """What `run(steps)` waits for in MORE - FEW steps, by the place in the package."""
    waits = []
    for steps in (FEW, MORE):
        with monkeypatch.context() as patched, imitated(patched) as card:
            run(steps)
            waits.append(card.waits)
            assert card.operations > 10
    return waits[1] - waits[0]


@pytest.mark.parametrize("name", TRAININGS)
def test_no_step_of_a_training_waits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not each_step(monkeypatch, lambda steps: trained(name, DEVICE.type, steps))


@pytest.mark.parametrize("name", ["pictures", "texts", "numbers"])
def test_the_card_computes_what_the_cpu_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the imitation would not show what it is asked."""
    expected = trained(name, "cpu", MORE).valid_scores
    with imitated(monkeypatch):
        found = trained(name, DEVICE.type, MORE).valid_scores
    assert torch.equal(found, expected)


def test_a_look_at_each_loss_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = FiniteLosses.lost
    monkeypatch.setattr(
        FiniteLosses, "lost", lambda self, loss: lost(self, loss) or bool(loss.isnan())
    )
    found = each_step(monkeypatch, lambda steps: trained("texts", DEVICE.type, steps))
    assert sum(found.values()) == MORE - FEW, found


# "copying to meta is a no-op", says torch of a state that is loaded: here it is none.
@pytest.mark.filterwarnings("ignore:for .*:UserWarning")
@pytest.mark.parametrize(
    ("objective", "known"),
    [
        *(("masked", ()), ("vae", ()), ("contrastive", ()), ("supervised", ())),
        *(("autoencoder", ()), ("denoising", ())),
        # How many bytes are hidden, and which words of a text are padding, tokens alone say.
        ("masked-lm", ("pretraining/masked_lm.py", "pretraining/training.py", "models/small.py")),
    ],
)
def test_no_step_of_pretraining_waits(
    objective: str, known: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PretrainingRun, "_ask", lambda self, steps: self.curve.append((0, 0)) or 1)
    text = objective == "masked-lm"

    def run(steps: int) -> None:
        recipe = PretrainingRecipe(
            objective, "small-bert" if text else "small-conv", steps, 4, (1e-3,)
        )
        backbone: Any = small.backbone(recipe.architecture, 0, {})
        backbone.module.to(DEVICE)
        source = Features(backbone, View("x", DEVICE.type, "fp32"))
        splits = splits_of("phrases" if text else "stripes").sealed()
        PretrainingRun(recipe, source, splits, 0, tmp_path / str(steps)).run()

    found = each_step(monkeypatch, run)
    assert not [place for place in found if not place.startswith(known or ("none",))], found
    assert sum(found.values()) <= 6 * (MORE - FEW), found


READERS: dict[str, tuple[str, str, Callable[[Features, Split], Any]]] = {
    "pictures": (NETWORK, "stripes", Features.features),
    "texts": ("synthetic/bag", "phrases", Features.features),
    "recordings": ("synthetic/chirplet", "tones", Features.features),
    "cells": (
        "synthetic/gabor", "stripes?task=segmentation",
        lambda source, split: source.cells(split, (64, 64)),
    ),
    "frames": ("synthetic/chirplet", "phrases?task=speech-recognition", Features.frames),
    "words": ("synthetic/bag", "phrases?task=token-classification", Features.words),
    "pairs": ("synthetic/bag", "phrases?task=question-answering", pairs_of),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_no_batch_of_an_extraction_waits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, read = READERS[name]

    def run(batches: int) -> None:
        read(source_of(model, DEVICE.type), splits_of(data, 4 * batches).train)

    assert not each_step(monkeypatch, run)


def test_features_are_read_when_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its event memory holds other numbers, as a GPU's might."""
    split = splits_of("stripes", 30).train
    expected = source_of(NETWORK, "cpu").features(split)
    with imitated(monkeypatch):
        found = source_of(NETWORK, DEVICE.type).features(split)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("name", "chunk"), [("texts", "CHUNK"), ("recordings", "DECODED")])
def test_the_next_examples_are_prepared_beside_what_is_computed(
    name: str, chunk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In other threads than the one that tells the card what to do, to the same features."""
    model, data, read = READERS[name]
    split = splits_of(data, 40).train
    monkeypatch.setattr(extraction, chunk, 8)
    expected = read(source_of(model, "cpu"), split)
    kind = type(source_of(model, "cpu").backbone)
    prepare, beside = kind.prepare, []

    def noted(self: Any, raw: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            beside.append(raw)
        return prepare(self, raw)

    with imitated(monkeypatch):
        source = source_of(model, DEVICE.type)
        monkeypatch.setattr(kind, "prepare", noted)
        found = read(source, split)
    assert torch.equal(found, expected)
    assert len(beside) == len(split)


def rows_of(n: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Train rows of four classes and their labels, and valid ones, on `device`."""
    drawn = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 16, generator=drawn)
    labels = torch.randint(0, 4, (2 * n,), generator=drawn)
    rows = torch.randn(len(labels), 16, generator=drawn) * 2 + centres[labels]
    return tuple(one.to(device) for one in (rows[:n], labels[:n], rows[n:], labels[n:]))


def test_an_evaluation_of_the_probe_reads_ten_numbers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its line search and its certificate are decided on the host."""
    options = PathOptions(lambdas=12, decades=6.0)
    train, labels, valid, truth = rows_of(600, torch.device("cpu"))
    expected = logistic_path(train, labels, valid, truth, 4, options)
    with imitated(monkeypatch) as card:
        train, labels, valid, truth = rows_of(600, DEVICE)
        path = logistic_path(train, labels, valid, truth, 4, options)
    used = sum(point.evaluations for point in path.points) + path.refit.evaluations
    assert sum(card.waits.values()) / used < 14
    assert path.points == expected.points


def test_rows_of_the_host_s_memory_are_sent_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe's answer is that of rows that lie on the card, and no more than a block of them,
    of features or of scores, is ever there."""
    options = PathOptions(lambdas=8, decades=4.0)
    n, block = 5000, 64 * 1024
    for home in (basis, softmax):
        monkeypatch.setattr(home, "WORKSPACE_BYTES", block)
    monkeypatch.setattr(basis, "CACHE_BYTES", block)
    train, labels, valid, truth = rows_of(n, torch.device("cpu"))
    expected = logistic_path(train, labels, valid, truth, 4, options)
    sizes = []
    sending = basis.near

    def near(rows: torch.Tensor, part: slice, device: torch.device) -> torch.Tensor:
        found = sending(rows, part, device)
        sizes.append(found.nbytes)
        return found

    for home in (basis, softmax, logistic):
        monkeypatch.setattr(home, "near", near)
    with imitated(monkeypatch):
        path = logistic_path(train, labels.to(DEVICE), valid, truth.to(DEVICE), 4, options)
        scores = path.refit.head.scores(train)
        assert scores.device == DEVICE
        for point, other in zip(path.points, expected.points, strict=True):
            assert point.valid_loss == pytest.approx(other.valid_loss, rel=1e-12)
            at = replace(other, valid_nll=point.valid_nll, valid_loss=point.valid_loss)
            assert point == at
        assert torch.equal(scores.cpu(), expected.refit.head.scores(train))
        assert torch.equal(path.refit.head.said(train).cpu(), scores.cpu().argmax(dim=1))
    assert max(sizes) <= block
    assert len(sizes) > 100


@pytest.mark.parametrize("free", [2**30, 10_000])
def test_where_rows_lie_follows_from_free_memory(
    free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of 10,000 bytes does not hold them."""
    expected = probed("cpu")
    with imitated(monkeypatch) as card:
        monkeypatch.setattr(machine, "free_bytes", lambda device: free)
        rows = machine.placed([torch.zeros(40, 16)], DEVICE, 4)[0]
        assert (rows.device == DEVICE) == (free > 10_000)
        found = probed("meta")
        assert card.operations > 100
    assert torch.equal(found, expected)


def probed(device: str) -> torch.Tensor:
    splits = splits_of("stripes", train=60)
    adapted = methods.build("linear-probe", {"lambdas": 6}).adapt(
        source_of("synthetic/gabor", device), splits.sealed(), 0
    )
    said: torch.Tensor = adapted.predict(splits.test)
    return said


def test_the_quick_probes_read_nothing_back_for_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    for n in (300, 1200):
        with monkeypatch.context() as patched, imitated(patched) as card:
            train, labels, valid, _ = rows_of(n, DEVICE)
            card.waits.clear()
            knn_log_probs(train, labels, valid, 4, (10, 20))
            assert not card.waits
            ridge_path(train, train[:, :3].double(), grid(10, 4.0))
            waits.append(sum(card.waits.values()))
    assert waits[0] == waits[1] < 10
