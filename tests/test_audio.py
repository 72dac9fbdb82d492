"""Recordings of any kind become one channel of float32, or are named."""

from __future__ import annotations

import contextlib
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from zoobench import audio
from zoobench.errors import BadData


def tone(rate: int, hertz: float, seconds: float = 1.0) -> NDArray[np.float64]:
    made: NDArray[np.float64] = 0.5 * np.sin(
        2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate
    )
    return made


def written(samples: Any, rate: int, subtype: str, kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"),
     ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")],
)  # fmt: skip
def test_each_format_gives_the_same_tone(kind: str, subtype: str) -> None:
    left = tone(44_100, 440)
    clip = audio.decode(
        written(np.stack([left, np.zeros_like(left)], axis=1), 44_100, subtype, kind)
    )
    assert clip.rate == 44_100
    assert clip.samples.dtype == np.float32
    assert clip.seconds == pytest.approx(1.0, abs=0.06), "MP3 and OGG pad"
    middle = clip.samples[10_000:30_000]
    assert np.sqrt(2) * middle.std() == pytest.approx(0.25, rel=0.03), "the mean of two channels"
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) * 44_100 / 20_000 == pytest.approx(440, abs=3)


def test_six_channels_are_mixed_by_their_mean() -> None:
    channels = np.tile(np.linspace(-0.6, 0.6, 6), (100, 1))
    channels[:, 0] = 0.3
    clip = audio.decode(written(channels, 8000, "PCM_16", "WAV"))
    np.testing.assert_allclose(clip.samples, channels.mean(), atol=1e-4)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_051, 44_100, 48_000])
def test_resampling_keeps_what_both_rates_can_hold(rate: int) -> None:
    clip = audio.Clip(tone(rate, 1000).astype(np.float32), rate)
    made = clip.at(16_000)
    assert made.dtype == np.float32
    assert len(made) == -(-len(clip.samples) * 16_000 // rate)
    inner = slice(1000, 15_000)
    np.testing.assert_allclose(made[inner], tone(16_000, 1000)[inner], atol=5e-3)


def test_resampling_removes_what_the_lower_rate_cannot_hold() -> None:
    clip = audio.Clip(tone(48_000, 12_000).astype(np.float32), 48_000)
    assert np.abs(clip.at(16_000)[500:-500]).max() < 0.005, "else it would be heard at 4 kHz"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "no recording"),
        (b"<html>", "no recording"),
        (written(np.zeros(0), 8000, "PCM_16", "WAV"), "it is empty"),
        (written(np.full(10, np.nan), 8000, "FLOAT", "WAV"), "no numbers"),
        (written(np.zeros(10), 500, "PCM_16", "WAV"), "sampling rate is 500"),
        (written(tone(44_100, 440), 44_100, "MPEG_LAYER_III", "MP3")[:5000], "breaks off"),
        (written(np.zeros(10), 8000, "PCM_16", "SVX"), "known: WAV"),
    ],
    ids=["nothing", "page", "no samples", "no numbers", "slow", "half", "other format"],
)
def test_what_is_no_recording_is_named(file: bytes, said: str) -> None:
    with pytest.raises(BadData, match=said):
        audio.decode(file)


def test_days_of_silence_in_a_small_file_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "LONGEST", 2.0)
    with pytest.raises(BadData, match="it is 3 s long, more than 2"):
        audio.decode(written(np.zeros(24_000), 8000, "PCM_16", "FLAC"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [("WAV", "breaks off: 15978 of 32000 bytes"), ("AIFF", "breaks off"), ("AU", "breaks off"),
     ("W64", "breaks off"), ("RF64", "breaks off"), ("MP3", "breaks off after"),
     ("FLAC", "no recording"), ("OGG", "no recording"), ("CAF", "no recording")],
)  # fmt: skip
def test_half_a_file_is_no_recording(kind: str, said: str) -> None:
    subtype = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(kind, "PCM_16")
    whole = written(tone(16_000, 440), 16_000, subtype, kind)
    assert len(audio.decode(whole).samples) == 16_000
    with pytest.raises(BadData, match=said):
        audio.decode(whole[: len(whole) // 2])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_without_its_last_pages_is_no_shorter_recording(
    subtype: str, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 6 * 16_000)
    whole = written(noise, 16_000, subtype, "OGG")
    assert len(audio.decode(whole).samples) == len(noise)
    last = whole.rindex(b"OggS")
    for end in (last, last + 5, last + 30, len(whole) - 1):  # between pages, and inside of one
        with pytest.raises(BadData, match="breaks off"):
            audio.decode(whole[:end])
    path = tmp_path / "a.ogg"
    path.write_bytes(whole)
    assert len(audio.decode(str(path)).samples) == len(noise)
    path.write_bytes(whole[:last])
    with pytest.raises(BadData, match="its last page does not end its stream"):
        audio.decode(str(path))
    assert len(audio.decode(whole + bytes(100)).samples) == len(noise), "some pad a file"


def test_a_stream_that_did_not_know_its_length_is_read_as_far_as_it_goes() -> None:
    whole = bytearray(written(tone(16_000, 440), 16_000, "PCM_16", "WAV"))
    at = whole.index(b"data") + 4
    whole[4:8] = whole[at : at + 4] = b"\xff\xff\xff\xff"
    assert len(audio.decode(bytes(whole)).samples) == 16_000


def test_one_sample_is_a_recording() -> None:
    clip = audio.decode(written(np.asarray([0.5]), 8000, "PCM_16", "WAV"))
    assert (len(clip.samples), clip.rate) == (1, 8000)
    assert len(clip.at(16_000)) == 2


def test_a_recording_longer_than_a_block_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "BLOCK", 100)
    ramp = np.linspace(-0.5, 0.5, 1001)
    clip = audio.decode(written(np.stack([ramp, ramp / 2], axis=1), 8000, "FLOAT", "WAV"))
    np.testing.assert_allclose(clip.samples, 0.75 * ramp, atol=1e-6)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF"])
def test_whatever_is_in_a_header_nothing_else_is_raised(kind: str) -> None:
    subtype = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(kind, "PCM_16")
    whole = written(tone(8000, 440, 0.2), 8000, subtype, kind)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(0, 120, 4):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(BadData):
            assert len(audio.decode(bytes(damaged)).samples)


def test_many_threads_are_told_the_same_reasons(tmp_path: Path) -> None:
    """libsndfile keeps why a file was not opened in one place, for all threads."""
    made = written(tone(8000, 440), 8000, "PCM_16", "FLAC")
    files = {"whole.flac": made, "head.flac": made[:20], "text.wav": b"no sound"}
    for name, body in files.items():
        (tmp_path / name).write_bytes(body)

    def said(name: str) -> str:
        try:
            return str(audio.decode(str(tmp_path / name)).rate)
        except BadData as error:
            return str(error)

    alone = {name: said(name) for name in files}
    assert alone["whole.flac"] == "8000"
    with ThreadPoolExecutor(8) as threads:
        together = set(threads.map(lambda name: (name, said(name)), [*files] * 1000))
    assert together == set(alone.items())
