"""Fine-tuning for question answering, and the same from random weights (PROTOCOL section 2).

One recipe for every model: a linear layer on the last states of pieces, which scores where an
answer begins and where it ends, the loop that fine-tunes on words (`training`), and one small grid
of rates whose best is chosen on `valid` by F1. B windows of P places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.features.pairs import PairStates
from zoobench.features.windowed import apart, at_places, reader_of
from zoobench.interfaces import SealedSplits, Split
from zoobench.machine import sent
from zoobench.methods.answers import f1, may_be_none, read_answers
from zoobench.methods.text_training import HEAD, TextFineTune, TextNetwork, network
from zoobench.methods.training import TrainedNetwork, fit
from zoobench.models.pairs import PairWindow, pair_windows
from zoobench.tasks.question_answering import answers_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SpanFineTune(TextFineTune):
    """All weights, with a new linear layer; batches are of questions. Of a question that takes
    several windows each step draws one."""

    tasks: ClassVar[tuple[str, ...]] = ("question-answering",)
    view: ClassVar[str] = "pairs"

    def trained(
        self, source: Any, splits: SealedSplits, rate: float, seed: int
    ) -> TrainedNetwork | None:
        """One rate of the grid, chosen on `valid` by F1."""
        import torch

        reader = reader_of(source.backbone)
        torch.manual_seed(seed)
        net = network(source.backbone.module, reader, 2).to(source.device)
        states = TrainedPairs(reader, net, source.input_spec, (reader.layers,), source=source)
        golds, none = answers_of(splits.train).golds, may_be_none(splits.train)

        def loss(step: int, rows: NDArray[np.intp]) -> torch.Tensor:
            some, truth = [], []
            for i in rows.tolist():
                windows = pair_windows(splits.train.read(i), reader, i)
                drawn = np.random.default_rng([seed, step, i]).integers(len(windows))
                some.append(windows[drawn])
                truth.append(windows[drawn].target(next(iter(golds[i]), None)))
            return _loss(states, some, truth, source.device)

        size = fit(net, loss, len(splits.train), self, HEAD * rate, seed, source.progress)
        if size is None:
            return None

        def answer(split: Split) -> list[str | None]:
            return read_answers(source, states, split, none)

        said = answer(splits.valid)
        quality = f1(said, splits.valid)
        facts = {"valid_f1": quality, "steps": float(self.steps), "trainable_params": size}
        whole = TextNetwork(net, source.backbone, source.backbone.feature_dim)
        return TrainedNetwork(whole, answer, rate, quality, said, facts)


@dataclass(frozen=True)
class SpanFromScratch(SpanFineTune):
    """The same recipe on the same architecture with random weights."""

    random_weights: ClassVar[bool] = True


@dataclass(frozen=True)
class TrainedPairs(PairStates):
    """Embeds the two scores (B, P, 2) of each place, as a trained `module` gives them of pieces."""

    source: Any = None

    def embed(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        given, places = apart(batch)
        with self.source.autocast():
            scores = self.module(given).float()
        return at_places(scores, places)


def _loss(
    states: TrainedPairs,
    some: list[PairWindow],
    truth: list[tuple[int, int]],
    device: torch.device,
) -> torch.Tensor:
    """The mean cross-entropy of both ends over the places of each window."""
    import torch

    batch = sent(states.collate(some), device)
    scores = states.embed(batch)
    counts = sent(torch.tensor([len(one.places) for one in some]), device)
    beyond = torch.arange(scores.shape[1], device=device) >= counts[:, None]
    scores = scores.masked_fill(beyond[:, :, None], -torch.inf)
    return torch.nn.functional.cross_entropy(scores, sent(torch.tensor(truth), device))
