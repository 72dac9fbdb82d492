"""The report as Markdown: the decision first, then each dataset, failures, environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from zoobench import escape
from zoobench.ranking.nouns import Failure, OverallRanking, Ranking, SectionRanking
from zoobench.ranking.pareto import AXES, front_of, noisy, one_device
from zoobench.report.classes import (
    ClassScores,
    class_figures,
    class_rows,
    class_scores,
    left_out,
)
from zoobench.report.compression import about, compression_views, figure_name
from zoobench.report.figures import heat_cells, pictures, slugs
from zoobench.report.parts import NOTHING_MORE, ReportParts
from zoobench.report.precision_recall import curve_figures
from zoobench.report.protocol import HOW_TO_READ
from zoobench.report.terminal import overall_notes, section_about, section_notes
from zoobench.report.text import (
    COLUMNS,
    COST_TITLES,
    board_names,
    control_label,
    cost,
    costs,
    dataset_labels,
    failed_models,
    labels,
    measure,
    method_text,
    row_score,
    section_method,
    seeds,
    standing,
    with_interval,
    worst_texts,
)
from zoobench.report.transfer import transfer_tables
from zoobench.report.usability_view import ABOUT, NOTE
from zoobench.schema import Ref

MOST_ROWS = 200
"""Longer tables are cut: nobody reads them as text, and the CSV files hold all of it."""
MOST_CLASSES, MOST_MODELS = 40, 8
"""Of the tables of classes, which are wide, too."""
CONTROL = "control"
"""Among the flags of a row: it is no model."""
NAME = 2
"""The column of a ranking that names a model."""

TEMPLATE = """\
# zoobench: {{ title | text }}

{% for o in ranking.overall %}
## Overall: {{ numbered[loop.index0] | text }}

{% for line in notes(o) %}
{{ "**" ~ (line | text) ~ "**" if loop.first else line | text }}

{% endfor %}
{{ overall_table(o) }}

{% if fronts(o) %}
{{ fronts(o) }}

{% endif %}
{% if o.datasets | length > 1 or o.left_out_datasets %}
{{ heat(o) }}

{% endif %}
{% for picture in pictures[loop.index0] %}
![{{ picture | text }}](figures/{{ picture | urlencode }}.svg)

{% endfor %}
{% endfor %}
{% for dataset, sections in by_dataset.items() %}
## {{ dataset.short | text }}

{{ about(sections[0]) | text }}

{% for s in sections %}
### {{ dataset.short | text }}: {{ method(s) | text }}

{{ section_table(s) }}

{% for line in section_notes(s) %}
- {{ line | text }}
{% endfor %}

{% endfor %}
{% endfor %}
{% if compression %}
## Compression

{{ compressed | text }}

{% for v in compression %}
### {{ v.title | text }}

{{ table(v.header, v.rows) }}

{% for line in v.notes %}
- {{ line | text }}
{% endfor %}

{% if v.drawn %}
![{{ figure_name(v) | text }}](figures/{{ figure_name(v) | urlencode }}.svg)

{% endif %}
{% endfor %}
{% endif %}
{% for c, picture in classes %}
## Each class: {{ c.title | text }}

{{ c.about | text }}

{{ classes_table(c) }}

![{{ picture | text }}](figures/{{ picture | urlencode }}.svg)

{% endfor %}
{% for c, picture in curves %}
## Precision and recall: {{ c.title | text }}

{{ c.about | text }}

![{{ picture | text }}](figures/{{ picture | urlencode }}.svg)

{% endfor %}
{% for w in spoken %}
## Worst transcripts: {{ w.title | text }}

{{ w.about | text }}

{% for t in w.transcripts %}
- {{ t.caption | text }}: {{ t.line | text }}
{% endfor %}

{% endfor %}
{% for t in transfer_tables(ranking) %}
## {{ t.title | text }}

{{ t.about | text }}

{{ table(t.header, t.rows) }}

{% if t.charts %}
![{{ t.title | text }}](figures/{{ t.name | urlencode }}.svg)

{% endif %}
{% endfor %}
{% if usability.rows %}
## Usability

{{ usable | text }}

{{ table(usability.header, usability.texts) }}

{% for line in usability.reasons %}
- {{ line | text }}
{% endfor %}

{% endif %}
{% if ranking.failures %}
## Cells that failed

{{ failure_table }}

{% endif %}
## How to read this

{% for line in how_to_read %}
{{ line | text }}

{% endfor %}
{% if not usability.rows %}
{{ usable | text }}

{% endif %}
{% for line in environment %}
- {{ line | text }}
{% endfor %}
"""


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], slanted: Collection[int] = ()
) -> str:
    """A Markdown table of texts; the names of the rows `slanted` are."""
    lines = [[*map(escape.markdown, line)] for line in (header, *rows)]
    for number in slanted:
        lines[number + 1][NAME] = f"_{lines[number + 1][NAME]}_"
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(
    ranking: Ranking,
    title: str,
    environment: Mapping[str, Any],
    parts: ReportParts = NOTHING_MORE,
) -> str:
    """The whole of report.md. Pictures are linked as figures/<name>.svg."""
    from jinja2 import Environment

    by_dataset: dict[Ref, list[Any]] = {}
    for section in ranking.sections:
        by_dataset.setdefault(section.dataset, []).append(section)
    # Markdown, not HTML: each text passes the filter `text`, and tables escape their own cells.
    engine = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
    engine.filters["text"] = escape.markdown
    names, classes = slugs(ranking.overall), class_scores(ranking)
    text = engine.from_string(TEMPLATE).render(
        title=title,
        ranking=ranking,
        by_dataset=by_dataset,
        method=section_method,
        numbered=board_names(ranking.overall),
        pictures=[pictures(o, n) for o, n in zip(ranking.overall, names, strict=True)],
        notes=overall_notes,
        about=section_about,
        section_notes=section_notes,
        overall_table=overall_table,
        section_table=section_table,
        fronts=fronts,
        heat=heat,
        failure_table=table(*failure_rows(ranking.failures)),
        transfer_tables=transfer_tables,
        compression=compression_views(parts.variants),
        compressed=about(parts.variants),
        figure_name=figure_name,
        classes=list(zip(classes, class_figures(classes), strict=True)),
        classes_table=classes_table,
        curves=list(zip(parts.curves, curve_figures(parts.curves), strict=True)),
        table=table,
        usability=parts.usability,
        usable=ABOUT if parts.usability.rows else NOTE,
        spoken=parts.spoken,
        how_to_read=HOW_TO_READ,
        environment=[f"{k}: {v}" for k, v in flat(environment)],
    )
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip() + "\n"


def flat(environment: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as dotted names."""
    found: list[tuple[str, str]] = []
    for name, value in environment.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", str(value)))
    return found


def _titles() -> list[str]:
    return [COST_TITLES[name] for name in COLUMNS]


def overall_table(o: OverallRanking) -> str:
    return table(*overall_rows(o, MOST_ROWS)) + more(len(o.rows))


def overall_rows(o: OverallRanking, most: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of the `most` best models of an overall ranking."""
    names = labels(row.model for row in o.rows)
    header = [
        "rank",
        "",
        "model",
        f"{measure(o.metric)} [95%]",
        "P(1st)",
        "mean rank",
        "mean z",
        "worst",
    ]
    rows = [
        [
            *standing(o, row, names[row.model]),
            f"{row.first:.2f}",
            f"{row.mean_rank:.2f}",
            f"{row.mean_z:+.2f}",
            worst,
            *costs(row),
            row.license,
        ]
        for row, worst in list(zip(o.rows, worst_texts(o), strict=True))[:most]
    ]
    return [*header, *_titles(), "license"], rows


def more(count: int) -> str:
    """What a cut table leaves out, and where it is."""
    left = count - MOST_ROWS
    return f"\n\n... and {left} more: ranking.csv holds them all." if left > 0 else ""


def section_table(section: SectionRanking) -> str:
    header, rows = section_rows(section, MOST_ROWS)
    controls = [number for number, row in enumerate(rows) if row[-1] == CONTROL]
    return table(header, rows, controls) + more(len(section.rows))


def section_rows(section: SectionRanking, most: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table: the `most` best models, the controls, then who failed."""
    names = labels(row.model for row in section.rows)
    header = [
        "rank",
        "",
        "model",
        f"{measure(section.metric)} [95%]",
        "P(1st)",
        *_titles(),
        "flags",
    ]
    rows = [
        [
            *standing(section, row, names[row.model] + seeds(row)),
            f"{row.first:.2f}",
            *costs(row),
            ", ".join(flag.name for flag in row.flags),
        ]
        for row in section.rows[:most]
    ]
    blank = [""] * (len(COLUMNS) + 1)
    for control in section.controls:
        value = with_interval(section.metric, control.value, control.low, control.high)
        rows.append(["", "", control_label(control), value, *blank, CONTROL])
    for model, status in failed_models(section).items():
        rows.append(["", "", model.short, "", *blank, status])
    return header, rows


def fronts(o: OverallRanking) -> str:
    """The Pareto fronts, a row an axis; timed axes only where one device measured all."""
    names = labels(row.model for row in o.rows)
    rows = []
    for axis in AXES:
        found = front_of(o.rows, axis)
        if found:
            steps = (
                f"{names[r.model]} ({cost(axis, r.costs[axis], noisy(r.records))}: "
                f"{row_score(o.metric, r.value)})"
                for r in found
            )
            rows.append([COST_TITLES[axis], " < ".join(steps)])
    if not rows:
        return ""
    said = table(["cost", f"Pareto front ({measure(o.metric)}), cheapest first"], rows)
    if not one_device(o.rows):
        said += "\n\nTimes and memory were measured on several devices, so they are not ranked."
    return said


def heat(o: OverallRanking) -> str:
    grid, models, datasets = heat_cells(o)
    names, on = labels(models), dataset_labels(datasets)
    rows = [[names[m], *(text for _, text in row)] for m, row in zip(models, grid, strict=True)]
    header = ["model", *(on[d] for d in datasets)]
    return table(header, rows[:MOST_ROWS]) + more(len(rows))


def classes_table(c: ClassScores) -> str:
    """The first classes of the best models, as many as are read as text."""
    gone = left_out(c, MOST_CLASSES, MOST_MODELS)
    return table(*class_rows(c.first(MOST_CLASSES, MOST_MODELS))) + (f"\n\n{gone}" if gone else "")


def failure_rows(failures: Sequence[Failure]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of cells without a number."""
    rows = []
    for f in failures:
        method = method_text(f.method, f.shots)
        rows.append([f.status, f.model.short, f.dataset.short, method, str(f.seed), f.why])
    return ["status", "model", "dataset", "method", "seed", "why"], rows
