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


STEADY = ("deterministic", "stateless", "thread-invariant", "batch-invariant", "order-invariant")
"""What `list models --usability` shows as one: the same features for the same input."""
LISTED = {
    "sizes": "other-sizes", "grad": "differentiable", "train 8": "trains-batch-8",
    "torch": "exports-torch", "onnx": "exports-onnx", "script": "exports-torchscript",
    "int8": "quantises",
}  # fmt: skip
"""Its other columns."""


def swept_row(model: str, rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The columns that matter of a swept architecture; ? is unknown, and of the first what is
    not the same is named."""
    found = {row["probe"]: row for row in rows}
    unlike = [n for n in STEADY if n in found and found[n]["answer"] != "yes"]
    known = all(found[n]["answer"] != "unknown" for n in unlike)
    same = "yes" if not unlike else "no: " + ", ".join(unlike) if known else "?"
    return {"model": model, "same": same, **{k: _short(found.get(n)) for k, n in LISTED.items()}}


def _short(row: Mapping[str, str] | None) -> str:
    if row is None or row["answer"] == "unknown":
        return "?"
    if row["probe"] == "trains-batch-8" and row["answer"] == "yes" and row["value"]:
        return data_size(float(row["value"]))
    return row["answer"]


def swept_body(model: str, rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """All of them, as `check --json` prints a model."""
    told = [
        {
            "probe": row["probe"],
            "answer": row["answer"],
            "value": float(row["value"]) if row["value"] else None,
            "why": row["why"],
        }
        for row in rows
    ]
    return {"model": model, "usability": told}


def listing(rows: Mapping[str, UsabilityProbe]) -> list[str]:
    """`--list`: the probes and what each asks."""
    return [f"{name:<{NAME}} {row.about}" for name, row in rows.items()]


def table(rows: Mapping[str, UsabilityProbe]) -> Sequence[dict[str, str]]:
    return [{"probe": name, "about": row.about, "unit": row.unit} for name, row in rows.items()]
