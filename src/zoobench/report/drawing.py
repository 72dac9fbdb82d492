"""What several figures are drawn with: an empty one, names with room for them, coloured cells."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from zoobench.escape import plain
from zoobench.report.text import cut

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
    return figure, axes
