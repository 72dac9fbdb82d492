"""What several figures are drawn with: an empty one, names with room for them, coloured cells, an
axis of costs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from zoobench.escape import plain
from zoobench.report.text import cut, si
from zoobench.statistics.bootstrap import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

K = TypeVar("K", bound=Hashable)

LONGEST = 48
"""Characters of a name in a figure."""

DPI = 150
"""Dots an inch of a PNG. Places are measured at the same: hinted text is wider at another."""

Grid = list[list[tuple[float | None, str]]]


def cut_names(names: Mapping[K, str]) -> dict[K, str]:
    """What a figure has room for: both ends of a long name; the tables have all of it."""
    return {ref: cut(plain(name), LONGEST) for ref, name in names.items()}


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of that many inches, and its axes."""
    # The object interface: pyplot would keep global state and a window's back end.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def draw_grid(
    grid: Grid,
    rows: Sequence[str],
    columns: Sequence[str],
    inches: float = 1.25,
    limits: tuple[float, float] | None = None,
) -> tuple[Figure, Axes]:
    """A coloured cell for each value, its text in it; `inches` is the width of a column.

    The values span the scale where it has no `limits`; a cell without one shows the hatched ground.
    """
    longest, slanted = (max(map(len, each), default=0) for each in (rows, columns))
    # Inches: room for the names, which a fixed margin left nothing of the grid for.
    width = max(1.2, 0.07 * longest) + 1.2 + inches * len(columns)
    height = max(0.7, 0.045 * slanted) + 0.7 + 0.28 * len(rows)
    figure, axes = blank(min(max(width, 4.0), 40.0), min(max(height, 2.0), 60.0))
    scores = [v for row in grid for v, _ in row if v is not None]
    low, high = limits or (min(scores, default=0.0), max(scores, default=1.0))
    values = [[float("nan") if v is None else v for v, _ in row] for row in grid]
    image: Any = axes.imshow(values, aspect="auto", cmap="cividis", vmin=low, vmax=high)
    axes.patch.set(facecolor="#f2f2f2", edgecolor="#cccccc", hatch="////", linewidth=0)
    for i, row in enumerate(grid):
        for j, (value, text) in enumerate(row):
            r, g, b, _ = image.cmap(image.norm(value)) if value is not None else (1, 1, 1, 1)
            dark = 0.299 * r + 0.587 * g + 0.114 * b < 0.5
            cell = axes.text(j, i, text, ha="center", va="center", fontsize=7.5,
                             color="white" if dark else "black")  # fmt: skip
            cell.set_in_layout(False)  # it lies inside the axes; measuring it takes time
    axes.set_xticks(range(len(columns)), columns)
    if slanted > 18 * min(inches, 1) or len(columns) > 4:
        for label in axes.get_xticklabels():
            label.set(rotation=45, rotation_mode="anchor", ha="right")
    axes.set_yticks(range(len(rows)), rows)
    _make_room(figure, axes, 1.2 + inches * len(columns), 1.0 + 0.28 * len(rows))
    return figure, axes


def _make_room(figure: Figure, axes: Axes, width: float, height: float) -> None:
    """Widen a figure of which its names, of letters wider than most, leave less than that many
    inches."""
    canvas: Any = figure.canvas
    beside, below = (
        [label.get_window_extent(canvas.get_renderer()) for label in labels]
        for labels in (axes.get_yticklabels(), axes.get_xticklabels())
    )
    down = max((box.height for box in below), default=0.0) / figure.dpi
    aside = max((box.width for box in beside), default=0.0) / figure.dpi
    across, high = figure.get_size_inches()
    figure.set_size_inches(
        min(max(across, width + max(aside, down)), 40.0), min(max(high, height + down), 60.0)
    )


def lay_out(figure: Figure) -> None:
    """Find the axes' places, and keep them."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def log_axis(axes: Axes) -> None:
    """A log axis whose numbers do not run into each other: all on a narrow one, those at 1, 2
    and 5 of each decade on a longer one, over many decades the major ones."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log")
    axes.margins(x=0.15)
    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    numbers = FuncFormatter(lambda v, _: si(v) if decades < 0.7 or f"{v:.0e}"[0] in "125" else "")
    axes.xaxis.set_major_formatter(numbers)
    axes.xaxis.set_minor_formatter(NullFormatter() if decades >= 3.5 else numbers)


_SIDES: tuple[tuple[int, Literal["left", "right"]], ...] = ((7, "left"), (-7, "right"))
_OFFSETS: list[tuple[int, int, Literal["left", "right"]]] = [
    (x, y, side) for y in (8, -8, 18, -18, 28, -28, 40, -40, 52, -52) for x, side in _SIDES
]
"""Where a label may stand, in points from its mark, nearest first."""


def pixels(axes: Axes, boxes: Sequence[tuple[float, float, float, float]], room: float) -> Floats:
    """(K, 4) pixels of K boxes (x, y, x, y) of data, `room` points wider on each side."""
    import numpy as np

    ends = axes.transData.transform(np.reshape(boxes, (-1, 2))).reshape(-1, 2, 2)
    spread = room * axes.figure.dpi / 72
    return np.hstack([ends.min(axis=1) - spread, ends.max(axis=1) + spread])


def name_points(
    axes: Axes, names: Sequence[str], spots: Sequence[tuple[float, float]], taken: Floats
) -> None:
    """Each name at the first place beside its spot where it covers no other name and none of the
    boxes `taken`, (K, 4) pixels. A name that has no such place inside the axes is left out.
    """
    import numpy as np

    frame, scale = axes.get_window_extent(), axes.figure.dpi / 72
    for name, spot in zip(names, spots, strict=True):
        mark = axes.transData.transform(spot)
        note = axes.annotate(name, spot, xytext=(0, 0), textcoords="offset points",
                             va="center", fontsize=7.5)  # fmt: skip
        note.set_in_layout(False)
        box = note.get_window_extent()
        for x, y, side in _OFFSETS:
            left = mark[0] + x * scale - (box.width if side == "right" else 0)
            low = mark[1] + y * scale - box.height / 2
            own = np.array([left, low, left + box.width, low + box.height])
            covers = (own[:2] < taken[:, 2:]).all(axis=1) & (own[2:] > taken[:, :2]).all(axis=1)
            inside = frame.x0 <= left and own[2] <= frame.x1 and own[3] <= frame.y1
            if inside and not covers.any():
                note.set_position((x, y))
                note.set_horizontalalignment(side)
                taken = np.vstack([taken, own])
                if abs(y) > 8:
                    line = {"arrowstyle": "-", "lw": 0.4, "color": "#777777"}
                    axes.annotate("", spot, (x, y), textcoords="offset points", arrowprops=line)
                break
        else:
            note.remove()
