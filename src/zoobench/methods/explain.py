"""Explanations of what a model says of test examples, beside controls (PROTOCOL section 8).

The attribution is fixed: of pictures the occlusion of tiles, or integrated gradients where they are
asked for; of texts the removal of words. Controls are maps that know nothing of the model: a random
one, one of where evidence mostly is, and the attribution of the same network with its weights
shuffled (Adebayo et al. 2018, arXiv:1810.03292). What does not beat them explains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.errors import Unsupported
from zoobench.features.extraction import to_device
from zoobench.interfaces import Split, Splits
from zoobench.methods.audit import GRADIENTS
from zoobench.methods.example_parts import Parts, PictureParts, TextParts, parts_of
from zoobench.metrics import measured
from zoobench.models import graphs
from zoobench.schema import Measurement, digest
from zoobench.statistics import intervals
from zoobench.statistics.bootstrap import Floats, Units, resampled, seed_of, unit_count

if TYPE_CHECKING:
    import torch

EXPLAINED = 16
"""Test examples that are explained, chosen by a hash of their ids."""
BATCH = 64
AT_ONCE = 8
"""Pictures whose gradients are taken together: autograd keeps all layers of each."""
NOT_BETTER = "not_better_than"
"""Of a measurement's detail: the controls that the attribution does not beat."""

Scores = Callable[[Sequence[Any]], "torch.Tensor"]


def scores_of(body: Any, head: Any) -> Scores:
    """B inputs of `body` -> (B, C) probabilities, on the CPU."""
    import torch

    def scores(inputs: Sequence[Any]) -> torch.Tensor:
        parts = []
        with torch.no_grad():
            for start in range(0, len(inputs), BATCH):
                batch = to_device(body.collate(list(inputs[start : start + BATCH])), body.device)
                parts.append(_softmax(body, head, batch))
        return torch.cat(parts)

    return scores


def gradients_of(body: Any, head: Any, said: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """(B, channels, H, W) -> as large, the gradients of the probability of class `said` there."""
    import torch

    def gradients(pictures: torch.Tensor) -> torch.Tensor:
        parts = []
        for some in torch.split(pictures, AT_ONCE):
            batch = to_device(body.collate(list(some)), body.device).detach().requires_grad_()
            with torch.enable_grad():
                probability = _softmax(body, head, batch)[:, said].sum()
            parts.append(torch.autograd.grad(probability, batch)[0].cpu())
        return torch.cat(parts)

    return gradients


def _softmax(body: Any, head: Any, batch: Any) -> torch.Tensor:
    features = body.embed(batch).double().cpu()
    found: torch.Tensor = (features @ head.weight.t() + head.bias).softmax(dim=1)
    return found


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


def attribution(parts: Parts, how: bool | str, body: Any, head: Any, said: int) -> torch.Tensor:
    """(T,) how much each part adds to the probability of class `said`."""
    from zoobench.solvers.explanation import integrated_gradients, occlusion, of_tiles

    if how == GRADIENTS and isinstance(parts, PictureParts):
        slopes = gradients_of(body, head, said)
        return of_tiles(integrated_gradients(parts.picture, parts.blank, slopes))
    scores = scores_of(body, head)
    return occlusion(parts.count, lambda masks: _said(parts, scores, said, masks))


def _said(parts: Parts, scores: Scores, said: int, masks: torch.Tensor) -> torch.Tensor:
    import torch

    some = (scores(parts.shown(mask))[:, said] for mask in torch.split(masks, BATCH))
    return torch.cat(list(some))


def explained(
    adapted: Any, backbone: Any, splits: Splits, how: bool | str
) -> tuple[Measurement, ...]:
    """`insertion_auc`, `deletion_auc` and `explanation_gain`, their difference, over EXPLAINED of
    test, with intervals over units; the gain's detail says by how much it beats each control.

    Pictures are explained by occlusion, or by integrated gradients where that is `how`; texts by
    the removal of words. () of what is neither, and where no example has two parts. Raises
    Unsupported where gradients are asked of a graph that has none.
    """
    if splits.modality not in ("image", "text"):
        return ()
    body, head = getattr(adapted, "backbone", backbone), adapted.head()
    if how == GRADIENTS and splits.modality == "image" and graphs.kind_of(body.module):
        raise Unsupported("a fixed graph has no gradients: explain = true explains it by occlusion")
    body.module.eval()
    chosen, examples = _examples(body, splits)
    if not examples:
        return ()
    other = shuffled(body, seed_of("explain") % 2**31)
    areas = np.array([
        _areas(parts, how, (body, other), head, chosen.ids[i]) for i, parts in enumerate(examples)
    ])  # fmt: skip
    named = "removal of words" if isinstance(examples[0], TextParts) else "occlusion"
    if how == GRADIENTS and splits.modality == "image":
        named = "integrated gradients"
    return numbers(areas, chosen.units, named, controls(examples[0]))


def _examples(body: Any, splits: Splits) -> tuple[Split, list[Parts]]:
    """EXPLAINED of test that have two parts or more, and those."""
    ids = splits.test.ids
    found: dict[int, Parts] = {}
    for i in sorted(range(len(ids)), key=lambda i: digest(["explain", ids[i]])):
        parts = parts_of(body, splits.test.read(i), splits.modality)
        if parts.count > 1:
            found[i] = parts
        if len(found) == EXPLAINED:
            break
    return splits.test.subset(np.array([*found], dtype=np.intp)), [*found.values()]


def controls(parts: Parts) -> tuple[str, ...]:
    return ("random map", parts.prior, "shuffled weights")


def _areas(
    parts: Parts, how: bool | str, bodies: tuple[Any, Any], head: Any, name: str
) -> list[tuple[float, float]]:
    """(insertion, deletion) areas of the attribution, then of each of the controls. `bodies` are
    the network and the one of shuffled weights."""
    import torch

    from zoobench.solvers.explanation import curves

    scores = scores_of(bodies[0], head)
    said = int(scores(parts.shown(torch.ones(1, parts.count, dtype=torch.bool)))[0].argmax())
    rng = torch.Generator().manual_seed(seed_of("explain", name) % 2**31)
    own, other = (attribution(parts, how, body, head, said) for body in bodies)
    maps = [own, torch.rand(parts.count, generator=rng), parts.expected, other]
    return [curves(one, lambda masks: _said(parts, scores, said, masks)) for one in maps]


def numbers(
    areas: Floats, units: Units, how: str, against: Sequence[str]
) -> tuple[Measurement, ...]:
    """Of `areas` (n, 1 + controls, 2): insertion and deletion by example and map."""
    gains = areas[:, :, 0] - areas[:, :, 1]
    over = {name: _mean(gains[:, 0] - gains[:, 1 + k], units) for k, name in enumerate(against)}
    unbeaten = [name for name, (_, low, _) in over.items() if not low > 0]
    detail = {"attribution": how, "over": {n: list(ends) for n, ends in over.items()}}
    rows = {
        "insertion_auc": (areas[:, 0, 0], {"attribution": how}),
        "deletion_auc": (areas[:, 0, 1], {"attribution": how}),
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
