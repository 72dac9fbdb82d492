"""Accept a run as the baseline of its suite, and say in the baseline who decided so and why."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from zoobench.compare.baseline import (
    BASELINE,
    FORMAT,
    PACKED,
    SUPERSEDED,
    Acceptance,
    PackedRun,
    in_force,
    keyed,
    pack,
    packed_run,
)
from zoobench.compare.baseline_lines import Lean, Lines
from zoobench.compare.reading import read_suite
from zoobench.compare.record import EXACT, TIMED, SlimRun
from zoobench.errors import StoreError, UserError, unknown
from zoobench.schema import Outcomes, Ref
from zoobench.store import (
    PREDICTIONS,
    RECORDS,
    located,
    no_collection,
    read_outcomes,
    write_atomic,
)

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
    loaded = _read(Path(run), date.today())
    name = str(loaded.run.suite.get("name", ""))
    if name and name != suite:
        raise UserError(f"{run} holds the suite {name!r}, not {suite!r}")
    folder = Path(root) / suite
    return build(loaded, suite, request, folder, _previous(folder))


def propose(candidate: Path, baseline: Path | None, out: Path) -> Accepted | None:
    """The baseline that `candidate` would make, in out/<suite>/, beside its verdicts. What
    `baseline` holds, where it is an accepted one, is merged as in `accept`.

    Copying that folder over the suite's baseline accepts everything, once somebody has
    written a reason into its baseline.toml. A cell with a NaN counts as failed; None where no
    cell succeeded. Raises StoreError.
    """
    with no_collection():
        previous = None if baseline is None else _previous(located(baseline)[0])
        whole = _read(candidate, date.today())
        suite = str(whole.run.suite.get("name", ""))
        records = tuple(
            msgspec.structs.replace(r, status="nan") if r.status == "ok" and r.unfit else r
            for r in whole.records
        )
        if not any(r.status == "ok" for r in records):
            return None
        whole = dataclasses.replace(whole, records=records)
        request = Request("PROPOSED: say here why this is meant")
        return build(whole, suite, request, out / (suite or "unnamed"), previous)


@dataclass(frozen=True)
class _Held:
    """A run, or a baseline, with its records as a baseline keeps them; `run` has none."""

    run: SlimRun
    records: tuple[Lean, ...]
    superseded: Mapping[str, Lean] = field(default_factory=dict)


def _read(path: Path, today: date) -> _Held:
    """What holds `today`. Raises StoreError."""
    folder, file = located(path)
    lines = Lines()
    records = lines.read(file)
    if not (folder / BASELINE).exists():
        return _Held(SlimRun(folder, (), read_suite(folder)), records)
    superseded = folder / SUPERSEDED
    older = lines.read(superseded) if superseded.exists() else ()
    run = packed_run(folder, (), (), today)
    return _Held(run, in_force(run.log, records, older, today)[0], keyed(older))


def _previous(folder: Path) -> _Held | None:
    """A baseline as its files have it, whatever has run out."""
    return _read(folder, date.min) if (folder / BASELINE).exists() else None


def build(new: _Held, suite: str, request: Request, folder: Path, old: _Held | None) -> Accepted:
    """Merge `new` into `old` and write the result into `folder`."""
    patterns = [parse_only(text) for text in request.only]
    wanted = [r for r in new.records if _matches(r, patterns)]
    taken = keyed([r for r in wanted if r.status == "ok"])
    if not taken:
        raise UserError(
            f"{new.run.path}: no cell that succeeded matches, so nothing can be accepted"
        )
    failed = keyed([r for r in wanted if r.status != "ok"]).keys() - taken.keys()
    held = keyed(old.records) if old else {}
    gone = {
        k for k, r in held.items() if k not in taken and k not in failed and _matches(r, patterns)
    }
    changed = {key for key, r in taken.items() if key not in held or _moved(held[key], r)}
    log, superseded = _history(request, taken, changed, gone, old, held)
    kept = {key: r for key, r in held.items() if key not in gone} | taken
    for record in (*kept.values(), *superseded.values()):
        if record.unfit:
            raise UserError(f"{record.label}: {record.unfit} is not a finite number")
    _write(folder, suite, log, kept, superseded, (new, old))
    return Accepted(
        folder,
        tuple(sorted(taken[k].label for k in changed)),
        len(taken) - len(changed),
        tuple(sorted(held[k].label for k in gone)),
        tuple(sorted(held[k].label for k in failed if k in held)),
    )


def _history(
    request: Request,
    new: Mapping[str, Lean],
    changed: set[str],
    gone: set[str],
    previous: _Held | None,
    old: Mapping[str, Lean],
) -> tuple[list[Acceptance], dict[str, Lean]]:
    """The log with this acceptance, and the records to go back to when it runs out.

    A lasting acceptance of a cell ends an earlier one "until" a date; another one
    "until" keeps the record from before the first.
    """
    touched = changed | gone
    superseded = dict(previous.superseded) if previous else {}
    before = previous.run.log if previous and isinstance(previous.run, PackedRun) else ()
    log = [
        dataclasses.replace(e, keys=tuple(k for k in e.keys if k not in touched)) for e in before
    ]
    if request.until:
        for key in touched & old.keys():
            superseded.setdefault(key, old[key])
    else:
        superseded = {k: r for k, r in superseded.items() if k not in touched}
    lines = [_line(old.get(k), new[k]) for k in changed] if old else []
    lines += [f"{old[k].label}: removed" for k in gone]
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


def _matches(record: Lean, patterns: Iterable[tuple[str, str]]) -> bool:
    for name, pattern in patterns:
        text = getattr(record.cell, name)
        texts = [text]
        if name != "method":
            ref = Ref.parse(text)
            texts = [text, ref.short, ref.id, ref.name]
        if not any(fnmatchcase(t.casefold(), pattern.casefold()) for t in texts):
            return False
    return True


def _moved(old: Lean, new: Lean) -> bool:
    """Whether anything that is gated differs (times are not)."""
    return (
        old.predictions != new.predictions
        or old.cell != new.cell
        or (old.provenance != new.provenance and old.facts() != new.facts())
        or (old.measured != new.measured and _gated(old) != _gated(new))
    )


def _gated(record: Lean) -> dict[str, float]:
    return {name: value for name, value in record.values().items() if name not in TIMED}


def _line(old: Lean | None, new: Lean) -> str:
    """One line of the log: what changed in a cell, with its numbers."""
    if old is None:
        return f"{new.label}: new"
    was, now = old.values(), new.values()
    told = [
        f"{name} {_number(was.get(name))} -> {_number(now.get(name))}"
        for name in SHOWN
        if was.get(name) != now.get(name)
    ]
    return f"{new.label}: {', '.join(told) or 'other digests'}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _write(
    folder: Path,
    suite: str,
    log: Sequence[Acceptance],
    kept: Mapping[str, Lean],
    superseded: Mapping[str, Lean],
    sources: Sequence[_Held | None],
) -> None:
    """All of it aside, then into place: what ends this early leaves the old files as they are."""
    everything = [*kept.values(), *superseded.values()]
    try:
        with aside(folder.parent) as made:
            write_atomic(made / PACKED, pack(_arrays(everything, sources).items()))
            write_atomic(made / RECORDS, _written(kept))
            if superseded:
                write_atomic(made / SUPERSEDED, _written(superseded))
            write_atomic(made / BASELINE, baseline_toml(suite, log).encode())
            put(made, folder)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from error


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """A directory in `folder` for what is made beside. It goes at the end, and with it `folder`
    where that is new and nothing else came into it. Raises StoreError where it can't be written."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = TemporaryDirectory(dir=folder, prefix=".tmp-")
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        with held as name:
            yield Path(name)
    finally:
        if new:
            with suppress(OSError):  # not empty
                folder.rmdir()


def put(made: Path, folder: Path) -> None:
    """Move a baseline's files from `made` to `folder`, on one disk. baseline.toml is the last:
    its presence says that the rest is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (PACKED, RECORDS, SUPERSEDED, BASELINE):
        if (made / name).exists():
            os.replace(made / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def _arrays(records: Iterable[Lean], sources: Sequence[_Held | None]) -> dict[str, Outcomes]:
    """The arrays of every digest that the records name, from whichever source holds them.

    A run directory files arrays by cell, so there a digest is looked up through its record:
    the same cell may hold other arrays now.
    """
    wanted = {record.predictions for record in records if record.predictions}
    found: dict[str, Outcomes] = {}
    for source in sources:
        if source is not None:
            found |= _kept_by(source, wanted - found.keys())
    return found


def _kept_by(source: _Held, wanted: Set[str]) -> dict[str, Outcomes]:
    """Those arrays of the digests `wanted` that `source` has."""
    found: dict[str, Outcomes] = {}
    if isinstance(source.run, PackedRun):
        packed = {name: source.run.packed.get(name) for name in wanted}
        return {name: held for name, held in packed.items() if held is not None}
    folder = source.run.path / PREDICTIONS
    there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    for record in source.records:
        name, file = record.predictions, f"{record.key}.npz"
        if file in there and name in wanted and name not in found:
            held = read_outcomes(folder / file)
            if held is not None:
                found[name] = held
    return found


def _written(records: Mapping[str, Lean]) -> Iterable[bytes]:
    ordered = sorted(records.items(), key=lambda item: (item[1].label, item[0]))
    return map(Lines().write, (record for _, record in ordered))


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
