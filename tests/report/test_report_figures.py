"""Figures measured: legends, names and intervals never cover each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from fakes import make_run
from zoobench.ranking.nouns import Failure, OverallRanking, OverallRow
from zoobench.ranking.rank import rank
from zoobench.report.drawing import LONGEST
from zoobench.report.figures import CROWD, heat_cells, heatmap, pictures, scatter
from zoobench.schema import Ref

SETS = ["packaged/digits@1", "packaged/mnist-5k@1"]


@pytest.fixture(scope="module")
def overall(tmp_path_factory: pytest.TempPathFactory) -> OverallRanking:
    truth = {"timm/small@1": 0.6, "timm/middle@1": 0.8, "timm/large@1": 0.82}
    run = make_run(tmp_path_factory.mktemp("run"), list(truth), SETS, truth, n=150)
    (found,) = rank([run]).overall
    return found


def world(overall: OverallRanking, count: int, seed: int, long: bool) -> OverallRanking:
    """`count` models at random places, with intervals of any width, some names very long."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        value = float(rng.uniform(0.3, 0.99))
        name = f"vit_base_patch16_clip_quickgelu_{i}.metaclip_2pt5b_in1k_{i}" if long else f"net{i}"
        rows.append(
            dataclasses.replace(
                overall.rows[0],
                model=Ref("timm", name, "1"),
                value=value,
                low=value - float(rng.uniform(0, 0.25)),
                high=value + float(rng.uniform(0, 0.25)),
                tied=bool(rng.random() < 0.3),
                costs={"macs": float(10 ** rng.uniform(6, 6 + (seed % 4)))},
            )
        )
    return dataclasses.replace(overall, rows=tuple(rows))


def boxes(axes: Axes) -> Iterator[Bbox]:
    """Of every line and interval that the axes draw, at the size of its ink, part by part."""
    for line in axes.lines:
        x, y = map(np.asarray, line.get_data(orig=False))
        if line.get_drawstyle() == "steps-post":
            x, y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
        points = axes.transData.transform(np.column_stack([x, y]))
        for here, there in zip(points, points[1:] if len(points) > 1 else points, strict=False):
            if line.get_linestyle() != "None":
                yield Bbox([np.minimum(here, there), np.maximum(here, there)])
        if line.get_marker() not in ("None", None, ""):
            yield from (Bbox([point - 2, point + 2]) for point in points)
    for collection in axes.collections:
        for path in collection.get_paths():
            yield Bbox(axes.transData.transform(np.asarray(path.vertices)[:2]))


def covers(a: Bbox, b: Bbox) -> bool:
    return bool(a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1)


def ink(box: Bbox) -> Bbox:
    """A line has no width of its own."""
    return Bbox([[box.x0 - 0.5, box.y0 - 0.5], [box.x1 + 0.5, box.y1 + 0.5]])


def legend_of(figure: Figure) -> Bbox:
    (legend,) = figure.legends
    return legend.get_window_extent()


@pytest.mark.parametrize(("count", "seed"), [(1, 1), (2, 2), (3, 3), (12, 4), (12, 5), (40, 6)])
def test_legend_names_and_error_bars_never_overlap(
    overall: OverallRanking, count: int, seed: int
) -> None:
    figure = scatter(world(overall, count, seed, long=seed % 2 == 0), "macs")
    (axes,) = figure.axes
    drawn = [ink(box) for box in boxes(axes)]
    legend = legend_of(figure)
    assert len(drawn) >= 2 * count, "the marks and their intervals"
    assert not any(covers(legend, box) for box in drawn)
    assert not covers(legend, axes.get_window_extent())
    assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1, "all of it is on the page"
    assert figure.bbox.y0 <= legend.y0
    names = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert names
    for i, name in enumerate(names):
        assert not covers(name, legend)
        assert not any(covers(name, box) for box in drawn), axes.texts[i].get_text()
        assert not any(covers(name, other) for other in names[:i])
    if count <= 3:
        assert len(names) == count, "few models are all named"


@pytest.mark.parametrize(
    "spread", [(3e7, 3e7), (3.87e8, 3.9e8), (3e7, 9e7), (1e6, 2e7), (1e6, 9e8), (1e4, 1e10)]
)
def test_numbers_of_the_cost_axis_do_not_run_into_each_other(
    overall: OverallRanking, spread: tuple[float, float]
) -> None:
    rows = [
        dataclasses.replace(row, costs={"macs": cost})
        for row, cost in zip(overall.rows, spread, strict=False)
    ]
    figure = scatter(dataclasses.replace(overall, rows=tuple(rows)), "macs")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    ticks = [*axes.xaxis.get_major_ticks(), *axes.xaxis.get_minor_ticks()]
    shown = [
        (tick.get_loc(), tick.label1)
        for tick in ticks
        if low <= tick.get_loc() <= high and tick.label1.get_text()
    ]
    assert len(shown) >= 2
    spans = sorted((text.get_window_extent().x0, text.get_window_extent().x1) for _, text in shown)
    for (_, end), (start, _) in pairwise(spans):
        assert end < start


def test_a_failed_cell_has_no_colour_and_no_part_in_the_scale(overall: OverallRanking) -> None:
    scores = [v for row in heat_cells(overall)[0] for v, _ in row if v is not None]
    broken = [
        Failure(Ref("timm", "broken", "1"), s.dataset, s.method, "oom", "")
        for s in overall.sections
    ]
    sections = tuple(
        dataclasses.replace(s, failures=(f,)) for s, f in zip(overall.sections, broken, strict=True)
    )
    left = {Ref("timm", "broken", "1"): "no score"}
    some = dataclasses.replace(overall, sections=sections, left_out_models=left)
    (axes,) = heatmap(some).axes
    (image,) = axes.images
    assert image.get_clim() == (min(scores), max(scores))
    shown: Any = np.ma.filled(np.ma.asarray(image.get_array()), math.nan)
    assert np.isnan(shown[-1]).all(), "no number stands for a failed cell"
    assert axes.patch.get_hatch()
    assert [text.get_text() for text in axes.texts][-2:] == ["oom", "oom"]


def test_a_heat_map_of_one_score_has_a_colour(overall: OverallRanking) -> None:
    section = dataclasses.replace(overall.sections[0], rows=overall.sections[0].rows[:1])
    one = dataclasses.replace(overall, rows=overall.rows[:1], sections=(section,))
    (axes,) = heatmap(one).axes
    (cell,) = axes.texts
    assert not cell.get_text().endswith("="), "nobody is there to be tied with"


def test_slanted_names_end_at_their_column(overall: OverallRanking) -> None:
    sections = tuple(
        dataclasses.replace(overall.sections[0], dataset=Ref("packaged", f"a-long-name-{i}", "1"))
        for i in range(6)
    )
    figure = heatmap(dataclasses.replace(overall, sections=sections))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    for place, label in enumerate(axes.get_xticklabels()):
        x = axes.transData.transform((place, 0))[0]
        assert abs(label.get_window_extent().x1 - x) < 20
        assert label.get_window_extent().y0 >= figure.bbox.y0 - 1


def test_both_ends_of_a_long_name_are_shown(overall: OverallRanking) -> None:
    rows: list[OverallRow] = [
        dataclasses.replace(overall.rows[0], model=Ref("timm", "a" * 60 + end, "1")) for end in "xy"
    ]
    (axes,) = heatmap(dataclasses.replace(overall, rows=tuple(rows))).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert [name[-1] for name in names] == ["x", "y"]
    assert {len(name) for name in names} == {LONGEST}


def test_a_crowd_is_drawn_small_and_still_names_somebody(overall: OverallRanking) -> None:
    figure = scatter(world(overall, CROWD + 20, 2, long=False), "macs")
    (axes,) = figure.axes
    assert not covers(legend_of(figure), axes.get_window_extent())
    assert any(text.get_text() for text in axes.texts)


def test_every_figure_is_named_after_what_it_shows(overall: OverallRanking, tmp_path: Path) -> None:
    assert list(pictures(overall, "knn")) == ["accuracy-macs-knn", "heatmap-knn"]
    free = [dataclasses.replace(row, costs={"macs": 0.0}) for row in overall.rows]
    some = dataclasses.replace(overall, rows=tuple(free))
    assert list(pictures(some, "knn")) == ["heatmap-knn"], "0 has no place on a log axis"
