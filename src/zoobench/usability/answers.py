"""What was found out about models, kept beside a run: a line an answer, in usability.jsonl.

    {"model": "timm/resnet18.a1_in1k", "probe": "exports-onnx", "answer": "yes", "value": 1.2e-07,
     "why": "ONNX Runtime is off by 1.2e-07", "versions": {"torch": "2.14.1", ...},
     "when": "2026-11-29T01:30:00+00:00", "schema": 1}

The newest line of a model and a probe counts. A last line that a kill cut short is left out, and is
dropped when the file is written to again.
"""

from __future__ import annotations

import datetime
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from zoobench import escape
from zoobench.errors import StoreError, UserError
from zoobench.files import check_within, write_atomic
from zoobench.schema import Ref
from zoobench.store import LOCK
from zoobench.usability import PROBES, ProbeResult, Said

FILE = "usability.jsonl"
SCHEMA = 1
"""Version of a line's shape."""
OF_SOURCE = {
    "timm": ("timm",), "torchvision": ("torchvision",), "hf": ("transformers",),
    "packaged": ("timm", "transformers"),
}  # fmt: skip
"""Libraries whose code a source's networks are of."""


@dataclass(frozen=True)
class UsabilityAnswer:
    """One probe's answer of one model; `model` is the text of its private Ref, `when` in UTC."""

    model: str
    probe: str
    answer: Said
    value: float | None = None
    why: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    when: str = ""
    schema: int = SCHEMA

    @property
    def result(self) -> ProbeResult:
        return ProbeResult(self.answer, self.why, self.value)


Answers = dict[tuple[str, str], UsabilityAnswer]
"""(model, probe) -> the newest answer."""


def answer(ref: Ref, probe: str, found: ProbeResult) -> UsabilityAnswer:
    """`found` as it is kept: with the libraries of now, and the time."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    why = escape.private(found.why)
    return UsabilityAnswer(
        ref.private.text, probe, found.answer, found.value, why, versions(ref, probe), now
    )


def versions(ref: Ref, probe: str) -> dict[str, str]:
    """Of the installed libraries that decide the answer; one that is absent is left out."""
    row = PROBES[probe]
    names = ["zoobench", *(["torch", *OF_SOURCE.get(ref.source, ())] if row.loads else [])]
    found = {}
    for name in (*names, *row.libraries):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class _Schema(msgspec.Struct):
    schema: int


_VERSION = msgspec.json.Decoder(_Schema)
_ANSWER = msgspec.json.Decoder(UsabilityAnswer)


def decode(line: bytes) -> UsabilityAnswer:
    """Raises ValueError for a line that is no answer, or is of a newer schema."""
    try:
        schema = _VERSION.decode(line).schema
        if schema != SCHEMA:
            raise ValueError(f"of schema {schema}, but this zoobench reads {SCHEMA}")
        found = _ANSWER.decode(line)
        Ref.parse(found.model)
    except UserError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return found


def encode(found: UsabilityAnswer) -> bytes:
    return msgspec.json.encode(found) + b"\n"


def read(folder: Path) -> Answers:
    """What is kept in a run directory; empty where nothing is.

    Raises StoreError, which names the line, for one that is no answer.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    if not path.is_file():
        raise StoreError(f"{path}: not a regular file")
    found: Answers = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                one = decode(line)
            except ValueError as error:
                raise StoreError(f"{path}:{number}: not an answer of a probe: {error}") from error
            found[one.model, one.probe] = one
    return found


def answers_of(folders: Sequence[Path]) -> Answers:
    """What several run directories hold together, the newest of each. Raises StoreError."""
    found: Answers = {}
    for folder in folders:
        for key, one in read(folder).items():
            if key not in found or found[key].when <= one.when:
                found[key] = one
    return found


@contextmanager
def writing(folder: Path) -> Iterator[Callable[[UsabilityAnswer], None]]:
    """What writes an answer to the disk before it returns; nobody else may write to the run.

    Raises StoreError where the folder cannot be written, or another process writes there.
    """
    path = folder / FILE
    for name in (FILE, LOCK):
        check_within(folder, folder / name)
    with ExitStack() as opened:
        try:
            lock = opened.enter_context((folder / LOCK).open("ab"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StoreError(f"{folder}: another zoobench is writing here") from error
            _drop_cut_line(path)
            file = opened.enter_context(path.open("ab", buffering=0))
        except OSError as error:
            raise _unwritable(path, error) from error

        def write(found: UsabilityAnswer) -> None:
            try:
                rest = memoryview(encode(found))
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError as error:
                raise _unwritable(path, error) from error

        yield write


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: cannot be written: {error.strerror}")


def _drop_cut_line(path: Path) -> None:
    blob = path.read_bytes() if path.exists() else b""
    whole = blob.rfind(b"\n") + 1
    if whole != len(blob):
        write_atomic(path, blob[:whole])
