"""Recognisers judged untouched: windows, what is too long, and that nothing else is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tinyears import TinyEars
from zoobench import datasets, methods
from zoobench.audio import Clip
from zoobench.errors import BadData, Unsupported, UserError
from zoobench.features.source import Features, View
from zoobench.interfaces import Split
from zoobench.methods.speech_as_is import SPEED, windows
from zoobench.models.complete import CompleteModel
from zoobench.tasks.speech_recognition import Transcripts

TASK = "speech-recognition"


@dataclass
class Timekeeper(CompleteModel, TinyEars):
    """Says how many seconds it was given."""

    task: str = TASK
    heard: list[float] = field(default_factory=list)

    def answer(self, raw: Clip) -> str:
        self.heard.append(raw.seconds)
        return f"{raw.seconds:.1f} s"


def of(*seconds: float, rate: int = 100) -> Split:
    clips = [Clip(np.ones(round(one * rate), np.float32), rate) for one in seconds]
    ids = tuple(map(str, range(len(clips))))
    return Split("test", ids, Transcripts.of(["x"] * len(clips)), clips.__getitem__)


def adapted(model: Any, **params: Any) -> Any:
    splits = datasets.load(datasets.resolve(f"synthetic/phrases?task={TASK}&valid=3"))
    method = methods.build("as-is", params, task=TASK)
    return method.adapt(Features(model, View("tiny")), splits.sealed(), 0)


def test_each_recording_is_heard_once_and_valid_only_when_asked_for() -> None:
    model = Timekeeper()
    fitted = adapted(model)
    assert model.heard == []
    assert fitted.predict(of(1, 30, 2.5)) == ["1.0 s", "30.0 s", "2.5 s"]
    assert model.heard == [1, 30, 2.5]
    assert fitted.facts["trainable_params"] == 0
    assert 0 < fitted.facts[SPEED] < 1
    assert len(list(fitted.valid_scores)) == 3


def test_what_is_too_long_is_refused_with_how_many_and_the_longest() -> None:
    with pytest.raises(BadData, match=r"2 of 4 .* longer than 30 s, the longest 70\.5 s.*= 71"):
        adapted(Timekeeper()).predict(of(1, 31, 70.5, 30))
    with pytest.raises(BadData, match=r"1 of 2 .* longer than 60 s"):
        adapted(Timekeeper(), longest=60).predict(of(1, 61))


def test_a_longer_one_that_is_declared_is_cut_and_joined_by_blanks() -> None:
    fitted = adapted(Timekeeper(), longest=71)
    assert fitted.predict(of(70.5, 60, 2)) == ["30.0 s 30.0 s 10.5 s", "30.0 s 30.0 s", "2.0 s"]
    whole = Clip(np.arange(7050, dtype=np.float32), 100)
    np.testing.assert_array_equal(
        np.concatenate([one.samples for one in windows(whole)]), whole.samples
    )


def test_a_backbone_or_another_bound_is_refused() -> None:
    with pytest.raises(Unsupported, match="no complete model for speech-recognition"):
        adapted(TinyEars())
    with pytest.raises(UserError, match="longest must be at least 30 seconds"):
        methods.build("as-is", {"longest": 12}, "here", TASK)
