"""Compare two runs: what regressed, what is missing, what can't be compared, and why.

The decision is in four parts: pairing and comparability (match), quality (quality, decide),
exact counts and digests (exact), times (times). This file puts them together. No printing:
see report/gate.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zoobench import escape
from zoobench.compare.baseline import PackedRun
from zoobench.compare.exact import by_model, drifts, exact_findings
from zoobench.compare.gates import Gates, read_gates
from zoobench.compare.match import Matched, by_seed, match
from zoobench.compare.quality import gather, resolutions, verdicts
from zoobench.compare.reading import load
from zoobench.compare.times import incomparable_times, time_changes
from zoobench.compare.verdicts import Comparison, Finding, NewCell
from zoobench.errors import UserError
from zoobench.schema import Record
from zoobench.store import Run, no_collection

__all__ = ["Comparison", "Finding", "Gates", "compare", "compare_paths", "load", "read_gates"]

_ORDER = {"regressed": 0, "missing": 1, "inconclusive": 2, "incomparable": 3, "improved": 4}


def compare_paths(
    baseline: str | Path, candidate: str | Path, gates: Gates | None = None
) -> Comparison:
    """`compare` of two run directories, records.jsonl files or accepted baselines.

    Raises UserError (exit code 2) for what can't be read or isn't the same suite.
    """
    return compare(load(baseline), load(candidate), gates)


@no_collection()
def compare(baseline: Run, candidate: Run, gates: Gates | None = None) -> Comparison:
    """Decide, by PROTOCOL sections 6 and 7. Findings come worst first, then by name.

    Raises UserError for runs of two different suites and for revisions that can't be
    paired; StoreError for damaged predictions.
    """
    gates = gates or Gates()
    suite = _same_suite(baseline, candidate)
    matched = match(baseline, candidate, gates.precision == "any")
    gathered = gather(by_seed(matched.pairs), baseline, candidate, gates)
    quality, family = verdicts(gathered.tests, gates)
    models = by_model(p for p in matched.pairs if not p.differing)
    warnings, apart = time_changes(models, gates.times)
    findings = [
        *quality, *incomparable_times(apart), *gathered.settled, *exact_findings(models),
        *_unpaired(matched),
    ]  # fmt: skip
    new = [_new(r, gates.metrics_of(r.cell)[0]) for r in matched.new]
    return Comparison(
        suite=suite,
        baseline=_shown(baseline),
        candidate=_shown(candidate),
        findings=tuple(sorted(findings, key=_worst_first)),
        new=tuple(sorted(new, key=lambda n: n.cell.model)),
        warnings=tuple(sorted(warnings, key=_worst_first)),
        drifts=tuple(sorted(drifts(models, gathered.moved), key=lambda d: d.model)),
        resolutions=resolutions(quality),
        notes=tuple(_notes(baseline, candidate, matched, gathered.unmeasured)),
        family=family,
        alpha=gates.alpha,
        strict=gates.strict,
    )


def _shown(run: Run) -> str:
    """Where a run lies as it was named, and of an absolute path the name: others read verdicts."""
    return escape.private(str(run.path), [str(run.path)] if run.path.is_absolute() else ())


def _same_suite(baseline: Run, candidate: Run) -> str:
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


def _new(record: Record, metric: str) -> NewCell:
    message = str((record.error or {}).get("message", "")).strip().partition("\n")[0]
    return NewCell(record.cell, record.status, record.value(metric), message)


def _notes(baseline: Run, candidate: Run, matched: Matched, unmeasured: set[str]) -> Iterator[str]:
    for twice, name in zip(matched.twice, ("baseline", "candidate"), strict=True):
        if twice:
            yield (
                f"{twice} records of the {name} ask what another one asks (of another version of "
                "the protocol, method or reader): the latest was taken"
            )
    if not baseline.records:
        yield "the baseline holds no records"
    elif not candidate.records:
        yield "the candidate holds no records"
    elif unmeasured and matched.pairs:
        yield f"no cell of the baseline has {', '.join(sorted(unmeasured))}"
    for e in baseline.expired if isinstance(baseline, PackedRun) else ():
        yield (
            f"an acceptance of {e.date} has run out on {e.until} ({e.reason}): "
            f"{len(e.cells)} cells are held to what was accepted before it"
        )
