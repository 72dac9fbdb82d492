"""Times and memory against stored ones: warnings, never a failure.

A stored time was taken on another day, with other neighbours. Only a change that is huge
beside the spread of both sets of samples is worth a line; the gate that fails is a
measurement of both sides at one time (compare/measured.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from zoobench.compare.exact import Model, machine_differs
from zoobench.compare.gates import TIMED, Times
from zoobench.compare.match import Pair, text_of
from zoobench.compare.reading import summarized
from zoobench.compare.verdicts import Finding
from zoobench.schema import Cell, Measurement, Ref

SETTING = ("device", "dtype", "layout", "threads", "batch", "how", "over", "compiled")
PLACE = ("device", "device_name", "threads", "driver", "precision", "compiled")


Apart: TypeAlias = dict[str, list[tuple[Cell, str]]]
"""Differing fields, in words -> (a model's cell, metric) of the times that can't be compared."""


def time_changes(models: Mapping[Ref, Model], limits: Times) -> tuple[list[Finding], Apart]:
    """Warnings, and what can't be compared."""
    warnings: list[Finding] = []
    apart: Apart = {}
    for model in models.values():
        for metric in TIMED:
            pair = next((p for p in model.pairs if p.baseline.get(metric)), None)
            if pair is None:
                continue
            old, new = pair.baseline.get(metric), pair.candidate.get(metric)
            if old is None or new is None:
                continue
            fields = differing_times(pair, old, new)
            if fields:
                apart.setdefault(", ".join(fields), []).append((model.cell, metric))
                continue
            why = alarm(metric, old, new, limits)
            if why:
                warnings.append(
                    Finding(
                        model.cell, metric, old.value, new.value, "inconclusive", why, kind="times"
                    )
                )
    return warnings, apart


def incomparable_times(apart: Apart) -> list[Finding]:
    """One finding for each set of differing fields, with the number of models behind it."""
    out = []
    for fields, found in sorted(apart.items()):
        models = {cell.model: cell for cell, _ in found}
        out.append(
            Finding(
                models[min(models)],
                " ".join(sorted({metric for _, metric in found})),
                None,
                None,
                "incomparable",
                f"times and memory of {len(models)} models: {fields}",
                kind="times",
                cells=len(models),
            )
        )
    return out


def differing_times(
    pair: Pair, old: Measurement, new: Measurement, but_for: Collection[str] = ()
) -> list[str]:
    """Fields in which two times differ, besides their value (PROTOCOL sections 4 and 7), `but_for`
    those that are what is compared."""
    # Timed with the machine to itself, a network had other threads than its cell.
    own = all("threads" in one.detail for one in (old, new))
    place = [n for n in PLACE if n not in but_for and (n != "threads" or not own)]
    found = machine_differs(pair, place)
    told = {text.partition(" ")[0] for text in found}
    for name in (n for n in SETTING if n not in but_for):
        if old.detail.get(name) != new.detail.get(name) and name not in told:
            # The best batch of a throughput is a result, not a setting.
            if name == "batch" and old.metric == "throughput":
                continue
            found.append(f"{name} {_said(old.detail, name)} -> {_said(new.detail, name)}")
    return found


def _said(detail: Mapping[str, Any], name: str) -> str:
    return text_of(detail[name]) if name in detail else "unknown"


def alarm(metric: str, old: Measurement, new: Measurement, limits: Times) -> str:
    """Why a change is worth a warning, or "".

    The robust z is the change of the medians over the two spreads (1.4826 MAD) together:
    it ignores stragglers. A spread of zero in few coarse samples counts as 1% of the value.
    Both are relative to the median, since a throughput's samples are times of a batch.
    """
    if old.value <= 0 or new.value <= 0:
        return ""
    if metric == "peak_memory_bytes":
        more = new.value - old.value
        if new.value / old.value > limits.memory_ratio and more > limits.memory_bytes:
            return f"{old.value / 2**20:.0f} -> {new.value / 2**20:.0f} MiB"
        return ""
    ratio = old.value / new.value if metric == "throughput" else new.value / old.value
    seen = [summarized(m.detail) for m in (old, new)]
    if ratio < limits.ratio or not all("median" in s for s in seen):
        return ""
    spreads = [max(s["mad"] / s["median"], 0.01) for s in seen]
    z = (ratio - 1) / (spreads[0] ** 2 + (ratio * spreads[1]) ** 2) ** 0.5
    if z < limits.z:
        return ""
    unit = f" {old.unit}" if old.unit else ""
    return (
        f"{old.value:.4g} -> {new.value:.4g}{unit}, {ratio:.2f} times slower (robust z {z:.0f}); "
        "measure both sides at one time to be sure"
    )
