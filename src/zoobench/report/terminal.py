"""The ranking as tables of a terminal 80 columns wide."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoobench import escape
from zoobench.compare.variant_verdicts import VariantVerdicts
from zoobench.datasets.faults import about
from zoobench.datasets.options import BOUNDS
from zoobench.metrics import bounded, difference, sign
from zoobench.ranking.nouns import Failure, OverallRanking, Ranking, Row, SectionRanking
from zoobench.ranking.pareto import noisy
from zoobench.report.compression import compression_views
from zoobench.report.parts import TransferTable
from zoobench.report.text import (
    COLUMNS,
    COST_TITLES,
    NOISY,
    board_names,
    control_label,
    costs,
    dataset_labels,
    failed_models,
    family_note,
    headline,
    labels,
    method_text,
    on_part_text,
    section_method,
    seeds,
    shared_options,
    standing,
    with_interval,
)
from zoobench.report.transfer import transfer_tables
from zoobench.schema import Ref
from zoobench.statistics.bootstrap import ALPHA
from zoobench.statistics.critical import CriticalDifference

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MOST_ROWS = 25
"""Longer rankings are cut in the terminal; the files hold all of it."""
MOST_TABLES = 6
"""Of compressed variants, likewise."""
COSTS = COLUMNS[:3]
"""That have room: parameters, MACs, latency."""


def print_ranking(ranking: Ranking, console: Console | None = None) -> None:
    """Tables a dataset, the overall ones with their headline, failures; on stdout.

    Colour only on a terminal and without NO_COLOR (rich's own rules).
    """
    from rich.console import Console

    # A pipe has no width of its own: 80 columns, whatever the terminal's size was.
    out = console or Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    for dataset in dict.fromkeys(s.dataset for s in ranking.sections):
        _dataset(out, [s for s in ranking.sections if s.dataset == dataset])
    for overall, name in zip(ranking.overall, board_names(ranking.overall), strict=True):
        _overall(out, overall, name)
    for found in transfer_tables(ranking):
        if found.name != "gapped":  # the files have it; a terminal's page is short
            _transfer(out, found)
    _failures(out, ranking.failures)
    if not ranking.sections:
        out.print("No model was measured: there is nothing to rank.")


def print_compression(verdicts: VariantVerdicts, console: Console | None = None) -> None:
    """What each compressed variant loses and gains, a table an original; nothing without any."""
    from rich.console import Console

    out = console or Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    for view in compression_views(verdicts)[:MOST_TABLES]:
        _head(out, f"Compression: {view.title}")
        table = _blank_table(out)
        for name in view.header:
            if name not in view.spare:
                title = "ms" if name == COST_TITLES["latency_ms_p50"] else escape.terminal(name)
                named = name in ("model", "variant")
                table.add_column(title, overflow="fold", no_wrap=not named)
        for row in view.rows[:MOST_ROWS]:
            cells = zip(view.header, row, strict=True)
            _row(table, *(text for name, text in cells if name not in view.spare))
        out.print(table)
        for line in view.notes:
            _say(out, line)
    if len(verdicts.tables) > MOST_TABLES:
        _say(out, f"... and {len(verdicts.tables) - MOST_TABLES} more: see the report")


def ranking_text(ranking: Ranking, width: int = 80) -> str:
    """What `print_ranking` prints, without colour. Nothing is printed, in a notebook neither."""
    from rich.console import Console

    file = io.StringIO()
    print_ranking(
        ranking,
        Console(file=file, width=width, highlight=False, color_system=None, force_jupyter=False),
    )
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()).strip("\n")


def _plain(console: Console) -> bool:
    """Whether only ASCII may be printed."""
    return not (console.encoding or "").lower().replace("-", "").startswith("utf")


def _say(console: Console, text: str, style: str = "") -> None:
    if _plain(console):
        text = text.replace("·", "-").replace("×", "x").encode("ascii", "replace").decode()
    console.print(
        escape.terminal(text), style=style or None, markup=False, highlight=False, soft_wrap=False
    )


def _head(console: Console, text: str, style: str = "bold") -> None:
    console.print()
    _say(console, text, style)


def _blank_table(console: Console) -> Table:
    from rich import box
    from rich.table import Table

    style = box.ASCII2 if _plain(console) else box.SIMPLE_HEAD
    return Table(box=style, pad_edge=False, padding=(0, 1, 0, 0))


def _row(table: Table, *cells: str, style: str = "") -> None:
    """A row of texts, which are never rich's markup."""
    from rich.text import Text

    table.add_row(*(Text(escape.terminal(cell)) for cell in cells), style=style or None)


def _table(console: Console, metric: str, first: bool) -> Table:
    from rich.text import Text

    table = _blank_table(console)
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, width=1)
    table.add_column("model", overflow="fold")
    table.add_column(Text(escape.terminal(f"{metric} [95%]")), no_wrap=True)
    for name in ("P(1st)", "params", "MACs", "ms")[0 if first else 1 :]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _dataset(console: Console, sections: Sequence[SectionRanking]) -> None:
    first = sections[0]
    _head(console, section_about(first))
    table = _table(console, first.metric, first=False)
    every = [row.model for s in sections for row in s.rows]
    names = labels(every + [m for s in sections for m in failed_models(s)])
    for section in sections:
        _row(table, "", "", f"{section_method(section)}:", style="bold")
        for row in section.rows[:MOST_ROWS]:
            name = names[row.model] + seeds(row)
            _row(table, *standing(section, row, name), *costs(row, COSTS))
            for flag in row.flags:
                _row(table, "", "!", f"{flag.name}", "", style="yellow")
        if len(section.rows) > MOST_ROWS:
            _row(table, "", "", f"... and {len(section.rows) - MOST_ROWS} more")
        for model, status in failed_models(section).items():
            _row(table, "", "x", names.get(model, model.short), status)
        for control in _own_controls(section):
            _row(table, "-", "", *control, style="dim")
    for text in dict.fromkeys(c for s in sections for c in _shared_controls(s)):
        _row(table, "-", "", *text, style="dim")
    console.print(table)
    for section in sections:
        for line in section_notes(section):
            _say(console, line)


def section_about(section: SectionRanking) -> str:
    sizes = section.sizes
    parts = [section.dataset.short]
    if sizes:
        parts.append(", ".join(f"{sizes[k]} {k}" for k in ("train", "test") if k in sizes))
    if section.classes:
        parts.append(f"{section.classes} class{'es' if section.classes > 1 else ''}")
    if section.nature:
        parts.append(section.nature)
    if options := _options(section.rows):
        parts.append(f"models with {options}")
    parts += [flag.name for flag in section.flags]
    return " · ".join(parts)


def _options(rows: Sequence[Row]) -> str:
    """What `labels` leaves out because all models share it; "" where nothing."""
    found = shared_options(row.model for row in rows)
    return ", ".join(f"{name} = {value}" for name, value in found.items())


def _bounds(datasets: Sequence[Ref]) -> str:
    """What `dataset_labels` leaves out of names: how their splits are bounded."""
    told = []
    for ref, label in dataset_labels(datasets).items():
        options = dict(ref.options)
        dropped = [bound for bound in BOUNDS if bound in options and f"{bound}=" not in label]
        if dropped:
            told.append(f"{label} ({', '.join(f'{b} = {options[b]}' for b in dropped)})")
    return ", ".join(told)


def _own_controls(section: SectionRanking) -> list[tuple[str, str]]:
    """The best random-weights control of this method: one line says enough in a terminal."""
    random = [c for c in section.controls if c.model.source != "control"]
    if not random:
        return []
    best = max(random, key=lambda c: sign(section.metric) * c.value)
    several = f"best of the random weights{on_part_text(best)}"
    name = control_label(best) if len(random) == 1 else several
    return [(name, with_interval(section.metric, best.value, best.low, best.high))]


def _shared_controls(section: SectionRanking) -> list[tuple[str, str]]:
    return [
        (control_label(c), with_interval(section.metric, c.value, c.low, c.high))
        for c in section.controls
        if c.model.source == "control"
    ]


def section_notes(section: SectionRanking) -> list[str]:
    """What limits a section: the gap it resolves, saturation, flags with their reasons."""
    lines = []
    method = section_method(section)
    if len(section.rows) > 1:
        text = f"{method}: {resolved(section.metric, section.gap)}"
        if section.saturated:
            text += "; near-saturated: even a perfect model could not be told from the best"
        if not section.paired:
            text += "; no predictions kept, so from intervals alone"
        lines.append(text)
    names = labels(row.model for row in section.rows)
    lines += [
        f"! {names[row.model]}, {method}: {flag.name}: {flag.why}"
        for row in section.rows
        for flag in row.flags
        if flag.why
    ]
    return lines


def resolved(metric: str, gap: float | None) -> str:
    """What a lead must be to be found, for people."""
    if gap is None:
        return "no lead is proof: one training run each, whose luck may be all of it"
    if bounded(metric) and gap > 1:
        return "no lead would be found four times in five: too few examples"
    return f"a lead of {difference(metric, gap)} would be found four times in five"


def _overall(console: Console, overall: OverallRanking, name: str) -> None:
    title = f"Overall: {name}, "
    title += f"mean over {len(overall.datasets)} dataset{'s' * (len(overall.datasets) != 1)}"
    _head(console, title)
    if len(overall.datasets) > 1:
        table = _table(console, overall.metric, first=True)
        names = labels(row.model for row in overall.rows)
        for row in overall.rows[:MOST_ROWS]:
            start = standing(overall, row, names[row.model])
            _row(table, *start, f"{row.first:.2f}", *costs(row, COSTS))
        console.print(table)
    for line in overall_notes(overall, MOST_ROWS):
        _say(console, line)


def overall_notes(overall: OverallRanking, most: int | None = None) -> list[str]:
    """The decision and what limits it, a sentence or two a line; `most` disagreements."""
    lines = [headline(overall)]
    published = imported_from(overall)
    lines += [f"Published numbers, not measured here: {text}." for text in published]
    if options := _options(overall.rows):
        lines.append(f"All models with {options}.")
    if cut := _bounds(overall.datasets):
        lines.append(f"Not all of the data: {cut}.")
    lines += [f"Of {name}: {text}." for name, text in left_out_examples(overall).items()]
    if len(overall.tied) > 1 and (note := family_note(overall.tied)):
        lines.append(note)
    if len(overall.rows) > 1:
        text = resolved(overall.metric, overall.gap)
        lines.append(f"{text[0].upper()}{text[1:]}.")
    if len(overall.datasets) > 1 and not overall.general:
        many = len(overall.datasets)
        why = "are test sets of one task" if published else "are too few to speak of others"
        lines.append(f"{many} datasets {why}: intervals and ties hold for these datasets.")
    if overall.critical is not None:
        lines.append(critical_note(overall.critical))
    if any(noisy(row.records) for row in overall.rows):
        lines.append(
            f"{NOISY} marks a noisy time: its steps took unlike times, even when repeated."
        )
    lines += [f"The orders disagree: {text}." for text in overall.disagreements[:most]]
    if most is not None and len(overall.disagreements) > most:
        left = len(overall.disagreements) - most
        lines.append(f"... and {left} more models on which they disagree: see the report.")
    lines += [f"Not ranked: {m.short} ({w})." for m, w in overall.left_out_models.items()]
    lines += [f"Left out: {d.short} ({w})." for d, w in overall.left_out_datasets.items()]
    return lines


def imported_from(overall: OverallRanking) -> list[str]:
    """Source and licence of the published numbers among those ranked."""
    found = [r.provenance["imported"] for row in overall.rows for r in row.records
             if "imported" in r.provenance]  # fmt: skip
    return list(dict.fromkeys(f"{one['source']}, {one['license']}" for one in found))


def left_out_examples(overall: OverallRanking) -> dict[str, str]:
    """What of each dataset is not used, as its records' notes say it; often nothing."""
    found: dict[Ref, str] = {}
    for row in overall.rows:
        for record in row.records:
            found.setdefault(record.cell.dataset, about(record.provenance.get("notes")))
    names = dataset_labels(found)
    return {names[ref]: text for ref, text in found.items() if text}


def _transfer(console: Console, found: TransferTable) -> None:
    _head(console, found.title)
    _say(console, found.about)
    table = _blank_table(console)
    apart = {*found.shared, *found.spare}
    for name in found.header:
        if name not in apart:
            table.add_column(escape.terminal(name), overflow="fold")
    above: list[str] = []
    for row in _grouped(found)[:MOST_ROWS]:
        cells = dict(zip(found.header, row, strict=True))
        group = [cells[name] for name in found.shared]
        if group != above:
            _row(table, f"{' on '.join(group)}:")
            above = group
        own = [text for name, text in cells.items() if name not in apart]
        _row(table, f"  {own[0]}" if group else own[0], *own[1:])
    console.print(table)
    if len(found.rows) > MOST_ROWS:
        _say(console, f"... and {len(found.rows) - MOST_ROWS} more: see the report")


def _grouped(found: TransferTable) -> list[tuple[str, ...]]:
    """The rows, those that agree in the shared columns together, in the order of the first."""
    at = [found.header.index(name) for name in found.shared]
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for row in found.rows:
        groups.setdefault(tuple(row[i] for i in at), []).append(row)
    return [row for group in groups.values() for row in group]


def critical_note(found: CriticalDifference[Ref]) -> str:
    """What the critical-difference diagram says, in a sentence or two."""
    said = f"Mean ranks over {found.datasets} datasets: Friedman's test p = {found.friedman:.2g}; "
    if found.smallest > ALPHA:
        pairs = len(found.models) * (len(found.models) - 1) // 2
        return said + (
            f"Wilcoxon's test cannot part any of {pairs} pairs on so few datasets "
            f"(Holm-corrected, its least p is {found.smallest:.2g})."
        )
    names = labels(found.models)
    groups = [
        f"{names[found.models[first]]} to {names[found.models[last]]}"
        for first, last in found.cliques
    ]
    if not groups:
        return said + "Wilcoxon's test with Holm's correction parts every pair."
    return said + (
        "groups that Wilcoxon's test with Holm's correction cannot part: " + "; ".join(groups) + "."
    )


def _failures(console: Console, failures: Sequence[Failure]) -> None:
    if not failures:
        return
    _head(console, f"{len(failures)} cell{'s' * (len(failures) != 1)} failed", "bold red")
    for failure in failures[:MOST_ROWS]:
        _say(console, f"  {failure_text(failure)}")
    if len(failures) > MOST_ROWS:
        _say(console, f"  ... and {len(failures) - MOST_ROWS} more: see the report")


def failure_text(failure: Failure) -> str:
    model, dataset = failure.model.short, failure.dataset.short
    method = method_text(failure.method, failure.shots)
    seed = f" seed {failure.seed}" if failure.seed else ""
    return f"{failure.status}: {model} · {dataset} · {method}{seed}: {failure.why}"
