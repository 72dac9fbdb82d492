"""The compression view: an original and its variants by quality, bytes, time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from zoobench.compare.quality import signed
from zoobench.compare.variant_verdicts import VariantRow, VariantTable, VariantVerdicts
from zoobench.compare.verdicts import Finding
from zoobench.escape import plain
from zoobench.files import file_name
from zoobench.metrics import fraction
from zoobench.ranking.pareto import noisy
from zoobench.report.drawing import DPI, LONGEST, lay_out, log_axis, name_points, pixels
from zoobench.report.tables import Columns
from zoobench.report.text import (
    COST_TITLES,
    cost,
    cut,
    dataset_labels,
    labels,
    measure,
    method_text,
    with_interval,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAID = {"same": "non-inferior"}
"""A verdict's word, where it isn't the gate's: a variant was never meant to be the same."""
TIMES = ("latency_ms_p50", "peak_memory_bytes")
CSV = (
    "scope", "original", "dataset", "method", "shots", "variant", "head", "status", "why", "metric",
    "value", "low", "high", "difference", "difference_low", "difference_high", "verdict", "margin",
    "p", "p_holm", "coverage", "coverage_macs", "weights_bytes", "weights_ratio", "latency_ms_p50",
    "latency_ratio", "peak_memory_bytes", "memory_ratio", "front", "dominated_by",
)  # fmt: skip
"""Columns of compression.csv."""
LEAST, MOST = 1e-9, 1e18
"""Costs that have a place on a log axis: what a stranger's record says beyond was made up."""
RATIOS = {
    "weights_bytes": "weights_ratio",
    "latency_ms_p50": "latency_ratio",
    "peak_memory_bytes": "memory_ratio",
}


@dataclass(frozen=True)
class CompressionView:
    """One original in one question, or the verdicts over all datasets (no `found`), as a table.

    The columns `spare` are left to what is wider than a terminal.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    found: VariantTable | None = None

    @property
    def drawn(self) -> list[VariantRow]:
        """The rows that have a place in its figure; none where there would be nothing to see."""
        if self.found is None or not self.found.axes:
            return []
        placed = [
            row
            for row in self.found.rows
            if row.value is not None
            and all(LEAST <= row.costs.get(axis, 0) <= MOST for axis in self.found.axes)
        ]
        return placed if len(placed) > 1 else []


def about(verdicts: VariantVerdicts) -> str:
    """What stands above the tables."""
    gates = verdicts.gates
    few = "test is" if verdicts.family == 1 else "tests are"
    return (
        "A variant is a model of its own: quality, bytes of the saved file, latency and memory are "
        "of the same object. Head carried: fitted on the original's features, as a deployment does "
        "it; anew: fitted on the variant's own. A variant is non-inferior where the 95% interval "
        f"of its paired difference lies above a loss of {gates.margin:g} point"
        f"{'s' * (gates.margin != 1)} (hundredths of the metric's unit; percent of an error in the "
        f"target's own), regressed where a loss is sure and not within it (p < {gates.alpha:g}; "
        f"{verdicts.family} {few} corrected together, by Holm), else inconclusive. On the front is "
        "what no other row beats in quality, bytes and, where one machine timed all, latency; "
        "ratios are to the original. Times of a run are taken one after the other: a ratio near 1 "
        "says nothing."
    )


def compression_views(verdicts: VariantVerdicts) -> list[CompressionView]:
    """A table for each original, dataset and method; then one over all datasets, if several."""
    titles = _titles(verdicts.tables)
    views = [
        CompressionView(
            str(number),
            title,
            _header(table.metric),
            tuple(_cells(table.metric, row) for row in table.rows),
            tuple(_notes(table)),
            (_header(table.metric)[3], COST_TITLES["peak_memory_bytes"], "coverage", "front"),
            table,
        )
        for number, (title, table) in enumerate(zip(titles, verdicts.tables, strict=True), start=1)
    ]
    if verdicts.pooled:
        models = labels(model.without("variant") for model, _ in verdicts.pooled)
        rows = [
            (models[model.without("variant")], short_name(VariantRow(model, head)),
             *verdict_cells(one), str(one.cells))
            for (model, head), one in verdicts.pooled.items()
        ]  # fmt: skip
        header = ("model", "variant", "verdict", "difference [95%]", "cells")
        views.append(CompressionView("all", "over all datasets", header, tuple(rows)))
    return views


def _titles(tables: Sequence[VariantTable]) -> list[str]:
    """ "resnet18 on digits, knn", with parameters' place taken by a number where two are alike."""
    models = labels(table.original for table in tables)
    on = dataset_labels(table.dataset for table in tables)
    plain = [f"{models[t.original]} on {on[t.dataset]}, {method_text(t.method, t.shots)}"
             for t in tables]  # fmt: skip
    return [
        title if plain.count(title) == 1 else f"{title} ({1 + plain[:i].count(title)})"
        for i, title in enumerate(plain)
    ]


def _header(metric: str) -> tuple[str, ...]:
    return (
        "variant", "verdict", "difference [95%]", f"{measure(metric)} [95%]",
        *(COST_TITLES[name] for name in RATIOS), "coverage", "front",
    )  # fmt: skip


def short_name(row: VariantRow) -> str:
    """ "original", "bf16", "bf16, carried"."""
    return row.name.replace(", head ", ", ")


def _cells(metric: str, row: VariantRow) -> tuple[str, ...]:
    if row.status != "ok":
        return short_name(row), row.status, *[""] * (len(RATIOS) + 4)
    verdict = ("", "") if row.finding is None else verdict_cells(row.finding)
    marked = noisy(row.records)
    costs = [
        f"{cost(key, row.costs.get(key), marked)}{_times(row.ratios.get(key))}" for key in RATIOS
    ]
    return short_name(row), *verdict, _quality(metric, row), *costs, _coverage(row), _front(row)


def verdict_cells(found: Finding) -> tuple[str, str]:
    """The verdict's word, and the difference with its interval."""
    word = SAID.get(found.outcome, found.outcome)
    numbers = found.change, found.low, found.high
    if any(number is None for number in numbers):
        return word, ""
    change, low, high = (signed(found.metric, number) for number in numbers if number is not None)
    return word, f"{change} [{low}, {high}]"


def _quality(metric: str, row: VariantRow) -> str:
    return "" if row.value is None else with_interval(metric, row.value, row.low, row.high)


def _coverage(row: VariantRow) -> str:
    if row.coverage is None:
        return ""
    macs = "" if row.covered_macs is None else f", MACs {row.covered_macs:.0%}"
    return f"{row.coverage:.0%}{macs}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f" {ratio:.2f}x"


def _front(row: VariantRow) -> str:
    if row.dominated_by is None:
        return ""
    return f"behind {row.dominated_by.replace(', head ', ', ')}" if row.dominated_by else "yes"


def _notes(table: VariantTable) -> list[str]:
    """Why a row has no number, no verdict or no ratio of times; a reason is said once."""
    said: dict[str, list[str]] = {}
    for row in table.rows:
        finding = row.finding
        if row.status != "ok":
            said.setdefault(f"{row.status}: {row.why}", []).append(row.name)
        elif finding is not None and finding.outcome in ("missing", "incomparable"):
            said.setdefault(f"{finding.outcome}: {finding.why}", []).append(row.name)
        elif finding is not None and finding.outcome == "inconclusive":
            said.setdefault(finding.why, []).append(row.name)
        if row.apart:
            said.setdefault(f"times are not compared: {row.apart}", []).append(row.name)
    return [f"{'; '.join(names)}: {why}" for why, names in said.items()]


def compression_table(verdicts: VariantVerdicts) -> Columns:
    """What compression.csv holds: one row a variant and head of each question, the original's
    first (scope "dataset"), then the verdicts over all datasets (scope "overall")."""
    rows: list[dict[str, Any]] = []
    for table in verdicts.tables:
        asked = {
            "scope": "dataset",
            "original": table.original.text,
            "dataset": table.dataset.text,
            "method": table.method,
            "shots": table.shots,
            "metric": table.metric,
        }
        rows += [asked | _numbers(row) for row in table.rows]
    for (model, head), one in verdicts.pooled.items():
        named = {"variant": model.option("variant"), "head": head, "status": "ok"}
        original = {"scope": "overall", "original": model.without("variant").text}
        rows.append({**original, **named, "metric": one.metric, **_decided(one)})
    return {name: [row.get(name) for row in rows] for name in CSV}


def _numbers(row: VariantRow) -> dict[str, Any]:
    front = None if row.dominated_by is None else not row.dominated_by
    return {
        "variant": row.variant,
        "head": row.head,
        "status": row.status,
        "why": row.why,
        "value": row.value,
        "low": row.low,
        "high": row.high,
        "coverage": row.coverage,
        "coverage_macs": row.covered_macs,
        "front": front,
        "dominated_by": row.dominated_by or None,
        **{name: row.costs.get(name) for name in RATIOS},
        **{RATIOS[name]: ratio for name, ratio in row.ratios.items()},
        **({} if row.finding is None else _decided(row.finding)),
    }


def _decided(one: Finding) -> dict[str, Any]:
    return {
        "difference": one.change,
        "difference_low": one.low,
        "difference_high": one.high,
        "verdict": SAID.get(one.outcome, one.outcome),
        "margin": one.margin,
        "p": one.p,
        "p_holm": one.adjusted,
    }


KINDS = ("original", "non-inferior", "inconclusive", "regressed")
"""How the marks of a figure differ; an improved variant is a non-inferior one."""
COLOURS = dict(zip(KINDS, ("#000000", "#0072b2", "#777777", "#d55e00"), strict=True))


def kind_of(row: VariantRow) -> str:
    if row.finding is None:
        return "original"
    word = SAID.get(row.finding.outcome, row.finding.outcome)
    return {"improved": "non-inferior"}.get(word, word if word in KINDS else "inconclusive")


def compression_data(views: Sequence[CompressionView]) -> dict[str, Any]:
    """For the page's script: of each table its title, metric, axes and points."""
    tables = [
        {
            "name": view.name,
            "title": view.title,
            "metric": view.found.metric,
            "axes": view.found.axes,
            "rows": [
                {
                    "label": short_name(row),
                    "head": row.head,
                    "kind": kind_of(row),
                    "costs": {axis: row.costs[axis] for axis in view.found.axes},
                    "text": _quality(view.found.metric, row),
                    "value": row.value,
                    "low": row.low,
                    "high": row.high,
                }
                for row in view.drawn
            ],
        }
        for view in views
        if view.found is not None
    ]
    return {"compression": tables}


def compression_figures(views: Sequence[CompressionView]) -> dict[str, Callable[[], Figure]]:
    """Name of a figure's file, without its suffix -> what draws it."""
    return {figure_name(view): partial(figure_of, view) for view in views if view.drawn}


def figure_name(view: CompressionView) -> str:
    """The name of its figure's file, without the suffix."""
    names = (view.found.original.name, view.found.dataset.name) if view.found else ("all",)
    return file_name("-".join(("compression", view.name, *names)))


def figure_of(view: CompressionView) -> Figure:
    """A panel a cost: quality with its interval, a line from the original to each variant."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = view.found
    assert table is not None
    figure = Figure(figsize=(3.8 * len(table.axes) + 0.4, 4.2), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(table.axes), sharey=True, squeeze=False)[0]
    rows = view.drawn
    placed = [[_place(row, axis, table.metric) for row in rows] for axis in table.axes]
    for axes, axis, places in zip(panels, table.axes, placed, strict=True):
        _panel(axes, [kind_of(row) for row in rows], places)
        axes.set_xlabel(COST_TITLES[axis] + (" (bytes)" if axis.endswith("bytes") else ""))
    panels[0].set_ylabel(f"{measure(table.metric)}, 95% interval")
    figure.suptitle(cut(plain(view.title), LONGEST), fontsize=10)
    handles, kinds = panels[0].get_legend_handles_labels()
    figure.legend(handles, kinds, frameon=False, fontsize=8, loc="outside lower center", ncols=4)
    lay_out(figure)  # the layout must stand before places are measured
    names = [plain(short_name(row)) for row in rows]
    for axes, places in zip(panels, placed, strict=True):
        marks = pixels(axes, [(x, y, x, y) for x, y, _, _ in places], 3.0)
        whiskers = pixels(axes, [(x, low, x, high) for x, _, low, high in places], 2.0)
        spots = [(x, y) for x, y, _, _ in places]
        name_points(axes, names, spots, np.vstack([marks, whiskers]))
    return figure


def _panel(axes: Axes, kinds: Sequence[str], places: Sequence[Place]) -> None:
    """The original comes first."""
    x0, y0, _, _ = places[0]
    for kind, (x, y, low, high) in zip(kinds, places, strict=True):
        first = kind not in axes.get_legend_handles_labels()[1]
        axes.plot([x0, x], [y0, y], color="#999999", lw=0.8, zorder=1)
        axes.errorbar(
            [x], [y], yerr=[[max(y - low, 0)], [max(high - y, 0)]], fmt="o", ms=5, lw=1, capsize=2,
            color=COLOURS[kind], label=kind if first else None,
        )  # fmt: skip
    log_axis(axes)
    axes.grid(alpha=0.25)


Place: TypeAlias = tuple[float, float, float, float]
"""x, y and the ends of the interval."""


def _place(row: VariantRow, axis: str, metric: str) -> Place:
    """Of a row that has one; both heads of a variant, which cost the same, stand side by side."""
    factor = 100.0 if fraction(metric) else 1.0
    x = row.costs[axis] * {"carried": 0.985, "anew": 1.015}.get(row.head, 1.0)
    assert row.value is not None
    low, high = (row.value if end is None else end for end in (row.low, row.high))
    return x, factor * row.value, factor * low, factor * high
