"""What the recipes that train networks of texts or recordings have in common, whatever for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zoobench.interfaces import InputSpec
from zoobench.methods.training import RateGrid, check_budget
from zoobench.models.tokens import state_width
from zoobench.views import FrameReader, TokenReader

if TYPE_CHECKING:
    import torch

HEAD = 10.0
"""The new layer's rate, as a multiple of the network's."""


@dataclass(frozen=True)
class TextFineTune(RateGrid):
    """Abstract: `steps` and `batch_size` are the budget of one run of the grid, `rates` the
    network's; the new layer's are HEAD times as much. `freeze` "encoder" trains the layer alone."""

    warmup: ClassVar[float] = 0.1
    decay: ClassVar[str] = "cosine"

    steps: int = 300
    batch_size: int = 16
    rates: tuple[float, ...] = (2e-5, 5e-5, 1e-4)
    weight_decay: float = 0.01
    freeze: Literal["none", "encoder"] = "none"

    def __post_init__(self) -> None:
        check_budget(self)


@dataclass(frozen=True)
class TextNetwork:
    """A trained encoder and decoder as a Backbone, whose costs are those of what was judged:
    `embed` gives what the network says of a text's pieces or a recording's frames, which `backbone`
    makes of it."""

    module: torch.nn.Module
    backbone: Any
    feature_dim: int
    pooling: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_spec(self) -> InputSpec:
        spec: InputSpec = self.backbone.input_spec
        return spec

    def prepare(self, raw: Any) -> Any:
        return self.backbone.prepare(raw)

    def collate(self, prepared: Sequence[Any]) -> Any:
        return self.backbone.collate(prepared)

    def embed(self, batch: Any) -> Any:
        return self.module(batch)


def network(module: torch.nn.Module, reader: TokenReader, outputs: int) -> Any:
    """A batch of windows -> (B, T, K) scores of their pieces: see `state_scores`."""
    return state_scores(module, reader, state_width(reader, module), outputs)


def state_scores(
    module: torch.nn.Module, reader: TokenReader | FrameReader, width: int, outputs: int
) -> Any:
    """`encoder`, a copy of the module, and `decoder`, a linear layer: a batch -> the scores
    (B, T, K) of the last states (B, T, `width`) that `reader` reads."""
    import torch

    class StateScores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = copy.deepcopy(module)
            self.decoder = torch.nn.Linear(width, outputs)

        def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            (states,) = reader.read(self.encoder, batch, (reader.layers,))
            scores: torch.Tensor = self.decoder(states)
            return scores

    return StateScores()
