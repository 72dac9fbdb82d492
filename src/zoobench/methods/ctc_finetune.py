"""Fine-tuning for speech recognition, and the same from random weights (PROTOCOL section 2).

One recipe for every model: a linear layer of characters on the last states of frames, CTC, AdamW
with the new layer at ten times the network's rate, a warm-up of a tenth of the steps and a cosine
decay, and one small grid of rates whose best is chosen on `valid` by CER.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.features.frames import reader_of, state_width
from zoobench.features.incoming import to_device
from zoobench.interfaces import SealedSplits, Split
from zoobench.methods.characters import Alphabet
from zoobench.methods.ctc_probe import learnable
from zoobench.methods.text_training import HEAD, TextFineTune, TextNetwork, state_scores
from zoobench.methods.training import TrainedNetwork, fit
from zoobench.solvers import ctc
from zoobench.tasks.speech_recognition import error_rates, transcripts_of

if TYPE_CHECKING:
    import torch

    from zoobench.views import FrameReader


@dataclass(frozen=True)
class CtcFineTune(TextFineTune):
    """All weights, with a new linear layer of characters on frames; batches are of recordings."""

    tasks: ClassVar[tuple[str, ...]] = ("speech-recognition",)
    view: ClassVar[str] = "frames"

    def trained(
        self, source: Any, splits: SealedSplits, rate: float, seed: int
    ) -> TrainedNetwork | None:
        """One rate of the grid, chosen on `valid` by CER. What has too few frames is left out."""
        import torch

        backbone, train = source.backbone, splits.train
        reader, alphabet = reader_of(backbone), Alphabet.of(train)
        labels = alphabet.labels(train)
        rows, flags = learnable(source.frame_counts(train), labels)
        torch.manual_seed(seed)
        width = state_width(backbone, reader)
        net = state_scores(backbone.module, reader, width, alphabet.classes).to(source.device)

        def loss(step: int, some: NDArray[np.intp]) -> torch.Tensor:
            """Mean over the characters of some recordings."""
            picked = [int(rows[i]) for i in some]
            batch, frames = _batch(source, reader, train, picked)
            with source.autocast():
                scores = net(batch).float()
            said = [labels[i] for i in picked]
            return ctc.losses(scores, frames, said).sum() / max(1, sum(map(len, said)))

        size = fit(net, loss, len(rows), self, HEAD * rate, seed, source.progress)
        if size is None:
            return None

        def answer(split: Split) -> list[str]:
            return said_by(net, reader, alphabet, source, split)

        told = answer(splits.valid)
        wer, cer = error_rates(told, transcripts_of(splits.valid))
        facts = {
            "valid_wer": wer, "valid_cer": cer, "steps": float(self.steps),
            "trainable_params": size, "train_infeasible": float(len(labels) - len(rows)),
        }  # fmt: skip
        whole = TextNetwork(net, backbone, backbone.feature_dim)
        return TrainedNetwork(whole, answer, rate, -cer, told, facts, flags)


@dataclass(frozen=True)
class CtcFromScratch(CtcFineTune):
    """The same recipe on the same architecture with random weights."""

    random_weights: ClassVar[bool] = True


def _batch(
    source: Any, reader: FrameReader, split: Split, rows: list[int]
) -> tuple[Any, list[int]]:
    """(some recordings on the device, the frames of each, which the host counts itself)."""
    backbone = source.backbone
    prepared = backbone.collate([backbone.prepare(split.read(i)) for i in rows])
    return to_device(prepared, source.device), reader.frames(prepared["lengths"]).tolist()


def said_by(
    net: torch.nn.Module, reader: FrameReader, alphabet: Alphabet, source: Any, split: Split
) -> list[str]:
    """What the likeliest path of each recording says, which is read alone. Raises BadData where
    some are longer than what the network reads."""
    import torch

    source.frame_counts(split)
    net.eval()
    texts = []
    for i in range(len(split)):
        batch, frames = _batch(source, reader, split, [i])
        with torch.no_grad(), source.autocast():
            scores = net(batch).float()
        texts += [alphabet.text(one) for one in ctc.greedy(scores, frames)]
    return texts
