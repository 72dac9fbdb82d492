"""A linear layer of characters on the frames of a frozen network (PROTOCOL section 2, Audio).

What `linear-probe` is to recordings with transcripts: nothing but one layer stands between a frame
and the character that it says, and CTC finds which frame says which. Its problem is not convex, so
that it is trained in small steps, not solved. N recordings, R frames, D features, C characters and
the blank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import NotFinite, Unsupported
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.machine import sent
from zoobench.methods.characters import Alphabet
from zoobench.methods.predictor import Predictor
from zoobench.methods.stepped_probe import Standardised, SteppedProbe, fit_heads
from zoobench.methods.training import edge
from zoobench.solvers import ctc
from zoobench.tasks.speech_recognition import error_rates, transcripts_of
from zoobench.views import FrameFeatures

if TYPE_CHECKING:
    import torch

TOO_SHORT = "ctc-infeasible"
"""The flag of recordings that have fewer frames than their transcripts need."""
BLOCK = 2**16
"""Frames that are standardised at once."""


@dataclass(frozen=True)
class CtcProbe(SteppedProbe):
    """One linear layer on frozen frames; `steps` are of `batch_size` recordings. Rate and layer, of
    those at a half and three quarters of the depth and the last, are chosen on `valid` by CER: it
    tells probes apart all of whose words are wrong.

    Characters are those of train, and nothing is left out of test. A recording with fewer frames
    than its transcript needs teaches nothing; such are counted and flagged.
    """

    tasks: ClassVar[tuple[str, ...]] = ("speech-recognition",)
    view: ClassVar[str] = "frames"

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` gives `frames`; `seed` orders the recordings. Raises NotFinite where the loss
        of every rate leaves the finite numbers, Unsupported where nothing can be learned."""
        return fit_characters(backbone, splits, self, seed)


def fit_characters(source: Any, splits: SealedSplits, recipe: CtcProbe, seed: int) -> Adapted:
    """The probe on whatever `source` gives of the frames of a split."""
    held, alphabet = source.frames(splits.train), Alphabet.of(splits.train)
    labels = alphabet.labels(splits.train)
    rows, flags = learnable(np.diff(held.starts), labels)
    heads = [
        head
        for layer in held.layers
        for head in new_heads(held, layer, alphabet.classes, source.device, recipe.rates)
    ]
    losses = partial(head_losses, heads, held, rows, labels)
    pairs = [(head.rate, head.linear) for head in heads]
    finite = fit_heads(pairs, losses, len(rows), recipe, seed, source.progress)

    def sayer(head: FrameHead) -> Callable[[Split], list[str]]:
        return lambda split: head.said(source.frames(split), alphabet)

    truth = transcripts_of(splits.valid)
    good = [head for head, fine in zip(heads, finite, strict=True) if fine]
    judged = [(error_rates(sayer(head)(splits.valid), truth), head) for head in good]
    if not judged:
        raise NotFinite(f"the training loss at every learning rate of {list(recipe.rates)}")
    (wer, cer), best = min(judged, key=lambda pair: (pair[0][1], -pair[1].layer))
    facts = {
        "valid_wer": wer, "valid_cer": cer, "steps": float(recipe.steps),
        "train_infeasible": float(len(labels) - len(rows)),
        "trainable_params": float(sum(p.numel() for p in best.linear.parameters())),
    }  # fmt: skip
    answer = sayer(best)
    chosen = {"rate": best.rate, "layer": best.layer}
    flags = (*edge(best.rate, recipe.rates), *flags)
    return Predictor(answer, splits.valid, answer, chosen, facts, flags)


def learnable(
    frames: NDArray[np.int64], labels: Sequence[Sequence[int]]
) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """(the recordings with enough frames for their labels, the flag of others). Raises Unsupported
    where there are none."""
    rows = np.flatnonzero(ctc.feasible(frames, labels))
    if not len(rows):
        raise Unsupported("every recording of train has fewer frames than its transcript needs")
    return rows, (TOO_SHORT,) * (len(rows) < len(labels))


@dataclass(frozen=True)
class FrameHead:
    """A linear layer on the standardised frames after one layer, trained at one rate."""

    layer: int
    rate: float
    standardised: Standardised
    linear: torch.nn.Linear

    def said(self, held: FrameFeatures, alphabet: Alphabet) -> list[str]:
        """What each recording's likeliest path says."""
        import torch

        texts, device = [], self.linear.weight.device
        with torch.inference_mode():
            for i, many in enumerate(np.diff(held.starts).tolist()):
                values = _frames(held, [i])[:, held.layers.index(self.layer)].to(device)
                logits = self.linear(self.standardised(values))[None]
                texts += [alphabet.text(one) for one in ctc.greedy(logits, [many])]
        return texts


def new_heads(
    held: FrameFeatures, layer: int, classes: int, device: torch.device, rates: Sequence[float]
) -> list[FrameHead]:
    """One for each rate, which says every class alike."""
    import torch

    column = held.values[:, held.layers.index(layer)]
    blocks = (column[start : start + BLOCK] for start in range(0, len(column), BLOCK))
    standardised, heads = Standardised.by(blocks, device), []
    for rate in rates:
        linear = torch.nn.Linear(column.shape[1], classes).to(device)
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        heads.append(FrameHead(layer, rate, standardised, linear))
    return heads


def head_losses(
    heads: Sequence[FrameHead], held: FrameFeatures, rows: NDArray[np.intp],
    labels: Sequence[Sequence[int]], some: NDArray[np.intp],
) -> torch.Tensor:  # fmt: skip
    """(H,) mean over the characters of `some` of the recordings at `rows`, of each head."""
    import torch

    picked = rows[some]
    frames, said = np.diff(held.starts)[picked].tolist(), [labels[i] for i in picked]
    values = sent(_frames(held, picked), heads[0].linear.weight.device)
    logits = []
    for layer, alike in groupby(heads, key=lambda head: head.layer):
        of_layer = list(alike)
        states = of_layer[0].standardised(values[:, held.layers.index(layer)])
        logits += [head.linear(states) for head in of_layer]
    # One call for all heads: their losses are apart, and so are their gradients.
    found = ctc.packed_losses(torch.stack(logits, dim=1), frames, said)
    return found.sum(dim=0) / max(1, sum(map(len, said)))


def _frames(held: FrameFeatures, rows: Sequence[int] | NDArray[np.intp]) -> torch.Tensor:
    """(R, L, D) float32 states of the frames of some recordings, one after the other."""
    import torch

    parts = [held.values[held.starts[i] : held.starts[i + 1]] for i in rows]
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))
