"""What training reads of a split: prepared inputs, kept while they are small."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zoobench.features.incoming import to_device
from zoobench.interfaces import Split
from zoobench.machine import sent

PREPARED_BYTES = 2**30
"""Prepared inputs up to this size are kept over the steps, pictures on the device that trains;
beyond it they are made anew."""


@dataclass
class Inputs:
    """The prepared inputs of a split, kept while they are small."""

    backbone: Any
    split: Split
    _kept: dict[int, Any] = field(default_factory=dict)
    _bytes: int = 0

    def batch(self, rows: list[int]) -> Any:
        """The batch of `rows` on the backbone's device."""
        prepared = self.backbone.collate([self._one(i) for i in rows])
        return to_device(prepared, self.backbone.device)

    def _one(self, i: int) -> Any:
        if i in self._kept:
            return self._kept[i]
        item = self.backbone.prepare(self.split.read(i))
        if self._bytes < PREPARED_BYTES:
            if hasattr(item, "nbytes"):  # a picture's tensor
                item = sent(item, self.backbone.device)
            self._kept[i] = item
            self._bytes += getattr(item, "nbytes", 4096)
        return item
