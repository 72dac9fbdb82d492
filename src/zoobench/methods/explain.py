"""Explanations of what a model says of test examples, beside controls (PROTOCOL section 8).

The attribution is fixed: of pictures the occlusion of tiles, or integrated gradients where they are
asked for; of texts the removal of words. Controls are maps that know nothing of the model: a random
one, one of where evidence mostly is, and the attribution of the same network with its weights
shuffled (Adebayo et al. 2018, arXiv:1810.03292). What does not beat them explains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.errors import Unsupported
from zoobench.features.incoming import to_device
from zoobench.interfaces import Split, Splits
from zoobench.methods.audit import GRADIENTS, WORDS
from zoobench.methods.example_parts import Parts, PictureParts, TextParts, parts_of
from zoobench.methods.pointing import frame, touched
from zoobench.metrics import measured
from zoobench.models import graphs
from zoobench.schema import Measurement, digest
from zoobench.statistics import intervals
from zoobench.statistics.bootstrap import Floats, Units, seed_of

if TYPE_CHECKING:
    import torch

EXPLAINED = 16
"""Test examples that are explained, chosen by a hash of their ids."""
SHOWN = 8
"""The first of them, whose maps are kept: a report may show the same ones of every model."""
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


@dataclass(frozen=True)
class Explanation:
    """Of one example: `areas` (1 + controls, 2) are insertion and deletion of the attribution and
    of each control, `points` (1 + controls,) whether its most important tile lies where the class
    is to be seen, where that is known. `shown` is what a report draws."""

    areas: Sequence[tuple[float, float]]
    points: Sequence[bool] | None
    shown: Mapping[str, Any]


def explained(
    adapted: Any, backbone: Any, splits: Splits, how: bool | str
) -> tuple[Measurement, ...]:
    """`insertion_auc`, `deletion_auc` and `explanation_gain`, their difference, over EXPLAINED of
    test, with intervals over units; the gain's detail says by how much it beats each control.
    `pointing_game` over those of them of which the data hold where their class is to be seen.

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
    examples = _examples(body, splits)
    if not examples:
        return ()
    explainer = Explainer(body, shuffled(body, seed_of("explain") % 2**31), head, how)
    found = [explainer.of(splits.test, i, parts) for i, parts in examples.items()]
    units = splits.test.units[[*examples]]
    first = next(iter(examples.values()))
    named = WORDS if isinstance(first, TextParts) else "occlusion"
    if how == GRADIENTS and splits.modality == "image":
        named = "integrated gradients"
    against = ("random map", first.prior, "shuffled weights")
    maps = [one.shown for one in found[:SHOWN]]
    measurements = numbers(np.array([one.areas for one in found]), units, named, against, maps)
    known = [k for k, one in enumerate(found) if one.points is not None]
    points = np.array([found[k].points for k in known], dtype=np.float64)
    return measurements + (pointing_game(points, units[known], named, against) if known else ())


def _examples(body: Any, splits: Splits) -> dict[int, Parts]:
    """The first EXPLAINED of test, by a hash, that have two parts or more."""
    ids = splits.test.ids
    found: dict[int, Parts] = {}
    for i in sorted(range(len(ids)), key=lambda i: digest(["explain", ids[i]])):
        parts = parts_of(body, splits.test.read(i), splits.modality)
        if parts.count > 1:
            found[i] = parts
        if len(found) == EXPLAINED:
            break
    return found


@dataclass(frozen=True)
class Explainer:
    """Explains what `body` under `head` says; `other` is the same network of shuffled weights."""

    body: Any
    other: Any
    head: Any
    how: bool | str

    def of(self, split: Split, i: int, parts: Parts) -> Explanation:
        """Example `i` of the split."""
        import torch

        from zoobench.solvers.explanation import curves

        scores = scores_of(self.body, self.head)
        whole = torch.ones(1, parts.count, dtype=torch.bool)
        said = int(scores(parts.shown(whole))[0].argmax())
        rng = torch.Generator().manual_seed(seed_of("explain", split.ids[i]) % 2**31)
        own, other = (
            attribution(parts, self.how, body, self.head, said) for body in (self.body, self.other)
        )
        maps = [own, torch.rand(parts.count, generator=rng), parts.expected, other]
        areas = [curves(one, lambda masks: _said(parts, scores, said, masks)) for one in maps]
        raw, known = split.read(i), split.evidence(i) if split.evidence else None
        tiles = None if known is None else touched(self.body, raw, known)
        points = None if tiles is None else [bool(tiles[int(one.argmax())]) for one in maps]
        shown = {"place": i, "said": said, "map": _percent(own), **self._where(raw, parts)}
        return Explanation(areas, points, shown)

    def _where(self, raw: Any, parts: Parts) -> dict[str, Any]:
        """How many tiles of a picture stand in a row, and the part of it that they cover."""
        if not isinstance(parts, PictureParts) or not hasattr(raw, "width"):
            return {}
        found = frame(self.body, raw)
        return {} if found is None else {"across": int(parts.owner[0, -1]) + 1, "frame": found}


def _percent(importance: torch.Tensor) -> list[int]:
    """(T,) of the largest size, in whole percent."""
    size = importance.abs().max().clamp_min(1e-12)
    found: list[int] = (100 * importance / size).round().int().tolist()
    return found


def numbers(
    areas: Floats, units: Units, how: str, against: Sequence[str], maps: Sequence[Any] = ()
) -> tuple[Measurement, ...]:
    """Of `areas` (n, 1 + controls, 2): insertion and deletion by example and map."""
    gains = areas[:, :, 0] - areas[:, :, 1]
    about = {"attribution": how}
    rows = {
        "insertion_auc": (areas[:, 0, 0], about),
        "deletion_auc": (areas[:, 0, 1], about),
        "explanation_gain": (gains[:, 0], about | _beaten(gains, units, against) | {"maps": maps}),
    }
    out = []
    for name, (values, detail) in rows.items():
        value, low, high = _mean(values, units)
        out.append(measured(name, value, n=len(values), low=low, high=high, detail=detail))
    return tuple(out)


def pointing_game(
    points: Floats, units: Units, how: str, against: Sequence[str]
) -> tuple[Measurement, ...]:
    """Of `points` (n, 1 + controls) 0 or 1: the share of examples at whose evidence the map points
    (Zhang et al. 2016, arXiv:1608.00507), and in the detail that of each control."""
    low, high = intervals.of_share(points[:, 0], units)
    shares = points.mean(axis=0).tolist()
    detail = {"attribution": how, "controls": dict(zip(against, shares[1:], strict=True))}
    detail |= _beaten(points, units, against)
    found = measured("pointing_game", shares[0], n=len(points), low=low, high=high, detail=detail)
    return (found,)


def _beaten(values: Floats, units: Units, against: Sequence[str]) -> dict[str, Any]:
    """Of (n, 1 + controls): the mean lead of the first over each control, and which it does not
    beat."""
    over = {name: _mean(values[:, 0] - values[:, 1 + k], units) for k, name in enumerate(against)}
    unbeaten = [name for name, (_, low, _) in over.items() if not low > 0]
    found: dict[str, Any] = {"over": {name: list(ends) for name, ends in over.items()}}
    return found | ({NOT_BETTER: unbeaten} if unbeaten else {})


def _mean(values: Floats, units: Units) -> tuple[float, float, float]:
    """The mean and its interval."""
    low, high = intervals.of_ratio(values, np.ones(len(values)), units, bounds=(-1.0, 1.0))
    return float(values.mean()), float(low), float(high)
