"""What a person is told who waits for a large folder, long before a progress bar can stand."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds without a word."""


def told(items: Iterable[T], doing: str, total: int = 0) -> Iterator[T]:
    """`items` as they come; every `PATIENCE` seconds a line on stderr says how many have."""
    last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= PATIENCE:
            last = now
            far = f"{done:,} of {total:,}" if total else f"{done:,} so far"
            logging.getLogger(__name__).warning("%s: %s", doing, far)
