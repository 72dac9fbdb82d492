"""Pictures that an objective generated, beside real ones: in a named model's features, and shown.

Samples and real pictures are taken alike: in the size and range in which the encoder reads, to 8
bits. N of each, N at most MOST; the floor is what as many real pictures of train have from those
of test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.datasets.ids import bytes_id
from zoobench.datasets.readers import PixelArray
from zoobench.generation.distances import distances
from zoobench.interfaces import Split, Splits
from zoobench.methods.inputs import Inputs
from zoobench.metrics import measured
from zoobench.pretraining.objective import Learner, PretrainingObjective
from zoobench.pretraining.training import hash_of, reproducible, sample
from zoobench.schema import Measurement, Ref
from zoobench.tasks.classification import Labels

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features

MOST = 500
"""Samples, and real pictures of a split, by their ids; all where fewer."""
BATCH = 128
LEAST = 8
"""Fewer have no neighbours to speak of, and are not compared."""

FeaturesOf = Callable[[Ref], "Features"]
"""Gives a model's features: what loads it stands on a floor above."""


def generated(
    objective: PretrainingObjective, learner: Learner, heads: Any, n: int, seed: int
) -> torch.Tensor:
    """(n, 3, H, W) pictures in [0, 1] on the CPU, which follow from the weights and `seed`: the
    first are the same however many are asked for, by whole batches."""
    import torch

    parts = []
    with reproducible(), torch.no_grad():
        for start in range(0, n, BATCH):
            torch.manual_seed(hash_of(seed, start))
            parts.append(objective.samples(learner, heads, BATCH).cpu())
    return torch.cat(parts)[:n]


def real(learner: Learner, split: Split, most: int = MOST) -> torch.Tensor:
    """(n, 3, H, W) in [0, 1]: up to `most` pictures of `split`, as the encoder reads them."""
    import torch

    rows = sample(split, most).tolist()
    inputs = Inputs(learner.encoder, split)
    parts = [inputs.batch(rows[at : at + BATCH]) for at in range(0, len(rows), BATCH)]
    return torch.cat([learner.pixels(part).cpu() for part in parts])


def compared(
    pictures: torch.Tensor, learner: Learner, splits: Splits, source: Features
) -> tuple[Measurement, ...]:
    """KID, FID where there are pictures enough, precision and recall of samples (N, 3, H, W) from
    as many real ones of test, and each as NAME_floor: of real ones of train. () of very few."""
    train, test = (real(learner, split, len(pictures)) for split in (splits.train, splits.test))
    n = min(map(len, (pictures, train, test)))
    if n < LEAST:
        return ()
    sides = {"samples": pictures[:n], "train": train[:n], "test": test[:n]}
    read = {name: as_split(name, side) for name, side in sides.items()}
    # Real pictures are the same for every encoder, and kept; samples are nobody else's.
    once = source.over(source.backbone)
    features = {
        name: (once if name == "samples" else source).features(one).to(source.device)
        for name, one in read.items()
    }
    about = {"model": source.view.name, "features": source.feature_dim, "state": source.weights}
    found = []
    for name, suffix in (("samples", ""), ("train", "_floor")):
        numbers, missing = distances(
            features[name], features["test"], read[name].ids, read["test"].ids
        )
        detail = {**about, **({"missing": missing} if missing else {})}
        found += [
            measured(m.metric + suffix, m.value, low=m.low, high=m.high, n=m.n, detail=detail)
            for m in numbers
        ]
    return tuple(found)


def as_split(name: str, pictures: torch.Tensor) -> Split:
    """(N, 3, H, W) in [0, 1] as pictures of 8 bits that a model reads; ids say what they show."""
    arrays = (pictures * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    ids = tuple(bytes_id(one.tobytes()) for one in arrays)
    targets = Labels(np.zeros(len(arrays), dtype=np.int64))
    return Split(name, ids, targets, PixelArray(arrays), "pixels")


def beside(pictures: torch.Tensor, others: torch.Tensor, across: int) -> Sequence[torch.Tensor]:
    """Rows of a sheet: `across` pictures, a white one, and as many of the `others`."""
    import torch

    white = torch.ones_like(pictures[:1])
    whole = min(len(pictures), len(others)) // across
    return [
        torch.cat([pictures[at : at + across], white, others[at : at + across]])
        for at in range(0, whole * across, across)
    ]
