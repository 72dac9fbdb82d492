"""Masks of classes, as files and in arrays: what a segmentation's pixels are called.

A mask is a picture of one number a pixel: grey, or a palette, whose colours say nothing. A photo
or a palette's colours cannot be told from classes by guessing, and are refused.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoobench.datasets import images, regular
from zoobench.datasets.ids import THREADS
from zoobench.datasets.waiting import told
from zoobench.errors import BadData, one_line
from zoobench.tasks.segmentation import IGNORED, Mask, Seen, seen

FORMATS = ("PNG", "TIFF", "BMP", "DIB", "GIF", "PPM")
"""Formats that keep a number as it is. JPEG and its like make another one of it."""
MODES = ("1", "L", "P", "I;16", "I")


@dataclass(frozen=True)
class MaskFiles:
    """Mask i is a file, decoded when it is asked for. Number k is of class `values[k]`, or where
    `values` is empty of class k."""

    paths: tuple[str, ...] = field(repr=False)
    values: tuple[int, ...] = ()

    def __call__(self, i: int) -> Mask:
        return decode(self.paths[i], self.values)


@dataclass(frozen=True)
class MaskArray:
    """Mask i is a row of an array (N, H, W) uint8."""

    masks: NDArray[np.uint8] = field(repr=False)

    def __call__(self, i: int) -> Mask:
        return np.asarray(self.masks[i])


def decode(path: str, values: tuple[int, ...] = ()) -> Mask:
    """(H, W) uint8 classes of a mask's file, by `values` where its numbers are none. Raises BadData
    where it holds none."""
    mask = _numbers(path)
    if not values:
        return mask
    if mask.size and mask.max() >= len(values):
        raise BadData(f"it holds the number {mask.max()}; {len(values) - 1} is the last")
    return np.array(values, dtype=np.uint8)[mask]


def _numbers(path: str) -> Mask:
    try:
        content = regular.read(path)
    except OSError as error:
        raise BadData(f"it cannot be read: {error.strerror}") from error
    return _matlab(content) if path.endswith(".mat") else numbers(content)


def numbers(content: bytes) -> Mask:
    """(H, W) uint8 from a picture of one number a pixel. Raises BadData where it is none."""
    try:
        with Image.open(io.BytesIO(content), formats=images.formats()) as picture:
            if picture.format not in FORMATS:
                raise BadData(f"it is {picture.format}, which may not keep numbers: write PNG")
            if picture.mode not in MODES:
                raise BadData(
                    f"its pixels are colours ({picture.mode}), not numbers of classes: a mask has "
                    "one channel, or a palette"
                )
            values = np.asarray(picture)
    except BadData:
        raise
    except MemoryError:
        raise
    except OSError as error:
        why = error.strerror or "unknown or damaged format"
        raise BadData(f"it cannot be read: {why}") from error
    except Exception as error:  # a damaged file can raise anything in a decoder
        raise BadData(f"{type(error).__name__}: {error}") from error
    if values.size and (values.min() < 0 or values.max() > IGNORED):
        raise BadData(f"it holds the number {values.max()}; classes end at {IGNORED - 1}")
    return values.astype(np.uint8)


def _matlab(content: bytes) -> Mask:
    """A file of the Semantic Boundaries Dataset (Hariharan et al. 2011)."""
    from scipy.io import loadmat

    try:
        file: Any = io.BytesIO(content)
        held = loadmat(file, variable_names=["GTcls"])
        return np.asarray(held["GTcls"][0]["Segmentation"][0], dtype=np.uint8)
    except MemoryError:
        raise
    except Exception as error:
        raise BadData(f"it is no file of the boundaries dataset: {one_line(error)}") from error


def scan(
    masks: Sequence[str], pictures: Sequence[str], classes: int, values: tuple[int, ...] = ()
) -> tuple[list[Seen], list[str]]:
    """What is seen of each mask's file, and why it cannot be used ("" where it can); each is read
    once, by a few threads."""

    def one(pair: tuple[str, str]) -> tuple[Seen, str]:
        path, picture = pair
        try:
            found = seen(decode(path, values), classes)
            size = size_of(picture)
        except (BadData, ValueError) as error:
            return Seen((0, 0), (0,) * classes, ""), str(error)
        if size not in (None, found.size):
            own, other = (f"{w} x {h}" for h, w in (found.size, size or (0, 0)))
            return found, f"it is {own} pixels, and its picture {other}"
        return found, "" if any(found.counts) else f"all of its pixels are ignored ({IGNORED})"

    with ThreadPoolExecutor(THREADS) as pool:
        pairs = zip(masks, pictures, strict=True)
        scanned = list(told(pool.map(one, pairs), "reading masks", len(masks)))
    return [found for found, _ in scanned], [why for _, why in scanned]


def size_of(picture_or_path: bytes | str) -> tuple[int, int] | None:
    """(height, width) of a picture upright, by its header; None where it cannot be opened."""
    try:
        one = picture_or_path
        content = regular.read(one) if isinstance(one, str) else one
        with Image.open(io.BytesIO(content), formats=images.formats()) as picture:
            turned = picture.getexif().get(0x0112, 1) >= 5
            return (picture.width, picture.height) if turned else (picture.height, picture.width)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - what is wrong with a picture is said where it is decoded
        return None
