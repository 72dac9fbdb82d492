"""The gates file: how much loss is too much. TOML, checked by pydantic.

margin = 1.0                 # points: hundredths of the metric's own unit
min_drop = 0.2
alpha = 0.05
metrics = ["accuracy"]       # without it each task's primary metric
precision = "any"            # compare what was computed in bf16 and in fp32 too

[metric.nll]
margin = 2.0

[dataset."packaged/digits*"]
margin = 3.0
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from zoobench import metrics, tasks
from zoobench.errors import UserError, unknown
from zoobench.files import read_toml
from zoobench.quantities import SIZE, TIME
from zoobench.schema import Cell, Ref

POINT = 0.01
Points = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
EXACT = ("params", "macs", "weights_bytes", "feature_dim")
TIMED = ("latency_ms_p50", "throughput", "peak_memory_bytes")
COSTS = frozenset((*EXACT, *TIMED))


@cache
def gated() -> tuple[str, ...]:
    """Every metric that a task has: what a gate may judge, and a comparison reads."""
    return tuple(dict.fromkeys(name for _, task in tasks.every() for name in task.metrics))


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Margin(_Table):
    """Exceptions for one metric or for the datasets that a pattern matches."""

    margin: Points | None = None
    min_drop: Points | None = None


class Times(_Table):
    """When a time or a peak of memory, against a stored one, is worth a warning."""

    z: Annotated[float, Field(gt=0)] = 8.0
    ratio: Annotated[float, Field(gt=1)] = 1.10
    memory_ratio: Annotated[float, Field(gt=1)] = 1.02
    memory_bytes: Annotated[float, BeforeValidator(SIZE.in_files()), Field(ge=0)] = 16 * 2**20


class Measure(_Table):
    """When a measured slowdown or growth is a regression (`compare --measure`).

    `blocks` of A B B A processes a set; `low` bounds the interval's lower end, `ratio` the
    median, `floor_ms` the change of the median time; memory must pass both of its limits.
    """

    blocks: Annotated[int, Field(ge=3, le=50)] = 3
    low: Annotated[float, Field(ge=1)] = 1.05
    ratio: Annotated[float, Field(gt=1)] = 1.10
    floor_ms: Annotated[float, BeforeValidator(TIME.in_files("ms")), Field(ge=0)] = 0.1
    memory_ratio: Annotated[float, Field(gt=1)] = 1.02
    memory_bytes: Annotated[float, BeforeValidator(SIZE.in_files()), Field(ge=0)] = 16 * 2**20


class Gates(_Table):
    """Non-inferiority by `margin`; a regression needs Holm-adjusted p < `alpha` and `min_drop`.

    Both are in points, hundredths of the metric's own unit; of an error in the target's unit,
    which may be of any size, they are percent of the baseline's value. With `precision = "any"`
    what was computed in float32 is compared with what was in bf16.
    """

    margin: Points = 1.0
    min_drop: Points = 0.2
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    metrics: tuple[str, ...] = ()
    strict: bool = False
    precision: Literal["same", "any"] = "same"
    metric: dict[str, Margin] = {}
    dataset: dict[str, Margin] = {}
    times: Times = Times()
    measure: Measure = Measure()

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in gated():
                raise unknown("metrics", "quality metric", name, gated())
        return tuple(dict.fromkeys(names))

    @field_validator("metric")
    @classmethod
    def _named(cls, tables: dict[str, Margin]) -> dict[str, Margin]:
        for name in tables:
            if name not in gated():
                raise unknown("metric", "quality metric", name, gated())
        return tables

    def metrics_of(self, cell: Cell) -> tuple[str, ...]:
        """What is judged of `cell`: those of `metrics` that its task has, else the primary one."""
        known = tasks.task_of(cell).metrics
        return tuple(name for name in self.metrics if name in known) or known[:1]

    def margin_of(self, dataset: Ref, metric: str, baseline: float) -> float:
        """In the metric's unit. The dataset's table wins over the metric's, and both over all."""
        return point_of(metric, baseline) * self._pick("margin", dataset, metric)

    def min_drop_of(self, dataset: Ref, metric: str, baseline: float) -> float:
        """Likewise."""
        return point_of(metric, baseline) * self._pick("min_drop", dataset, metric)

    def _pick(self, what: str, dataset: Ref, metric: str) -> float:
        tables = []
        if self.dataset:
            tables = list(_matching(self.dataset, (dataset.short, dataset.id)))
        for table in (*tables, self.metric.get(metric)):
            value = getattr(table, what, None)
            if value is not None:
                return float(value)
        return float(getattr(self, what))


def point_of(metric: str, baseline: float) -> float:
    """A point of `metric` in its unit: a hundredth, or of an error in the target's unit a hundredth
    of the baseline's value."""
    return POINT * abs(baseline) if metrics.metric(metric).unit == "target" else POINT


def _matching(tables: dict[str, Margin], names: Sequence[str]) -> Iterable[Margin]:
    """Tables whose pattern matches, the longest (most exact) pattern first."""
    for pattern in sorted(tables, key=len, reverse=True):
        if any(fnmatchcase(name, pattern) for name in names):
            yield tables[pattern]


def read_gates(path: str | Path | None) -> Gates:
    """The gates of a TOML file, or the defaults. Raises UserError: where, what, nearest, known."""
    if path is None:
        return Gates()
    return gates_from(read_toml(Path(path)), str(path))


def gates_from(body: dict[str, Any], where: str) -> Gates:
    """Gates from a parsed table. Raises UserError."""
    try:
        return Gates.model_validate(body)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except ValidationError as error:
        raise _mistake(error, where) from error


def _mistake(error: ValidationError, where: str) -> UserError:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        tables: dict[str, type[BaseModel]] = {
            "metric": Margin, "dataset": Margin, "times": Times, "measure": Measure,
        }  # fmt: skip
        table = tables.get(place[0], Gates) if len(place) > 1 else Gates
        return unknown(": ".join([where, *place[:-1]]), "key", place[-1], table.model_fields)
    return UserError(f"{where}: {'.'.join(place)}: {first['msg']} (got {first['input']!r})")
