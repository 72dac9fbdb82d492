"""Fine-tuning for speech: it learns what is spoken, leaves the backbone, and says what it chose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tinyears import TinyEars
from zoobench import datasets, methods
from zoobench.errors import NotFinite, UserError
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits
from zoobench.methods.ctc_probe import TOO_SHORT
from zoobench.models.weights import state_digest
from zoobench.tasks.speech_recognition import Transcripts, error_rates, transcripts_of

TASK = "speech-recognition"


def splits_of(options: str = "train=40&valid=12&test=12") -> Splits:
    return datasets.load(datasets.resolve(f"synthetic/phrases?task={TASK}&{options}"))


def adapted(splits: Splits, **params: Any) -> tuple[Any, Features]:
    source = Features(TinyEars(), View("tiny/ears"))
    quick = {"steps": 60, "batch_size": 8, "rates": [1e-2], **params}
    return methods.build("fine-tune", quick, task=TASK).adapt(source, splits.sealed(), 0), source


def test_it_learns_what_is_spoken_and_leaves_the_backbone_as_it_was() -> None:
    splits = splits_of()
    fitted, source = adapted(splits)
    fresh = TinyEars()
    assert state_digest(source.module) == state_digest(fresh.module)
    said = fitted.predict(splits.test)
    assert error_rates(said, transcripts_of(splits.test))[1] < 0.2
    assert fitted.chosen == {"rate": 1e-2}
    assert fitted.facts["steps"] == 60
    assert fitted.facts["valid_cer"] < 0.2
    assert fitted.facts["train_infeasible"] == 0
    assert len(fitted.valid_scores) == 12
    own = sum(p.numel() for p in fitted.network.parameters())
    assert fitted.facts["trainable_params"] == own
    batch = fitted.whole.collate([fitted.whole.prepare(splits.test.read(0))])
    assert fitted.whole.embed(batch).shape[:1] == (1,)


def test_a_frozen_encoder_trains_the_layer_alone_and_the_same_seed_says_the_same() -> None:
    splits = splits_of("train=16&valid=4&test=4")
    (one, _), (two, _) = (adapted(splits, freeze="encoder", steps=5) for _ in range(2))
    assert one.predict(splits.test) == two.predict(splits.test)
    assert state_digest(one.network.encoder) == state_digest(TinyEars().module)
    assert one.facts["trainable_params"] == one.network.decoder.weight.numel() + 10


def test_frames_of_train_are_counted_once_for_all_rates() -> None:
    splits = splits_of("train=16&valid=4&test=4")
    read: list[int] = []

    def counting(i: int) -> Any:
        read.append(i)
        return splits.train.read(i)

    train = replace(splits.train, read=counting)
    adapted(replace(splits, train=train), steps=1, batch_size=2, rates=[1e-3, 1e-2])
    assert len(read) == 16 + 2 * 2


def test_recordings_too_short_for_their_transcripts_are_left_out_and_said() -> None:
    splits = splits_of("train=16&valid=4&test=4")
    texts = ["ab" * 200, *transcripts_of(splits.train).texts[1:]]
    short = replace(splits, train=replace(splits.train, targets=Transcripts.of(texts)))
    fitted, _ = adapted(short, steps=1, batch_size=2, rates=[1e-3, 1e-2])
    assert fitted.facts["train_infeasible"] == 1
    assert fitted.flags == (TOO_SHORT, "rate-on-edge")


def test_a_loss_that_is_no_number_and_a_budget_that_cannot_be_are_said() -> None:
    with pytest.raises(NotFinite, match="every learning rate"):
        adapted(splits_of("train=9&valid=4&test=4"), rates=[1e30], steps=20)
    with pytest.raises(UserError, match="steps and batch_size"):
        methods.build("fine-tune", {"steps": 0}, "here", TASK)
    assert methods.method_class("from-scratch", task=TASK).random_weights  # type: ignore[attr-defined]
