"""Explanations of what a model says of test pictures, beside controls (PROTOCOL section 8).

The attribution is fixed: occlusion of tiles. Controls are maps that know nothing of the model: a
random one, the distance to the centre, and the occlusion of the same network with its weights
shuffled (Adebayo et al. 2018, arXiv:1810.03292). What does not beat them explains nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.features.extraction import to_device
from zoobench.interfaces import Split, Splits
from zoobench.metrics import measured
from zoobench.schema import Measurement, digest
from zoobench.statistics import intervals
from zoobench.statistics.bootstrap import Floats, Units, resampled, seed_of, unit_count

if TYPE_CHECKING:
    import torch

PICTURES = 16
"""Test pictures that are explained, chosen by a hash of their ids."""
BATCH = 64
CONTROLS = ("random map", "centre", "shuffled weights")
NOT_BETTER = "not_better_than"
"""Of a measurement's detail: the controls that the attribution does not beat."""

Scores = Callable[["torch.Tensor"], "torch.Tensor"]


def scores_of(body: Any, head: Any) -> Scores:
    """(B, channels, H, W) -> (B, C) probabilities, on the CPU."""
    import torch

    def scores(pictures: torch.Tensor) -> torch.Tensor:
        parts = []
        with torch.no_grad():
            for some in torch.split(pictures, BATCH):
                batch = to_device(body.collate(list(some)), body.device)
                features = body.embed(batch).double().cpu()
                parts.append((features @ head.weight.t() + head.bias).softmax(dim=1))
        return torch.cat(parts)

    return scores


def shuffled(body: Any, seed: int) -> Any:
    """A copy of `body` each of whose weights stands at another place of its own tensor."""
    import torch

    copy, rng = body.copy(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.module.parameters():
            order = torch.randperm(parameter.numel(), generator=rng).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    copy.module.eval()
    return copy


def explained(adapted: Any, backbone: Any, splits: Splits) -> tuple[Measurement, ...]:
    """`insertion_auc`, `deletion_auc` and `explanation_gain`, their difference, over PICTURES of
    test, with intervals over units; the gain's detail says by how much it beats each control. () of
    what is no picture."""
    if splits.modality != "image":
        return ()
    body, head = getattr(adapted, "backbone", backbone), adapted.head()
    order = sorted(range(len(splits.test)), key=lambda i: digest(["explain", splits.test.ids[i]]))
    chosen = splits.test.subset(np.array(order[:PICTURES], dtype=np.intp))
    other = scores_of(shuffled(body, seed_of("explain") % 2**31), head)
    areas = np.array([
        one_picture(body, chosen, i, scores_of(body, head), other) for i in range(len(chosen))
    ])  # fmt: skip
    return numbers(areas, chosen.units)


def one_picture(
    body: Any, split: Split, i: int, scores: Scores, other: Scores
) -> list[tuple[float, float]]:
    """(insertion, deletion) areas of the attribution, then of each of CONTROLS."""
    import torch

    from zoobench.solvers.explanation import blurred, centre, curves, occlusion

    picture = body.prepare(split.read(i))
    blank = blurred(picture)
    said = int(scores(picture[None])[0].argmax())
    own = occlusion(picture, blank, lambda some: scores(some)[:, said])
    rng = torch.Generator().manual_seed(seed_of("explain", split.ids[i]) % 2**31)
    maps = [
        own,
        torch.rand(len(own), generator=rng),
        centre(picture),
        occlusion(picture, blank, lambda some: other(some)[:, said]),
    ]
    return [curves(picture, blank, one, lambda some: scores(some)[:, said]) for one in maps]


def numbers(areas: Floats, units: Units) -> tuple[Measurement, ...]:
    """Of `areas` (n, 1 + controls, 2): insertion and deletion by picture and map."""
    gains = areas[:, :, 0] - areas[:, :, 1]
    over = {name: _mean(gains[:, 0] - gains[:, 1 + k], units) for k, name in enumerate(CONTROLS)}
    unbeaten = [name for name, (_, low, _) in over.items() if not low > 0]
    detail = {"attribution": "occlusion", "over": {n: list(ends) for n, ends in over.items()}}
    rows = {
        "insertion_auc": (areas[:, 0, 0], {"attribution": "occlusion"}),
        "deletion_auc": (areas[:, 0, 1], {"attribution": "occlusion"}),
        "explanation_gain": (gains[:, 0], detail | ({NOT_BETTER: unbeaten} if unbeaten else {})),
    }
    out = []
    for name, (values, about) in rows.items():
        value, low, high = _mean(values, units)
        out.append(measured(name, value, n=len(values), low=low, high=high, detail=about))
    return tuple(out)


def _mean(values: Floats, units: Units) -> tuple[float, float, float]:
    """The mean and its interval."""
    draws = np.concatenate([w @ values / w.sum(axis=1) for w in resampled(units)])
    value = float(values.mean())
    low, high = intervals.of_draws(value, draws, unit_count(units), bounds=(-1.0, 1.0))
    return value, float(low), float(high)
