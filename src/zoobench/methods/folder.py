"""A bounded directory of entries, each a data file and a manifest.

The least recently used go first. The manifest is written last, so that its existence means
the entry is whole. Two processes may share the directory: the worst that happens is work
done twice.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class BoundedFolder:
    """Abstract: a cache names the `suffix` of its data files, and writes its own entries.

    `limit_bytes` bounds the data files together; an entry's age is its manifest's, which
    `read` renews.
    """

    root: Path
    limit_bytes: int

    suffix: ClassVar[str]

    def paths(self, key: str) -> tuple[Path, Path]:
        """(data, manifest) of `key`, there or not."""
        return self.root / f"{key}{self.suffix}", self.root / f"{key}.json"

    def read(self, key: str, load: Callable[[Path, dict[str, Any]], T]) -> T | None:
        """What `load` makes of (data, manifest's body), None where there is no such entry.

        An entry that `load` refuses (OSError, ValueError, KeyError, TypeError) is removed, but not
        one that this user may not read.
        """
        data, manifest = self.paths(key)
        try:
            found = load(data, json.loads(manifest.read_text(encoding="utf-8")))
        except (FileNotFoundError, PermissionError):  # another user's is not ours to remove
            return None
        except (OSError, ValueError, KeyError, TypeError):
            self.remove(key)
            return None
        with contextlib.suppress(OSError):  # evicted since, or another user's
            os.utime(manifest)
        return found

    def remove(self, key: str) -> None:
        """The manifest first: without it the rest is nothing."""
        for path in reversed(self.paths(key)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def make_room(self, incoming: int) -> None:
        """The directory, with its least recently used entries gone until `incoming` bytes fit.

        Raises OSError where it cannot be made.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        entries = []
        for data in self.root.glob(f"*{self.suffix}"):
            with contextlib.suppress(FileNotFoundError):  # another process is evicting
                seen = data.with_suffix(".json")
                age = (seen if seen.exists() else data).stat().st_mtime
                entries.append((age, data.stem, data.stat().st_size))
        held = sum(size for _, _, size in entries)
        for _, key, size in sorted(entries):
            if held + incoming <= self.limit_bytes:
                return
            self.remove(key)
            held -= size
