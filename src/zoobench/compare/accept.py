"""Accept a run as the baseline of its suite, and say in the baseline who decided so and why."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

from zoobench.compare.baseline import (
    BASELINE,
    FORMAT,
    PACKED,
    SUPERSEDED,
    Acceptance,
    PackedRun,
    keyed,
    pack,
)
from zoobench.compare.gates import EXACT, TIMED
from zoobench.compare.match import identity
from zoobench.compare.reading import load
from zoobench.errors import StoreError, UserError, unknown
from zoobench.files import check_within, file_name, write_atomic
from zoobench.schema import Cell, Outcomes, Record, Ref
from zoobench.store import RECORDS, Run, encode
from zoobench.tasks import task_of

ROOT = Path("results") / "baselines"
FIELDS = ("model", "dataset", "method")


@dataclass(frozen=True)
class Proposal:
    """What is accepted, and the words that go with it. `only` are FIELD=GLOB patterns, all of
    which a cell must match; `until` ends the acceptance after that day."""

    reason: str
    only: tuple[str, ...] = ()
    until: date | None = None
    by: str = ""
    today: date | None = None


@dataclass(frozen=True)
class Accepted:
    """What an acceptance did: cells by label."""

    folder: Path
    changed: tuple[str, ...]
    unchanged: int
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    """Cells that failed in the run: the baseline keeps what it had."""


def accept(
    run: str | Path,
    suite: str,
    request: Proposal,
    root: str | Path = ROOT,
    planned: Sequence[Cell] = (),
) -> Accepted:
    """Write root/<suite>/ from a run directory, which must have answered the `planned` cells that
    `request` names. Raises UserError: no reason, a bad pattern, a run of another suite, one that
    lacks cells, or in which nothing that matches succeeded."""
    if not request.reason.strip():
        raise UserError("an acceptance needs a reason: somebody will ask in a year")
    if request.until and request.until < (request.today or date.today()):
        raise UserError(f"--until {request.until} is in the past")
    loaded = load(run)
    name = str(loaded.suite.get("name", ""))
    if name and name != suite:
        raise UserError(f"{run} holds the suite {name!r}, not {suite!r}")
    check_whole(loaded, planned, request.only)
    folder = Path(root) / file_name(suite)
    previous = load(folder) if (folder / BASELINE).exists() else None
    return build(loaded, suite, request, folder, previous)


def check_whole(run: Run, planned: Sequence[Cell], only: Sequence[str]) -> None:
    """Raises UserError where `run` has no record, ok or failed, of cells that were planned: they
    would leave the baseline, and nobody would miss them in a later run."""
    answered = {identity(record.cell) for record in run.records}
    patterns = [parse_only(text) for text in only]
    absent = [c for c in planned if identity(c) not in answered and _matches(c, patterns)]
    if absent:
        named = "; ".join(cell.label for cell in absent[:5])
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise UserError(
            f"{run.path}: has no record of {len(absent)} cells of its suite: {named}{more}. "
            "Run it again to add them, or accept what is there with --partial"
        )


def propose(candidate: Run, baseline: Run | None, out: Path) -> Accepted | None:
    """The baseline that `candidate` would make, in out/<suite>/, beside its verdicts. What
    `baseline` holds, where it is an accepted one, is merged as in `accept`.

    Copying that folder over the suite's baseline accepts everything, once somebody has
    written a reason into its baseline.toml. None where no cell succeeded. Raises StoreError.
    """
    if not any(r.status == "ok" for r in candidate.records):
        return None
    suite = str(candidate.suite.get("name", ""))
    request = Proposal("PROPOSED: say here why this is meant")
    return build(candidate, suite, request, out / file_name(suite or "unnamed"), baseline)


def build(new: Run, suite: str, request: Proposal, folder: Path, old: Run | None) -> Accepted:
    """Merge `new` into `old`, where that is a baseline, and write the result into `folder`."""
    previous = old if isinstance(old, PackedRun) else None
    patterns = [parse_only(text) for text in request.only]
    wanted = [r for r in new.records if _matches(r.cell, patterns)]
    taken = keyed([r for r in wanted if r.status == "ok"])
    if not taken:
        raise UserError(f"{new.path}: no cell that succeeded matches, so nothing can be accepted")
    failed = keyed([r for r in wanted if r.status != "ok"]).keys() - taken.keys()
    accepted = keyed(previous.accepted) if previous else {}
    gone = {
        k
        for k, r in accepted.items()
        if k not in taken and k not in failed and _matches(r.cell, patterns)
    }
    changed = {key for key, r in taken.items() if key not in accepted or _moved(accepted[key], r)}
    log, superseded = _history(request, taken, changed, gone, previous, accepted)
    kept = {key: r for key, r in accepted.items() if key not in gone} | taken
    _write(folder, suite, log, kept, superseded, (new, previous))
    return Accepted(
        folder,
        tuple(sorted(taken[k].cell.label for k in changed)),
        len(taken) - len(changed),
        tuple(sorted(accepted[k].cell.label for k in gone)),
        tuple(sorted(accepted[k].cell.label for k in failed if k in accepted)),
    )


def _history(
    request: Proposal,
    new: Mapping[str, Record],
    changed: set[str],
    gone: set[str],
    previous: PackedRun | None,
    old: Mapping[str, Record],
) -> tuple[list[Acceptance], dict[str, Record]]:
    """The log with this acceptance, and the records to go back to when it runs out.

    A lasting acceptance of a cell ends an earlier one "until" a date; another one
    "until" keeps the record from before the first.
    """
    touched = changed | gone
    superseded = keyed(previous.superseded) if previous else {}
    log = [
        dataclasses.replace(e, keys=tuple(k for k in e.keys if k not in touched))
        for e in (previous.log if previous else ())
    ]
    if request.until:
        for key in touched & old.keys():
            superseded.setdefault(key, old[key])
    else:
        superseded = {k: r for k, r in superseded.items() if k not in touched}
    lines = [_line(old.get(k), new[k]) for k in changed] if old else []
    lines += [f"{old[k].cell.label}: removed" for k in gone]
    entry = Acceptance(
        (request.today or date.today()).isoformat(),
        request.reason,
        request.until.isoformat() if request.until else "",
        request.by,
        tuple(sorted(lines)) if old else (f"{len(new)} cells",),
        tuple(sorted(touched)) if request.until else (),
    )
    return [*log, entry], superseded


def parse_only(text: str) -> tuple[str, str]:
    """("model", "*lite0*") from "model=*lite0*". Raises UserError."""
    name, equals, pattern = text.partition("=")
    if not equals:
        raise UserError(f"--only {text!r}: write FIELD=GLOB, such as model=*resnet*")
    if name not in FIELDS:
        raise unknown("--only", "field", name, FIELDS)
    return name, pattern


def _matches(cell: Cell, patterns: Iterable[tuple[str, str]]) -> bool:
    for name, pattern in patterns:
        value: Ref | str = getattr(cell, name)
        texts = [str(value)]
        if isinstance(value, Ref):
            texts += [value.short, value.id, value.name]
        if not any(fnmatchcase(t.casefold(), pattern.casefold()) for t in texts):
            return False
    return True


def _moved(old: Record, new: Record) -> bool:
    """Whether anything that is gated differs (times are not)."""
    return (
        old.predictions != new.predictions
        or old.cell != new.cell
        or old.provenance != new.provenance
        or _gated(old) != _gated(new)
    )


def _gated(record: Record) -> dict[str, float]:
    return {m.metric: m.value for m in record.measurements if m.metric not in TIMED}


def _line(old: Record | None, new: Record) -> str:
    """One line of the log: what changed in a cell, with its numbers."""
    if old is None:
        return f"{new.cell.label}: new"
    told = [
        f"{name} {_number(old.value(name))} -> {_number(new.value(name))}"
        for name in (task_of(new.cell).metrics[0], *EXACT)
        if old.value(name) != new.value(name)
    ]
    return f"{new.cell.label}: {', '.join(told) or 'other digests'}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _write(
    folder: Path,
    suite: str,
    log: Sequence[Acceptance],
    kept: Mapping[str, Record],
    superseded: Mapping[str, Record],
    sources: Sequence[Run | None],
) -> None:
    """All of it aside, then into place: what ends this early leaves the old files as they are.
    baseline.toml is moved last: its presence says that the rest is whole."""
    everything = [*kept.values(), *superseded.values()]
    check_within(folder.parent.parent, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".tmp-") as name:
            made = Path(name)
            outcomes = _arrays(everything, sources)
            rounded = {r.predictions: task_of(r.cell).rounded for r in everything}
            packed = pack((name, each, rounded[name]) for name, each in outcomes.items())
            write_atomic(made / PACKED, packed)
            write_atomic(made / RECORDS, _lines(kept))
            if superseded:
                write_atomic(made / SUPERSEDED, _lines(superseded))
            write_atomic(made / BASELINE, baseline_toml(suite, log).encode())
            if not superseded:
                (folder / SUPERSEDED).unlink(missing_ok=True)
            for file in sorted(made.iterdir(), key=lambda file: file.name == BASELINE):
                os.replace(file, folder / file.name)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from error


def _arrays(records: Iterable[Record], sources: Sequence[Run | None]) -> dict[str, Outcomes]:
    """The arrays of every digest that the records name, from whichever source holds them.

    A run directory files arrays by cell, so there a digest is looked up through its record:
    the same cell may hold other arrays now.
    """
    wanted = {record.predictions for record in records if record.predictions}
    arrays: dict[str, Outcomes] = {}
    for source in filter(None, sources):
        own = source.records
        if isinstance(source, PackedRun):
            own = (*source.accepted, *source.superseded)
        for record in own:
            name = record.predictions
            if name in wanted and name not in arrays:
                kept = source.outcomes(record)
                if kept is not None:
                    arrays[name] = kept
    return arrays


def _lines(records: Mapping[str, Record]) -> Iterable[bytes]:
    """Without what differs from run to run and decides nothing (see reading.Shortener)."""
    ordered = sorted(records.items(), key=lambda item: (item[1].cell.label, item[0]))
    for _, record in ordered:
        yield encode(dataclasses.replace(record, started="", seconds=0.0, error=None))


def baseline_toml(suite: str, log: Sequence[Acceptance]) -> str:
    """The text of baseline.toml. JSON strings are TOML basic strings."""
    out = [f"format = {FORMAT}", f"suite = {_quoted(suite)}"]
    for entry in log:
        out += ["", "[[accepted]]"]
        for name in ("date", "reason", "until", "by"):
            if getattr(entry, name):
                out.append(f"{name} = {_quoted(getattr(entry, name))}")
        for name in ("cells", "keys"):
            if getattr(entry, name):
                items = [f"    {_quoted(text)}," for text in getattr(entry, name)]
                out += [f"{name} = [", *items, "]"]
    return "\n".join(out) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
