"""Targets that are one value an example: what a label and a number have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray


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
