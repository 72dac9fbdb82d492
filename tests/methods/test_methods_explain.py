"""Explanations find evidence that was planted, and say so where they find nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from cells import cell, settings
from probes import split_of
from zoobench.interfaces import Splits
from zoobench.methods import explain
from zoobench.methods.head import AffineHead
from zoobench.solvers.explanation import blurred, occlusion
from zoobench.workers.runner import Bench

SIDE, C = 64, 2
NONE_AND_ASKED: tuple[dict[str, Any], ...] = ({}, {"explain": True})


def picture(i: int) -> torch.Tensor:
    """Noise, and in the corner stripes as strong, down or across: the class."""
    rng = torch.Generator().manual_seed(i)
    made = 1.4 * torch.randn(1, SIDE, SIDE, generator=rng)
    wave = torch.sin(torch.arange(16) * 1.5)
    made[0, :16, :16] = 2 * (wave[None, :] if i % C else wave[:, None]).expand(16, 16)
    return made


@dataclass
class Corner:
    """Sees the corner alone, by templates that are its weights; or nothing at all."""

    blind: bool = False
    module: torch.nn.Linear = field(default_factory=lambda: torch.nn.Linear(SIDE * SIDE, C))
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        wave = torch.sin(torch.arange(16) * 1.5)
        weight = torch.zeros(C, SIDE, SIDE)
        if not self.blind:
            weight[0, :16, :16] = 0.05 * wave[:, None]
            weight[1, :16, :16] = 0.05 * wave[None, :]
        with torch.no_grad():
            self.module.weight.copy_(weight.flatten(1))
            self.module.bias.zero_()

    def copy(self) -> Corner:
        return Corner(self.blind)

    def prepare(self, raw: Any) -> torch.Tensor:
        return picture(raw)

    def collate(self, prepared: Any) -> torch.Tensor:
        return torch.stack(prepared)

    def embed(self, batch: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.module(batch.flatten(1))
        return found


@dataclass
class Probe:
    """An Adapted with a head that leaves the features as they are."""

    def head(self) -> AffineHead:
        return AffineHead(torch.eye(C, dtype=torch.float64), torch.zeros(C, dtype=torch.float64))


def of_class(scores: explain.Scores, said: int) -> explain.Scores:
    return lambda some: scores(some)[:, said]


def splits() -> Splits:
    parts = [split_of(name, np.arange(20) % C) for name in ("train", "valid", "test")]
    return Splits(parts[0], parts[1], parts[2], ("down", "across"), "image")


def found(blind: bool = False) -> dict[str, Any]:
    return {m.metric: m for m in explain.explained(Probe(), Corner(blind), splits())}


def test_evidence_in_a_corner_is_found_there() -> None:
    body = Corner()
    scores = explain.scores_of(body, Probe().head())
    others = [explain.scores_of(explain.shuffled(body, s), Probe().head()) for s in range(10)]
    first, elsewhere = 0, 0
    for i in range(10):
        own, said = picture(i), i % C
        assert int(scores(own[None])[0].argmax()) == said
        importance = occlusion(own, blurred(own), of_class(scores, said))
        first += int(importance.argmax()) == 0
        for other in others:
            importance = occlusion(own, blurred(own), of_class(other, said))
            elsewhere += int(importance.argmax()) != 0
    assert first == 10
    assert elsewhere > 75, "of 100: shuffled weights do not point there"


def test_an_attribution_that_is_right_beats_every_control() -> None:
    numbers = found()
    gain = numbers["explanation_gain"]
    assert numbers["insertion_auc"].value > numbers["deletion_auc"].value
    apart = numbers["insertion_auc"].value - numbers["deletion_auc"].value
    assert gain.value == pytest.approx(apart)
    assert gain.n == explain.PICTURES
    assert gain.low < gain.value < gain.high
    assert explain.NOT_BETTER not in gain.detail
    assert all(low > 0 for _, low, _ in gain.detail["over"].values())


def test_a_model_that_sees_nothing_is_said_to_explain_nothing() -> None:
    gain = found(blind=True)["explanation_gain"]
    assert gain.value == 0
    assert gain.detail[explain.NOT_BETTER] == list(explain.CONTROLS)


def test_a_cell_that_asks_is_explained_and_keeps_its_scores() -> None:
    bench = Bench(settings())
    plain, asked = (
        bench.run(cell(method="linear-probe", **options)).record for options in NONE_AND_ASKED
    )
    assert asked.status == "ok", asked.error
    assert asked.value("accuracy") == plain.value("accuracy")
    gain = asked.get("explanation_gain")
    assert gain is not None
    flagged = "explanation-no-better-than-control" in asked.flags
    assert flagged == (explain.NOT_BETTER in gain.detail)
    tuned: dict[str, Any] = {"steps": 2, "batch_size": 8, "rates": [1e-3], "explain": True}
    record = bench.run(cell(method="fine-tune", **tuned)).record
    assert record.status == "ok", record.error
    assert record.get("insertion_auc") is not None
    phrases = "synthetic/phrases@1?test=20&train=40"
    told = bench.run(cell("synthetic/bag@1", phrases, "linear-probe", explain=True)).record
    assert told.status == "ok", told.error
    assert told.get("insertion_auc") is None
