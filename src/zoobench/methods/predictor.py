"""The end of an adaptation whose answers are made when they are asked for: masks, boxes, texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zoobench.interfaces import Split


@dataclass(frozen=True)
class Predictor:
    """An Adapted around `answer`. What it says of `valid` is made when it is asked for, by
    `before`: a fit that never saw it."""

    answer: Callable[[Split], Any]
    valid: Split
    before: Callable[[Split], Any]
    chosen: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def valid_scores(self) -> Any:
        return self.before(self.valid)

    def predict(self, split: Split) -> Any:
        return self.answer(split)
