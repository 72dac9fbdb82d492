"""The one resampler: weights of independent units, and the intervals that they give.

n units, B resamples. A metric of a resample is the metric under weights: how often each unit
was drawn. Whoever draws with the same `n` and `seed` gets the same weights, so that metrics,
models and runs are paired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Matrix = tuple[tuple[float, ...], ...]

RESAMPLES = 2000
"""Resamples of every interval of a record and of a ranking (PROTOCOL section 3)."""
ALPHA = 0.05
CHUNK = 2_000_000
"""Weights that are held at once (float64: 16 MB)."""
KEPT = 2**26
"""Most weights that are kept for the next model on the same units (uint8: 64 MB)."""


def seed_of(*parts: object) -> int:
    """A 64-bit seed that depends on the parts' text alone."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def resampled(n: int, seed: int, resamples: int = RESAMPLES) -> Iterator[Floats]:
    """(b, n) weights, b rows at a time, B rows in all: how often each of n units is drawn when n
    are drawn with replacement."""
    rows = max(1, CHUNK // n)
    if n * resamples <= KEPT:
        kept = _drawn(n, seed, resamples)
        for start in range(0, resamples, rows):
            yield kept[start : start + rows].astype(np.float64)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        yield np.stack([_draw(n, rng) for _ in range(count)]).astype(np.float64)


@lru_cache(maxsize=4)
def _drawn(n: int, seed: int, resamples: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, n), dtype=np.uint8)
    for row in counts:
        row[:] = _draw(n, rng)
    return counts


def _draw(n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return np.bincount(rng.integers(0, n, n, dtype=np.int32), minlength=n)


def percentile(draws: ArrayLike, level: float = 0.95) -> tuple[Any, Any]:
    """The central interval of the draws (R, ...) along their first axis: (low, high)."""
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(draws, dtype=np.float64), [tail, 1 - tail], axis=0)
    return low[()], high[()]


def interval(value: float, draws: Floats) -> tuple[float, float]:
    """The 95% percentile interval of `draws` (B,), extended to hold `value`: calibration errors
    and macro means are biased under resampling, and might miss it."""
    low, high = percentile(draws)
    return min(float(low), value), max(float(high), value)


def error_against(draws: Floats, model: int) -> Floats:
    """(M,) bootstrap standard errors of every model's difference from one of them."""
    return np.asarray((draws - draws[:, model, None]).std(axis=0, ddof=1))
