"""Numbers as people write them (10M, 2GB, 20ms), and times as people say them ("6.5 days").

    COUNT.read("10M", "--max-params")                  1e7
    SIZE.read("5GiB", "--max-download")                5368709120.0, in bytes
    TIME.read("1h30m", "--budget")                     5400.0, in seconds
    TIME.read("20ms", "--max-latency-ms", "ms")        20.0, in milliseconds
    duration(558552)                                   "6.5 days"
    data_size(15_096_096)                              "15.1 MB"

A plain number means what its place says: parameters, bytes, seconds, milliseconds. Options and
files alike read such numbers here, so that one spelling means one thing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from zoobench.errors import UserError

NUMBER = re.compile(r"([0-9](?:_?[0-9])*(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)
UNIT = re.compile(r"\s*([A-Za-zµμ]*)\s*")
NOT_FINITE = frozenset({"inf", "infinity", "nan"})


@dataclass(frozen=True)
class Quantity:
    """A kind of number: what it is called, how it is written, and how much each unit is.

    `shown` are the units that a message names; `hints` say what to write in place of a unit
    that has two meanings. Where `chained`, several numbers follow one another, as in 1h30m.
    """

    what: str
    example: str
    units: Mapping[str, str]
    shown: str
    hints: Mapping[str, str] = field(default_factory=dict)
    chained: bool = False

    def read(self, given: str | float, where: str, unit: str = "", bare: bool = True) -> float:
        """The number in `unit`, "" being this kind's base; at least 0.

        A plain number is in `unit` already; where not `bare` it must bring its own. Raises
        UserError: `where`, what is wrong, how it is written and which units are known.
        """
        try:
            return self._value(str(given), unit, bare)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None

    def in_files(self, unit: str = "") -> Callable[[Any], Any]:
        """What a pydantic model calls before it checks a number: text is read, else `given`."""

        def read(given: Any) -> Any:
            from pydantic_core import PydanticCustomError  # a file is being read: it is loaded

            try:
                return self._value(given, unit) if isinstance(given, str) else given
            except ValueError as error:
                raise PydanticCustomError("quantity", "{why}", {"why": str(error)}) from None

        return read

    def _value(self, given: str, unit: str, bare: bool = True) -> float:
        """Raises ValueError, whose message says all but where."""
        text = given.strip()
        digits = text.lstrip("+-")
        shown = repr(given if len(given) <= 40 else f"{given[:40]}...")
        if digits.casefold() in NOT_FINITE:
            raise ValueError(f"expected a finite number, not {text}")
        if len(text) - len(digits) > 1 or not digits:
            raise self._unclear(shown)
        total, at = Decimal(0), 0
        while at < len(digits):
            number = NUMBER.match(digits, at)
            named = UNIT.match(digits, number.end()) if number else None
            if number is None or named is None:
                raise self._unclear(shown)
            if not named[1] and (at or named.end() < len(digits)):
                raise self._unclear(shown)
            if not named[1] and not bare:
                raise ValueError(f"{shown} has no unit; write {self.example}")
            if at and not self.chained:
                raise self._unclear(shown)
            total += _decimal(number[0]) * self._factor(named[1] or unit, shown)
            at = named.end()
        found = float(total / self._factor(unit, shown))
        if not math.isfinite(found):
            raise ValueError(f"expected a finite number, not {shown}")
        if text[0] == "-" and found:
            raise ValueError(f"expected 0 or more, got {shown}")
        return found

    def _factor(self, unit: str, shown: str) -> Decimal:
        if unit in self.hints:
            raise ValueError(f"{shown}: {self.hints[unit]}")
        name = unit if unit in self.units else unit.casefold()
        if name not in self.units:
            raise self._unclear(shown)
        return Decimal(self.units[name])

    def _unclear(self, shown: str) -> ValueError:
        return ValueError(
            f"expected {self.what} such as {self.example}, got {shown}. Known units: {self.shown}."
        )


def _decimal(text: str) -> Decimal:
    """Exact, so that 2.3M is 2300000; NaN never, and infinite or 0 where a float would be."""
    value = float(text)
    return Decimal(text) if value and math.isfinite(value) else Decimal(value)


COUNT = Quantity(
    what="a count",
    example="10M, 1.5e7 or 15000000",
    units={"": "1", "k": "1e3", "M": "1e6", "g": "1e9", "b": "1e9", "t": "1e12"},
    shown="k, M, G (or B), T",
    hints={"m": "m is a thousandth or a minute; a million is written 10M, with a capital M"},
)
"""Parameters, operations, examples. `B` is the billion of "a 7B model"."""

SIZE = Quantity(
    what="a size",
    example="500MB, 2GB or 5GiB",
    units={
        "": "1", "b": "1", "kb": "1e3", "mb": "1e6", "gb": "1e9", "tb": "1e12",
        "kib": str(2**10), "mib": str(2**20), "gib": str(2**30), "tib": str(2**40),
    },
    shown="B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of 1024)",
    hints={
        name: f"{name} alone is 1000s to some and 1024s to others; write {name.upper()}B or "
        f"{name.upper()}iB"
        for name in ("k", "K", "m", "M", "g", "G", "t", "T")
    },
)  # fmt: skip
"""Bytes, of memory or of files."""

TIME = Quantity(
    what="a time",
    example="20ms, 90s, 10m, 1h30m or 2 days",
    units={
        "": "1", "us": "1e-6", "µs": "1e-6", "μs": "1e-6", "ms": "1e-3",
        **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "1"),
        **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "60"),
        **dict.fromkeys(("h", "hour", "hours"), "3600"),
        **dict.fromkeys(("d", "day", "days"), "86400"),
    },
    shown="us, ms, s, m (or min), h, d (or days)",
    hints={"M": "M is a million or a month; minutes are written m or min"},
    chained=True,
)  # fmt: skip
"""Seconds."""

SPOKEN = ((48 * 3600.0, 86400.0, "days"), (7200.0, 3600.0, "h"), (120.0, 60.0, "min"))
"""From how many seconds on a unit is spoken in: (from, seconds of the unit, its name)."""


def duration(seconds: float) -> str:
    """A time as people say it, to about two digits: 0.35 s, 12 s, 40 min, 2.3 h, 6.5 days."""
    if not math.isfinite(seconds):
        return f"{seconds} s"
    for least, unit, name in SPOKEN:
        if abs(seconds) >= least:
            return f"{_two_digits(seconds / unit)} {name}"
    if 0 < abs(seconds) < 0.01:
        return f"{float(f'{1e3 * seconds:.2g}'):g} ms"
    if 0 < abs(seconds) < 0.995:
        return f"{float(f'{seconds:.2g}'):g} s"
    return f"{_two_digits(seconds)} s"


def data_size(count: float) -> str:
    """Bytes as people say them, to three digits and in units of 1000: 15.1 MB, 5 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def _two_digits(value: float) -> str:
    """12, 9.5, 240: a fraction below 10 alone, and none where it is 0."""
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0")
