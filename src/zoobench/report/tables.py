"""The measurements and the ranking as data frames: what the CSV files hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zoobench.analysis.decision import COSTS, OverallRow, Ranking, Row, SectionRanking
from zoobench.schema import Record

if TYPE_CHECKING:
    import pandas as pd

MEASUREMENTS = (
    "model",
    "dataset",
    "method",
    "seed",
    "shots",
    "metric",
    "value",
    "low",
    "high",
    "unit",
    "better",
    "n",
    "status",
)
RANKING = (
    "scope",
    "dataset",
    "method",
    "shots",
    "model",
    "status",
    "metric",
    "value",
    "low",
    "high",
    "rank_low",
    "rank_high",
    "p_first",
    "tied",
    "mean_rank",
    "mean_z",
    "worst",
    "worst_dataset",
    "datasets",
    "seeds",
    "n",
    "resolvable_gap",
    "license",
    "family",
    "device",
    "flags",
    *COSTS,
)


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """`frame.to_csv(index=False)`, in a third of its time; unknown values are empty."""
    columns = []
    for name in frame:
        column = frame[name]
        values = column.astype(object)
        values[column.isna()] = ""
        columns.append(values.tolist())
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


def measurements_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Long: one row a measurement; a failed cell has one row, its status and no value."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for record in records:
        cell = record.cell
        about = {
            "model": cell.model,
            "dataset": cell.dataset,
            "method": cell.method,
            "seed": cell.seed,
            "shots": cell.shots,
            "status": record.status,
        }
        if not record.measurements:
            rows.append(about)
        for m in record.measurements:
            rows.append(
                about
                | {"metric": m.metric, "value": m.value, "low": m.low, "high": m.high}
                | {"unit": m.unit, "better": m.better, "n": m.n}
            )
    frame = pd.DataFrame(rows, columns=list(MEASUREMENTS))
    return frame.astype({"shots": "Int64", "n": "Int64", "seed": "Int64"})


def ranking_frame(ranking: Ranking) -> pd.DataFrame:
    """One row a model, dataset and method; then one a model overall, a method.

    Controls (status "control") and failed cells stand in it without a rank.
    """
    import pandas as pd

    rows = [row for section in ranking.sections for row in _section_rows(section)]
    for overall in ranking.overall:
        about = {
            "scope": "overall",
            "dataset": "",
            "method": overall.method,
            "shots": overall.shots,
            "metric": overall.metric,
            "datasets": len(overall.datasets),
            "resolvable_gap": overall.gap,
        }
        rows += [about | _row(row) | _overall(row) for row in overall.rows]
        rows += [
            about | {"model": model, "status": f"left out: {why}"}
            for model, why in overall.left_out_models.items()
        ]
    frame = pd.DataFrame(rows, columns=list(RANKING))
    whole = ("shots", "rank_low", "rank_high", "datasets", "seeds", "n")
    return frame.astype(dict.fromkeys(whole, "Int64"))


def _section_rows(section: SectionRanking) -> list[dict[str, Any]]:
    about = {
        "scope": "dataset",
        "dataset": section.dataset,
        "method": section.method,
        "shots": section.shots,
        "metric": section.metric,
        "n": section.n or None,
        "resolvable_gap": section.gap if len(section.rows) > 1 else None,
    }
    ranked = {row.model for row in section.rows}
    controls = [
        about
        | {"model": c.model, "status": "control", "value": c.value}
        | {"low": c.low, "high": c.high}
        for c in section.controls
    ]
    failed = [
        about | {"model": f.model, "status": f.status}
        for f in {f.model: f for f in section.failures}.values()
        if f.model not in ranked
    ]
    return [about | _row(row) for row in section.rows] + controls + failed


def _row(row: Row) -> dict[str, Any]:
    return {
        "model": row.model,
        "status": "ok",
        "value": row.value,
        "low": row.low,
        "high": row.high,
        "rank_low": row.rank_low,
        "rank_high": row.rank_high,
        "p_first": row.first,
        "tied": row.tied,
        "seeds": row.seeds,
        "license": row.license,
        "family": row.family,
        "device": row.device,
        "flags": ";".join(flag.name for flag in row.flags),
        **row.costs,
    }


def _overall(row: OverallRow) -> dict[str, Any]:
    return {
        "mean_rank": row.mean_rank,
        "mean_z": row.mean_z,
        "worst": row.worst,
        "worst_dataset": row.worst_dataset,
    }


def cost_columns(rows: Sequence[Row]) -> list[str]:
    """The costs that any of `rows` has, in their usual order."""
    return [name for name in COSTS if any(name in row.costs for row in rows)]
