"""zoobench from Python: what the commands do, as functions that return objects (docs/python.md).

    import zoobench as zb

    results = zb.run("smoke")                       # or zb.load("results/runs/smoke")
    results.frame(), results.ranking()
    zb.recommend(results, max_params=5e6)

Nothing here prints or exits. A mistake of the user raises what the command line prints, an
error of zoobench.errors; a cell that fails is a record, as it is there. What is returned
shows itself as text, and in a notebook as tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, Unpack, cast

from zoobench import metrics, store
from zoobench.compare import compare as comparison
from zoobench.compare.gates import gates_from, read_gates
from zoobench.compare.variants import ranked
from zoobench.compare.verdicts import Comparison
from zoobench.errors import UserError, naming_parameters, unknown
from zoobench.files import file_name
from zoobench.generation.judge import Judgement
from zoobench.quantities import COUNT, SIZE, TIME
from zoobench.ranking.nouns import Ranking
from zoobench.ranking.recommend import Limits, Recommendation, recommend_all
from zoobench.report import gate, judged_images, notebook, tables
from zoobench.report.terminal import ranking_text
from zoobench.report.text import recommendation_text
from zoobench.schema import Record
from zoobench.store import Run
from zoobench.usability.needs import left_out
from zoobench.usability.needs import parse as parse_needs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from zoobench.runs.session import Plan
    from zoobench.runs.suite import Suite
    from zoobench.workers.events import Event

SPLITS = ("train", "valid", "test")

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class RunResults(Run):
    """What a run directory holds: its `path`, its `records` (the newest of each cell), and its
    `suite` as resolved. Nothing in it is read again when the run goes on: `load` it anew."""

    @property
    def failed(self) -> tuple[Record, ...]:
        """The records of cells that have no answer, each with its status and error."""
        return tuple(record for record in self.records if record.status != "ok")

    def frame(self) -> pd.DataFrame:
        """One row a measurement, the columns of the report's measurements.csv."""
        return tables.frame(tables.measurements_table(self.records))

    def ranking(self, metric: str | None = None) -> Leaderboard:
        """The models of this run, ranked: see `rank`."""
        return rank(self, metric=metric)

    def __repr__(self) -> str:
        return f"<zoobench run: {notebook.summary(self)}>"

    def _repr_html_(self) -> str:
        return notebook.run_html(self)


@dataclass(frozen=True, repr=False)
class Leaderboard(Ranking):
    """A ranking: `sections` (one a dataset and method), `overall` (over the datasets that all
    models have), `failures`. Its text is what `zoobench report` prints."""

    def frame(self) -> pd.DataFrame:
        """One row a model, dataset and method, then one a model overall: the columns of the
        report's ranking.csv."""
        return tables.frame(tables.ranking_table(self))

    def __repr__(self) -> str:
        return ranking_text(self)

    def _repr_html_(self) -> str:
        return notebook.ranking_html(self)


class Recommendations(tuple[Recommendation, ...]):
    """One recommendation an overall ranking (a method on the datasets of one kind).

    Each has the most `accurate` model, None where none keeps to the limits, and the `cheapest` good
    enough, None where nobody surely is; see `Recommendation`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n\n".join("\n".join(recommendation_text(one)) for one in self)

    def _repr_html_(self) -> str:
        return notebook.recommendations_html(self)


@dataclass(frozen=True, repr=False)
class RunComparison(Comparison):
    """What comparing two runs came to: `findings`, `failing`, and the `exit_code` that
    `zoobench compare` would end with (0 fine, 1 a confirmed regression)."""

    def __repr__(self) -> str:
        return gate.text(self).strip("\n")

    def _repr_html_(self) -> str:
        return notebook.comparison_html(self)


@dataclass(frozen=True, repr=False)
class JudgedImages(Judgement):
    """Generated pictures beside real ones: `measurements`, their `floor` (real against real),
    `missing` (why a metric is not there), `neighbours` with all copies, and `pairs`. Its text is
    what `zoobench judge-images` prints."""

    def frame(self) -> pd.DataFrame:
        """One row a number: of `samples`, then of the `floor`."""
        sides = {"samples": self.measurements, "floor": self.floor}
        rows = [(side, one) for side, found in sides.items() for one in found]
        columns = {name: [getattr(one, name) for _, one in rows] for name in tables.FIELDS}
        return tables.frame({"scope": [side for side, _ in rows], **columns})

    def __repr__(self) -> str:
        return "\n".join(judged_images.text(self))

    def _repr_html_(self) -> str:
        return notebook.text_html(repr(self))


class FeatureArrays(NamedTuple):
    """The features of N examples.

    `features` (N, D) float32; `targets` (N,) int64 labels or float64 numbers (of a task whose
    answers are no array, its own `Targets`); `ids` (N,) text, stable across machines;
    `classes` the names of the labels, empty where there are none.
    """

    features: NDArray[np.float32]
    targets: Any
    ids: NDArray[np.str_]
    classes: tuple[str, ...]


@naming_parameters
def run(
    suite: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    device: str = "auto",
    workers: int | str = "auto",
    only: Mapping[str, str] | None = None,
    retry_failed: str | None = None,
    watch: Callable[[Plan, Event], None] = lambda plan, event: None,
) -> RunResults:
    """Run a suite: a TOML file, a built-in name, or a dict in the shape of a suite file.

    `out` is the run directory, results/runs/NAME by default; what it holds already is not run
    again, but for failed cells of the statuses that `retry_failed` names ("all", or such as
    "oom,timeout"). `only` maps model, dataset or method to a glob. `workers` are processes,
    "auto" as many as end soonest. `watch` is called with each event. Raises UserError before any
    work; Ctrl-C loses nothing that was recorded.
    """
    from zoobench.runs import session
    from zoobench.runs.workers import parse_workers

    spec = _suite(suite)
    folder = session.RUNS / file_name(spec.name) if out is None else Path(out)
    chosen = session.parse_only([f"{key}={glob}" for key, glob in (only or {}).items()])
    retry = session.parse_retry(retry_failed)
    number = parse_workers(workers)
    options = session.RunOptions(folder, device, number, only=chosen, retry=retry)
    session.execute(spec, options, watch)
    return load(folder)


def _suite(suite: str | Path | Mapping[str, Any]) -> Suite:
    """Relative paths of a dict are relative to the working directory."""
    from zoobench.runs import suite as suites

    if isinstance(suite, Mapping):
        return suites.resolve(suites.parse(suite, "suite"), "suite", Path())
    return suites.read(str(suite))


def load(run: str | Path) -> RunResults:
    """A run directory, or a lone records.jsonl. Raises StoreError."""
    return _as(RunResults, store.load(run))


def _as(kind: type[T], noun: Any) -> T:
    """`noun` as one of ours: the same fields, and how they are shown."""
    return kind(**{field.name: getattr(noun, field.name) for field in dataclasses.fields(noun)})


def _loaded(run: str | Path | Run) -> Run:
    return run if isinstance(run, Run) else load(run)


def rank(run: str | Path | Run, *more: str | Path | Run, metric: str | None = None) -> Leaderboard:
    """Rank the models of one run or several together, with ties, intervals and controls.

    Each dataset by `metric`, or by its task's primary one. Raises UserError.
    """
    if metric is not None:
        metrics.metric(metric, "metric")
    ranking, _ = ranked([_loaded(one) for one in (run, *more)], metric)
    return _as(Leaderboard, ranking)


class CostLimits(TypedDict, total=False):
    """What a model must keep to: of costs the most, a number, or a text with a unit such as "10M",
    "20ms" or "2GB".

    `max_macs` of one example; `max_memory` and `max_bytes` (of the saved weights) in bytes. The two
    of trust are fractions: what is left of a score under corruptions, and of membership inference.
    """

    max_params: str | float | None
    max_macs: str | float | None
    max_latency_ms: str | float | None
    max_memory: str | float | None
    max_bytes: str | float | None
    min_retained: float | None
    max_membership_auc: float | None


TRUST_LIMITS = ("min_retained", "max_membership_auc")
"""Limits that are fractions."""
COST_LIMITS = {
    "max_params": (COUNT, ""), "max_macs": (COUNT, ""), "max_latency_ms": (TIME, "ms"),
    "max_memory": (SIZE, ""), "max_bytes": (SIZE, ""),
}  # fmt: skip
"""What each may be written as, and the unit of a plain number."""


def recommend(
    run: str | Path | Run,
    license: str = "",  # noqa: A002  the command's own word
    objective: str | None = None,
    needs: str | Sequence[str] = (),
    **costs: Unpack[CostLimits],
) -> Recommendations:
    """Which model of a run to take under limits, what it is tied with, and how sure that is.

    `costs` are max_params, max_macs, max_latency_ms, max_memory and max_bytes; each may be text
    with a unit, such as "10M", "20ms" or "2GB". `license` is "permissive" or SPDX names by comma;
    `needs` are usability probes that must be answered with yes, by what `zoobench check RUN` found
    and what cards tell (docs/check.md). `objective` is a quality metric, by default each task's
    primary one. Raises UserError, also for a limit on what the run did not measure.
    """
    if objective is not None:
        metrics.metric(objective, "objective")
    most: dict[str, Any] = {}
    for name, given in costs.items():
        if name in TRUST_LIMITS:
            most[name] = _fraction(name, given)
            continue
        if name not in COST_LIMITS:
            raise unknown("recommend", "limit", name, (*COST_LIMITS, *TRUST_LIMITS))
        kind, unit = COST_LIMITS[name]
        most[name] = None if given is None else kind.read(cast("str | float", given), name, unit)
    loaded = _loaded(run)
    wanted = parse_needs(needs, "needs") if needs else ()
    limits = Limits(**most, license=license, needs=wanted, unmet=left_out(loaded, wanted))
    ranking, _ = ranked([loaded], objective)
    return Recommendations(recommend_all(loaded, limits, objective, ranking))


def _fraction(name: str, given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1:
        raise UserError(f"{name}: expected a fraction from 0 to 1, got {given!r}")
    return float(given)


def compare(
    baseline: str | Path | Run,
    candidate: str | Path | Run,
    gates: str | Path | Mapping[str, Any] | None = None,
) -> RunComparison:
    """Did `candidate` regress against `baseline` (a run, or an accepted baseline)?

    `gates` is a TOML file of margins, or a dict in its shape. Both runs are read from their
    directories. Raises UserError for what cannot be read or is not the same suite.
    """
    allowed = gates_from(dict(gates), "gates") if isinstance(gates, Mapping) else read_gates(gates)
    paths = [run.path if isinstance(run, Run) else run for run in (baseline, candidate)]
    return _as(RunComparison, comparison.compare_paths(paths[0], paths[1], allowed))


def features(model: str, dataset: str, split: str = "test", device: str = "auto") -> FeatureArrays:
    """The frozen features that the probes see: of one split (train, valid, test), in float32.

    They are kept in the cache, which runs of the same precision share. Raises UserError for
    unknown names and another modality, CellError where model or data cannot be had.
    """
    import numpy as np

    from zoobench import datasets, models
    from zoobench.workers.loaded import feature_source

    if split not in SPLITS:
        raise unknown("", "split", split, SPLITS)
    data = datasets.resolve(dataset)
    source = feature_source(models.resolve(model), device, [data])
    splits = datasets.load(data)
    chosen = getattr(splits, split)
    return FeatureArrays(
        source.features(chosen).numpy(),
        getattr(chosen.targets, "values", chosen.targets),
        np.array(chosen.ids),
        splits.classes,
    )


@naming_parameters
def judge_images(
    samples: str | Path,
    reference: str | Path,
    model: str | None = None,
    train: str | Path | None = None,
    paired: bool = False,
    lpips: bool = False,
    device: str = "auto",
) -> JudgedImages:
    """How far the pictures in a folder are from real ones, and which are copies.

    `reference` is a folder of real pictures, `train` one in which copies are looked for instead;
    `model` the encoder whose features are compared, EfficientNet-Lite0 by default. `paired`
    compares pictures of one name, `lpips` these by LPIPS too. See docs/judge-images.md. Raises
    UserError, CellError where the model cannot be had, MissingExtra.
    """
    from zoobench.generation import folders
    from zoobench.generation.judge import MODEL, check_lpips, judge, model_of
    from zoobench.workers.loaded import feature_source

    check_lpips(lpips, paired)
    given = {folders.SAMPLES: Path(samples), folders.REFERENCE: Path(reference)}
    if train is not None:
        given[folders.TRAIN] = Path(train)
    ref = model_of(model or MODEL)
    found = judge(folders.read(given), ref, feature_source, paired, device, lpips=lpips)
    return _as(JudgedImages, found)


def profile(
    model: str,
    input_size: tuple[int, int] | None = None,
    seq_len: int | None = None,
    weights: bool = False,
    cross_check: bool = False,
) -> dict[str, Any]:
    """What a model costs, with no dataset: params, macs, flops, bytes, activations.

    Nothing is downloaded unless `weights`, and nothing is timed. `input_size` is
    (height, width). See docs/costs.md. Raises UserError.
    """
    from zoobench.costs.profile import profile as counted

    return counted(model, input_size, seq_len, weights, cross_check)
