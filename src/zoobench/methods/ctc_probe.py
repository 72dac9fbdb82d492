"""A linear layer of characters on the frames of a frozen network (PROTOCOL section 2, Audio).

What `linear-probe` is to recordings with transcripts: nothing but one layer stands between a frame
and the character that it says, and CTC finds which frame says which. Its problem is not convex, so
that it is trained in small steps, not solved. N recordings, R frames, D features, C characters and
the blank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import NotFinite, Unsupported
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.characters import Alphabet
from zoobench.methods.predictor import Predictor
from zoobench.methods.training import batches, check_budget, edge
from zoobench.solvers import ctc
from zoobench.tasks.speech_recognition import error_rates, transcripts_of
from zoobench.views import FrameFeatures

if TYPE_CHECKING:
    import torch

TOO_SHORT = "ctc-infeasible"
"""The flag of recordings that have fewer frames than their transcripts need."""
BLOCK = 2**16
"""Frames whose sums are taken at once."""


@dataclass(frozen=True)
class CtcProbe:
    """One linear layer on frozen frames, by AdamW at each of `rates` with a cosine, over `steps` of
    `batch_size` recordings; rate and layer, of those at a half and three quarters of the depth and
    the last, are chosen on `valid` by CER: it tells probes apart all of whose words are wrong.

    Characters are those of train, and nothing is left out of test. A recording with fewer frames
    than its transcript needs teaches nothing; such are counted and flagged.
    """

    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    steps: int = 500
    batch_size: int = 16

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    seeded: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("speech-recognition",)
    view: ClassVar[str] = "frames"

    def __post_init__(self) -> None:
        check_budget(self)

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` gives `frames`; `seed` orders the recordings. Raises NotFinite where the loss
        of every rate leaves the finite numbers, Unsupported where nothing can be learned."""
        return fit_characters(backbone, splits, self, seed)


def fit_characters(source: Any, splits: SealedSplits, recipe: CtcProbe, seed: int) -> Adapted:
    """The probe on whatever `source` gives of the frames of a split."""
    import torch

    held, alphabet = source.frames(splits.train), Alphabet.of(splits.train)
    labels = alphabet.labels(splits.train)
    rows, flags = learnable(np.diff(held.starts), labels)
    torch.manual_seed(seed)
    heads = [
        FrameHead.of(held, layer, alphabet.classes, source.device, rate)
        for layer in held.layers
        for rate in recipe.rates
    ]
    good = _train(heads, held, rows, labels, recipe, seed, source)

    def sayer(head: FrameHead) -> Callable[[Split], list[str]]:
        return lambda split: head.said(source.frames(split), alphabet)

    truth = transcripts_of(splits.valid)
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
    """A linear layer on the frames after one layer, standardised by the mean and deviation (D,) of
    train, trained at one rate."""

    layer: int
    rate: float
    mean: torch.Tensor
    scale: torch.Tensor
    linear: torch.nn.Linear

    @classmethod
    def of(
        cls, held: FrameFeatures, layer: int, classes: int, device: torch.device, rate: float
    ) -> FrameHead:
        """A new one, which says every class alike."""
        import torch

        mean, scale = (one.to(device) for one in _moments(held, layer))
        linear = torch.nn.Linear(len(mean), classes).to(device)
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        return cls(layer, rate, mean, scale, linear)

    def logits(self, values: torch.Tensor) -> torch.Tensor:
        """(..., C) of (..., D) states after the layer."""
        found: torch.Tensor = self.linear((values - self.mean) / self.scale)
        return found

    def said(self, held: FrameFeatures, alphabet: Alphabet) -> list[str]:
        """What each recording's likeliest path says."""
        import torch

        texts, column = [], held.layers.index(self.layer)
        with torch.inference_mode():
            for start, end in zip(held.starts[:-1], held.starts[1:], strict=True):
                values = torch.from_numpy(np.asarray(held.values[start:end, column], np.float32))
                logits = self.logits(values.to(self.mean.device))[None]
                texts += [alphabet.text(one) for one in ctc.greedy(logits, [int(end - start)])]
        return texts


def _moments(held: FrameFeatures, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation (D,) of all frames after a layer."""
    import torch

    column = held.values[:, held.layers.index(layer)]
    sums = np.zeros((2, column.shape[1]))
    for start in range(0, len(column), BLOCK):
        exact = np.asarray(column[start : start + BLOCK], dtype=np.float64)
        sums += exact.sum(axis=0), (exact**2).sum(axis=0)
    mean, square = sums / max(1, len(column))
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    # A feature that is constant tells nothing; dividing by its rounding error would.
    scale = np.where(spread > 1e-4 * (np.abs(mean) + 1e-3), spread, np.inf)
    return torch.from_numpy(mean).float(), torch.from_numpy(scale).float()


def _train(
    heads: Sequence[FrameHead], held: FrameFeatures, rows: NDArray[np.intp],
    labels: Sequence[Sequence[int]], recipe: CtcProbe, seed: int, source: Any,
) -> list[FrameHead]:  # fmt: skip
    """Train all heads on the same batches, which are read once; those whose loss is finite."""
    import torch

    groups = [{"params": list(head.linear.parameters()), "lr": head.rate} for head in heads]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    finite = torch.ones(len(heads), dtype=torch.bool)
    for step, some in enumerate(batches(len(rows), recipe.steps, recipe.batch_size, seed)):
        picked = rows[some]
        values, frames = _padded(held, picked, source.device)
        logits = torch.cat([h.logits(values[:, :, held.layers.index(h.layer)]) for h in heads])
        said = [labels[i] for i in picked]
        # One call for all heads: their losses are apart, and so are their gradients.
        found = ctc.losses(logits, frames * len(heads), said * len(heads))
        of_head = found.view(len(heads), -1).sum(dim=1) / max(1, sum(map(len, said)))
        finite &= torch.isfinite(of_head).cpu()
        optimizer.zero_grad(set_to_none=True)
        of_head.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if source.progress is not None:
            source.progress("fit", step + 1, recipe.steps)
    return [head for head, good in zip(heads, finite.tolist(), strict=True) if good]


def _padded(
    held: FrameFeatures, rows: NDArray[np.intp], device: torch.device
) -> tuple[torch.Tensor, list[int]]:
    """(B, F, L, D) float32 states of some recordings, zeros behind the shorter; frames of each."""
    import torch

    parts = [np.asarray(held.values[held.starts[i] : held.starts[i + 1]]) for i in rows]
    whole = [torch.from_numpy(one.astype(np.float32)) for one in parts]
    padded = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True)
    return padded.to(device), [len(one) for one in parts]
