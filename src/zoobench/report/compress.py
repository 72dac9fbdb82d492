"""What `zoobench compress` says: lines for a person, plain JSON types for a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoobench.compare.variant_verdicts import VariantRow, VariantTable, VariantVerdicts
from zoobench.metrics import metric
from zoobench.quantities import data_size
from zoobench.report.compression import compression_table, verdict_cells

if TYPE_CHECKING:
    from zoobench.advise.compress import Compression

WORDS = {
    "same": "non-inferior: what it may lose lies within the margin",
    "improved": "better than the original",
    "regressed": "regressed: a loss is sure, and it may be more than the margin",
    "inconclusive": "not proven: the test set cannot tell whether it loses more than the margin",
}


def compress_text(found: Compression) -> list[str]:
    """Who was left out, the pick, and what the test set says of it."""
    lines = [f"Not {name}: {why}" for name, why in found.refused.items()]
    if found.untried:
        lines.append(f"Not tried, the budget ended: {', '.join(found.untried)}")
    if found.pick is None:
        return [*lines, "No variant may be taken: keep the original."]
    row = found.judged
    assert row is not None
    lines.append(f"Picked on valid: {found.pick.name}{_gains(row)}")
    margin = f"{found.request.margin:g} {_points(found.choice.metric)}"
    if row.finding is None:
        return [*lines, f"On test it ended as {row.status}: {row.why}"]
    _, change = verdict_cells(row.finding)
    word = WORDS.get(row.finding.outcome, row.finding.why)
    return [*lines, f"On test, judged once: {change or 'no difference'}, margin {margin}: {word}."]


def _points(name: str) -> str:
    return "percent" if metric(name).unit == "target" else "points"


def _gains(row: VariantRow) -> str:
    told = []
    if "weights_bytes" in row.ratios:
        size, ratio = data_size(row.costs["weights_bytes"]), row.ratios["weights_bytes"]
        told.append(f"{size}, {ratio:.2f} of the original's")
    if "latency_ms_p50" in row.ratios:
        took, ratio = row.costs["latency_ms_p50"], row.ratios["latency_ms_p50"]
        told.append(f"{took:.3g} ms, {ratio:.2f} of the original's")
    return f" ({'; '.join(told)})" if told else ""


def compress_json(found: Compression) -> dict[str, Any]:
    """Both tables with the columns of compression.csv, the pick, and the gate's word."""
    pick = found.pick
    return {
        "model": found.request.model.private.text,
        "data": found.request.data.private.text,
        "method": found.method,
        "max_loss": found.request.margin,
        "valid": _rows(found.choice),
        "refused": dict(found.refused),
        "untried": list(found.untried),
        "pick": None if pick is None else {"variant": pick.variant, "head": pick.head},
        "test": None if found.test is None else _rows(found.test),
        "outcome": found.outcome or None,
    }


def _rows(table: VariantTable) -> list[dict[str, Any]]:
    columns = compression_table(VariantVerdicts((table,)))
    many = len(table.rows)
    return [{name: column[i] for name, column in columns.items()} for i in range(many)]
