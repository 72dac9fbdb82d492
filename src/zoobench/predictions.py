"""What a run kept of its test units, read from files that somebody may have damaged."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.arrays import LARGEST, Archive
from zoobench.errors import StoreError
from zoobench.schema import Outcomes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_outcomes(path: Path, stamp: str) -> Outcomes | None:
    """The arrays of one .npz; None where the run has no folder of them, as of a lone records file.

    Raises StoreError where the file is absent from that folder, is not the one that the record's
    digest `stamp` names, or is damaged. Nothing is unpacked before its digest is known.
    """
    if not path.parent.exists():
        return None
    try:
        if not path.exists():
            raise ValueError("is missing, though a record names it; copy the whole directory")
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise ValueError("no file of predictions")
        blob = path.read_bytes()
        if hashlib.sha256(blob).hexdigest()[:16] != stamp:
            raise ValueError("not those of the record, whose digest is another")
        packed = Archive(io.BytesIO(blob))
        arrays = {name: packed.read(name) for name in packed.names()}
        return _outcomes(arrays)
    except (ValueError, OSError) as error:
        raise StoreError(f"{path}: damaged predictions: {error}") from error


def _outcomes(arrays: dict[str, NDArray[Any]]) -> Outcomes:
    """Raises ValueError where they are no outcomes of units."""
    if "owner" not in arrays:
        lengths = {len(array) if array.ndim else -1 for array in arrays.values()}
        if len(lengths) != 1 or -1 in lengths:
            raise ValueError("the arrays are of several lengths")
        return Outcomes(lengths.pop(), arrays)
    count, owner = arrays.pop("n", None), arrays["owner"]
    if count is None or count.ndim or count.dtype.kind not in "iu":
        raise ValueError("nothing says how many examples there are")
    n = int(count)
    if owner.ndim != 1 or owner.dtype.kind not in "iu" or not ((owner >= 0) & (owner < n)).all():
        raise ValueError("rows that belong to no example")
    return Outcomes(n, arrays)
