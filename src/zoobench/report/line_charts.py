"""Lines of numbers with what they are uncertain by: for the page's script, and as figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from zoobench.escape import plain
from zoobench.report.drawing import DPI, LONGEST
from zoobench.report.text import cut, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 2
"""Panels of a figure that stand beside each other."""


@dataclass(frozen=True)
class ChartPoint:
    """A point of the line `label`: x is a number, or a name of the chart's `ticks`."""

    label: str
    x: float | str
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class LineChart:
    """Lines in one pair of axes; where there are `ticks` these are the places of x, in order.

    With `zero` a line stands at y = 0.
    """

    title: str
    x: str
    y: str
    points: tuple[ChartPoint, ...]
    ticks: tuple[str, ...] = ()
    zero: bool = False

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(point.label for point in self.points))


def chart_data(charts: Mapping[str, Sequence[LineChart]]) -> list[dict[str, Any]]:
    """For the page's script: the charts of each place by its name, in order."""
    return [
        {"id": f"{name}-{i}", **asdict(chart), "labels": chart.labels}
        for name, some in charts.items()
        for i, chart in enumerate(some)
    ]


def chart_figures(charts: Mapping[str, Sequence[LineChart]]) -> dict[str, Callable[[], Figure]]:
    """Name of a figure's file, without its suffix -> what draws it."""
    return {name: partial(figure_of, some) for name, some in charts.items() if some}


def figure_of(charts: Sequence[LineChart]) -> Figure:
    """A panel a chart; the legend stands below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    down, across = -(-len(charts) // ACROSS), min(ACROSS, len(charts))
    figure = Figure(figsize=(3.8 * across, 0.8 + 2.9 * down), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    every = list(dict.fromkeys(label for chart in charts for label in chart.labels))
    for axes, chart in zip(panels, charts, strict=False):
        _draw(axes, chart, every)
    for axes in panels[len(charts) :]:
        axes.set_visible(False)
    lines = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    shown = [lines[name] for name in every if name in lines]
    names = [cut(plain(name), LONGEST) for name in every if name in lines]
    figure.legend(shown, names, frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    return figure


def _draw(axes: Axes, chart: LineChart, every: Sequence[str]) -> None:
    """Lines, and bars from `low` to `high`, beside each other where x has ticks."""
    if chart.zero:
        axes.axhline(0, color="#777777", lw=0.8)
    for i, label in enumerate(every):
        points = [point for point in chart.points if point.label == label]
        shift = 0.06 * (i - (len(every) - 1) / 2) if chart.ticks else 0.0
        x = [chart.ticks.index(str(p.x)) + shift if chart.ticks else float(p.x) for p in points]
        axes.plot(x, [p.y for p in points], "o-", ms=3, lw=1.2, color=f"C{i}", label=label)
        for at, p in zip(x, points, strict=True):
            if p.low is not None and p.high is not None:
                axes.plot([at, at], [p.low, p.high], lw=1, color=f"C{i}", label="_")
    if chart.ticks:
        axes.set_xticks(range(len(chart.ticks)), list(chart.ticks))
    else:
        axes.xaxis.set_major_formatter(lambda value, _: si(value))
    axes.margins(x=0.08)
    axes.set(xlabel=chart.x, ylabel=chart.y)
    axes.set_title(cut(plain(chart.title), LONGEST), fontsize=9)
    axes.grid(alpha=0.25)
