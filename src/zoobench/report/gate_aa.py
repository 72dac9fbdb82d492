"""What A against A came to, in words."""

from __future__ import annotations

from zoobench.analysis.compare_aa import FalseAlarms
from zoobench.analysis.compare_gates import Measure


def aa_text(found: FalseAlarms, limits: Measure) -> list[str]:
    """Lines for a terminal; the last ones are a gates file."""
    times = "comparison" if found.comparisons == 1 else "comparisons"
    return [
        f"A against A: {found.comparisons} {times} of {limits.blocks} blocks, "
        f"{len(found.models)} models",
        f"  called slower or faster, before any confirming set: {found.alarms}",
        f"  the same blocks dealt anew: {found.rate:.1%} called slower, "
        f"{found.confirmed_rate:.2%} with the confirming set (limit {limits.ratio:.2f})",
        f"  one process against another: up to {found.spread:.2f} times (99 in 100)",
        "thresholds that keep false alarms under 1% here, before the confirming set:",
        "",
        "[measure]",
        f"low = {found.low:.3f}",
        f"ratio = {found.ratio:.2f}",
        f"memory_bytes = {found.memory_bytes}",
    ]
