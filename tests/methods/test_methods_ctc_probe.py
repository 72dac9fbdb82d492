"""Speech by frozen frames: the probe, its layer, its features kept, and the controls beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinyears import Ears, TinyEars
from zoobench import datasets, methods
from zoobench.errors import BadData, NotFinite, Unsupported
from zoobench.features import frames
from zoobench.features.cache import FeatureCache
from zoobench.features.source import Features, View
from zoobench.interfaces import Split, Splits
from zoobench.methods.characters import Alphabet
from zoobench.methods.ctc_probe import TOO_SHORT
from zoobench.methods.speech_controls import LogMelFrames
from zoobench.models.weights import state_digest
from zoobench.tasks.speech_recognition import Transcripts, error_rates, transcripts_of

TASK = "speech-recognition"
QUICK = {"steps": 60, "batch_size": 8, "rates": [1e-1]}


def splits_of(options: str = "train=60&valid=20&test=20") -> Splits:
    return datasets.load(datasets.resolve(f"synthetic/phrases?task={TASK}&{options}"))


def source_of(deaf: bool = False, cache: Path | None = None) -> Features:
    kept = FeatureCache(cache) if cache else None
    return Features(TinyEars(Ears(deaf)), View("tiny/ears", batch_size=8), kept)


def adapted(name: str, splits: Splits, source: Features | None, **params: Any) -> Any:
    method = methods.build(name, params, task=TASK)
    return method.adapt(source, splits.sealed(), 0)


def cer(fitted: Any, split: Split) -> float:
    return error_rates(fitted.predict(split), transcripts_of(split))[1]


def test_a_probe_hears_what_its_frames_tell_and_takes_the_layer_that_does() -> None:
    splits, source = splits_of(), source_of()
    before = state_digest(source.module)
    fitted = adapted("linear-probe", splits, source, **QUICK)
    assert cer(fitted, splits.test) < 0.1
    assert fitted.chosen == {"rate": 1e-1, "layer": 2}
    assert fitted.facts["valid_cer"] < 0.1
    assert fitted.facts["train_infeasible"] == 0
    assert state_digest(source.module) == before
    again = adapted("linear-probe", splits, source, **QUICK)
    assert again.predict(splits.test) == fitted.predict(splits.test)


def test_nothing_is_learned_of_shuffled_transcripts_and_less_by_a_deaf_network() -> None:
    shuffled = splits_of("train=60&valid=20&test=20&shuffled=true")
    assert cer(adapted("linear-probe", shuffled, source_of(), **QUICK), shuffled.test) > 0.6
    splits = splits_of()
    deaf = cer(adapted("linear-probe", splits, source_of(deaf=True), **QUICK), splits.test)
    assert deaf > 0.2


def test_frames_are_those_of_a_lone_recording_and_kept(tmp_path: Path) -> None:
    splits, source = splits_of("train=9&valid=5&test=5"), source_of(cache=tmp_path)
    held = source.frames(splits.train)
    reader = source.backbone.frame_reader()  # type: ignore[attr-defined]
    for i in range(9):
        batch = source.collate([source.prepare(splits.train.read(i))])
        alone = torch.stack(list(reader.read(source.module, batch, reader.depths)), dim=2)[0]
        own = torch.from_numpy(held.values[held.starts[i] : held.starts[i + 1]].astype(np.float32))
        assert own.shape == alone.shape
        torch.testing.assert_close(own, alone, rtol=2e-3, atol=2e-3)
    fresh = source_of(cache=tmp_path)
    np.testing.assert_array_equal(fresh.frames(splits.train).values, held.values)
    assert fresh.computed == []
    assert source_of(deaf=True, cache=tmp_path).frames(splits.train).values.shape != (0,)
    assert fresh.frames(splits.test).starts[-1] > 0
    assert len(fresh.computed) == 1


def test_recordings_are_decoded_once_as_far_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = splits_of("train=9&valid=5&test=5").train
    read: list[int] = []

    def counting(i: int) -> Any:
        read.append(i)
        return plain.read(i)

    train = dataclasses.replace(plain, read=counting)
    values = source_of().frames(train).values
    assert sorted(read) == list(range(9))
    read.clear()
    monkeypatch.setattr(frames, "ROOM", 0)
    np.testing.assert_array_equal(source_of().frames(train).values, values)
    assert sorted(read) == sorted([*range(9), *range(9)])
    remembered = frames.Remembered(counting, room=2 * plain.read(0).samples.nbytes)
    for i in (0, 1, 2, 0):
        np.testing.assert_array_equal(remembered(i).samples, plain.read(i).samples)
    assert remembered.room >= 0
    assert 0 in remembered.kept


def test_a_longer_recording_than_what_is_read_is_refused() -> None:
    """Its middle would be held against all that is said in it."""
    splits = splits_of("train=9&valid=5&test=5")
    ears = TinyEars()
    longest = max(splits.train.read(i).seconds for i in range(9))
    ears.input_spec = dataclasses.replace(
        ears.input_spec, length=round(0.9 * longest * (ears.input_spec.rate or 0))
    )
    source = Features(ears, View("tiny/ears"))
    why = r"of 9 recordings of train are longer than the .* s that the network reads, the longest"
    for name in ("linear-probe", "fine-tune"):
        with pytest.raises(BadData, match=why):
            adapted(name, splits, source, **QUICK)


def test_recordings_too_short_for_their_transcripts_are_left_out_and_said() -> None:
    splits = splits_of()
    texts = list(transcripts_of(splits.train).texts)
    texts[:3] = ["ab" * 200] * 3
    train = dataclasses.replace(splits.train, targets=Transcripts.of(texts))
    fitted = adapted("linear-probe", dataclasses.replace(splits, train=train), source_of(), **QUICK)
    assert fitted.facts["train_infeasible"] == 3
    assert TOO_SHORT in fitted.flags
    nothing = Transcripts.of(["ab" * 200] * len(splits.train))
    train = dataclasses.replace(splits.train, targets=nothing)
    with pytest.raises(Unsupported, match="fewer frames than its transcript needs"):
        adapted("linear-probe", dataclasses.replace(splits, train=train), source_of(), **QUICK)


def test_recordings_in_which_nothing_is_said_are_learned_from() -> None:
    splits = splits_of("train=20&valid=9&test=9")
    texts = [*([""] * 16), *transcripts_of(splits.train).texts[16:]]
    train = dataclasses.replace(splits.train, targets=Transcripts.of(texts))
    fitted = adapted("linear-probe", dataclasses.replace(splits, train=train), source_of(), **QUICK)
    assert fitted.facts["train_infeasible"] == 0
    assert fitted.flags == ()
    said = fitted.predict(splits.test)
    whole = adapted("linear-probe", splits, source_of(), **QUICK).predict(splits.test)
    assert sum(map(len, said)) < sum(map(len, whole)) / 2


def test_a_sign_that_train_has_not_stays_wrong() -> None:
    splits = splits_of()
    texts = [text.replace("a", "z") for text in transcripts_of(splits.test).texts]
    test = dataclasses.replace(splits.test, targets=Transcripts.of(texts))
    fitted = adapted("linear-probe", splits, source_of(), **QUICK)
    share = sum(text.count("z") for text in texts) / sum(map(len, texts))
    assert cer(fitted, test) >= share > 0.05


def test_characters_are_trains_and_blanks_are_collapsed() -> None:
    train = Split("train", ("a", "b"), Transcripts.of(["Ab, c", "d"]), [].__getitem__)
    alphabet = Alphabet.of(train)
    assert alphabet.signs == (" ", "a", "b", "c", "d")
    assert alphabet.classes == 6
    assert alphabet.text([1, 2, 1, 1, 3, 1]) == "a b"
    assert alphabet.labels(train) == [[2, 3, 1, 4], [5]]
    silent = dataclasses.replace(train, targets=Transcripts.of(["", "..."]))
    with pytest.raises(Unsupported, match="no transcript of train"):
        Alphabet.of(silent)


def test_a_loss_that_is_no_number_is_said() -> None:
    splits = splits_of("train=9&valid=5&test=5")
    with pytest.raises(NotFinite, match="every learning rate"):
        adapted("linear-probe", splits, source_of(), steps=30, batch_size=8, rates=[1e36])


@pytest.mark.parametrize("params", [{"steps": 0}, {"rates": []}, {"rates": [-1.0]}])
def test_a_budget_that_cannot_be_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="steps and batch_size"):
        methods.build("linear-probe", params, "here", TASK)


def test_nothing_is_said_where_the_usual_transcript_is_no_better() -> None:
    splits = splits_of("train=40&valid=9&test=9")
    texts = ["a b c", "a b c", *(f"w{i}" for i in range(38))]
    train = dataclasses.replace(splits.train, targets=Transcripts.of(texts))
    fitted = adapted("majority", dataclasses.replace(splits, train=train), None)
    assert set(fitted.predict(splits.test)) == {""}
    assert error_rates(fitted.predict(splits.test), transcripts_of(splits.test)) == (1, 1)


def test_the_usual_transcript_is_said_of_everything() -> None:
    splits = splits_of()
    texts = ["b b", "a a", "a a", "b b", "c"] * 12
    train = dataclasses.replace(splits.train, targets=Transcripts.of(texts))
    fitted = adapted("majority", dataclasses.replace(splits, train=train), None)
    assert set(fitted.predict(splits.test)) == {"a a"}
    assert set(fitted.valid_scores) == {"a a"}


def test_the_raw_input_is_heard_without_a_network() -> None:
    splits = splits_of()
    fitted = adapted("raw-input", splits, None, **QUICK)
    assert cer(fitted, splits.test) < 0.9
    held = LogMelFrames().frames(splits.test)
    assert held.values.shape == (held.starts[-1], 1, 80)
    of_10_ms = 1 + (len(splits.test.read(0).at(16_000)) - 400) // 160
    assert held.starts[1] == (of_10_ms + 1) // 2
