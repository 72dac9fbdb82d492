"""Accept a run as the baseline of its suite, and say in the baseline who decided so and why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from zoobench.analysis.compare_gates import GATED
from zoobench.analysis.compare_lines import Lines
from zoobench.analysis.compare_load import EXACT, Shared, finite, load, read_records
from zoobench.analysis.compare_packed import (
    BASELINE,
    FORMAT,
    PACKED,
    SUPERSEDED,
    Acceptance,
    PackedRun,
    keyed,
    pack,
    packed_run,
    unpack,
)
from zoobench.errors import StoreError, UserError, unknown
from zoobench.schema import Predictions, Record, Ref
from zoobench.store import RECORDS, Run, no_collection, write_atomic

ROOT = Path("results") / "baselines"
FIELDS = ("model", "dataset", "method")
SHOWN = ("accuracy", *EXACT)
"""Metrics whose change the log names."""


@dataclass(frozen=True)
class Request:
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


def accept(run: str | Path, suite: str, request: Request, root: str | Path = ROOT) -> Accepted:
    """Write root/<suite>/ from a run directory. Raises UserError: no reason, a bad pattern, a
    run of another suite, or a run in which nothing that matches succeeded."""
    if not request.reason.strip():
        raise UserError("an acceptance needs a reason: somebody will ask in a year")
    if request.until and request.until < (request.today or date.today()):
        raise UserError(f"--until {request.until} is in the past")
    loaded = load(run, GATED)
    name = str(loaded.suite.get("name", ""))
    if name and name != suite:
        raise UserError(f"{run} holds the suite {name!r}, not {suite!r}")
    folder = Path(root) / suite
    return build(loaded, suite, request, folder, _previous(folder))


def propose(candidate: Run, baseline: Run | None, suite: str, out: Path) -> Accepted | None:
    """The baseline that `candidate` would make, in out/<suite>/, beside its verdicts.

    Copying that folder over the suite's baseline accepts everything, once somebody has
    written a reason into its baseline.toml. A cell with a NaN counts as failed; None where no
    cell succeeded.
    """
    with no_collection():
        previous = _previous(baseline.path) if isinstance(baseline, PackedRun) else None
        whole = load(candidate.path, GATED)
        records = tuple(
            r if _unfit(r) is None else dataclasses.replace(r, status="nan") for r in whole.records
        )
        if not any(r.status == "ok" for r in records):
            return None
        whole = dataclasses.replace(whole, records=records)
        request = Request("PROPOSED: say here why this is meant")
        return build(whole, suite, request, out / (suite or "unnamed"), previous)


@dataclass(frozen=True)
class _Held:
    """A baseline as its files have it, whatever has run out."""

    run: PackedRun
    superseded: dict[str, Record]


def _previous(folder: Path) -> _Held | None:
    if not (folder / BASELINE).exists():
        return None
    shared = Shared.of(GATED)
    records = read_records(folder / RECORDS, shared)
    file = folder / SUPERSEDED
    older = read_records(file, shared) if file.exists() else ()
    held = packed_run(folder, records, (), date.min)
    return _Held(held, keyed(older))


def build(run: Run, suite: str, request: Request, folder: Path, previous: _Held | None) -> Accepted:
    """Merge `run` into `previous` and write the result into `folder`."""
    patterns = [parse_only(text) for text in request.only]
    wanted = [r for r in run.records if _matches(r, patterns)]
    new = keyed([r for r in wanted if r.status == "ok"])
    if not new:
        raise UserError(f"{run.path}: no cell that succeeded matches, so nothing can be accepted")
    for record in new.values():
        if (metric := _unfit(record)) is not None:
            raise UserError(f"{record.cell.label}: {metric} is not a finite number")
    failed = keyed([r for r in wanted if r.status != "ok"]).keys() - new.keys()
    old = keyed(previous.run.records) if previous else {}
    gone = {k for k, r in old.items() if k not in new and k not in failed and _matches(r, patterns)}
    changed = {key for key, r in new.items() if key not in old or _moved(old[key], r)}
    log, superseded = _history(request, new, old, changed, gone, previous)
    kept = {key: r for key, r in old.items() if key not in gone} | new
    _write(folder, suite, log, kept, superseded, (run, previous.run if previous else None))
    return Accepted(
        folder,
        tuple(sorted(new[k].cell.label for k in changed)),
        len(new) - len(changed),
        tuple(sorted(old[k].cell.label for k in gone)),
        tuple(sorted(old[k].cell.label for k in failed if k in old)),
    )


def _history(
    request: Request,
    new: dict[str, Record],
    old: dict[str, Record],
    changed: set[str],
    gone: set[str],
    previous: _Held | None,
) -> tuple[list[Acceptance], dict[str, Record]]:
    """The log with this acceptance, and the records to go back to when it runs out.

    A lasting acceptance of a cell ends an earlier one "until" a date; another one
    "until" keeps the record from before the first.
    """
    touched = changed | gone
    superseded = dict(previous.superseded) if previous else {}
    log = [
        dataclasses.replace(e, keys=tuple(k for k in e.keys if k not in touched))
        for e in (previous.run.log if previous else ())
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


def _matches(record: Record, patterns: Iterable[tuple[str, str]]) -> bool:
    for name, pattern in patterns:
        text = getattr(record.cell, name)
        texts = [text]
        if name != "method":
            ref = Ref.parse(text)
            texts = [text, ref.short, ref.id, ref.name]
        if not any(fnmatchcase(t.casefold(), pattern.casefold()) for t in texts):
            return False
    return True


def _unfit(record: Record) -> str | None:
    """A metric of a record that succeeded whose value is no number."""
    if record.status != "ok":
        return None
    return next((m.metric for m in record.measurements if not finite(m.value)), None)


def _moved(old: Record, new: Record) -> bool:
    """Whether anything that is gated differs (times are not)."""
    names = (*GATED, *EXACT)
    return (
        old.predictions != new.predictions
        or old.cell != new.cell
        or old.provenance != new.provenance
        or any(old.value(n) != new.value(n) for n in names)
    )


def _line(old: Record | None, new: Record) -> str:
    """One line of the log: what changed in a cell, with its numbers."""
    label = new.cell.label
    if old is None:
        return f"{label}: new"
    told = [
        f"{name} {_number(old.value(name))} -> {_number(new.value(name))}"
        for name in SHOWN
        if old.value(name) != new.value(name)
    ]
    return f"{label}: {', '.join(told) or 'other digests'}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _write(
    folder: Path,
    suite: str,
    log: Sequence[Acceptance],
    kept: dict[str, Record],
    superseded: dict[str, Record],
    sources: Sequence[Run | None],
) -> None:
    """Predictions first and baseline.toml last: its presence says that the rest is whole."""
    everything = [*kept.values(), *superseded.values()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / PACKED, pack(_arrays(everything, sources)))
        write_atomic(folder / RECORDS, _lines(kept))
        if superseded:
            write_atomic(folder / SUPERSEDED, _lines(superseded))
        else:
            (folder / SUPERSEDED).unlink(missing_ok=True)
        write_atomic(folder / BASELINE, baseline_toml(suite, log).encode())
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from error


def _arrays(
    records: Iterable[Record], sources: Sequence[Run | None]
) -> Iterable[tuple[str, Predictions]]:
    """The arrays of every digest that the records name, from whichever source holds them.

    A run directory files arrays by cell, so there a digest is looked up through its record:
    the same cell may hold other arrays now.
    """
    wanted = {record.predictions for record in records if record.predictions}
    found: dict[str, Predictions] = {}
    for run in sources:
        for record in run.records if run is not None else ():
            name = record.predictions
            if run is not None and name in wanted and name not in found:
                held = run.predictions(record)
                if held is not None:
                    found[name] = held
        if isinstance(run, PackedRun):
            names = {k.removeprefix("int.") for k in run.arrays if k.startswith("int.")}
            for name in names & wanted - found.keys():
                held = unpack(run.arrays, name)
                if held is not None:
                    found[name] = held
    return found.items()


def _lines(records: Mapping[str, Record]) -> Iterable[bytes]:
    ordered = sorted(records.items(), key=lambda item: (item[1].cell.label, item[0]))
    return map(Lines().line, (record for _, record in ordered))


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
