"""Fine-tuning for token classification, and the same from random weights (PROTOCOL section 2).

One recipe for every model: a linear layer on the last states of words' first pieces, AdamW with
the new layer at ten times the network's rate, a warm-up of a tenth of the steps and a cosine decay,
and one small grid of rates whose best is chosen on `valid` by entity F1. C tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.interfaces import SealedSplits, Split
from zoobench.machine import sent
from zoobench.methods.text_training import HEAD, TextFineTune, TextNetwork, network
from zoobench.methods.training import TrainedNetwork, fit
from zoobench.models.tokens import collate, likeliest_labels, windows
from zoobench.tasks.token_classification import entity_f1, tags_of
from zoobench.views import TokenReader

if TYPE_CHECKING:
    import torch

TOGETHER = 64
"""Windows that are read at once when nothing is trained."""


@dataclass(frozen=True)
class WordFineTune(TextFineTune):
    """All weights, with a new linear layer on words' first pieces; batches are of texts."""

    tasks: ClassVar[tuple[str, ...]] = ("token-classification",)
    view: ClassVar[str] = "words"

    def trained(
        self, source: Any, splits: SealedSplits, rate: float, seed: int
    ) -> TrainedNetwork | None:
        """One rate of the grid, chosen on `valid` by entity F1."""
        import torch

        reader: TokenReader = source.backbone.token_reader()
        torch.manual_seed(seed)
        net = network(source.backbone.module, reader, len(splits.classes)).to(source.device)
        tags = tags_of(splits.train)
        cut = [
            windows(reader.pieces(splits.train.read(i)), reader) for i in range(len(splits.train))
        ]

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
                scores = net(sent(batch, source.device)).float()
            return torch.nn.functional.cross_entropy(
                scores.flatten(0, 1), sent(target.flatten(), source.device)
            )

        size = fit(net, loss, len(splits.train), self, HEAD * rate, seed, source.progress)
        if size is None:
            return None

        def answer(split: Split) -> list[NDArray[np.int64]]:
            return said(net, reader, source, split)

        told = answer(splits.valid)
        quality = entity_f1(told, tags_of(splits.valid))
        facts = {"valid_entity_f1": quality, "steps": float(self.steps), "trainable_params": size}
        whole = TextNetwork(net, source.backbone, source.backbone.feature_dim)
        return TrainedNetwork(whole, answer, rate, quality, told, facts)


@dataclass(frozen=True)
class WordFromScratch(WordFineTune):
    """The same recipe on the same architecture with random weights."""

    random_weights: ClassVar[bool] = True


def said(
    net: torch.nn.Module, reader: TokenReader, source: Any, split: Split
) -> list[NDArray[np.int64]]:
    """The likeliest tag of each word, a text each; windows of like lengths are read together."""
    import torch

    net.eval()

    def score(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad(), source.autocast():
            scores: torch.Tensor = net(sent(dict(batch), source.device))
        return scores

    return likeliest_labels(reader, [split.read(i) for i in range(len(split))], score, TOGETHER)
