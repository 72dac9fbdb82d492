"""Names that become files, folders that are written to, and the TOML that users hand in."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

from zoobench.errors import UserError

LONGEST = 100
"""Bytes of a file name; file systems take 255, of which a suffix and a temporary name need some."""
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


def check_within(folder: Path, path: Path) -> None:
    """Raises UserError where links lead `path`, which lies below `folder`, out of it.

    So a run that somebody else made cannot have its reports written into a folder of ours.
    """
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise UserError(f"{path}: cannot be followed: {error}") from error
    if not inside:
        raise UserError(f"{path}: a link that leads out of {folder}; nothing was written")


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
