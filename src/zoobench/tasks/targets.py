"""Targets of a kind, and those that are one value an example, as a label and a number are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoobench.interfaces import Split, Targets

Kind = TypeVar("Kind", bound=Targets)


def targets_of(split: Split, kind: type[Kind]) -> Kind:
    """Those of `split`, which are of this kind. Raises TypeError for those of another task."""
    if not isinstance(split.targets, kind):
        raise TypeError(f"{split.name} has {type(split.targets).__name__}, not {kind.__name__}")
    return split.targets


@dataclass(frozen=True, eq=False)
class Values:
    """Abstract: `values` (N,), of the type `stored` (a numpy type with its byte order)."""

    values: NDArray[Any]
    stored: ClassVar[str]

    def __len__(self) -> int:
        return len(self.values)

    def subset(self, rows: NDArray[np.intp]) -> Self:
        return type(self)(self.values[rows])

    def keys(self) -> list[Any]:
        keys: list[Any] = self.values.tolist()
        return keys

    def content(self) -> bytes:
        return np.ascontiguousarray(self.values, dtype=self.stored).tobytes()
