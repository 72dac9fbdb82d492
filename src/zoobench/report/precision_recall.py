"""Curves of precision against recall of detectors, whose mean height is AP50 and AP75."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.escape import plain
from zoobench.files import file_name
from zoobench.ranking.nouns import Ranking, Row
from zoobench.ranking.outcomes import Book
from zoobench.report.drawing import DPI, LONGEST, cut_names
from zoobench.report.text import cut, dataset_labels, labels, section_method
from zoobench.schema import Ref
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks import task_of
from zoobench.tasks.curves import RECALLS
from zoobench.tasks.detection import Detection, Precisions

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

AT = {"ap50": "IoU 0.50", "ap75": "IoU 0.75"}
MOST_MODELS = 8
"""More curves cannot be told apart."""


@dataclass(frozen=True)
class PrecisionRecall:
    """The best models of one section, and of each its (101,) precision at each recall of RECALLS,
    mean over classes and seeds, by the strictness of AT."""

    title: str
    dataset: Ref
    of: int
    curves: dict[Ref, dict[str, Floats]]

    @property
    def about(self) -> str:
        best = f", of the best {len(self.curves)} of {self.of} models" if self.of > len(
            self.curves
        ) else ""  # fmt: skip
        return (
            f"Best precision at each recall or a higher one, mean over classes{best}. The mean "
            "height of a curve is AP50 or AP75."
        )


def precision_recall(book: Book, ranking: Ranking) -> list[PrecisionRecall]:
    """One for each section of detectors whose outcomes were kept."""
    on = dataset_labels(section.dataset for section in ranking.sections)
    found = []
    for section in ranking.sections:
        curves = {row.model: _mean(book, row) for row in section.rows[:MOST_MODELS]}
        known = {model: curve for model, curve in curves.items() if curve}
        if known:
            title = f"{on[section.dataset]}, {section_method(section)}"
            found.append(PrecisionRecall(title, section.dataset, len(section.rows), known))
    return found


def _mean(book: Book, row: Row) -> dict[str, Floats]:
    """Over the seeds of a model; nothing where one of them kept no outcomes."""
    if not all(isinstance(task_of(record.cell), Detection) for record in row.records):
        return {}
    kept = [book.outcomes(record) for record in row.records]
    every = [Precisions(one) for one in kept if one is not None]
    if not every or len(every) < len(kept):
        return {}
    return {name: np.mean([one.curve(name) for one in every], axis=0) for name in AT}


def curve_data(found: Sequence[PrecisionRecall]) -> list[dict[str, Any]]:
    """For the page's script: of each curve its model, strictness and heights."""
    named = [(one, labels(one.curves)) for one in found]
    return [
        {
            "title": one.title,
            "lines": [
                {"label": names[model], "at": AT[name], "precision": np.round(y, 4).tolist()}
                for model, curves in one.curves.items()
                for name, y in curves.items()
            ],
        }
        for one, names in named
    ]


def curve_figures(found: Sequence[PrecisionRecall]) -> dict[str, Callable[[], Figure]]:
    """Name of a figure's file, without its suffix -> what draws it."""
    return {
        file_name(f"precision-recall-{i}-{one.dataset.name}"): partial(figure_of, one)
        for i, one in enumerate(found, start=1)
    }


def figure_of(one: PrecisionRecall) -> Figure:
    """A panel a strictness, a line a model; the legend stands below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4.4), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    names = cut_names(labels(one.curves))
    panels = figure.subplots(1, len(AT), sharey=True)
    for axes, (name, at) in zip(panels, AT.items(), strict=True):
        for i, (model, curves) in enumerate(one.curves.items()):
            axes.plot(
                RECALLS, curves[name], drawstyle="steps-pre", lw=1.4, color=f"C{i}",
                label=names[model] if axes is panels[0] else None,
            )  # fmt: skip
        axes.set(title=at, xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("precision, mean over classes")
    figure.suptitle(cut(plain(one.title), LONGEST), fontsize=10)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    return figure
