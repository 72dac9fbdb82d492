"""Spoilt recordings: the formulas, what is kept, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from zoobench import datasets
from zoobench.audio import Clip
from zoobench.datasets import shift, shift_sounds
from zoobench.errors import UserError
from zoobench.schema import Ref


def speech_like(seconds: float = 1.0, rate: int = 16_000) -> Clip:
    """Noise in bursts, as loud as speech."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.1, len(t))
    return Clip((noise * (1 + np.sin(2 * np.pi * 3 * t))).astype(np.float32), rate)


def spoilt(clip: Clip, kind: str, severity: int, seed: int = 0) -> np.ndarray:
    made = shift_sounds.corrupt(clip, kind, severity, np.random.default_rng(seed))
    assert made.rate == clip.rate
    assert made.samples.dtype == np.float32
    assert made.samples.shape == clip.samples.shape
    return made.samples.astype(float)


@pytest.mark.parametrize("kind", sorted(shift_sounds.SOUNDS))
def test_a_higher_severity_changes_more(kind: str) -> None:
    clip = speech_like()
    changes = [np.abs(spoilt(clip, kind, s) - clip.samples).mean() for s in range(1, 6)]
    assert changes == sorted(changes)
    assert changes[0] > 0


def test_the_formulas() -> None:
    clip = speech_like()
    x = clip.samples.astype(float)
    noise = spoilt(clip, "white_noise", 2) - x
    assert 10 * np.log10(np.mean(x**2) / np.mean(noise**2)) == pytest.approx(20, abs=0.2)
    cut = spoilt(clip, "clipping", 3)
    level = np.sqrt(np.mean(x[x != 0] ** 2))
    assert np.allclose(cut, np.clip(x, -level, level), atol=1e-6)
    assert 20 * np.log10(x.std() / spoilt(clip, "quiet", 2).std()) == pytest.approx(12, abs=0.01)
    power = np.abs(np.fft.rfft(spoilt(clip, "band_limit", 5))) ** 2
    before = np.abs(np.fft.rfft(x)) ** 2
    assert power[:800].sum() == pytest.approx(before[:800].sum(), rel=0.05)
    assert power[2000:].sum() < 1e-4 * before[2000:].sum()


@pytest.mark.parametrize("kind", sorted(shift_sounds.SOUNDS))
@pytest.mark.parametrize("samples", [[0.0] * 50, [0.5], [1.0, -1.0]], ids=["silence", "one", "two"])
def test_silence_and_the_shortest_recordings_stay_finite(kind: str, samples: list[float]) -> None:
    made = spoilt(Clip(np.asarray(samples, dtype=np.float32), 1000), kind, 5)
    assert np.isfinite(made).all()
    if not any(samples):
        assert not made.any()


def test_the_test_split_alone_is_spoilt(tmp_path: Path) -> None:
    for i in range(20):
        path = tmp_path / "ab"[i % 2] / f"{i}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.random.default_rng(i).uniform(-0.5, 0.5, 400), 8000)
    clean = Ref("folder", "sounds").with_options(path=str(tmp_path))
    ref = datasets.resolve(clean.with_options(corrupt="white_noise", severity=4), "s.toml")
    assert shift.named(ref) == ("white_noise", 4)
    made, before = datasets.load(ref), datasets.load(datasets.resolve(clean))
    assert made.train.fingerprint == before.train.fingerprint
    assert made.test.ids[0] == f"{before.test.ids[0]}+white_noise-4"
    assert made.test.groups == before.test.ids
    again = pickle.loads(pickle.dumps(made.test))
    np.testing.assert_array_equal(again.read(1).samples, made.test.read(1).samples)
    assert np.abs(made.test.read(1).samples - before.test.read(1).samples).mean() > 0.05
    with pytest.raises(UserError, match=r"s: unknown corruption 'jpeg' .*Known: band_limit"):
        datasets.resolve(clean.with_options(corrupt="jpeg"), "s")
    with pytest.raises(UserError, match="severity of folder/sounds must be 1 to 5"):
        datasets.resolve(clean.with_options(corrupt="quiet", severity=6), "s")


def test_silence_behind_a_sound_changes_nothing_of_its_clipping() -> None:
    clip = speech_like()
    long = Clip(np.concatenate([clip.samples, np.zeros(3 * len(clip.samples), np.float32)]), 16_000)
    alone, behind = (spoilt(one, "clipping", 5) for one in (clip, long))
    assert np.allclose(alone, behind[: len(alone)], atol=1e-6)
    assert alone.std() > 0.1 * clip.samples.std()


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
def test_as_much_noise_is_heard_at_any_rate(rate: int) -> None:
    x = np.sin(np.arange(rate) * 2 * np.pi * 440 / rate).astype(np.float32)
    clip = Clip(x, rate)
    noise = Clip((spoilt(clip, "white_noise", 5) - x).astype(np.float32), rate).at(16_000)
    assert 10 * np.log10(np.mean(x**2) / np.mean(noise**2)) == pytest.approx(0, abs=0.4)
