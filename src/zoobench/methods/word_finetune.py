"""Fine-tuning for token classification, and the same from random weights (PROTOCOL section 2).

One recipe for every model: a linear layer on the last states of words' first pieces, AdamW with
the new layer at ten times the network's rate, a warm-up of a tenth of the steps and a poly decay,
and one small grid of rates whose best is chosen on `valid` by entity F1. C tags.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zoobench.interfaces import InputSpec, SealedSplits, Split
from zoobench.methods.training import RateGrid, TrainedNetwork, check_budget, fit
from zoobench.models.tokens import Window, collate, windows
from zoobench.tasks.token_classification import entity_f1, tags_of
from zoobench.views import TokenReader

if TYPE_CHECKING:
    import torch

TOGETHER = 64
"""Windows that are read at once when nothing is trained."""
HEAD = 10.0
"""The new layer's rate, as a multiple of the network's."""


@dataclass(frozen=True)
class WordFineTune(RateGrid):
    """All weights, with a new linear layer on words' first pieces. `steps` and `batch_size`, in
    texts, are the budget of one run of the grid, `rates` the network's.

    `freeze` "encoder" trains the layer alone.
    """

    tasks: ClassVar[tuple[str, ...]] = ("token-classification",)
    view: ClassVar[str] = "words"
    warmup: ClassVar[float] = 0.1

    steps: int = 300
    batch_size: int = 16
    rates: tuple[float, ...] = (2e-5, 5e-5, 1e-4)
    weight_decay: float = 0.01
    freeze: Literal["none", "encoder"] = "none"

    def __post_init__(self) -> None:
        check_budget(self)

    def trained(
        self, source: Any, splits: SealedSplits, rate: float, seed: int
    ) -> TrainedNetwork | None:
        return _train(self, source, splits, rate, seed)


@dataclass(frozen=True)
class WordFromScratch(WordFineTune):
    """The same recipe on the same architecture with random weights."""

    random_weights: ClassVar[bool] = True


def _train(
    recipe: WordFineTune, source: Any, splits: SealedSplits, rate: float, seed: int
) -> TrainedNetwork | None:
    """One rate of the grid, from the backbone as loaded; None where the loss is no number."""
    import torch

    reader: TokenReader = source.backbone.token_reader()
    torch.manual_seed(seed)
    net = network(source.backbone.module, reader, len(splits.classes)).to(source.device)
    tags = tags_of(splits.train)
    cut = [windows(reader.pieces(splits.train.read(i)), reader) for i in range(len(splits.train))]

    def loss(step: int, rows: NDArray[np.intp]) -> torch.Tensor:
        """Mean cross-entropy of the words of some texts."""
        some = [(window, tags.row(int(i))) for i in rows for window in cut[int(i)]]
        if not some:  # of texts without words
            nothing: torch.Tensor = 0.0 * net.decoder.weight.sum()
            return nothing
        batch = collate([window for window, _ in some], reader.pad_id)
        target = torch.full(batch["input_ids"].shape, -100)
        for row, (window, true) in enumerate(some):
            words, places = zip(*window.words, strict=True)
            target[row, list(places)] = torch.from_numpy(true[list(words)]).long()
        with source.autocast():
            scores = net({name: one.to(source.device) for name, one in batch.items()}).float()
        return torch.nn.functional.cross_entropy(
            scores.flatten(0, 1), target.flatten().to(source.device)
        )

    size = fit(net, loss, len(splits.train), recipe, HEAD * rate, seed, source.progress)
    if size is None:
        return None

    def answer(split: Split) -> list[NDArray[np.int64]]:
        return said(net, reader, source, split)

    told = answer(splits.valid)
    quality = entity_f1(told, tags_of(splits.valid))
    facts = {"valid_entity_f1": quality, "steps": float(recipe.steps), "trainable_params": size}
    whole = TextNetwork(net, source.backbone, source.backbone.feature_dim)
    return TrainedNetwork(whole, answer, rate, quality, told, facts)


def network(module: torch.nn.Module, reader: TokenReader, classes: int) -> Any:
    """`encoder`, a copy of the module, and `decoder`, a linear layer: a batch of windows ->
    (B, T, C) scores of their pieces."""
    import torch

    with torch.no_grad():
        ids = torch.tensor([[*reader.before, *reader.pieces(("a",))[0], *reader.after]])
        device = next(module.parameters()).device
        batch = {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device)}
        (state,) = reader.read(module, batch, (reader.layers,))

    class Tagging(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = copy.deepcopy(module)
            self.decoder = torch.nn.Linear(state.shape[-1], classes)

        def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            (states,) = reader.read(self.encoder, batch, (reader.layers,))
            scores: torch.Tensor = self.decoder(states)
            return scores

    return Tagging()


def said(
    net: torch.nn.Module, reader: TokenReader, source: Any, split: Split
) -> list[NDArray[np.int64]]:
    """The likeliest tag of each word, a text each; windows of like lengths are read together."""
    import torch

    net.eval()
    texts = [reader.pieces(split.read(i)) for i in range(len(split))]
    out = [np.zeros(len(pieces), dtype=np.int64) for pieces in texts]
    cut: list[tuple[int, Window]] = [
        (i, window) for i, pieces in enumerate(texts) for window in windows(pieces, reader)
    ]
    cut.sort(key=lambda one: len(one[1]))
    for start in range(0, len(cut), TOGETHER):
        some = cut[start : start + TOGETHER]
        batch = collate([window for _, window in some], reader.pad_id)
        with torch.no_grad(), source.autocast():
            scores = net({name: one.to(source.device) for name, one in batch.items()})
        for (i, window), row in zip(some, scores.argmax(dim=2).cpu().numpy(), strict=True):
            for word, place in window.words:
                out[i][word] = row[place]
    return out


@dataclass(frozen=True)
class TextNetwork:
    """A trained encoder and decoder as a Backbone, whose costs are those of what was judged:
    `embed` gives what the network says of a text's pieces, which `backbone` makes of it."""

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
