"""Windows of texts through a backbone: the states at some places of each, after some layers.

What features of words and of questions' pieces have in common. B windows of P places, L layers,
D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import Unsupported
from zoobench.features.extraction import extract_into
from zoobench.features.mapped import job_of
from zoobench.interfaces import InputSpec, Split
from zoobench.views import TokenReader

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features


@dataclass(frozen=True)
class WindowStates:
    """Abstract: the backbone as `extraction` runs one. It reads windows, and embeds their places;
    a kind of windows says how they are collated."""

    reader: TokenReader
    module: torch.nn.Module
    input_spec: InputSpec
    layers: tuple[int, ...]
    feature_dim: int = 0
    pooling: str = "places"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, raw: Any) -> Any:
        return raw

    def collate(self, prepared: Sequence[Any]) -> dict[str, torch.Tensor]:
        """The network's input, and beside it the `places` (B, P): see `padded_places`."""
        raise NotImplementedError

    def embed(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(B, P, L, D)."""
        import torch

        given, places = apart(batch)
        states = self.reader.read(self.module, given, self.layers)
        return torch.stack([at_places(one, places) for one in states], dim=2)


def padded_places(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """(B, P) int64 of places in windows, P those of the window that has most; what fills up a row
    is its first piece."""
    import torch

    places = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.int64)
    for i, row in enumerate(rows):
        places[i, : len(row)] = torch.tensor(row)
    return places


def apart(batch: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """(the network's input, the places) of a batch."""
    return {name: value for name, value in batch.items() if name != "places"}, batch["places"]


def at_places(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(B, P, ...) of `states` (B, T, ...) at `places` (B, P)."""
    import torch

    return states[torch.arange(len(places), device=places.device)[:, None], places]


def reader_of(backbone: Any) -> TokenReader:
    """Raises Unsupported for a backbone without tokens."""
    reads = getattr(backbone, "token_reader", None)
    if reads is None:
        raise Unsupported("this backbone has no tokens: only embed")
    found: TokenReader = reads()
    return found


def run(
    source: Features, states: Any, split: Split, windows: Sequence[Any],
    take: Callable[[int, NDArray[np.float32]], None],
) -> None:  # fmt: skip
    """`take` (number of a window, what `states` embed of its places) for each of `windows` of
    `split`: (P, ...), filled up to the most of its batch, in whatever thread has computed it."""

    def put(rows: Sequence[int], features: torch.Tensor) -> None:
        for i, one in zip(rows, features.numpy(), strict=True):
            take(i, one)

    some = split.subset(np.zeros(len(windows), dtype=np.intp))
    read = replace(some, read=windows.__getitem__)
    extract_into(job_of(source, states), read, put, source.reporter(read))
