"""The one resampler: weights of independent units, and the intervals that they give.

n rows (test examples), B resamples. A metric of a resample is the metric under weights: how
often each row was drawn. A row's weights follow from its unit alone (the example's id, or that
of the family, document or speaker that it belongs to), so whatever is judged on the same units is
paired: metrics, models, runs, and datasets that share examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import exp, factorial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Units = NDArray[np.uint64]
Matrix = tuple[tuple[float, ...], ...]

RESAMPLES = 2000
"""Resamples of every interval of a record and of a ranking (PROTOCOL section 3)."""
ALPHA = 0.05
CHUNK = 2_000_000
"""Weights that are held at once (float64: 16 MB)."""
KEPT = 2**26
"""Most weights that are kept for the next model on the same units (uint8: 64 MB)."""
CASES = 2**16


def _poisson() -> NDArray[np.uint8]:
    """(CASES,) counts, as often as Poisson's distribution of mean 1 has them."""
    upto = np.cumsum([exp(-1) / factorial(k) for k in range(12)])
    return np.searchsorted(upto, (np.arange(CASES) + 0.5) / CASES).astype(np.uint8)


_COUNTS = _poisson()


def seed_of(*parts: object) -> int:
    """A 64-bit seed that depends on the parts' text alone."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def units_of(names: Sequence[str]) -> Units:
    """(n,) the unit of each row, equal where the names are; a name is an id or a group's."""
    return np.array([seed_of(name) for name in names], dtype=np.uint64)


def numbered(n: int, *parts: object) -> Units:
    """(n,) units for rows that have no names: by their place in what `parts` say."""
    with np.errstate(over="ignore"):
        return _mixed(np.uint64(seed_of(*parts)) + _STEP * np.arange(1, n + 1, dtype=np.uint64))


def unit_count(units: Units) -> int:
    """G, how many units the rows are of."""
    return len(np.unique(units))


def unit_sums(rows: ArrayLike, units: Units) -> Floats:
    """(R, G) from (R, n): the sums of each unit's values."""
    distinct, owner = np.unique(units, return_inverse=True)
    table = np.asarray(rows, dtype=np.float64)
    return np.stack([np.bincount(owner, row, len(distinct)) for row in table])


def resampled(units: Units, resamples: int = RESAMPLES) -> Iterator[Floats]:
    """(b, n) weights, b rows at a time, B rows in all: how often each row of `units` (n,) is drawn.

    Each unit is drawn by Poisson's distribution of mean 1, from a hash of the unit and of the
    draw's number: the Poisson bootstrap (Hanley and MacGibbon 2006), which needs no list of all
    units, so that two datasets which share some draw them alike. The weights' sum varies, and
    every metric divides by it. A draw of nothing at all counts as the set itself.
    """
    rows = max(1, CHUNK // max(1, len(units)))
    kept = None
    if len(units) * resamples <= KEPT:
        kept = _kept(units.tobytes(), resamples)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        block = _drawn(units, start, stop) if kept is None else kept[start:stop]
        weights = block.astype(np.float64)
        weights[~block.any(axis=1)] = 1.0
        yield weights


@lru_cache(maxsize=4)
def _kept(units: bytes, resamples: int) -> NDArray[np.uint8]:
    array = np.frombuffer(units, dtype=np.uint64)
    rows = max(1, CHUNK // max(1, len(array)))
    starts = range(0, resamples, rows)
    return np.concatenate([_drawn(array, at, min(at + rows, resamples)) for at in starts])


_STEP = np.uint64(0x9E3779B97F4A7C15)


def _drawn(units: Units, start: int, stop: int) -> NDArray[np.uint8]:
    """(stop - start, n) counts: the draws of those numbers."""
    with np.errstate(over="ignore"):
        steps = _STEP * np.arange(start + 1, stop + 1, dtype=np.uint64)
        mixed = _mixed(units[None, :] + steps[:, None])
    return np.asarray(_COUNTS[mixed >> np.uint64(48)])


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Steele, Lea and Flood 2014 (SplitMix64): 64 even bits from any two different states."""
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state


def percentile(draws: ArrayLike, level: float = 0.95) -> tuple[Any, Any]:
    """The central interval of the draws (R, ...) along their first axis: (low, high)."""
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(draws, dtype=np.float64), [tail, 1 - tail], axis=0)
    return low[()], high[()]


def error_against(draws: Floats, model: int) -> Floats:
    """(M,) bootstrap standard errors of every model's difference from one of them."""
    return np.asarray((draws - draws[:, model, None]).std(axis=0, ddof=1))
