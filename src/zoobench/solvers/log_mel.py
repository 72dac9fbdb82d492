"""Log-mel bands: how much energy a recording has at each time and pitch, as the ear tells pitches.

Of windows of 25 ms, 10 ms apart, of samples at 16 kHz. F windows.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
WINDOW, HOP = 400, 160
BINS = 512
"""Of the Fourier transform: a window is filled up with zeros."""
BANDS = 40
LOWEST = 20.0
"""Hz, the edge of the first band; that of the last is half the rate."""
FLOOR = 1e-10
"""Least energy of a band, before the logarithm."""
BLOCK = 1024
"""Windows whose spectra are in memory at once, with all copies some 20 MB."""


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(F, BANDS) natural logarithms of the energies of (T,) samples at RATE; F is 1 + (T - WINDOW)
    // HOP, of what is shorter than a window 1."""
    if len(samples) < WINDOW:
        samples = np.pad(samples, (0, WINDOW - len(samples)))
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    found = np.empty((len(windows), BANDS), dtype=np.float32)
    for start in range(0, len(windows), BLOCK):
        rows = slice(start, start + BLOCK)
        power = np.abs(np.fft.rfft(windows[rows] * np.hanning(WINDOW), BINS)) ** 2
        found[rows] = np.log(np.maximum(power @ _bands(), FLOOR))
    return found


@cache
def _bands() -> NDArray[np.float64]:
    """(BINS / 2 + 1, BANDS) triangles, each from the middle of the one before to that of the next;
    the middles are equally far apart on O'Shaughnessy's mel scale, 2595 log10(1 + f / 700)."""
    first, last = (2595 * math.log10(1 + hertz / 700) for hertz in (LOWEST, RATE / 2))
    middles = 700 * (10 ** (np.linspace(first, last, BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, BINS // 2 + 1)[:, None]
    rising = (bins - middles[:-2]) / (middles[1:-1] - middles[:-2])
    falling = (middles[2:] - bins) / (middles[2:] - middles[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)), dtype=np.float64)
