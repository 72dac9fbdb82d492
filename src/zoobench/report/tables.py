"""The measurements and the ranking as tables: what the CSV and Parquet files hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from zoobench import escape
from zoobench.datasets.control import part
from zoobench.metrics import sign
from zoobench.ranking.nouns import (
    COSTS,
    TRUST,
    MadeEncoder,
    OverallRow,
    Ranking,
    Row,
    SectionRanking,
)
from zoobench.ranking.pareto import noisy
from zoobench.report.text import failed_models
from zoobench.schema import PRETRAIN, Record

if TYPE_CHECKING:
    import pandas as pd

FIELDS = ("metric", "value", "low", "high", "unit", "better", "n")
"""Of a Measurement."""
MEASUREMENTS = ("model", "dataset", "method", "seed", "shots", *FIELDS, "status", "noisy")
RANKING = (
    "scope", "dataset", "method", "shots", "model", "status", "metric", "value", "low", "high",
    "rank_low", "rank_high", "p_first", "tied", "mean_rank", "mean_z", "worst", "worst_dataset",
    "datasets", "seeds", "n", "resolvable_gap", "license", "family", "device", "flags", *COSTS,
    "noisy", *(name + end for name in TRUST for end in ("", "_low", "_high")),
)  # fmt: skip
WHOLE = ("seed", "shots", "n", "rank_low", "rank_high", "datasets", "seeds")
"""Columns of whole numbers."""
NAMES = frozenset(
    {"model", "dataset", "method", "metric", "unit", "better", "status", "scope", "worst_dataset",
     "license", "family", "device", "flags", "noisy", "class"}
)  # fmt: skip
"""Columns of text."""

Columns = dict[str, list[Any]]
"""A table: name -> values, None where one is unknown."""


def csv_bytes(columns: Columns) -> bytes:
    """The table for people's spreadsheets: unknown values (None, and NaN, which is not itself) are
    empty, and no text is a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    known = ([None if v != v else escape.csv(v) for v in column] for column in columns.values())
    writer.writerows(zip(*known, strict=True))
    return text.getvalue().encode()


def frame(columns: Columns) -> pd.DataFrame:
    """The table for pandas: text, nullable whole numbers, else what the values are."""
    import pandas as pd

    numbers = {
        name: "Int64" if name in WHOLE else "float64"
        for name, column in columns.items()
        if name in WHOLE or (name not in NAMES and name != "tied")
    }
    return pd.DataFrame(columns).astype(numbers)


def measurements_table(records: Iterable[Record]) -> Columns:
    """Long: one row a measurement; a failed cell has one row, its status and no value."""
    fields, unknown = attrgetter(*FIELDS), (None,) * len(FIELDS)
    rows: list[tuple[Any, ...]] = []
    for record in records:
        cell, status = record.cell, record.status
        about = cell.model.text, cell.dataset.text, cell.method, cell.seed, cell.shots
        rows += [
            (*about, *fields(m), status, "yes" if m.detail.get("noisy") else None)
            for m in record.measurements
        ] or [(*about, *unknown, status, None)]
    return {name: [row[i] for row in rows] for i, name in enumerate(MEASUREMENTS)}


def ranking_table(ranking: Ranking) -> Columns:
    """One row a model, dataset and method; then one a model overall, a method; then one a number
    of each encoder that was pretrained. Values are the metric's own: of an error, less is better.

    Controls (status "control") and failed cells stand in it without a rank.
    """
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
        rows += [
            about | _row(row, overall.metric) | _overall(row, overall.metric)
            for row in overall.rows
        ]
        rows += [
            about | {"model": model.text, "status": f"left out: {why}"}
            for model, why in overall.left_out_models.items()
        ]
    rows += [row for one in ranking.encoders for row in _encoder_rows(one)]
    return {name: [row.get(name) for row in rows] for name in RANKING}


def _section_rows(section: SectionRanking) -> list[dict[str, Any]]:
    about = {
        "scope": "dataset",
        "dataset": section.dataset.text,
        "method": section.method,
        "shots": section.shots,
        "metric": section.metric,
        "n": section.n or None,
        "resolvable_gap": section.gap if len(section.rows) > 1 else None,
    }
    controls = [
        about
        | {"model": c.model.text, "status": "control", "value": c.value}
        | {"low": c.low, "high": c.high}
        | ({"dataset": part(section.dataset).text, "n": None} if c.on else {})
        for c in section.controls
    ]
    failed = [
        about | {"model": model.text, "status": status}
        for model, status in failed_models(section).items()
    ]
    return [about | _row(row, section.metric) for row in section.rows] + controls + failed


def _encoder_rows(one: MadeEncoder) -> list[dict[str, Any]]:
    about = {
        "scope": "pretraining",
        "dataset": str(one.model.option("dataset")),
        "method": PRETRAIN,
        "model": one.model.text,
        "status": "ok",
        "seeds": one.seeds,
    }
    return [
        about | {"metric": name, "value": value, "low": low, "high": high}
        for name, (value, low, high) in one.numbers.items()
    ]


def _row(row: Row, metric: str) -> dict[str, Any]:
    """In a ranking larger is better, so that an error is turned round there; here it is back."""
    bounds = sorted(sign(metric) * end for end in (row.low, row.high))
    return {
        "model": row.model.text,
        "status": "ok",
        "value": sign(metric) * row.value,
        "low": bounds[0],
        "high": bounds[1],
        "rank_low": row.rank_low,
        "rank_high": row.rank_high,
        "p_first": row.first,
        "tied": row.tied,
        "seeds": row.seeds,
        "license": row.license,
        "family": row.family,
        "device": row.device,
        "flags": ";".join(flag.name for flag in row.flags),
        "noisy": ";".join(sorted(noisy(row.records))) or None,
        **row.costs,
        **{name: number.value for name, number in row.trust.items()},
        **{f"{name}_low": number.low for name, number in row.trust.items()},
        **{f"{name}_high": number.high for name, number in row.trust.items()},
    }


def _overall(row: OverallRow, metric: str) -> dict[str, Any]:
    return {
        "mean_rank": row.mean_rank,
        "mean_z": row.mean_z,
        "worst": sign(metric) * row.worst,
        "worst_dataset": str(row.worst_dataset or ""),
    }
