"""Frozen features on disk: written once, checked when read, bounded in size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from zoobench.files import parse_json, write_atomic
from zoobench.schema import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CACHE_VERSION = 3
SEAL = "sealed"
DEFAULT_LIMIT_BYTES = 20 * 2**30
T = TypeVar("T")


def sealed(body: Mapping[str, Any]) -> bytes:
    """JSON of `body` with a digest of it, which `unsealed` checks."""
    return json.dumps({**body, SEAL: digest(dict(body))}, sort_keys=True).encode()


def unsealed(blob: bytes) -> dict[str, Any]:
    """What was `sealed`. Raises ValueError where that is not what was written."""
    body = parse_json(blob)
    if not isinstance(body, dict) or body.pop(SEAL, "") != digest(body):
        raise ValueError("the content does not match its digest")
    return body


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
            found = load(data, unsealed(manifest.read_bytes()))
        except (FileNotFoundError, PermissionError):  # another user's is not ours to remove
            return None
        except (OSError, ValueError, KeyError, TypeError):
            self.remove(key)
            return None
        with contextlib.suppress(OSError):  # evicted since, or another user's
            os.utime(manifest)
        return found

    def holds(self, key: str) -> bool:
        """Whether there is an entry, sound or not."""
        return self.paths(key)[1].exists()

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


@dataclass(frozen=True)
class FeatureCache(BoundedFolder):
    """A bounded directory of feature files; the least recently used go first."""

    limit_bytes: int = DEFAULT_LIMIT_BYTES

    suffix: ClassVar[str] = ".f4"

    def get(self, key: str) -> tuple[NDArray[np.float32], dict[str, Any]] | None:
        """(features, manifest) of `key`, or None. A damaged file is removed and None given."""
        return self.read(key, _checked)

    def put(self, key: str, features: NDArray[np.float32], facts: Mapping[str, Any]) -> None:
        """Keep `features`; a full disk or an unwritable cache costs the cache, not the run."""
        data, manifest = self.paths(key)
        blob = features.astype("<f4").tobytes()
        body = {
            **facts,
            "shape": list(features.shape),
            "sha256": hashlib.sha256(blob).hexdigest(),
            "cache_version": CACHE_VERSION,
        }
        try:
            self.make_room(len(blob))
            write_atomic(data, blob)
            write_atomic(manifest, sealed(body))
        except OSError:
            self.remove(key)


def _checked(data: Path, body: dict[str, Any]) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Raises ValueError where the features are not those that were written."""
    import numpy as np

    blob = data.read_bytes()
    if hashlib.sha256(blob).hexdigest() != body["sha256"]:
        raise ValueError("the content does not match its manifest")
    return np.frombuffer(blob, dtype="<f4").reshape(body["shape"]).astype(np.float32), body
