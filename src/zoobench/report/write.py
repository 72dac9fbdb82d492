"""`zoobench report`: everything a run has to say, as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoobench.compare.variant_verdicts import VariantVerdicts
from zoobench.compare.variants import flagged, judge_variants
from zoobench.errors import UserError
from zoobench.files import write_atomic
from zoobench.ranking.nouns import Ranking
from zoobench.ranking.outcomes import Book, open_book
from zoobench.ranking.rank import rank
from zoobench.report.classes import class_figures, class_scores, classes_table
from zoobench.report.compression import (
    compression_figures,
    compression_table,
    compression_views,
)
from zoobench.report.figures import write_figures
from zoobench.report.line_charts import chart_figures
from zoobench.report.maps import explained_examples
from zoobench.report.markdown import markdown
from zoobench.report.page import page
from zoobench.report.parts import ReportParts
from zoobench.report.precision_recall import curve_figures, precision_recall
from zoobench.report.rebuilt import picture_sheets
from zoobench.report.tables import csv_bytes, frame, measurements_table, ranking_table
from zoobench.report.transfer import transfer_tables
from zoobench.report.usability_view import usability_table, usability_view
from zoobench.report.worst import worst_pictures
from zoobench.report.worst_transcripts import worst_transcripts
from zoobench.store import Run, read_environment
from zoobench.usability.answers import answers_of

FILES = ("report.html", "report.md", "ranking.csv", "measurements.csv")
PER_CLASS = "per_class.csv"
"""Where a task scores classes."""
COMPRESSION = "compression.csv"
"""Where a run has compressed variants."""
USABILITY = "usability.csv"
"""Where `zoobench check` was asked of a run."""
PARQUET = ("ranking.parquet", "measurements.parquet")
"""Beside the CSV files where pyarrow is installed (the extra `parquet`)."""


def write_report(
    runs: Sequence[Run],
    out: Path,
    ranking: Ranking | None = None,
    pictures: bool = False,
    verdicts: VariantVerdicts | None = None,
) -> list[Path]:
    """Write report.html, report.md, the CSV files, Parquet ones and figures/ under `out`.

    With `pictures` the page shows pictures of the test set, where a task is dense, an encoder was
    pretrained or answers were explained, and transcripts, where it is speech, as far as its data
    are at hand; `verdicts` are those of compressed variants, where they are known already.
    Existing files of these names are replaced, each at once. Returns what was written, report.html
    first.
    Raises UserError where `out` cannot be written.
    """
    found = ranking or rank(runs)
    book = open_book(runs)
    curves = precision_recall(book, found)
    variants = judge_variants(found, book) if verdicts is None else verdicts
    found = found if verdicts is not None else flagged(found, variants)
    answers = answers_of([run.path for run in runs])
    parts = ReportParts(curves, variants=variants, usability=usability_view(answers))
    if pictures:
        parts = _with_examples(parts, book, found, runs)
    title = ", ".join(dict.fromkeys(str(r.suite.get("name") or r.path.name) for r in runs))
    environment = _environment(runs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        written = [out / name for name in FILES]
        html = page(found, title, environment, title, parts)
        write_atomic(written[0], html.encode())
        write_atomic(written[1], markdown(found, title, environment, parts).encode())
        tables = ranking_table(found), measurements_table(found.records)
        for path, table in zip(written[2:], tables, strict=True):
            write_atomic(path, csv_bytes(table))
        scores = class_scores(found)
        if scores:
            written.append(out / PER_CLASS)
            write_atomic(written[-1], csv_bytes(classes_table(scores)))
        if variants.tables:
            written.append(out / COMPRESSION)
            write_atomic(written[-1], csv_bytes(compression_table(variants)))
        if answers:
            written.append(out / USABILITY)
            write_atomic(written[-1], csv_bytes(usability_table(answers)))
        if find_spec("pyarrow") is not None:
            for name, table in zip(PARQUET, tables, strict=True):
                write_atomic(out / name, frame(table).to_parquet(index=False, engine="pyarrow"))
                written.append(out / name)
        more = {**class_figures(scores), **curve_figures(curves)}
        more |= compression_figures(compression_views(variants))
        more |= chart_figures({table.name: table.charts for table in transfer_tables(found)})
        written += write_figures(found, out / "figures", more)
        for path in written:
            path.chmod(0o644)  # an atomic write begins as 0600; a report is to be read
    except OSError as error:
        raise UserError(f"{out}: the report cannot be written: {error.strerror}") from error
    return written


def _with_examples(
    parts: ReportParts, book: Book, ranking: Ranking, runs: Sequence[Run]
) -> ReportParts:
    """With what shows examples of the test set."""
    return replace(
        parts,
        worst=worst_pictures(book, ranking, runs),
        spoken=worst_transcripts(book, ranking, runs),
        rebuilt=picture_sheets(runs),
        maps=explained_examples(ranking, runs),
    )


def _environment(runs: Sequence[Run]) -> dict[str, Any]:
    """The environment.json of each run; under its name where there are several."""
    found = {run.path.name: read_environment(run.path) for run in runs}
    there = {name: body for name, body in found.items() if body}
    return next(iter(there.values())) if len(there) == 1 else there
