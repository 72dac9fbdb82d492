"""A run directory: append records as they end, read them back for ever.

    suite.toml          the suite as resolved
    records.jsonl       one record a line; the newest line of a key is its answer
    predictions/        <key>.npz, per-example arrays of ok cells
    environment.json    the machine and the libraries of the last run

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
import os
import re
import secrets
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import msgspec

from zoobench.errors import StoreError
from zoobench.schema import SCHEMA, Outcomes, Record, record_from_json, to_json

RECORDS = "records.jsonl"
SUITE = "suite.toml"
ENVIRONMENT = "environment.json"
PREDICTIONS = "predictions"
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
        return read_outcomes(self.path / PREDICTIONS / f"{record.key}.npz")


def load(path: str | Path) -> Run:
    """Read a run directory, or a lone records.jsonl. Raises StoreError."""
    path = Path(path)
    folder, file = located(path)
    with no_collection():
        newest: dict[str, Record] = {record.key: record for record in _records(file)}
    suite = folder / SUITE
    body = tomllib.loads(suite.read_text(encoding="utf-8")) if suite.exists() else {}
    return Run(folder, tuple(newest.values()), body)


def located(path: Path) -> tuple[Path, Path]:
    """The run directory that `path` is or lies in, and its records. Raises StoreError."""
    folder, file = (path.parent, path) if path.is_file() else (path, path / RECORDS)
    if not file.exists():
        raise StoreError(f"{path}: no {RECORDS} here, so this is no run directory")
    return folder, file


@contextmanager
def no_collection() -> Iterator[None]:
    """Without the cyclic garbage collector, which takes half the time of reading many
    records and finds nothing: they hold no cycles."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _records(file: Path) -> Iterator[Record]:
    """Every record of `file`."""
    for number, line in enumerate(_whole_lines(file), 1):
        yield _decode(line, file, number)


def _whole_lines(file: Path) -> Iterator[bytes]:
    """The lines of `file`; a last one without its newline is a cut one and is left out."""
    with file.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield line


def _decode(line: bytes, file: Path, number: int | None) -> Record:
    try:
        return record_from_json(upgrade(msgspec.json.decode(line)))
    except (ValueError, KeyError, TypeError) as error:
        where = file if number is None else f"{file}:{number}"
        raise StoreError(f"{where}: not a record: {error}") from error


_HEAD = re.compile(rb'\{"key": "([0-9a-f]{16})", ')
_STATUS = re.compile(rb'\}, "status": "([a-z-]+)", "measurements": \[')


class Answers(Mapping[str, Record]):
    """key -> newest record of a records.jsonl, which need not be there yet.

    Lines are kept as they are and decoded when they are asked for: what a run of many
    thousand cells has still to do is known from the keys and statuses alone. Raises
    StoreError for a line that is not a record, at the latest when it is asked for.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lines: dict[str, bytes | Record] = {}
        self._status: dict[str, str] = {}
        if not file.exists():
            return
        for number, line in enumerate(_whole_lines(file), 1):
            head, status = _HEAD.match(line), _STATUS.search(line)
            if head and status:
                key = head[1].decode()
                self._lines[key], self._status[key] = line, status[1].decode()
            else:  # an older shape
                self.add(_decode(line, file, number))

    def add(self, record: Record) -> None:
        """Take a record that was appended since."""
        self._lines[record.key], self._status[record.key] = record, record.status

    def status(self, key: str) -> str | None:
        """The status of the newest record of `key`, or None."""
        return self._status.get(key)

    def __getitem__(self, key: str) -> Record:
        held = self._lines[key]
        if isinstance(held, bytes):
            held = self._lines[key] = _decode(held, self.file, None)
        return held

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def upgrade(body: dict[str, Any]) -> dict[str, Any]:
    """A record of any older schema in today's shape. Raises StoreError for a newer one."""
    version = body.get("schema")
    if not isinstance(version, int) or version < 1:
        raise StoreError(f"a record without a schema version (found {version!r})")
    if version > SCHEMA:
        raise StoreError(
            f"a record of schema {version}, but this zoobench reads up to {SCHEMA}: "
            "it was written by a newer version; upgrade zoobench"
        )
    return body


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
            (self.path / PREDICTIONS).mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("ab")
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

    def _adopt(self) -> None:
        """Take the directory for this suite, or refuse when it is another's."""
        file = self.path / SUITE
        if file.exists():
            held = tomllib.loads(file.read_text(encoding="utf-8"))
            if held.get("identity") != self.identity:
                name = held.get("name", "unnamed")
                raise StoreError(
                    f"{self.path}: holds results of another suite ({name!r}, or this one before "
                    "it was edited). Choose another --out, or delete that directory."
                )
        elif (self.path / RECORDS).exists():
            raise StoreError(f"{self.path}: has {RECORDS} but no {SUITE}; choose another --out")
        write_atomic(file, self.suite_text.encode())

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
        text = json.dumps(environment, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        write_atomic(self.path / ENVIRONMENT, text.encode())


def encode(record: Record) -> bytes:
    """The line of `record`, newline included. NaN has no place in a record: ValueError."""
    text = json.dumps(to_json(record), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def write_atomic(path: Path, blob: bytes | Iterable[bytes]) -> None:
    """`path` holds either what it held or all of `blob`, its parts in order, whatever happens."""
    name = path.parent / f".tmp-{secrets.token_hex(8)}"
    # Not tempfile's: its files are for their owner alone, and results and caches are shared.
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.writelines([blob] if isinstance(blob, bytes) else blob)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


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


def read_outcomes(path: Path) -> Outcomes | None:
    """The arrays of one .npz; None where the file is absent, StoreError where it is damaged."""
    import zipfile
    import zlib

    import numpy as np

    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as packed:
            arrays = {name: packed[name] for name in packed.files}
        n = int(arrays.pop("n")) if "n" in arrays else len(next(iter(arrays.values())))
        return Outcomes(n, arrays)
    except (
        ValueError, KeyError, TypeError, AttributeError, StopIteration, OSError, EOFError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise StoreError(f"{path}: damaged predictions: {error}") from error
