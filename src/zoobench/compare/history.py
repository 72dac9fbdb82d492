"""Many runs of one suite in time order: what moved slowly, under every single gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from zoobench import plugins
from zoobench.compare.gates import COSTS
from zoobench.compare.match import identity
from zoobench.compare.reading import load
from zoobench.errors import UserError, missing_extra
from zoobench.schema import Cell, Record
from zoobench.store import Run
from zoobench.tasks import task_of

SHORTEST = 3
"""Runs that a level must last to be one: a step of one run is an outlier."""
PENALTY = 4.0
"""Cost of a step, in units of variance x log(runs). Twice what BIC takes, since the noise is
estimated too: without a step, 8% of series of 10 runs show one, 1% of 50."""


@dataclass(frozen=True)
class Point:
    """One run's value. `run` is its directory's name, `started` its first record's time."""

    run: str
    started: str
    value: float


@dataclass(frozen=True)
class Step:
    """A change of level that begins at `points[at]`: mean before and after it."""

    at: int
    before: float
    after: float


@dataclass(frozen=True)
class Series:
    """One metric of one cell over time, with its steps. `drift` is last level minus first."""

    cell: Cell
    metric: str
    points: tuple[Point, ...]
    steps: tuple[Step, ...]

    @property
    def drift(self) -> float:
        if not self.steps:
            return 0.0
        return self.steps[-1].after - self.steps[0].before


@dataclass(frozen=True)
class History:
    """Runs in time order (names), their series, and marks: run name -> "last accepted", ..."""

    suite: str
    runs: tuple[str, ...]
    series: tuple[Series, ...]
    marks: Mapping[str, str]


def history(
    folders: Sequence[str | Path],
    metrics: Sequence[str] = (),
    accepted: str | Path | None = None,
    release: str | Path | None = None,
) -> History:
    """The series of `metrics`, or of each task's primary one, of every cell that two runs or more
    have, and of the costs that a comparison reads. `accepted` is the suite's baseline: the
    run that it was made from is marked; `release` is one of the folders, marked as the last
    release. Raises UserError for runs of two suites or fewer than two, and a release that is none
    of the runs; MissingExtra without `ruptures`."""
    runs = [load(folder, metrics) for folder in folders]
    names = {str(run.suite.get("name", "")) for run in runs} - {""}
    if len(names) > 1:
        raise UserError(
            f"runs of several suites: {', '.join(sorted(names))}; give one suite's runs"
        )
    if len(runs) < 2:
        raise UserError("a history needs two runs or more")
    ordered = sorted(runs, key=lambda run: min((r.started for r in run.records), default=""))
    points: dict[tuple[object, ...], list[Point]] = {}
    cells: dict[tuple[object, ...], Cell] = {}
    for run in ordered:
        started = min((r.started for r in run.records), default="")
        for record in run.records:
            for metric, value in _values(record, metrics):
                key = (identity(record.cell), metric)
                cells[key] = record.cell
                points.setdefault(key, []).append(Point(run.path.name, started, value))
    series = tuple(
        Series(cells[key], str(key[1]), tuple(found), find_steps([p.value for p in found]))
        for key, found in sorted(points.items(), key=lambda item: str(item[0]))
        if len(found) > 1
    )
    known = tuple(run.path.name for run in ordered)
    marks = _marks(ordered, accepted, release)
    return History(next(iter(names), ""), known, series, marks)


def _marks(
    runs: Sequence[Run], accepted: str | Path | None, release: str | Path | None
) -> dict[str, str]:
    """Run name -> what it is. A baseline knows no run: the latest one that gave most of its
    answers is where it came from. Raises UserError."""
    marks: dict[str, list[str]] = {}
    if accepted is not None:
        held = {r.predictions for r in load(accepted).records} - {""}
        shared = [len(held & {r.predictions for r in run.records}) for run in runs]
        if max(shared):
            latest = max(range(len(runs)), key=lambda i: (shared[i], i))
            marks.setdefault(runs[latest].path.name, []).append("last accepted")
    if release is not None:
        if Path(release).name not in (run.path.name for run in runs):
            raise UserError(f"--release {release}: none of the runs")
        marks.setdefault(Path(release).name, []).append("last release")
    return {name: ", ".join(told) for name, told in marks.items()}


def _values(record: Record, metrics: Sequence[str]) -> list[tuple[str, float]]:
    if record.status != "ok":
        return []
    wanted = {*(metrics or (task_of(record.cell).metrics[0],)), *COSTS}
    return list({m.metric: m.value for m in record.measurements if m.metric in wanted}.items())


def find_steps(values: Sequence[float]) -> tuple[Step, ...]:
    """Changes of level by PELT with an L2 cost (Killick et al. 2012; `ruptures`).

    The noise is the robust spread of differences between neighbours, which a step does
    not inflate; values that never differ but at one place step there. Fewer than
    2 x `SHORTEST` values have no steps. Raises MissingExtra.
    """
    signal = np.asarray(values, dtype=np.float64)
    if len(signal) < 2 * SHORTEST or np.ptp(signal) == 0:
        return ()
    try:
        search = plugins.load("ruptures:Pelt")
    except ImportError as error:
        raise missing_extra("ruptures", "history", "marking step changes") from error
    apart = np.abs(np.diff(signal))
    # A floor: digits that a record rounds away are no signal.
    floor = 1e-9 * float(np.abs(signal).max())
    noise = max(float(1.4826 * np.median(apart)) / 2**0.5, float(np.ptp(signal)) * 1e-3, floor)
    scaled = (signal - signal[0]) / noise
    fitted = search(model="l2", min_size=SHORTEST, jump=1).fit(scaled[:, None])
    ends = fitted.predict(pen=PENALTY * float(np.log(len(signal))))
    edges = [0, *ends]
    levels = [float(signal[a:b].mean()) for a, b in pairwise(edges)]
    return tuple(
        Step(at, before, after) for at, before, after in zip(ends, levels, levels[1:], strict=False)
    )
