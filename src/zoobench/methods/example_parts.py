"""Examples cut into parts that can be shown or hidden: what explanations are made of.

PictureParts   tiles of what the network reads; what is hidden is blurred
TextParts      words, of a long text runs of them; what is hidden is left out
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from zoobench.interfaces import Raw

if TYPE_CHECKING:
    import torch

RUNS = 64
"""Parts of a text, at most."""


class Parts(Protocol):
    """One example as T parts. `prior` names the control that knows where evidence mostly is."""

    prior: ClassVar[str]

    @property
    def count(self) -> int:
        """T."""

    @property
    def expected(self) -> torch.Tensor:
        """(T,) importances that do not look at what the example holds."""

    def shown(self, masks: torch.Tensor) -> Sequence[Any]:
        """The backbone's inputs of which only the parts in `masks` (B, T) bool are seen."""


@dataclass(frozen=True)
class PictureParts:
    """Of (C, H, W), as the network reads it."""

    picture: torch.Tensor

    prior: ClassVar[str] = "centre"

    @cached_property
    def blank(self) -> torch.Tensor:
        from zoobench.solvers.explanation import blurred

        return blurred(self.picture)

    @cached_property
    def owner(self) -> torch.Tensor:
        """(H, W) int64 the tile of each pixel."""
        from zoobench.solvers.explanation import tiles

        return tiles(self.picture)

    @property
    def count(self) -> int:
        return int(self.owner[-1, -1]) + 1

    @property
    def expected(self) -> torch.Tensor:
        from zoobench.solvers.explanation import centre

        return centre(self.picture)

    def shown(self, masks: torch.Tensor) -> Sequence[torch.Tensor]:
        import torch

        return [torch.where(mask[self.owner], self.picture, self.blank) for mask in masks]


@dataclass(frozen=True)
class TextParts:
    """Of a text as `body` reads it. What is hidden is left out, as if it had not been written."""

    body: Any
    text: str

    prior: ClassVar[str] = "position"

    @cached_property
    def runs(self) -> Sequence[str]:
        """T of them: see `word_runs`."""
        return word_runs(self.text)

    @property
    def count(self) -> int:
        return len(self.runs)

    @property
    def expected(self) -> torch.Tensor:
        """The earlier, the more important."""
        import torch

        return -torch.arange(self.count, dtype=torch.float32)

    def shown(self, masks: torch.Tensor) -> Sequence[Any]:
        return [
            self.body.prepare(
                " ".join(run for run, seen in zip(self.runs, mask, strict=True) if seen)
            )
            for mask in masks.tolist()
        ]


def word_runs(text: str) -> list[str]:
    """Words that stand beside one another, one word each up to RUNS of them."""
    words = text.split()
    many = min(RUNS, len(words))
    ends = [round(i * len(words) / many) for i in range(many + 1)] if many else [0]
    return [" ".join(words[a:b]) for a, b in pairwise(ends)]


def parts_of(body: Any, raw: Raw, modality: str) -> Parts:
    """`raw` as parts of what `body` reads."""
    return PictureParts(body.prepare(raw)) if modality == "image" else TextParts(body, str(raw))
