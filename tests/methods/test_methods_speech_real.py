"""A really pretrained recogniser on spoken prompts, where Debian's packages are installed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from zoobench import datasets, methods, models, tasks
from zoobench.audio import Clip
from zoobench.features.source import Features, View
from zoobench.interfaces import Raw, Split, Splits
from zoobench.tasks.evaluate import evaluate
from zoobench.tasks.speech_recognition import error_rates, transcripts_of

TASK = "speech-recognition"
DATA = "packaged/asterisk-prompts?max_test=12&max_valid=5&max_train=40"

pytestmark = [pytest.mark.rare, pytest.mark.xdist_group("prompts")]


@pytest.fixture(scope="module")
def prompts() -> Splits:
    there, why = datasets.available(datasets.resolve(DATA))
    if not there:
        pytest.skip(why)
    return datasets.load(datasets.resolve(DATA))


@pytest.fixture(scope="module")
def whisper() -> Features:
    ref = models.resolve("recogniser/whisper-tiny-en")
    return Features(models.load(ref), View(str(ref)))


def said(whisper: Features, prompts: Splits, test: Split) -> list[str]:
    method: Any = methods.build("as-is", {}, task=TASK)
    answers: list[str] = method.adapt(whisper, prompts.sealed(), 0).predict(test)
    return answers


@dataclass(frozen=True)
class Misread:
    """Recordings whose rate is told to be twice what it is."""

    read: Any

    def __call__(self, i: int) -> Raw:
        clip = self.read(i)
        return Clip(clip.samples, 2 * clip.rate)


def test_whisper_writes_down_what_is_spoken_and_a_wrong_rate_is_seen(
    prompts: Splits, whisper: Features
) -> None:
    test = prompts.test
    answers = said(whisper, prompts, test)
    judge = tasks.task(TASK)
    kept = judge.judge(answers, test, ([], prompts.valid)).of(test.units)
    wer = evaluate(judge, kept, prompts)[0]
    assert wer.value < 0.2
    assert wer.low is not None
    assert wer.high is not None
    assert 0 <= wer.low <= wer.value <= wer.high < 0.5
    usual = methods.build("majority", {}, task=TASK).adapt(None, prompts.sealed(), 0)
    truth = transcripts_of(test)
    assert error_rates(usual.predict(test), truth)[0] > 0.7
    misread = replace(test, read=Misread(test.read))
    assert error_rates(said(whisper, prompts, misread), truth)[0] > wer.value + 0.3


def test_a_probe_hears_more_in_its_encoder_than_in_the_bands_of_the_recordings(
    prompts: Splits,
) -> None:
    ref = models.resolve("packaged/whisper-tiny-en")
    encoder, truth = Features(models.load(ref), View(str(ref))), transcripts_of(prompts.test)
    rates: dict[str, float] = {}
    for name, source in (("linear-probe", encoder), ("raw-input", None)):
        method: Any = methods.build(name, {"steps": 100, "rates": [1e-2]}, task=TASK)
        fitted = method.adapt(source, prompts.sealed(), 0)
        rates[name] = error_rates(fitted.predict(prompts.test), truth)[1]
    assert rates["linear-probe"] < rates["raw-input"] - 0.1, rates
