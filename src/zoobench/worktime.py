"""Seconds that this process has worked: a clock that stands while others have the machine.

A worker is stopped, or waits, while another one times its model (workers/local.py). What a stage
took must not hold that.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_lost: list[Callable[[], float]] = []


def now() -> float:
    """Like `time.perf_counter`, less what was lost."""
    return time.perf_counter() - sum(lost() for lost in _lost)


def leave_out(lost: Callable[[], float]) -> None:
    """From now on `now` leaves out the seconds that `lost` gives, which never fall."""
    _lost.append(lost)
