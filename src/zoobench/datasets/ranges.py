"""Which grey values are black and white in pictures of more than 8 bits: one range a dataset.

A picture alone does not tell: a float picture with one pixel above 1 is not one of 0 to 255. The
option `range` says it (`range=4095`, `range=-1,1`); else the pictures of the dataset decide.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoobench.errors import UserError
from zoobench.schema import Ref

OVERSHOOT = 0.02
"""Share of a picture's pixels that may lie beyond the range: resampling rings, sensors spike."""
UNIT, BYTE, WORD = 1.0, 255.0, 65535.0


@dataclass(frozen=True)
class Grey:
    """What is white in 16-bit, in whole and in real numbers (0: guessed for each picture), and
    what is black."""

    sixteen: float = WORD
    whole: float = 0.0
    real: float = 0.0
    low: float = 0.0

    def white(self, mode: str) -> float:
        """By Pillow's mode of a picture: I;16 (in any byte order), I or F."""
        return self.sixteen if mode.startswith("I;16") else self.real if mode == "F" else self.whole

    @property
    def text(self) -> str:
        """For notes and the names of caches; "" of what has always been the range."""
        if self == GUESSED:
            return ""
        tops = (self.sixteen, self.whole, self.real)
        return f"{self.low:g} to " + "/".join(f"{top:g}" if top else "each" for top in tops)


GUESSED = Grey()
"""16 bits by their type, all else by each picture's own values."""


@dataclass(frozen=True)
class Levels:
    """Of one picture: its mode, the values that all but `OVERSHOOT` of its pixels lie between,
    and the largest."""

    mode: str
    low: float
    high: float
    most: float


def range_of(ref: Ref, where: str = "") -> Grey | None:
    """What the option `range` says: white, or black and white. Raises UserError for nonsense."""
    value = ref.option("range")
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    try:
        numbers = [float(part) for part in (parts if isinstance(parts, (list, tuple)) else [parts])]
    except (ValueError, TypeError):
        numbers = []
    low, high = (0.0, *numbers)[-2:] if 0 < len(numbers) < 3 else (0.0, 0.0)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(
            f"{where + ': ' if where else ''}range of {ref.id} is the value of white, or those of "
            f"black and white, such as range=4095 or range=-1,1, not {value!r}"
        )
    return Grey(high, high, high, low)


def may_be_deep(content: bytes) -> bool:
    """Whether a picture's first bytes leave it possible that it is grey of more than 8 bits."""
    if content.startswith(b"\x89PNG"):
        return content[24:26] == b"\x10\x00"
    return content.startswith(
        (
            b"II*\x00",
            b"MM\x00*",
            b"II+\x00",
            b"MM\x00+",
            b"P5",
            b"P2",
            b"Pf",
            b"\x00\x00\x00\x0cjP",
            b"\xff\x4f",
        )
    )


def agreed(levels: Mapping[int, Levels]) -> tuple[Grey, dict[int, str], str]:
    """(the range of a dataset, what is wrong with pictures that lie on another scale, by number,
    and what a reader must know of 16-bit pictures that use a small part of theirs)."""
    real = {
        i: _scale(one) for i, one in levels.items() if one.mode == "F" and (one.high or one.low)
    }
    whole = [one.most for one in levels.values() if one.mode == "I" and 0 <= one.most <= WORD]
    sixteen = [one.most for one in levels.values() if one.mode.startswith("I;16")]
    white = Counter(scale for scale in real.values() if scale).most_common(1)
    top = white[0][0] if white else UNIT
    grey = Grey(
        whole=0.0 if not whole else BYTE if max(whole) <= BYTE else WORD,
        real=top if any(one.mode == "F" for one in levels.values()) else 0.0,
    )
    others = f", where most pictures' go from 0 to {top:g}" if white else ": no range that is known"
    wrong = {
        i: f"grey values from {levels[i].low:g} to {levels[i].high:g}{others}. Say which are black "
        "and white with range=, such as range=0,255"
        for i, scale in real.items()
        if scale != top
    }
    bits = int(max(sixteen, default=WORD)).bit_length()
    narrow = f"16-bit pictures whose values have {bits} bits" if bits < 15 else ""
    return grey, wrong, narrow


def _scale(one: Levels) -> float:
    """The white that a float picture's values suggest; 0 where they suggest none."""
    if one.low < 0:
        return 0.0
    return next((top for top in (UNIT, BYTE, WORD) if one.high <= top), 0.0)


def notes(grey: Grey, narrow: str) -> dict[str, Any]:
    """For the record; nothing where there are no such pictures."""
    found = {"pixel_range": grey.text, "narrow_range": narrow}
    return {name: text for name, text in found.items() if text}
