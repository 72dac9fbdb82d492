"""Quality of two runs: one test a cell and metric, one pooled test a model, one family."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from zoobench import metrics
from zoobench.compare import decide as deciding
from zoobench.compare.decide import Tests, concatenated, decide
from zoobench.compare.gates import POINT, Gates
from zoobench.compare.match import Identity, Pair, stands_for
from zoobench.compare.pairs import (
    PairedOutcomes,
    differences,
    estimate,
    read_outcomes,
    right_or_wrong,
)
from zoobench.compare.verdicts import POOLED, Finding, Resolution
from zoobench.ranking.outcomes import trains
from zoobench.ranking.overall import joined
from zoobench.schema import Cell, Outcome, Ref
from zoobench.statistics.bootstrap import Floats, Units, unit_count, unit_sums
from zoobench.statistics.intervals import Z
from zoobench.statistics.paired import Estimate, detectable_drop, sign_flip, student
from zoobench.store import Run

POWER = 0.8


@dataclass(frozen=True)
class Evidence:
    """One test before it is decided. `counts` are (losses, gains) of a right/wrong metric with
    one seed; `found` is the estimate of anything else; neither where answers are identical.
    `unpaired` says why the two could not be paired. `lone` is one training run a side: its luck,
    which no test over examples knows, may be all."""

    cell: Cell
    metric: str
    baseline: float
    candidate: float
    n: int
    seeds: int = 1
    cells: int = 1
    counts: tuple[int, int] | None = None
    found: Estimate | None = None
    kind: str = "quality"
    unpaired: str = ""
    lone: bool = False

    @property
    def dataset(self) -> Ref:
        return self.cell.dataset


@dataclass
class Pool:
    """One model's differences over its datasets, example by example, and the seeds' share. Of the
    cells of one primary metric, each example's part of which is right or wrong."""

    cell: Cell
    metric: str
    units: list[Units] = field(default_factory=list)
    changes: list[Floats] = field(default_factory=list)
    values: list[tuple[float, float]] = field(default_factory=list)

    def add(self, outcomes: PairedOutcomes, values: tuple[float, float]) -> None:
        if not right_or_wrong(outcomes, self.metric):
            return
        self.values.append(values)
        table = None if outcomes.identical else differences(outcomes, self.metric)
        if table is None or outcomes.units is None or not table.any():
            return
        self.units.append(outcomes.units)
        self.changes.append(table)

    def _of_seeds(self, cells: int) -> tuple[float, float]:
        """(the seeds' part of the variance, its degrees of freedom). Cells that share units are of
        one training run a seed, whose luck is the same in all of them."""
        variance, dof = 0.0, 0.0
        for part in joined([set(units.tolist()) for units in self.units]):
            tables = [self.changes[i] for i in part]
            seeds = min(len(table) for table in tables)
            if seeds > 1:
                sums = np.sum([table[:seeds].mean(axis=1) for table in tables], axis=0)
                variance += float(sums.var(ddof=1)) / seeds / cells**2
                dof += seeds - 1.0
        return variance, dof

    def evidence(self) -> Evidence | None:
        """The pooled test; None where fewer than two cells were compared or none changed.

        What a unit changes is summed over all cells in which it stands, however many share it.
        Without seeds: exact sign flips of each unit's net change, which is McNemar's test where
        there is one cell. With seeds: Student's t, since sign flips would take a seed's luck for
        a property of the model.
        """
        if len(self.values) < 2 or not self.changes:
            return None
        cells = len(self.values)
        old, new = np.mean(self.values, axis=0)
        means = [table.mean(axis=0) for table in self.changes]
        shares = [c / (len(c) * cells) for c in means]
        rows = [np.concatenate(means), np.concatenate(shares)]
        net, parts = unit_sums(rows, np.concatenate(self.units))
        n, change = len(parts), float(parts.sum())
        spread = float(((parts - parts.mean()) ** 2).sum()) * n / max(n - 1, 1)
        seeds = max(len(table) for table in self.changes)
        found = student(change, (spread, max(n - 1.0, 1.0)), self._of_seeds(cells))
        if seeds == 1:
            less, greater = sign_flip(np.rint(net))
            found = dataclasses.replace(found, less=less, greater=greater)
        cell = Cell(self.cell.model, POOLED, "pooled")
        return Evidence(
            cell, self.metric, float(old), float(new), n, seeds, cells, None, found, "pooled"
        )


@dataclass
class Gathered:
    """All tests of two runs, and the cells that turned out not to have one."""

    tests: list[Evidence] = field(default_factory=list)
    settled: list[Finding] = field(default_factory=list)
    unmeasured: set[str] = field(default_factory=set)
    moved: set[Ref] = field(default_factory=set)
    """Candidate models of which an answer, or a probability by more than rounding, changed."""


def gather(
    groups: Mapping[Identity, Sequence[Pair]], baseline: Run, candidate: Run, gates: Gates
) -> Gathered:
    """Evidence of every cell and metric, then one pooled test a model. Raises StoreError for
    damaged predictions."""
    out = Gathered(unmeasured=set(gates.metrics))
    pools: dict[tuple[str, str], Pool] = {}
    for key in sorted(groups, key=str):
        pairs = groups[key]
        outcomes: PairedOutcomes | None = None
        for metric in gates.metrics_of(pairs[0].candidate.cell):
            values = _values(pairs, metric, out)
            if values is None:
                continue
            if outcomes is None:
                outcomes = read_outcomes(pairs, baseline, candidate)
                kept = all(p.baseline.predictions and p.candidate.predictions for p in pairs)
                if kept and not outcomes.identical:
                    out.moved.add(pairs[0].candidate.cell.model)
            _one(pairs, metric, values, outcomes, out)
            usable = not (outcomes.problem or outcomes.apart)
            usable &= outcomes.identical or not _lone(pairs)
            in_units = metrics.metric(metric).unit == "target"  # which have no sum
            if metric == outcomes.task.metrics[0] and usable and outcomes.n and not in_units:
                pool = pools.setdefault((key[0], metric), Pool(pairs[0].candidate.cell, metric))
                pool.add(outcomes, values)
    out.tests += [found for pool in pools.values() if (found := pool.evidence()) is not None]
    return out


def _lone(pairs: Sequence[Pair]) -> bool:
    return len(pairs) == 1 and trains(pairs[0].candidate)


def _values(pairs: Sequence[Pair], metric: str, out: Gathered) -> tuple[float, float] | None:
    """Means over seeds of what was recorded; None where there is nothing to compare."""
    old = [p.baseline.value(metric) for p in pairs]
    new = [p.candidate.value(metric) for p in pairs]
    kept = [v for v in old if v is not None]
    if not kept:
        return None
    out.unmeasured.discard(metric)
    mean = sum(kept) / len(kept)
    if None in new:
        why = f"{metric} was not measured"
        out.settled.append(Finding(stands_for(pairs), metric, mean, None, "missing", why))
        return None
    return mean, sum(v for v in new if v is not None) / len(new)


def _one(
    pairs: Sequence[Pair],
    metric: str,
    values: tuple[float, float],
    outcomes: PairedOutcomes,
    out: Gathered,
) -> None:
    cell, seeds = stands_for(pairs), len(pairs)
    test = Evidence(
        cell, metric, *values, outcomes.n, seeds, cells=seeds, unpaired=outcomes.problem,
        lone=_lone(pairs),
    )  # fmt: skip
    units = outcomes.units
    alone = seeds == 1 and units is not None and unit_count(units) == outcomes.n
    if outcomes.identical:
        out.tests.append(test)
        return
    if alone and not outcomes.apart and right_or_wrong(outcomes, metric):
        table = differences(outcomes, metric)
        assert table is not None, "a metric that is right or wrong is a mean"
        counts = (int((table < 0).sum()), int((table > 0).sum()))
        out.tests.append(dataclasses.replace(test, counts=counts))
        return
    found = None if outcomes.apart else estimate(outcomes, metric, pairs)
    if found is not None:
        out.tests.append(dataclasses.replace(test, found=found))
        return
    outcome: Outcome = "incomparable" if outcomes.apart else "inconclusive"
    why = outcomes.apart or f"{outcomes.problem}, and no interval"
    finding = Finding(cell, metric, *values, outcome, why, n=outcomes.n, seeds=seeds)
    fall = metrics.sign(metric) * (values[1] - values[0])
    out.settled.append(dataclasses.replace(finding, change=fall))


def verdicts(tests: Sequence[Evidence], gates: Gates) -> tuple[list[Finding], int]:
    """Decide the whole family at once. Returns the findings in order, and the family's size."""
    if not tests:
        return [], 0
    table = _table(tests)
    margins = np.array([gates.margin_of(t.dataset, t.metric, t.baseline) for t in tests])
    drops = np.array([gates.min_drop_of(t.dataset, t.metric, t.baseline) for t in tests])
    lone = np.array([t.lone for t in tests], dtype=bool)
    table = dataclasses.replace(table, testable=table.testable & ~lone)
    decision = decide(table, margins, drops, gates.alpha)
    seen = _detectable(tests, gates.alpha / max(decision.family, 1))
    found = []
    for i, test in enumerate(tests):
        identical = test.counts is None and test.found is None
        same = f"the same answers on all {test.n} examples" if identical else ""
        finding = Finding(
            test.cell, test.metric, test.baseline, test.candidate, str(decision.outcome[i]), same,  # type: ignore[arg-type]
            kind=test.kind, change=float(table.change[i]),  # type: ignore[arg-type]
            low=float(table.low[i]), high=float(table.high[i]),
            p=float(table.less[i]), adjusted=float(decision.less[i]),
            margin=float(margins[i]), detectable=float(seen[i]),
            n=test.n, seeds=test.seeds, cells=test.cells,
        )  # fmt: skip
        if not identical:
            why = explain(finding, test, float(decision.greater[i]))
            finding = dataclasses.replace(finding, why=why)
        found.append(finding)
    return found, decision.family


def _table(tests: Sequence[Evidence]) -> Tests:
    """Evidence as arrays, in order; right/wrong counts are tested all at once."""
    counted = [i for i, t in enumerate(tests) if t.counts is not None]
    same = [i for i, t in enumerate(tests) if t.counts is None and t.found is None]
    other = [i for i, t in enumerate(tests) if t.found is not None]
    counts = np.array([tests[i].counts for i in counted], dtype=np.int64).reshape(-1, 2)
    sizes = np.array([tests[i].n for i in counted], dtype=np.float64)
    zero, one = np.zeros(len(same)), np.ones(len(same))
    found = [t.found for t in tests if t.found is not None]
    columns = [
        np.array([getattr(e, name) for e in found], dtype=np.float64)
        for name in ("value", "low", "high", "less", "greater")
    ]
    testable = np.array([e.less < 1 or e.greater < 1 for e in found], dtype=bool)
    joined = concatenated(
        [
            deciding.right_or_wrong(counts[:, 0], counts[:, 1], sizes),
            Tests(zero, zero, zero, one, one, np.zeros(len(same), dtype=bool)),
            Tests(columns[0], columns[1], columns[2], columns[3], columns[4], testable),
        ]
    )
    back = np.argsort(np.array(counted + same + other, dtype=np.intp))
    names = (f.name for f in dataclasses.fields(Tests))
    return Tests(**{name: getattr(joined, name)[back] for name in names})


def _detectable(tests: Sequence[Evidence], alpha: float) -> NDArray[np.float64]:
    """(m,) the smallest drop that each test finds with 80% power at Holm's strictest step."""
    sizes = np.array([max(t.n, 1) for t in tests], dtype=np.float64)
    discordant = np.array([sum(t.counts) if t.counts else 0 for t in tests], dtype=np.float64)
    seen = detectable_drop(sizes, discordant / sizes, alpha, POWER)
    z = float(ndtri(1 - alpha) + ndtri(POWER))
    # A few seeds' critical values are Student's: as much wider as the interval is.
    spread = np.array(
        [z * (t.found.high - t.found.low) / (2 * Z) if t.found else np.nan for t in tests]
    )
    return np.where(np.isnan(spread), seen, spread)


def resolutions(found: Iterable[Finding]) -> tuple[Resolution, ...]:
    """What each dataset can show: the worst of its cells that changed, or of all where none did."""
    by_dataset: dict[tuple[str, str], list[Finding]] = {}
    for f in found:
        if f.kind == "quality" and f.detectable is not None:
            by_dataset.setdefault((f.cell.dataset.short, f.metric), []).append(f)
    out = []
    for (dataset, metric), each in by_dataset.items():
        moved = [f for f in each if f.p is not None and f.change != 0] or each
        worst = max(moved, key=lambda f: f.detectable or 0.0)
        out.append(
            Resolution(dataset, metric, worst.n or 0, worst.detectable or 0.0, worst.margin or 0.0)
        )
    return tuple(sorted(out, key=lambda r: (r.dataset, r.metric)))


def explain(f: Finding, test: Evidence, gain: float) -> str:
    """One line of evidence: what changed, how sure, and against what."""
    assert f.change is not None
    assert f.low is not None
    assert f.high is not None
    said, low, high = (signed(f.metric, value) for value in (f.change, f.low, f.high))
    head = f"{said}{unit_of(f.metric)}, 95% interval {low} to {high}"
    if test.counts:
        head += f" ({test.counts[0]} lost, {test.counts[1]} gained of {f.n})"
    elif f.kind == "pooled":
        head += f" (over {f.cells} cells)"
    elif f.seeds > 1:
        head += f" ({f.seeds} seeds of {f.n} examples)"
    if test.unpaired:
        head += f", not paired: {test.unpaired}"
    margin = drop(f.metric, f.margin or 0.0)
    if f.outcome == "regressed":
        return f"{head}; p {number(f.p)}, {number(f.adjusted)} after Holm"
    if f.outcome == "improved":
        return f"{head}; p {number(gain)} after Holm"
    if f.outcome == "same":
        return f"{head}: within the margin of {margin}"
    if test.lone:
        return f"{head}: one training run a side, whose luck may be all of it; give three seeds"
    text = f"{head}: neither a sure loss (p {number(f.adjusted)} after Holm) nor within {margin}"
    if f.margin is not None and (f.detectable or 0.0) > f.margin:
        seen = drop(f.metric, f.detectable or 0.0, ".1f")
        text += f"; drops under {seen}{unit_of(f.metric)} can't be seen here"
    return text


def unit_of(metric: str) -> str:
    """What follows a difference: " points", hundredths of the metric's unit, or nothing where it is
    the target's."""
    return "" if metrics.metric(metric).unit == "target" else " points"


def signed(metric: str, value: float) -> str:
    """A signed difference, in points or in the target's unit."""
    if not unit_of(metric):
        return "0" if value == 0 else f"{value:+.4g}"
    text = f"{value / POINT:+.2f}"
    return "0.00" if float(text) == 0 else text


def drop(metric: str, size: float, digits: str = ".2g") -> str:
    """A size of a loss, in points or in the target's unit."""
    return format(size / POINT, digits) if unit_of(metric) else f"{size:.3g}"


def number(p: float | None) -> str:
    """A p-value that a person reads."""
    if p is None:
        return "unknown"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"
