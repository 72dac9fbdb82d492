"""Is my data like what this model knows? Two datasets in one model's feature space.

The train splits are compared: squared Frechet distance, and the maximum mean discrepancy
with a permutation test. Both are read against what two halves of the first dataset give.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoobench import datasets, models
from zoobench.datasets.splits import hash_order, limit
from zoobench.errors import UserError
from zoobench.interfaces import Split
from zoobench.schema import Ref
from zoobench.workers.loaded import feature_source

PERMUTATIONS = 500


@dataclass(frozen=True)
class Similarity:
    """`frechet` and `mmd` between the datasets; `frechet_within` and `mmd_within` of halves of A.

    `share` is frechet over the variance of A's features; `p` of the permutation test that
    both are samples of one distribution; `n` examples of each dataset (A, B).
    """

    model: Ref
    first: Ref
    second: Ref
    n: tuple[int, int]
    feature_dim: int
    frechet: float
    frechet_within: float
    share: float
    mmd: float
    mmd_within: float
    p: float


def similarity(model: str, first: str, second: str, most: int, device: str = "auto") -> Similarity:
    """Compare at most `most` train examples of each dataset, chosen by their hashes.

    Raises UserError for unknown names, another modality and fewer than 8 examples,
    and CellError where model or data cannot be had.
    """
    import torch

    from zoobench.solvers import similarity as maths

    ref = models.resolve(model)
    names = [datasets.resolve(first), datasets.resolve(second)]
    source = feature_source(ref, device, names)
    # Equal numbers: the sample's size is in a Frechet distance, and would look like a difference.
    whole = [datasets.load(name) for name in names]
    for name, held in zip(names, whole, strict=True):
        if held.modality == "text" and not isinstance(held.train.read(0), str):
            raise UserError(f"{name.short} asks {held.task}: its examples are no single texts")
    splits = [held.train for held in whole]
    count = min(most, *map(len, splits))
    if count < 8:
        raise UserError(f"{count} examples are too few to compare; 8 are needed at least")
    x, y = (source.features(limit(split, count)) for split in splits)
    halves = _halves(limit(splits[0], count))
    one, other = x[halves[0]], x[halves[1]]
    # The usual one: the median distance between two different rows of both together.
    bandwidth = float(torch.nn.functional.pdist(torch.cat([x, y]).double()).median())
    if bandwidth == 0:
        raise UserError(f"{ref.short} gives all of these examples the same features")
    value, p = maths.mmd(x, y, bandwidth, PERMUTATIONS)
    distance = maths.frechet(x, y)
    return Similarity(
        model=ref,
        first=names[0],
        second=names[1],
        n=(count, count),
        feature_dim=source.feature_dim,
        frechet=distance,
        frechet_within=maths.frechet(one, other),
        share=distance / max(float(x.double().var(dim=0).sum()), 1e-300),
        mmd=value,
        mmd_within=maths.mmd(one, other, bandwidth)[0],
        p=p,
    )


def _halves(split: Split) -> tuple[list[int], list[int]]:
    """Rows of two halves, every second one by hash: no order of the file is left in them."""
    keys = hash_order("halves", split.ids)
    order = sorted(range(len(split)), key=keys.__getitem__)
    return order[::2], order[1::2]


def text(found: Similarity) -> list[str]:
    """What `zoobench similarity` prints."""
    a, b = found.first.short, found.second.short
    name = found.model.short
    apart = found.p <= 0.05
    said = (
        f"{name} tells them apart: p = {found.p:.3f}."
        if apart
        else f"{name} cannot tell them apart: p = {found.p:.2f}."
    )
    return [
        f"{a} and {b} in the {found.feature_dim} features of {name}, {found.n[0]} examples each:",
        f"  Frechet distance {found.frechet:.4g}, {found.share:.2f} of {a}'s variance "
        f"(its own halves: {found.frechet_within:.4g}, of half as many examples)",
        f"  MMD^2 {found.mmd:.4g} (its own halves: {found.mmd_within:.2g})",
        said,
    ]
