"""A history as a table and as one figure a metric."""

from __future__ import annotations

import io
from pathlib import Path

from zoobench.compare.history import History, Series
from zoobench.escape import plain, terminal
from zoobench.files import file_name, write_atomic

MOST = 20
"""Series in one figure; those that drifted most come first."""


def history_text(found: History) -> str:
    """A line a series: first, last, drift, and each step with the run at which it began."""
    head = f"{found.suite or 'runs'}: {len(found.runs)} runs, {found.runs[0]} to {found.runs[-1]}"
    lines = [head, *(f"  {mark}: {run}" for run, mark in found.marks.items()), ""]
    for series in sorted(found.series, key=lambda s: (not s.steps, s.metric, s.cell.label)):
        first, last = series.points[0].value, series.points[-1].value
        line = f"{series.cell.label}  {series.metric}  {first:.6g} -> {last:.6g}"
        steps = []
        for step in series.steps:
            run = series.points[step.at].run
            steps.append(f"    step at {run}: {step.before:.6g} -> {step.after:.6g}")
        lines += [line, *steps]
    return "\n".join(map(terminal, lines)) + "\n"


def history_figures(found: History, folder: Path) -> tuple[Path, ...]:
    """<metric>.svg for each metric, byte-stable; steps are circled, marks are dashed lines.

    A file or link of that name is replaced, never written through.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for metric in sorted({s.metric for s in found.series}):
        chosen = sorted((s for s in found.series if s.metric == metric), key=_by_drift)[:MOST]
        with mpl.rc_context(
            {"svg.hashsalt": "zoobench", "svg.fonttype": "none", "text.parse_math": False}
        ):
            figure = Figure(figsize=(9, 4.5), layout="constrained")
            axes = figure.subplots()
            where = {run: i for i, run in enumerate(found.runs)}
            for series in chosen:
                x = [where[p.run] for p in series.points]
                y = [p.value for p in series.points]
                (line,) = axes.plot(x, y, marker=".", linewidth=1, label=plain(series.cell.label))
                for step in series.steps:
                    axes.plot(
                        x[step.at], y[step.at], "o", ms=10, mfc="none", color=line.get_color()
                    )
            for run, mark in found.marks.items():
                axes.axvline(where[run], linestyle="--", color="0.5")
                top = axes.get_xaxis_transform()
                axes.text(where[run], 1.0, plain(mark), transform=top, ha="center", va="bottom")
            axes.set(ylabel=plain(metric), xticks=range(len(found.runs)))
            axes.set_xticklabels(map(plain, found.runs), rotation=45, ha="right")
            if len(chosen) > 1:
                figure.legend(loc="outside right upper", fontsize="x-small")
            else:
                axes.set_title(plain(chosen[0].cell.label), fontsize="small", pad=14)
            path, buffer = folder / f"{file_name(metric)}.svg", io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        write_atomic(path, buffer.getvalue())
        out.append(path)
    return tuple(out)


def _by_drift(series: Series) -> tuple[float, str]:
    scale = max(abs(p.value) for p in series.points) or 1.0
    return -abs(series.drift) / scale, series.cell.label
