"""What `zoobench check` prints: a line each probe."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoobench.quantities import data_size, duration

if TYPE_CHECKING:
    from zoobench.usability import ProbeResult, UsabilityProbe

NAME = 20
"""Columns of a probe's name."""
WIDTH = 80


def value_text(value: float, unit: str) -> str:
    """A probe's number for people."""
    match unit:
        case "bytes":
            return data_size(value)
        case "s":
            return duration(value)
        case "share":
            return f"{value:.0%}"
        case "times":
            return f"{value:.2f} times"
        case "points":
            return f"{value:.1f} points"
        case "cosine":
            return f"{value:.4f}"
        case _:
            return f"{value:.1e}"


def body(name: str, answer: ProbeResult) -> dict[str, Any]:
    """One answer as JSON has it; a number that is not known is null."""
    return {"probe": name, "answer": answer.answer, "value": answer.value, "why": answer.why}


def lines(name: str, answer: ProbeResult, row: UsabilityProbe) -> list[str]:
    """`  exports-onnx        yes      2.1e-06  ONNX Runtime is off by ...`, wrapped at 80."""
    value = "" if answer.value is None else value_text(answer.value, row.unit)
    head = f"  {name:<{NAME}} {answer.answer:<7} {value:>11}  "
    room = WIDTH - len(head)
    wrapped = textwrap.wrap(answer.why, max(room, 30)) or [""]
    return [head + wrapped[0], *(" " * len(head) + rest for rest in wrapped[1:])]


def listing(rows: Mapping[str, UsabilityProbe]) -> list[str]:
    """`--list`: the probes and what each asks."""
    return [f"{name:<{NAME}} {row.about}" for name, row in rows.items()]


def table(rows: Mapping[str, UsabilityProbe]) -> Sequence[dict[str, str]]:
    return [{"probe": name, "about": row.about, "unit": row.unit} for name, row in rows.items()]
