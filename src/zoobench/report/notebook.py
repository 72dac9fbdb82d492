"""How a notebook shows a run, a ranking, recommendations and a comparison: small HTML tables.

Names, reasons and licences come from users and from hubs. Every text passes `_tag`, which
escapes it, so none of them is ever markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from zoobench.compare.verdicts import Comparison
from zoobench.escape import html
from zoobench.ranking.comparability import is_control
from zoobench.ranking.nouns import Ranking
from zoobench.ranking.recommend import Recommendation
from zoobench.report import gate
from zoobench.report.markdown import failure_rows, overall_rows, section_rows
from zoobench.report.terminal import overall_notes, section_about, section_notes
from zoobench.report.text import board_names, recommendation_text, section_method
from zoobench.store import Run

MOST_ROWS = 25
"""Longer tables are cut: `.frame()` and the report's files hold all of it."""


def run_html(run: Run) -> str:
    """What a run holds: its suite, its cells by status, and those that failed."""
    failed = [record for record in run.records if record.status != "ok"]
    rows = [[r.status, r.cell.label, str((r.error or {}).get("message", ""))] for r in failed]
    name = str(run.suite.get("name") or run.path.name)
    table = _table(["status", "cell", "why"], rows)
    return _tag("h4", name) + _tag("p", summary(run)) + table


def summary(run: Run) -> str:
    """ "12 cells (11 ok, 1 oom), 3 models, 1 dataset, in results/runs/x"; controls count as cells
    alone."""
    statuses = Counter(record.status for record in run.records)
    by_status = ", ".join(f"{n} {status}" for status, n in statuses.most_common())
    models = {r.cell.model for r in run.records if not is_control(r)}
    datasets = {r.cell.dataset for r in run.records}
    cells = _counted(len(run.records), "cell") + (f" ({by_status})" if by_status else "")
    named = _counted(len(models), "model"), _counted(len(datasets), "dataset")
    return f"{cells}, {', '.join(named)}, in {run.path}"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def ranking_html(ranking: Ranking) -> str:
    """The decision first, then each dataset, then the cells that failed."""
    parts = []
    for overall, name in zip(ranking.overall, board_names(ranking.overall), strict=True):
        parts.append(_tag("h4", f"Overall: {name}"))
        parts += [_tag("p", line) for line in overall_notes(overall, MOST_ROWS)]
        parts.append(_table(*overall_rows(overall, MOST_ROWS), len(overall.rows)))
    for section in ranking.sections:
        parts.append(_tag("h4", section_about(section)))
        parts.append(_tag("p", section_method(section)))
        parts.append(_table(*section_rows(section, MOST_ROWS), len(section.rows)))
        parts.append(_list(section_notes(section)))
    if not ranking.sections:
        parts.append(_tag("p", "No model was measured: there is nothing to rank."))
    if ranking.failures:
        parts += [_tag("h4", "Cells that failed"), _table(*failure_rows(ranking.failures))]
    return "".join(parts)


def recommendations_html(found: Iterable[Recommendation]) -> str:
    """Of each overall ranking what to take, and below it how sure that is and why no other."""
    parts = []
    for recommendation in found:
        first, *rest = recommendation_text(recommendation)
        parts += [_tag("h4", first), _list(rest)]
    return "".join(parts)


def comparison_html(found: Comparison) -> str:
    """The verdict, then the findings, worst first; cells that stayed the same are only counted."""
    parts = [_tag("h4", gate.title(found)), _tag("p", gate.tally(found))]
    for name, findings in gate.by_outcome(found):
        if name != "same":
            parts.append(_tag("p", name))
            parts.append(_table(gate.COLUMNS, [gate.cells(f) for f in findings]))
    for heading, lines in gate.extras(found):
        parts += [_tag("p", heading), _list(lines)]
    return "".join(parts)


def text_html(text: str) -> str:
    """What a terminal shows, as it stands there."""
    return _tag("pre", text)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], total: int | None = None) -> str:
    """Rows of a table, of `total` that there are; by default all there are, cut here."""
    if not rows:
        return ""
    left = (len(rows) if total is None else total) - MOST_ROWS
    shown = rows[:MOST_ROWS] if total is None else rows
    head = "".join(_tag("th", text) for text in header)
    body = "".join(f"<tr>{''.join(_tag('td', text) for text in row)}</tr>" for row in shown)
    more = _tag("p", f"... and {left} more") if left > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _list(lines: Sequence[str]) -> str:
    items = "".join(_tag("li", line) for line in lines[:MOST_ROWS])
    left = len(lines) - MOST_ROWS
    more = _tag("li", f"... and {left} more") if left > 0 else ""
    return f"<ul>{items}{more}</ul>" if items else ""


def _tag(name: str, text: str) -> str:
    """An element of this name around `text`, which is escaped."""
    return f"<{name}>{html(text)}</{name}>"
