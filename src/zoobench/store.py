"""A run directory: append records as they end, read them back for ever.

    suite.toml          the suite as resolved
    records.jsonl       one record a line; the newest line of a key is its answer
    predictions/        <key>.npz, per-example arrays of ok cells
    environment.json    the machine and the libraries of the last run
    usability.jsonl     what `zoobench check` found (see usability/answers.py)

One process writes (a lock says so); each line is flushed to the disk before the
next cell begins, and predictions are in place before the line that names them.
A line that a kill cut short is dropped when the directory is opened again.
"""

from __future__ import annotations

import dataclasses
import fcntl
import gc
import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any

import msgspec

from zoobench import escape
from zoobench.errors import StoreError, UserError
from zoobench.files import TEMPORARY, check_within, parse_json, read_toml, write_atomic
from zoobench.predictions import read_outcomes
from zoobench.refs import PLACES, is_name
from zoobench.schema import SCHEMA, Outcomes, Record, from_json, to_json

RECORDS = "records.jsonl"
SUITE = "suite.toml"
ENVIRONMENT = "environment.json"
PREDICTIONS = "predictions"
LOCK = ".lock"
OWN = frozenset({LOCK, PREDICTIONS, ENVIRONMENT, "report", "gate"})
"""What may lie in a directory that a run was begun in and that has no suite.toml yet."""
_SUITE_SHAPE: dict[str, tuple[type, str]] = {
    "name": (str, "text"), "identity": (str, "text"), "models": (list, "a list"),
    "datasets": (list, "a list"),
}  # fmt: skip
MIN_FREE_BYTES = 16 * 2**20
"""Below this much free space a run stops before it loses a record."""


@dataclass(frozen=True)
class Run:
    """What a run directory holds: the newest record of each key, in order of first appearance."""

    path: Path
    records: tuple[Record, ...]
    suite: dict[str, Any]

    def outcomes(self, record: Record) -> Outcomes | None:
        """What was kept of the test units of `record`, or None where nothing was."""
        if not record.predictions:
            return None
        return read_outcomes(self.path / PREDICTIONS / f"{record.key}.npz", record.predictions)


def load(path: str | Path) -> Run:
    """Read a run directory, or a lone records.jsonl. Raises StoreError."""
    folder, file = located(Path(path))
    run = Run(folder, tuple(read_records(file).values()), read_suite(folder))
    warn_of_absence(run)
    return run


def warn_of_absence(run: Run) -> None:
    """Says on standard error that what the records name is not there: no two of them are paired."""
    folder = run.path / PREDICTIONS
    if not folder.exists() and any(record.predictions for record in run.records):
        logging.getLogger(__name__).warning(
            "%s: its records name predictions, but there is no folder %s: only intervals are left, "
            "which show less; copy the whole directory",
            run.path, PREDICTIONS,
        )  # fmt: skip


def located(path: Path) -> tuple[Path, Path]:
    """The run directory that `path` is or lies in, and its records. Raises StoreError."""
    folder, file = (path.parent, path) if path.is_file() else (path, path / RECORDS)
    if not file.exists():
        raise StoreError(f"{path}: no {RECORDS} here, so this is no run directory")
    if not file.is_file():
        raise StoreError(f"{file}: not a regular file")
    return folder, file


def read_suite(folder: Path) -> dict[str, Any]:
    """The suite.toml of a run, or an empty table where there is none. Raises StoreError."""
    suite = folder / SUITE
    if not suite.exists():
        return {}
    body = read_table(suite)
    for name, (kind, called) in _SUITE_SHAPE.items():
        if not isinstance(body.get(name, kind()), kind):
            raise StoreError(f"{suite}: {name}: expected {called}, got {body[name]!r}")
        if kind is list and (odd := [one for one in body.get(name, ()) if not is_name(one)]):
            raise StoreError(f"{suite}: {name}: {odd[0]!r} is no name such as timm/resnet18")
    return body


def read_environment(folder: Path) -> dict[str, Any]:
    """The environment.json of a run, or an empty table where there is none. Raises StoreError."""
    file = folder / ENVIRONMENT
    if not file.exists():
        return {}
    try:
        if not file.is_file():
            raise ValueError("not a regular file")
        body = parse_json(file.read_text("utf-8"))
        if not isinstance(body, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}: damaged: {getattr(error, 'strerror', error)}") from error
    return body


def read_table(file: Path) -> dict[str, Any]:
    """A TOML file that belongs to a run or a baseline. Raises StoreError."""
    try:
        return read_toml(file)
    except UserError as error:
        raise StoreError(str(error)) from error


def read_records(
    file: Path, keep: Callable[[Record], Record] = lambda record: record
) -> dict[str, Record]:
    """Key -> its newest record, in order of first appearance, each as `keep` returns it.

    A last line without its newline was cut short and is left out. Raises StoreError
    for a line that is not a record.
    """
    newest: dict[str, Record] = {}
    with file.open("rb") as lines, no_collection():
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                record = decode(line)
            except ValueError as error:
                raise StoreError(f"{file}:{number}: not a record: {error}") from error
            newest[record.key] = keep(unplaced(record))
    return newest


@contextmanager
def no_collection() -> Iterator[None]:
    """Without the cyclic garbage collector, which takes two thirds of the time of reading
    many records and finds nothing: they hold no cycles."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Versioned(msgspec.Struct):
    """As much of a record as says how to read the rest."""

    schema: Annotated[int, msgspec.Meta(ge=1)]


_VERSION = msgspec.json.Decoder(_Versioned)
_RECORD = msgspec.json.Decoder(Record, dec_hook=from_json)
UPGRADES: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = ()
"""UPGRADES[i] turns the parsed JSON of a record of schema i + 1 into that of schema i + 2."""


def decode(line: bytes) -> Record:
    """The record of a line of any schema up to today's; fields that it doesn't know are ignored.

    Raises ValueError for a line that is not a record, or of a newer schema.
    """
    try:
        version = _VERSION.decode(line).schema
        if version > SCHEMA:
            raise ValueError(
                f"a record of schema {version}, but this zoobench reads up to {SCHEMA}: "
                "it was written by a newer version; upgrade zoobench"
            )
        if version == SCHEMA:
            return _RECORD.decode(line)
        body = msgspec.json.decode(line)
        for upgrade in UPGRADES[version - 1 :]:
            body = upgrade(body)
        return msgspec.convert(body, Record, dec_hook=from_json)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


class Store:
    """The single writer of a run directory; use it as a context manager.

    Raises StoreError when another process writes there, when the directory holds
    another suite (`identity` differs), or when it cannot be written.
    """

    def __init__(self, path: Path, suite_text: str, identity: str) -> None:
        self.path = path
        self.suite_text = suite_text
        self.identity = identity
        self._records: io.FileIO | None = None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Store:
        try:
            self._check_folder()
            (self.path / PREDICTIONS).mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / LOCK).open("ab")
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise StoreError(f"{self.path}: another zoobench is writing here") from error
        try:
            self._adopt()
            self._records = self._open_records()
        except OSError as error:
            self._lock.close()
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from error
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in (self._records, self._lock):
            if handle is not None:
                handle.close()

    def _check_folder(self) -> None:
        """Raises UserError for what is no place for this run: a file, a folder that holds
        something else, another suite's run, links that lead out."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise StoreError(f"{self.path}: a file; --out names a run directory")
        for name in (SUITE, RECORDS, PREDICTIONS, LOCK, ENVIRONMENT):
            check_within(self.path, self.path / name)
        inside = {file.name for file in self.path.iterdir()}
        foreign = sorted(n for n in inside - OWN if not n.startswith(TEMPORARY))
        if SUITE in inside:
            held = read_suite(self.path)
            if held.get("identity") != self.identity:
                name = held.get("name", "unnamed")
                raise StoreError(
                    f"{self.path}: holds results of another suite ({name!r}, or this one before "
                    "it was edited). Choose another --out, or delete that directory."
                )
        elif RECORDS in inside:
            raise StoreError(f"{self.path}: has {RECORDS} but no {SUITE}; choose another --out")
        elif foreign:
            raise StoreError(
                f"{self.path}: holds {foreign[0]!r} and is no run directory; choose another --out"
            )

    def _adopt(self) -> None:
        """Take the directory for this suite, now that nobody else can."""
        self._check_folder()
        write_atomic(self.path / SUITE, self.suite_text.encode())

    def _open_records(self) -> io.FileIO:
        # Unbuffered: what a full disk refused must not be tried again when the file is closed.
        handle = (self.path / RECORDS).open("a+b", buffering=0)
        size = handle.seek(0, os.SEEK_END)
        if size:
            handle.seek(0)
            whole = handle.read().rfind(b"\n") + 1
            if whole != size:
                handle.truncate(whole)
                handle.seek(0, os.SEEK_END)
        return handle

    def append(self, record: Record, outcomes: Outcomes | None = None) -> Record:
        """Write one record; returns it as written. Raises StoreError when the disk is full."""
        assert self._records is not None, "append outside of the with block"
        if shutil.disk_usage(self.path).free < MIN_FREE_BYTES:
            raise StoreError(f"{self.path}: no space left on the device; what was recorded is kept")
        try:
            if outcomes is not None:
                blob = pack(outcomes)
                write_atomic(self.path / PREDICTIONS / f"{record.key}.npz", blob)
                stamp = hashlib.sha256(blob).hexdigest()[:16]
                record = dataclasses.replace(record, predictions=stamp)
            record = portable(record)
            start = self._records.seek(0, os.SEEK_END)
            try:
                rest = memoryview(encode(record))
                while rest:
                    rest = rest[self._records.write(rest) :]
                os.fsync(self._records.fileno())
            except OSError:
                os.ftruncate(self._records.fileno(), start)
                raise
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be written: {error.strerror}; what was recorded is kept"
            ) from error
        return record

    def write_environment(self, environment: dict[str, Any]) -> None:
        """Raises StoreError where it cannot be written."""
        environment = _each_text(environment, escape.private)
        text = json.dumps(environment, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        try:
            write_atomic(self.path / ENVIRONMENT, text.encode())
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from error


def unplaced(record: Record) -> Record:
    """`record` with a cell that says nothing of where files lie; its key is the same."""
    cell = record.cell
    model, dataset = cell.model.private, cell.dataset.private
    if model is cell.model and dataset is cell.dataset:
        return record
    return dataclasses.replace(record, cell=dataclasses.replace(cell, model=model, dataset=dataset))


def portable(record: Record) -> Record:
    """`record` as others may read it: no absolute path, credentials or name of this machine."""
    options = (*record.cell.model.options, *record.cell.dataset.options)
    known = [str(v) for k, v in options if k in PLACES and os.path.isabs(str(v))]
    clean = partial(escape.private, known=sorted(known, key=len, reverse=True))
    return dataclasses.replace(
        unplaced(record),
        provenance=_each_text(record.provenance, clean),
        environment=_each_text(record.environment, clean),
        error=_each_text(record.error, clean),
    )


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _each_text(item, change) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_each_text(item, change) for item in value]
    return value


def encode(record: Record) -> bytes:
    """The line of `record`, newline included. NaN has no place in a record: ValueError."""
    return msgspec.json.encode(to_json(record)) + b"\n"


def pack(outcomes: Outcomes) -> bytes:
    """An .npz of the arrays; of ragged ones with `n`, which no array's length says. The same
    arrays give the same bytes."""
    import numpy as np

    buffer = io.BytesIO()
    arrays = dict(outcomes.arrays)
    if "owner" in arrays:
        arrays["n"] = np.array(outcomes.n)
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
