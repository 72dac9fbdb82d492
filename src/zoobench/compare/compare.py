"""Compare two runs: what regressed, what is missing, what can't be compared, and why.

The decision is in four parts: pairing and comparability (compare_match), quality
(compare_quality, compare_decide), exact counts and digests (compare_exact), times
(compare_times). This file puts them together. Nearly all of it is about one model after the
other, so the models of large runs are examined in several processes (compare_shares); what
takes them all, the family of tests, is decided at the end. No printing: see report/gate.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoobench.compare.baseline import Acceptance, PackedRun
from zoobench.compare.exact import by_model, drifts, exact_findings
from zoobench.compare.gates import Gates, read_gates
from zoobench.compare.match import Matched, by_seed, match
from zoobench.compare.processes import helpers, shares, worthwhile
from zoobench.compare.quality import Gathered, gather, resolutions, verdicts
from zoobench.compare.reading import Share, load, load_both
from zoobench.compare.record import Slim, SlimRun
from zoobench.compare.times import Apart, incomparable_times, time_changes
from zoobench.compare.verdicts import Comparison, Drift, Finding, NewCell
from zoobench.errors import UserError
from zoobench.store import no_collection

__all__ = [
    "Comparison",
    "Finding",
    "Gates",
    "compare",
    "compare_paths",
    "load",
    "load_both",
    "read_gates",
]

_ORDER = {"regressed": 0, "missing": 1, "inconclusive": 2, "incomparable": 3, "improved": 4}


@dataclass(frozen=True)
class Examined:
    """What a share of the models came to, before the whole family of tests is decided.

    `records` and `twice` are counts of (baseline, candidate); `pairs` how many were found.
    """

    suite: str
    paths: tuple[str, str]
    records: tuple[int, int]
    twice: tuple[int, int]
    pairs: int
    gathered: Gathered
    findings: list[Finding]
    warnings: list[Finding]
    apart: Apart
    new: list[NewCell]
    drifts: tuple[Drift, ...]
    expired: tuple[Acceptance, ...]


def compare_paths(
    baseline: str | Path, candidate: str | Path, gates: Gates | None = None, processes: int = 1
) -> Comparison:
    """`compare` of two run directories, records.jsonl files or accepted baselines.

    Large runs are read and examined in up to `processes` processes; the outcome is the same.
    Raises UserError (exit code 2) for what can't be read or isn't the same suite.
    """
    gates = gates or Gates()
    sides = Path(baseline), Path(candidate)
    count = worthwhile(*sides, processes)
    with no_collection(), helpers(count - 1, preload=[__name__]) as others:
        found: Sequence[Share | None] = shares(*sides, count) if count > 1 else ()
        own, *rest = found or (None,)
        calls = [others.call(_examined, *sides, gates, share) for share in rest]
        parts = [_examined(*sides, gates, own), *(call() for call in calls)]
        return conclude(parts, gates)


def _examined(baseline: Path, candidate: Path, gates: Gates, share: Share | None) -> Examined:
    with no_collection():
        return examine(*load_both(baseline, candidate, gates.metrics, share), gates)


def compare(baseline: SlimRun, candidate: SlimRun, gates: Gates | None = None) -> Comparison:
    """Decide, by PROTOCOL sections 6 and 7. Findings come worst first, then by name.

    Raises UserError for runs of two different suites, for revisions that can't be paired
    and for NaN in the baseline; StoreError for damaged predictions.
    """
    gates = gates or Gates()
    with no_collection():
        return conclude([examine(baseline, candidate, gates)], gates)


def examine(baseline: SlimRun, candidate: SlimRun, gates: Gates) -> Examined:
    """All that can be said of each model by itself. Raises as `compare`."""
    suite = _same_suite(baseline, candidate)
    matched = match(baseline, candidate)
    gathered = gather(by_seed(matched.pairs), baseline, candidate, gates)
    models = by_model(p for p in matched.pairs if not p.differing)
    warnings, apart = time_changes(models, gates.times)
    return Examined(
        suite=suite,
        paths=(str(baseline.path), str(candidate.path)),
        records=(len(baseline.records), len(candidate.records)),
        twice=matched.twice,
        pairs=len(matched.pairs),
        gathered=gathered,
        findings=[*gathered.settled, *exact_findings(models), *_unpaired(matched)],
        warnings=warnings,
        apart=apart,
        new=[_new(r, gates.metrics[0]) for r in matched.new],
        drifts=drifts(models, gathered.moved),
        expired=baseline.expired if isinstance(baseline, PackedRun) else (),
    )


def conclude(parts: Sequence[Examined], gates: Gates) -> Comparison:
    """Decide the family of tests that the parts hold together. In whatever order models come,
    and in however many parts, the outcome is the same."""
    first = parts[0]
    tests = sorted((t for p in parts for t in p.gathered.tests), key=lambda t: t.cell.model)
    quality, family = verdicts(tests, gates)
    apart: Apart = {}
    for part in parts:
        for fields, found in part.apart.items():
            apart.setdefault(fields, []).extend(found)
    findings = [*quality, *incomparable_times(apart), *(f for p in parts for f in p.findings)]
    return Comparison(
        suite=first.suite,
        baseline=first.paths[0],
        candidate=first.paths[1],
        findings=tuple(sorted(findings, key=_worst_first)),
        new=tuple(sorted((n for p in parts for n in p.new), key=lambda n: n.cell.model)),
        warnings=tuple(sorted((w for p in parts for w in p.warnings), key=_worst_first)),
        drifts=tuple(sorted((d for p in parts for d in p.drifts), key=lambda d: d.model)),
        resolutions=resolutions(quality),
        notes=tuple(_notes(parts)),
        family=family,
        alpha=gates.alpha,
        strict=gates.strict,
    )


def _same_suite(baseline: SlimRun, candidate: SlimRun) -> str:
    old, new = (str(run.suite.get("name", "")) for run in (baseline, candidate))
    if old and new and old != new:
        raise UserError(
            f"{baseline.path} holds the suite {old!r}, but {candidate.path} holds {new!r}: "
            "compare two runs of one suite"
        )
    return new or old


def _worst_first(f: Finding) -> tuple[int, float, str, str]:
    rank = 0 if f.failing else 1 + _ORDER.get(f.outcome, 5)
    cell = f.cell
    name = f"{cell.model} {cell.dataset} {cell.method} {cell.shots} {cell.seed}"
    return rank, f.change or 0.0, name, f.metric


def _unpaired(matched: Matched) -> list[Finding]:
    out = [
        Finding(r.cell, "", None, None, "missing", why, kind="cell") for r, why in matched.missing
    ]
    for pair in matched.pairs:
        if pair.differing:
            why = ", ".join(pair.differing)
            cell = pair.candidate.cell
            out.append(Finding(cell, "", None, None, "incomparable", why, kind="cell"))
    return out


def _new(record: Slim, metric: str) -> NewCell:
    message = str((record.error or {}).get("message", "")).strip().partition("\n")[0]
    return NewCell(record.cell, record.status, record.value(metric), message)


def _notes(parts: Sequence[Examined]) -> Iterator[str]:
    for side, name in enumerate(("baseline", "candidate")):
        twice = sum(p.twice[side] for p in parts)
        if twice:
            yield (
                f"{twice} records of the {name} ask what another one asks (of another version of "
                "the protocol, method or reader): the latest was taken"
            )
    empty = [
        name
        for side, name in enumerate(("baseline", "candidate"))
        if not any(p.records[side] for p in parts)
    ]
    unmeasured = set.intersection(*(p.gathered.unmeasured for p in parts))
    if empty:
        yield f"the {empty[0]} holds no records"
    elif unmeasured and any(p.pairs for p in parts):
        yield f"no cell of the baseline has {', '.join(sorted(unmeasured))}"
    for e in parts[0].expired:
        yield (
            f"an acceptance of {e.date} has run out on {e.until} ({e.reason}): "
            f"{len(e.cells)} cells are held to what was accepted before it"
        )
