"""The score of each class, by model: what a mean over classes hides.

Whatever the task, it is what the primary metric's detail holds as a mapping of classes to numbers:
the IoU of a segmentation, the AP of a detection, the F1 of a type of entity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from zoobench.escape import plain
from zoobench.files import file_name
from zoobench.ranking.nouns import Ranking, SectionRanking
from zoobench.report.drawing import LONGEST, Grid, cut_names, draw_grid
from zoobench.report.tables import Columns
from zoobench.report.text import cut, dataset_labels, labels, section_method
from zoobench.schema import Record, Ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

WRITTEN = {"iou": "IoU", "ap": "AP", "f1": "F1"}
CLASSES = ("dataset", "method", "shots", "model", "class", "metric", "value")
"""Columns of per_class.csv."""
MOST_ROWS, MOST_MODELS = 200, 12
"""A table of more classes shows the first, one of more models the best."""
MOST_DRAWN, MOST_LINES = 24, 20
"""As a figure, which is as wide as a page."""


@dataclass(frozen=True)
class ClassScores:
    """The classes of one section, where its models differ most first, and its models, best first.

    `values[c][m]` is the mean over the model's seeds, None where it has no number.
    """

    name: str
    title: str
    section: SectionRanking
    metric: str
    classes: tuple[str, ...]
    models: tuple[Ref, ...]
    values: tuple[tuple[float | None, ...], ...]

    def first(self, classes: int, models: int) -> ClassScores:
        """The first `classes` of the best `models`."""
        values = tuple(row[:models] for row in self.values[:classes])
        return replace(
            self, classes=self.classes[:classes], models=self.models[:models], values=values
        )

    @property
    def about(self) -> str:
        order = "the class in which the models differ most" if self.models[1:] else "the lowest"
        return f"{WRITTEN.get(self.metric, self.metric)} (%) of each class; {order} comes first."


def class_scores(ranking: Ranking) -> list[ClassScores]:
    """One for each section whose models have scores of classes."""
    on = dataset_labels(section.dataset for section in ranking.sections)
    found: list[ClassScores] = []
    for section in ranking.sections:
        means = {row.model: _mean(section.metric, row.records) for row in section.rows}
        names = list(dict.fromkeys(name for _, mean in means.values() for name in mean))
        if not names:
            continue
        title = f"{on[section.dataset]}, {section_method(section)}"
        values = {c: tuple(mean.get(c) for _, mean in means.values()) for c in names}
        names.sort(key=lambda c: _order(values[c]))
        metric = next(metric for metric, mean in means.values() if mean)
        found.append(
            ClassScores(
                f"classes-{len(found) + 1}", title, section, metric, tuple(names), tuple(means),
                tuple(values[c] for c in names),
            )
        )  # fmt: skip
    return found


def by_class(metric: str, record: Record) -> tuple[str, Mapping[str, float]]:
    """What the score of a class is called in the detail of `metric`, and each class's."""
    measured = record.get(metric)
    for name, value in measured.detail.items() if measured else ():
        if isinstance(value, Mapping) and value and all(map(_number, value.values())):
            return str(name), value
    return "", {}


def _number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _mean(metric: str, records: Sequence[Record]) -> tuple[str, Mapping[str, float]]:
    each = [by_class(metric, record) for record in records]
    names = dict.fromkeys(c for _, scores in each for c in scores)
    said = next((name for name, scores in each if scores), "")
    return said, {c: fmean(scores[c] for _, scores in each if c in scores) for c in names}


def _order(values: Sequence[float | None]) -> tuple[float, float]:
    known = [v for v in values if v is not None]
    return min(known) - max(known), min(known)


def classes_table(found: Sequence[ClassScores]) -> Columns:
    """Long: one row a class and model of a section."""
    rows = [
        (s.dataset.text, s.method, s.shots, model.text, name, one.metric, value)
        for one in found
        for s in [one.section]
        for name, values in zip(one.classes, one.values, strict=True)
        for model, value in zip(one.models, values, strict=True)
    ]
    return {name: [row[i] for row in rows] for i, name in enumerate(CLASSES)}


def class_rows(one: ClassScores) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table: a class a row, a model a column."""
    names = labels(one.models)
    rows = [[name, *map(_written, row)] for name, row in zip(one.classes, one.values, strict=True)]
    return ["class", *(names[model] for model in one.models)], rows


def left_out(one: ClassScores, classes: int = MOST_ROWS, models: int = MOST_MODELS) -> str:
    """What a table of the first ones leaves out, and where it is; "" for nothing."""
    gone = [
        f"{count - most} more {what}"
        for count, most, what in (
            (len(one.classes), classes, "classes"), (len(one.models), models, "models")
        )
        if count > most
    ]  # fmt: skip
    return f"And {' and '.join(gone)}: per_class.csv holds them all." if gone else ""


def _written(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def class_figures(found: Sequence[ClassScores]) -> dict[str, Callable[[], Figure]]:
    """Name of a figure's file, without its suffix -> what draws it."""
    return {file_name(f"{one.name}-{one.section.dataset.name}"): partial(heatmap, one)
            for one in found}  # fmt: skip


def heatmap(one: ClassScores) -> Figure:
    """Models x classes, the best model on top, on one scale from 0 to 1."""
    shown = one.first(MOST_DRAWN, MOST_LINES)
    grid: Grid = [
        [(value, _written(value)) for value in column] for column in zip(*shown.values, strict=True)
    ]
    models, names = cut_names(labels(shown.models)), cut_names({c: c for c in shown.classes})
    wide = min(1.25, max(0.5, 4 / len(names)))
    figure, axes = draw_grid(grid, [*models.values()], [*names.values()], wide, (0.0, 1.0))
    cuts = ""
    if len(names) < len(one.classes):
        cuts += f", the {len(names)} of {len(one.classes)} that differ most"
    if len(models) < len(one.models):
        cuts += f", the best {len(models)} of {len(one.models)} models"
    where = cut(plain(one.title), LONGEST)
    axes.set_title(f"{where}\n{WRITTEN.get(one.metric, one.metric)} (%) of each class{cuts}",
                   fontsize=10, loc="left")  # fmt: skip
    return figure


def shaded(one: ClassScores) -> dict[str, Any]:
    """For the page: a table whose cells are coloured by their value."""
    shown = one.first(MOST_ROWS, MOST_MODELS)
    header, rows = class_rows(shown)
    return {
        "title": one.title,
        "about": f"{one.about} {left_out(one)}",
        "header": header,
        "rows": [
            (row[0], [
                (text, None if value is None else round(100 * value))
                for text, value in zip(row[1:], values, strict=True)
            ])
            for row, values in zip(rows, shown.values, strict=True)
        ],
    }  # fmt: skip
