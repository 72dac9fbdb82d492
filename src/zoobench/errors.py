"""Every exception that zoobench raises on purpose.

    ZoobenchError
    ├── UserError                 the user can mend it: exit code 2, no traceback
    │   ├── UnknownName           a name that no table knows: nearest and known are said
    │   ├── MissingExtra          an optional dependency is absent: the pip command is said
    │   └── StoreError            a run directory that cannot be used as asked
    └── CellError                 one cell failed: it becomes a record, the suite goes on
        ├── MissingWeights        status missing-weights
        ├── BadData               status bad-data
        ├── Unsupported           status unsupported
        └── NotFinite             status nan

A programming error is none of these and keeps its traceback.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ZoobenchError(Exception):
    """Root of the tree; never raised itself."""


class UserError(ZoobenchError):
    """The message alone must be enough to mend it: where, what, nearest, known."""


class UnknownName(UserError):
    """A name that is in no table. Made by `unknown`, which writes the message."""


class MissingExtra(UserError):
    """An optional dependency is not installed; the message holds the pip command."""


class StoreError(UserError):
    """A run directory is unreadable, of another suite, or cannot be written."""


class CellError(ZoobenchError):
    """One cell cannot be measured. `status` is what its record will say."""

    status: ClassVar[str] = "error"


class MissingWeights(CellError):
    """The weights are not here and could not be fetched, or are damaged."""

    status = "missing-weights"


class BadData(CellError):
    """The dataset is unusable as it is: what, which file or column, how many."""

    status = "bad-data"


class Unsupported(CellError):
    """This model cannot do what the cell asks (modality, input size, method)."""

    status = "unsupported"


class NotFinite(CellError):
    """NaN or infinity where a number was due."""

    status = "nan"


def one_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message; of one of ours the line alone."""
    lines = str(error).strip().splitlines()
    kind = "" if isinstance(error, ZoobenchError) else f"{type(error).__name__}: "
    return f"{kind}{lines[0] if lines else ''}"[:200]


def nearest(got: str, known: Iterable[str]) -> str | None:
    """The known name closest to `got`, or None when nothing is close."""
    names = list(known)
    folded = {name.casefold(): name for name in reversed(names)}
    hit = difflib.get_close_matches(got.casefold(), folded, n=1, cutoff=0.6)
    if hit:
        return folded[hit[0]]
    # A user often types the tail of a long name: 'lite0' for 'packaged/efficientnet-lite0'.
    inside = [name for name in names if got and got.casefold() in name.casefold()]
    return min(inside, key=len) if inside else None


def opening(where: str) -> str:
    """`where` as the opening of a message; nothing when there is no place to name."""
    return f"{where}: " if where else ""


def unknown(where: str, what: str, got: str, known: Iterable[str], after: str = "") -> UnknownName:
    """The one message for a name nobody knows: where, what, nearest, known.

    `where` may be empty; `what` is a noun phrase such as "parameter", and `after`
    what follows the name ("for knn"). At most 12 known names are listed, since a
    zoo has thousands.
    """
    names = sorted(known)
    close = nearest(got, names)
    parts = [
        opening(where),
        f"unknown {what} {got!r}{' ' + after if after else ''}.",
    ]
    if close is not None:
        parts.append(f" Did you mean {close!r}?")
    if names:
        shown = ", ".join(names[:12])
        more = f", ... ({len(names)} in all)" if len(names) > 12 else ""
        parts.append(f" Known: {shown}{more}.")
    return UnknownName("".join(parts))


def naming_parameters(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, whose UserErrors call its parameters what Python calls them: below it stands what
    a command asks, and is named as there (--retry-failed, SAMPLES)."""
    names = inspect.signature(function).parameters
    asked = {f"--{name.replace('_', '-')}": name for name in names}
    asked |= {name.upper(): name for name in names}
    word = re.compile(rf"(?<!\S)({'|'.join(asked)})(?=[\s:])")

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            error.args = (word.sub(lambda found: asked[found[1]], str(error)),)
            raise

    return told


def check_finite(where: str, value: object) -> None:
    """Raises UserError where a number, or one inside a list or table, is NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: expected a finite number, not {value}")
    if isinstance(value, (list, tuple)):
        for item in value:
            check_finite(where, item)
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_finite(f"{where}.{key}", item)


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtra:
    """`package` is needed for `purpose` and comes with the extra `extra`."""
    return MissingExtra(
        f"{purpose} needs {package}, which is not installed. "
        f"Install it with: pip install 'zoobench[{extra}]'"
    )
