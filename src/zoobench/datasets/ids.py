"""Stable ids of examples: hashes of content, which decide derived splits (PROTOCOL section 1)."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

THREADS = 8
"""Hashing and decoding release the interpreter's lock, and wait for the disk."""


def bytes_id(content: bytes) -> str:
    """An example's id: the first 128 bits of the sha256 of its own bytes, in hex."""
    return hashlib.sha256(content).hexdigest()[:32]


def text_id(text: str) -> str:
    """Id of a text: of its UTF-8 bytes. Unpaired surrogates are kept apart, not refused."""
    return bytes_id(text.encode("utf-8", "surrogatepass"))


def array_ids(pictures: NDArray[np.uint8]) -> tuple[str, ...]:
    """Ids of N pictures (N, H, W) or (N, H, W, 3): of their pixels and their shape."""
    shape = repr(pictures.shape[1:]).encode()
    return tuple(bytes_id(shape + np.ascontiguousarray(row).tobytes()) for row in pictures)
