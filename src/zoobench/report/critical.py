"""The critical-difference diagram as a figure for papers (Demsar 2006, figure 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoobench.report.text import labels
from zoobench.statistics.critical import CriticalDifference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DPI = 150
"""Dots an inch of a PNG. Places are measured at the same: hinted text is wider at another."""


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of that many inches, and its axes."""
    # The object interface: pyplot would keep global state and a window's back end.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def lanes(cliques: tuple[tuple[int, int], ...]) -> list[int]:
    """A lane for each clique, so that bars which share a model never lie on one line."""
    ends: list[int] = []
    placed = []
    for first, last in cliques:
        lane = next((i for i, end in enumerate(ends) if end < first), len(ends))
        ends[lane:] = [last, *ends[lane + 1 :]]
        placed.append(lane)
    return placed


def ranks_diagram(found: CriticalDifference, title: str) -> Figure:
    """Mean ranks on a line, best on the left; a bar joins models that cannot be told apart."""
    names, many = labels(found.models), len(found.models)
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
