"""The nouns of a decision: what `rank` gives and the report shows. Plain data.

Values of `value`, `low`, `high`, `gap` are in the metric's own unit (a fraction for
accuracy), and of rows negated where lower is better, so that larger is better throughout:
`natural` turns them back for people. Costs are in their metric's unit (schema.Measurement).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from zoobench.metrics import sign
from zoobench.schema import Record, Ref
from zoobench.statistics.critical import CriticalDifference

COSTS = (
    "params",
    "trainable_params",
    "weights_bytes",
    "feature_dim",
    "macs",
    "flops",
    "latency_ms_p50",
    "latency_ms_p95",
    "real_time_factor",
    "throughput",
    "peak_memory_bytes",
    "extract_seconds",
    "extract_waiting_share",
    "fit_seconds",
    "train_seconds",
    "compile_seconds",
    "total_seconds",
    "energy_joules",
)
TRUST = (
    "membership_auc",
    "membership_tpr_at_1pct_fpr",
    "mean_retained",
    "explanation_gain",
    "insertion_auc",
    "deletion_auc",
    "pointing_game",
)
"""What is known of a model beside its scores and costs (PROTOCOL sections 5 and 8)."""
TIMED = frozenset(COSTS[6:])
"""Costs that depend on the machine: never ranked across devices."""
SEVERAL = "several: "
"""How the `device` of a row begins whose costs were measured on more than one."""


def natural(metric: str, value: float, low: float, high: float) -> tuple[float, float, float]:
    """A row's (value, low, high) as `metric` is written: an error metric's are positive again."""
    return (value, low, high) if sign(metric) > 0 else (-value, -high, -low)


@dataclass(frozen=True)
class Flag:
    """Something a reader must know of a row; `why` is one clause with its numbers."""

    name: str
    why: str = ""


@dataclass(frozen=True)
class Bounded:
    """A number with its 95% interval, which is None where it is not known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """One model among those it was ranked with.

    `rank_low`..`rank_high` is the 95% range of its rank, `first` its probability of
    being the true best, `tied` whether rank 1 is in its range. `device` says what its
    timed costs were measured on; `trust` holds what is known of TRUST.
    """

    model: Ref
    value: float
    low: float
    high: float
    rank_low: int
    rank_high: int
    first: float
    tied: bool
    seeds: int = 1
    costs: Mapping[str, float] = field(default_factory=dict)
    device: str = ""
    license: str = "unknown"
    family: str = ""
    flags: tuple[Flag, ...] = ()
    records: tuple[Record, ...] = ()
    trust: Mapping[str, Bounded] = field(default_factory=dict)


@dataclass(frozen=True)
class Control:
    """A control's score beside the models it checks; shown, never ranked.

    `on` says on which part of the data, in words; "" for all that the models had.
    """

    model: Ref
    value: float
    low: float | None = None
    high: float | None = None
    on: str = ""


@dataclass(frozen=True)
class Failure:
    """A cell without a number: it failed with `status`, or is "missing"."""

    model: Ref
    dataset: Ref
    method: str
    status: str
    why: str
    shots: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class SectionRanking:
    """The models on one dataset by one method, best first.

    `p` is the Holm-corrected matrix of pairwise tests in the order of `rows` (family:
    all pairs). `gap` is the lead over all others that would be found four times in five,
    None where none would be (training runs without a second seed); `saturated` when
    even a perfect model could not be told from the best. `paired` is False where
    predictions are missing, so that intervals had to do.
    """

    key: Mapping[str, str]
    dataset: Ref
    method: str
    shots: int | None
    metric: str
    rows: tuple[Row, ...]
    controls: tuple[Control, ...]
    failures: tuple[Failure, ...]
    p: tuple[tuple[float, ...], ...]
    gap: float | None
    saturated: bool
    paired: bool
    n: int
    classes: int | None
    nature: str
    sizes: Mapping[str, int]
    flags: tuple[Flag, ...]

    @cached_property
    def tied(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.tied)


@dataclass(frozen=True)
class OverallRow(Row):
    """One model over the common datasets: mean score, mean rank, mean z-score, worst dataset."""

    mean_rank: float = 0.0
    mean_z: float = 0.0
    worst: float = 0.0
    worst_dataset: Ref | None = None
    order_by_rank: int = 0
    order_by_z: int = 0


@dataclass(frozen=True)
class OverallRanking:
    """The models over all datasets that every one of them has, by one method.

    `p` is the Holm-corrected matrix of pairwise tests and `raw` the uncorrected one;
    `posterior` holds plausible true scores, (draws, models): both in the order of `rows`,
    and empty above 200 models. `general` is True where datasets were resampled too, so that
    the intervals speak of further datasets like these; with fewer than five, of these alone.
    `disagreements` say which models change places between the three orders; `critical` is the
    critical-difference diagram, None where there are too few datasets or too many models.
    """

    name: str
    method: str
    shots: int | None
    metric: str
    datasets: tuple[Ref, ...]
    rows: tuple[OverallRow, ...]
    left_out_models: Mapping[Ref, str]
    left_out_datasets: Mapping[Ref, str]
    disagreements: tuple[str, ...]
    gap: float | None
    general: bool
    sections: tuple[SectionRanking, ...]
    p: tuple[tuple[float, ...], ...] = ()
    raw: tuple[tuple[float, ...], ...] = ()
    posterior: tuple[tuple[float, ...], ...] = ()
    critical: CriticalDifference[Ref] | None = None

    @cached_property
    def tied(self) -> tuple[OverallRow, ...]:
        return tuple(row for row in self.rows if row.tied)


@dataclass(frozen=True)
class Judged:
    """One ranker over M models that were fine-tuned on a dataset, or a mean over datasets.

    `regret` is k -> best accuracy minus the best among the ranker's first k; `tau` the
    weighted Kendall tau, None where the ranker gives every model the same score.
    `static` rankers don't look at the data; `models` have a score, of `of` fine-tuned.
    """

    ranker: str
    static: bool
    datasets: tuple[Ref, ...]
    metric: str
    regret: Mapping[int, float]
    tau: float | None
    models: int
    of: int


@dataclass(frozen=True)
class Shift:
    """One model's head on shifted data: `retained` = shifted / clean (PROTOCOL section 5).

    `kind` is the corruption, or "to DATASET"; `severities` severity -> retained, {0: ...} for
    another dataset. `retained` is their mean with its 95% bootstrap interval, absent where
    predictions are. `clean` and `shifted` are scores, the second a mean over severities.
    """

    model: Ref
    dataset: Ref
    method: str
    metric: str
    kind: str
    clean: float
    shifted: float
    retained: float
    low: float | None
    high: float | None
    severities: Mapping[int, float]


@dataclass(frozen=True)
class Efficiency:
    """A few-shot curve: `curve` k -> mean score over draws, `full` the score on all of the data.

    `enough` is the least k that reaches 95% of `full`; None where none measured does, or
    where there is no full score.
    """

    model: Ref
    dataset: Ref
    method: str
    metric: str
    curve: Mapping[int, float]
    full: float | None
    enough: int | None


@dataclass(frozen=True)
class Lead:
    """A difference, larger better, with its 95% interval, over so many draws of examples; of one
    draw, or one group of test examples, there is none."""

    value: float
    low: float | None
    high: float | None
    draws: int


@dataclass(frozen=True)
class Crossing:
    """How a probe of few examples compares with the same model as it is, whose score is
    `untouched`: `leads` k -> the probe's lead. `beats` is the least k from which on every interval
    lies above 0; None where none of those measured does."""

    model: Ref
    dataset: Ref
    method: str
    metric: str
    untouched: float
    leads: Mapping[int, Lead]
    beats: int | None


@dataclass(frozen=True)
class Gap:
    """Train accuracy minus test accuracy: means over `datasets` that have both."""

    model: Ref
    method: str
    train: float
    test: float
    datasets: int


@dataclass(frozen=True)
class MadeEncoder:
    """How one model was pretrained: means over its seeds, of each number that it has, with a
    95% interval over test examples and seeds where it has one.

    `curve` has (examples seen, MACs, kNN accuracy on valid, least and greatest of the seeds);
    `equal` is that accuracy at the MACs of the cheapest of the run's trainings, between the points
    of the curve in proportion; `judge` is the model in whose features its samples were compared.
    """

    model: Ref
    seeds: int
    rates: tuple[float, ...]
    numbers: Mapping[str, tuple[float, float | None, float | None]]
    curve: tuple[tuple[float, float, float, float, float], ...]
    equal: float | None = None
    judge: str = ""

    @property
    def objective(self) -> str:
        return str(self.model.option("objective"))


@dataclass(frozen=True)
class Bought:
    """What one pretraining bought on a dataset by one method, over the same encoder untrained or a
    probe of raw input: `leads` labels a
    class -> its lead, None of all data; `beats` whether that on all data is above 0, by Holm's
    correction over the models and datasets of the method. `seen`: the data are those that it was
    pretrained on."""

    model: Ref
    dataset: Ref
    method: str
    over: str
    metric: str
    score: float | None
    seen: bool
    leads: Mapping[int | None, Lead] = field(default_factory=dict)
    p: Mapping[int | None, float] = field(default_factory=dict)
    beats: bool | None = None


@dataclass(frozen=True)
class Ranking:
    """All that a run (or several) allows to be said.

    Shifted cells are in `shifts` alone: they are no further datasets to average over.
    """

    sections: tuple[SectionRanking, ...]
    overall: tuple[OverallRanking, ...]
    failures: tuple[Failure, ...]
    records: tuple[Record, ...]
    judged: tuple[Judged, ...] = ()
    shifts: tuple[Shift, ...] = ()
    efficiency: tuple[Efficiency, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    gaps: tuple[Gap, ...] = ()
    encoders: tuple[MadeEncoder, ...] = ()
    bought: tuple[Bought, ...] = ()
