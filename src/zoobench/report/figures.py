"""Figures for papers: quality against MACs with its Pareto front, and a heat map."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.escape import plain
from zoobench.files import check_within, file_name, write_atomic
from zoobench.metrics import fraction, sign
from zoobench.ranking.nouns import OverallRanking, Ranking, Row
from zoobench.ranking.pareto import front_of
from zoobench.report.drawing import (
    DPI,
    LONGEST,
    Grid,
    blank,
    cut_names,
    draw_grid,
    lay_out,
    log_axis,
    name_points,
    pixels,
)
from zoobench.report.text import (
    COST_TITLES,
    cut,
    dataset_labels,
    labels,
    measure,
    method_text,
    row_score,
)
from zoobench.schema import Ref
from zoobench.statistics.bootstrap import Floats as Boxes
from zoobench.statistics.critical import CriticalDifference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LABELS = 30
"""With more models only the front and the tied ones are named."""
MOST_ROWS, CUT_ROWS = 40, 20
"""A heat map of more models shows the best CUT_ROWS, which fit a page; other files hold all."""
CROWD = 100
"""With more models marks are small, and a name stands where it covers no mark of any model."""

Drawings = Mapping[str, Callable[[], "Figure"]]


def write_figures(ranking: Ranking, folder: Path, more: Drawings | None = None) -> list[Path]:
    """`<name>.svg` and `.png` for each overall ranking, and for `more`; the same run gives the same
    bytes."""
    check_within(folder.parent, folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for overall, slug in zip(ranking.overall, slugs(ranking.overall), strict=True):
        for stem, draw in pictures(overall, slug).items():
            written += _save(folder / file_name(stem), draw)
    for stem, draw in (more or {}).items():
        written += _save(folder / file_name(stem), draw)
    return written


def pictures(overall: OverallRanking, slug: str) -> dict[str, Callable[[], Figure]]:
    """Name of a figure's file, without its suffix -> what draws it."""
    drawn: dict[str, Callable[[], Figure]] = {}
    if any(row.costs.get("macs", 0) > 0 for row in overall.rows):  # 0 has no place on a log axis
        drawn[f"{overall.metric}-macs-{slug}"] = partial(scatter, overall, "macs")
    drawn[f"heatmap-{slug}"] = partial(heatmap, overall)
    if overall.critical is not None:
        title = _title(overall)
        drawn[f"critical-difference-{slug}"] = partial(ranks_diagram, overall.critical, title)
    return drawn


def slugs(overall: Sequence[OverallRanking]) -> list[str]:
    """A file name's part for each: the method, shots, and what tells several apart."""
    plain = [method_text(o.method, o.shots).replace(", ", "-").replace(" ", "-") for o in overall]
    named = [f"{p}-{o.name}" if o.name else p for p, o in zip(plain, overall, strict=True)]
    return [
        name if named.count(name) == 1 else f"{name}-{1 + named[:i].count(name)}"
        for i, name in enumerate(named)
    ]


def _save(stem: Path, draw: Callable[[], Figure]) -> list[Path]:
    import matplotlib as mpl

    style: dict[Any, Any] = {
        "svg.hashsalt": "zoobench",
        "svg.fonttype": "path",
        "text.parse_math": False,  # a name with two $ in it is no formula
        "text.hinting": "no_hinting",  # takes time, and 150 dots an inch need none
        "font.size": 9.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    paths = []
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for it
        figure = draw()
        lay_out(figure)  # once, not for each format
        for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": ""})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata, dpi=DPI)
            path = stem.parent / f"{stem.name}.{kind}"
            write_atomic(path, buffer.getvalue())
            paths.append(path)
    return paths


def _title(overall: OverallRanking) -> str:
    count = len(overall.datasets)
    short = cut(plain(overall.datasets[0].short), LONGEST)
    where = short if count == 1 else f"mean over {count} datasets"
    return f"{method_text(overall.method, overall.shots)}: {overall.metric}, {where}"


def scatter(overall: OverallRanking, axis: str) -> Figure:
    """Quality against the cost `axis` (log), 95% intervals, front as a step line.

    The legend stands below the axes, where nothing is drawn.
    """
    figure, axes = blank(6.4, 4.6)
    factor = (100.0 if fraction(overall.metric) else 1.0) * sign(overall.metric)
    rows = [row for row in overall.rows if row.costs.get(axis, 0) > 0]
    crowd = len(rows) > CROWD
    front = front_of(rows, axis)
    for tied, colour, name in (
        (True, "#0072b2", "the best, or tied with it"),
        (False, "#777777", "behind the best"),
    ):
        some = [row for row in rows if row.tied is tied]
        if some:
            _whiskers(axes, some, (axis, factor), crowd, colour, name)
    axes.step(
        [row.costs[axis] for row in front],
        [factor * row.value for row in front],
        where="post",
        lw=1.2,
        color="#d55e00",
        label="Pareto front",
        zorder=3 if crowd else 1,
    )
    log_axis(axes)
    axes.set_xlabel(COST_TITLES[axis] + ("" if axis != "macs" else " of one example"))
    axes.set_ylabel(f"{measure(overall.metric)}, 95% interval")
    axes.set_title(_title(overall), fontsize=10)
    axes.grid(alpha=0.25)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    ahead = {row.model for row in front}
    shown = rows if len(rows) <= MOST_LABELS else [r for r in rows if r.tied or r.model in ahead]
    lay_out(figure)  # the layout must stand before places are measured
    taken = _boxes(axes, rows, () if crowd else front, (axis, factor))
    names = cut_names(labels(row.model for row in shown[:MOST_LABELS]))
    spots = [(row.costs[axis], factor * row.value) for row in shown[:MOST_LABELS]]
    name_points(axes, [names[row.model] for row in shown[:MOST_LABELS]], spots, taken)
    return figure


def _whiskers(
    axes: Axes, rows: Sequence[Row], at: tuple[str, float], crowd: bool, colour: str, name: str
) -> None:
    """Marks with their 95% intervals; `at` is the cost of x, and the factor of y."""
    axis, factor = at
    middle = [factor * row.value for row in rows]
    below = [max(abs(factor) * (row.value - row.low), 0) for row in rows]
    above = [max(abs(factor) * (row.high - row.value), 0) for row in rows]
    axes.errorbar(
        [row.costs[axis] for row in rows],
        middle,
        yerr=[below, above] if factor > 0 else [above, below],
        fmt="o",
        ms=2.2 if crowd else 5,
        lw=0.5 if crowd else 1,
        capsize=0 if crowd else 2,
        rasterized=crowd,  # thousands of vector marks make a slow file, and say no more
        color=colour,
        label=name,
    )


def _boxes(axes: Axes, rows: Sequence[Row], front: Sequence[Row], at: tuple[str, float]) -> Boxes:
    """What names must not cover, (K, 4) pixels: marks, and where there is a `front`, which a crowd
    is not given, it and the intervals."""
    import numpy as np

    axis, factor = at
    corners = [(r.costs[axis], factor * r.value, r.costs[axis], factor * r.value) for r in rows]
    lines: list[tuple[float, float, float, float]] = []
    if front:
        lines = [(r.costs[axis], factor * r.low, r.costs[axis], factor * r.high) for r in rows]
    for here, there in pairwise(front):
        x, right = here.costs[axis], there.costs[axis]
        y, end = factor * here.value, factor * there.value
        lines += [(x, y, right, y), (right, y, right, end)]
    return np.vstack([pixels(axes, corners, 3.0), pixels(axes, lines, 2.0)])


def heatmap(overall: OverallRanking) -> Figure:
    """Models x datasets, best model on top; a failed or missing cell says so."""
    grid, models, datasets = heat_cells(overall)
    every = len(models)
    if every > MOST_ROWS:
        grid, models = grid[:CUT_ROWS], models[:CUT_ROWS]
    names, on = cut_names(labels(models)), cut_names(dataset_labels(datasets))
    figure, axes = draw_grid(grid, [names[m] for m in models], [on[d] for d in datasets])
    best = f", the best {len(models)} of {every}" if len(models) < every else ""
    title = f"{method_text(overall.method, overall.shots)}: {measure(overall.metric)}{best}"
    axes.set_title(title, fontsize=10)
    if any(text.endswith("=") for row in grid for _, text in row):
        axes.set_xlabel("=  cannot be told from the best on this dataset", fontsize=7.5)
    return figure


def heat_cells(overall: OverallRanking) -> tuple[Grid, list[Ref], list[Ref]]:
    """(value or None, text) by model and dataset, the models and the datasets."""
    datasets = list(dict.fromkeys(s.dataset for s in overall.sections))
    models = [row.model for row in overall.rows]
    models += [m for m in overall.left_out_models if m not in models]
    found: dict[tuple[Ref, Ref], tuple[float | None, str]] = {}
    for section in overall.sections:
        for failure in section.failures:
            found.setdefault((failure.model, section.dataset), (None, failure.status))
        several = len(section.tied) > 1
        for row in section.rows:
            text = row_score(section.metric, row.value) + ("=" if row.tied and several else "")
            found[row.model, section.dataset] = (row.value, text)
    grid = [[found.get((m, d), (None, "missing")) for d in datasets] for m in models]
    return grid, models, datasets


def lanes(cliques: tuple[tuple[int, int], ...]) -> list[int]:
    """A lane for each clique, so that bars which share a model never lie on one line."""
    ends: list[int] = []
    placed = []
    for first, last in cliques:
        lane = next((i for i, end in enumerate(ends) if end < first), len(ends))
        ends[lane:] = [last, *ends[lane + 1 :]]
        placed.append(lane)
    return placed


def ranks_diagram(found: CriticalDifference[Ref], title: str) -> Figure:
    """Mean ranks on a line, best on the left; a bar joins models that cannot be told apart."""
    names, many = cut_names(labels(found.models)), len(found.models)
    half = (many + 1) // 2
    bars = lanes(found.cliques)
    top = 1.0 + 0.35 * (1 + max(bars, default=-1))
    figure, axes = blank(7.2, 0.75 + 0.22 * (top + half))
    low, high = 1.0, float(many)
    reach = 0.04 * (high - low)
    axes.set_xlim(low - 0.45 * (high - low), high + 0.45 * (high - low))
    axes.set_ylim(-(top + half), 0.9)
    axes.axis("off")
    axes.plot([low, high], [0, 0], color="black", lw=1)
    for tick in range(1, many + 1):
        axes.plot([tick, tick], [0, 0.2], color="black", lw=0.8)
        if many <= 15 or tick % 5 == 0 or tick == 1:
            axes.text(tick, 0.3, str(tick), ha="center", va="bottom", fontsize=8)
    for place, (model, rank) in enumerate(zip(found.models, found.ranks, strict=True)):
        left = place < half
        depth = -top - (place if left else many - 1 - place)
        edge, side = (low - reach, "right") if left else (high + reach, "left")
        axes.plot([rank, rank, edge], [0, depth, depth], color="black", lw=0.7)
        text = f"{names[model]}  {rank:.2f}" if left else f"{rank:.2f}  {names[model]}"
        axes.text(edge, depth, f" {text} ", ha=side, va="center", fontsize=8)
    for (first, last), lane in zip(found.cliques, bars, strict=True):
        y = -0.5 - 0.35 * lane
        ends = [found.ranks[first] - 0.3 * reach, found.ranks[last] + 0.3 * reach]
        axes.plot(ends, [y, y], color="#0072b2", lw=3, solid_capstyle="butt")
    axes.set_title(f"{title}; mean rank over {found.datasets} datasets", fontsize=10)
    return figure
