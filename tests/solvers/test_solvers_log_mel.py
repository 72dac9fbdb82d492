"""Log-mel bands: their shape, which band hears which pitch, and silence."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from zoobench.solvers.log_mel import BANDS, FLOOR, HOP, RATE, WINDOW, log_mel


@pytest.mark.parametrize(
    ("samples", "frames"), [(1, 1), (WINDOW, 1), (WINDOW + HOP - 1, 1), (WINDOW + HOP, 2)]
)
def test_a_frame_is_a_whole_window_or_all_that_there_is(samples: int, frames: int) -> None:
    assert log_mel(np.ones(samples, dtype=np.float32)).shape == (frames, BANDS)


def test_bands_hear_pitches_in_order() -> None:
    grid = np.arange(RATE // 10) / RATE
    loudest = [
        int(log_mel(np.sin(2 * np.pi * pitch * grid).astype(np.float32)).mean(axis=0).argmax())
        for pitch in (50, 200, 500, 1000, 2000, 4000, 7500)
    ]
    assert loudest == sorted(set(loudest))
    assert loudest[0] <= 1
    assert loudest[-1] == BANDS - 1


def test_each_pitch_is_heard_and_twice_the_amplitude_is_four_times_the_energy() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(RATE).astype(np.float32)
    apart = log_mel(2 * noise) - log_mel(noise)
    np.testing.assert_allclose(apart, np.log(4), atol=1e-4)
    assert float(np.ptp(log_mel(noise).mean(axis=0))) < 6, "no band is deaf"


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(1).standard_normal(RATE // 2).astype(np.float32)
    whole = log_mel(noise)
    assert len(whole) > 40
    monkeypatch.setattr("zoobench.solvers.log_mel.BLOCK", 7)
    np.testing.assert_allclose(log_mel(noise), whole, rtol=1e-6)


def test_a_long_recording_takes_little_beside_itself_and_its_bands() -> None:
    samples = np.zeros(300 * RATE, dtype=np.float32)
    tracemalloc.start()
    found = log_mel(samples)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6 < 8 * WINDOW * len(found), "all windows at once"


def test_silence_is_the_floor() -> None:
    assert log_mel(np.zeros(RATE, dtype=np.float32)) == pytest.approx(np.log(FLOOR))
