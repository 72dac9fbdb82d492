"""Names that become files, files and folders that are written whole, and the TOML, JSON and XML of
users."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from zoobench.errors import StoreError, UserError

LONGEST = 100
"""Bytes of a file name; file systems take 255, of which a suffix and a temporary name need some."""
TEMPORARY = ".tmp-"
"""What the name of a file that is still being written begins with."""
_UNSAFE = re.compile(r"[^\w .,+=@()-]|^[ .-]|[ .]$")


def file_name(name: str) -> str:
    """`name` as one part of a path: as it is where it is safe as one.

    Else its unsafe characters are replaced, and a digest of the whole keeps it apart from names
    that look like it then. No name leads to another folder, is hidden, or reads as an option.
    """
    safe = _UNSAFE.sub("_", name)
    if safe == name and name and len(name.encode()) <= LONGEST:
        return name
    stamp = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    short = safe.encode()[: LONGEST - len(stamp) - 1].decode(errors="ignore")
    return f"{short.strip(' .') or '_'}-{stamp}"


def expanded(path: str | Path) -> Path:
    """With the home folder in the place of a tilde. Raises UserError for one that is nobody's."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: there is no such home folder") from error


def lies_in(path: Path, *folders: str | Path) -> bool:
    """Whether `path`, with its links followed, lies in one of `folders`, or is one.

    Raises OSError, ValueError or RuntimeError where it cannot be followed: rings, a null character.
    """
    real = path.resolve()
    return any(real.is_relative_to(Path(folder).resolve()) for folder in folders)


def check_within(folder: Path, path: Path) -> None:
    """Raises UserError where links lead `path`, which lies below `folder`, out of it, and where it
    is a pipe or a device.

    So a run that somebody else made cannot have its reports written into a folder of ours, nor
    have us wait for ever.
    """
    try:
        inside = lies_in(path, folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise UserError(f"{path}: cannot be followed: {error}") from error
    if not inside:
        raise UserError(f"{path}: a link that leads out of {folder}; nothing was written")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path}: not a regular file; nothing was written")


def write_atomic(path: Path, blob: bytes | Iterable[bytes]) -> None:
    """`path` holds either what it held or all of `blob`, its parts in order, whatever happens."""
    name = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
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


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its name when all is written, and else goes away.

    Raises StoreError where it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = folder.parent / f".{secrets.token_hex(8)}"
        new.mkdir()  # not tempfile's, which is for its owner alone whatever the umask says
        try:
            yield new
            os.replace(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from error


def parse_json(
    text: str | bytes,
    each: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    **how: Any,
) -> Any:
    """The value of a JSON text, whose dialect `how` says as for `json.loads`. In place of each
    table, as soon as it is read, stands what `each` makes of it.

    Raises ValueError for what is no JSON, is nested too deep, or says two things under one key,
    of which a reader would take the last and another the first.
    """
    try:
        hook = _table if each is None else lambda pairs: each(_table(pairs))
        return json.loads(text, object_pairs_hook=hook, **how)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next((key for key, value in pairs if table[key] != value), None)
        if twice is not None:
            raise ValueError(f"the key {twice!r} is there twice, with two values")
    return table


def parse_xml(content: bytes) -> ElementTree.Element:
    """The root of an XML document. Raises ValueError for what is none, and for a document type,
    which may name files or grow without end."""

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(str(error)) from error
    return ElementTree.fromstring(content)  # noqa: S314  it has no entities


def read_toml(path: Path, where: str = "") -> dict[str, Any]:
    """The table of a TOML file, with or without a byte order mark.

    Raises UserError, which names the file (as `where`, if given), for one that is not there, not
    regular, unreadable or not TOML.
    """
    where = where or str(path)
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{where}: not a regular file")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise UserError(f"{where}: not valid TOML: nested too deep") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise UserError(f"{where}: cannot be read: {getattr(error, 'strerror', error)}") from error
