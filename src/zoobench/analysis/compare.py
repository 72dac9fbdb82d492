"""Compare two runs: what regressed, what is missing, what can't be compared, and why.

The decision is in four parts: pairing and comparability (compare_match), quality
(compare_quality, compare_decide), exact counts and digests (compare_exact), times
(compare_times). This file puts them together. No printing: see report/gate.py.
"""

from __future__ import annotations

from pathlib import Path

from zoobench.analysis.compare_exact import by_model, drifts, exact_findings
from zoobench.analysis.compare_gates import Gates, read_gates
from zoobench.analysis.compare_load import load, load_both
from zoobench.analysis.compare_match import Matched, by_seed, match
from zoobench.analysis.compare_packed import PackedRun
from zoobench.analysis.compare_quality import gather, resolutions, verdicts
from zoobench.analysis.compare_times import time_findings
from zoobench.analysis.compare_types import Comparison, Finding, NewCell
from zoobench.errors import UserError
from zoobench.schema import Record
from zoobench.store import Run, no_collection

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


def compare_paths(
    baseline: str | Path, candidate: str | Path, gates: Gates | None = None
) -> Comparison:
    """`compare` of two run directories, records.jsonl files or accepted baselines.

    Raises UserError (exit code 2) for what can't be read or isn't the same suite.
    """
    gates = gates or Gates()
    return compare(*load_both(baseline, candidate, gates.metrics), gates)


def compare(baseline: Run, candidate: Run, gates: Gates | None = None) -> Comparison:
    """Decide, by PROTOCOL sections 6 and 7. Findings come worst first, then by name.

    Raises UserError for runs of two different suites, for revisions that can't be paired
    and for NaN in the baseline; StoreError for damaged predictions.
    """
    with no_collection():
        return _compare(baseline, candidate, gates or Gates())


def _compare(baseline: Run, candidate: Run, gates: Gates) -> Comparison:
    suite = _same_suite(baseline, candidate)
    matched = match(baseline, candidate)
    gathered = gather(by_seed(matched.pairs), baseline, candidate, gates)
    quality, family = verdicts(gathered.tests, gates)
    models = by_model(p for p in matched.pairs if not p.differing)
    warnings, apart = time_findings(models, gates.times)
    findings = [*quality, *gathered.settled, *exact_findings(models), *apart, *_unpaired(matched)]
    return Comparison(
        suite=suite,
        baseline=str(baseline.path),
        candidate=str(candidate.path),
        findings=tuple(sorted(findings, key=_worst_first)),
        new=tuple(_new(r, gates.metrics[0]) for r in matched.new),
        warnings=tuple(warnings),
        drifts=drifts(models, gathered.moved),
        resolutions=resolutions(quality),
        notes=(*matched.notes, *_notes(baseline, candidate, gathered.unmeasured, matched)),
        family=family,
        alpha=gates.alpha,
        strict=gates.strict,
    )


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


def _notes(baseline: Run, candidate: Run, unmeasured: set[str], matched: Matched) -> list[str]:
    notes = []
    if not baseline.records or not candidate.records:
        side = "baseline" if not baseline.records else "candidate"
        notes.append(f"the {side} holds no records")
    elif unmeasured and matched.pairs:
        notes.append(f"no cell of the baseline has {', '.join(sorted(unmeasured))}")
    if isinstance(baseline, PackedRun):
        notes += [
            f"an acceptance of {e.date} has run out on {e.until} ({e.reason}): "
            f"{len(e.cells)} cells are held to what was accepted before it"
            for e in baseline.expired
        ]
    return notes
