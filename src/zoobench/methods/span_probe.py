"""The frozen span probe of question answering (PROTOCOL section 2): what `linear-probe` is there.

Two directions in the states of a frozen network, w for beginnings and v for ends: of all places of
a window, its first piece, which stands for no answer, among them, w.h is greatest where the answer
begins and v.h where it ends. It can find what the network itself marks, and compares nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoobench.datasets.splits import hash_order
from zoobench.features.pairs import PairFeatures, pairs_of, states_of
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.answers import (
    LaterAnswers,
    ScoredPairs,
    answers,
    f1,
    may_be_none,
    read_answers,
)
from zoobench.methods.predictor import Predictor
from zoobench.tasks.question_answering import answers_of

if TYPE_CHECKING:
    import torch

    from zoobench.solvers.spans import SpanData, SpanPoint


SMALL = 2**23
"""Up to so many numbers the probe is solved in float64, where that costs next to nothing."""


@dataclass(frozen=True)
class SpanProbe:
    """A path of `lambdas` ridges over `decades` on the states of each of three layers; layer and
    lambda are chosen on `valid` by F1, of equals the stronger lambda, then refit on train + valid.

    It learns from the questions of train whose hashes come first and whose texts have at most
    `characters` together, and chooses on a fifth of that of valid: the same for every model. Their
    states take 6 bytes a piece and dimension, on the disk where there is a cache, and 4 in memory;
    500,000 characters of English are about 125,000 pieces.
    """

    lambdas: int = 23
    decades: float = 11.0
    characters: int = 500_000
    refit: bool = True

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    tasks: ClassVar[tuple[str, ...]] = ("question-answering",)
    view: ClassVar[str] = "pairs"

    def __post_init__(self) -> None:
        if self.lambdas < 1 or not self.decades > 0 or self.characters < 1:
            raise ValueError("lambdas and characters must be at least 1, and decades above 0")

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` gives states of pieces; `seed` changes nothing. Raises Unsupported where it
        has none, NotFinite where they are no numbers."""
        parts = (
            first_by_hash(splits.train, self.characters),
            first_by_hash(splits.valid, self.characters // 5),
        )
        from zoobench.solvers.spans import TARGET

        none = may_be_none(splits.train)
        held = ProbeStates(parts, tuple(pairs_of(backbone, one) for one in parts), none)
        found = {layer: self._path(held, layer, backbone.device) for layer in held.layers}
        layer, point = min(
            ((layer, one) for layer, path in found.items() for one in path),
            key=lambda pair: pair[1].order,
        )
        final = held.solved(layer, point, backbone.device, self.refit)
        points = found[layer]
        flags = {
            "not-converged": final.bound > TARGET,
            "lambda-on-edge": len(points) > 1 and point.lam in (points[0].lam, points[-1].lam),
        }
        facts = {
            "valid_f1": 1.0 - point.valid_loss,
            "valid_nll": point.valid_nll,
            "iterations": float(sum(one.evaluations for path in found.values() for one in path)),
            "path_points": float(sum(map(len, found.values()))),
            "objective": final.objective,
            "relative_gradient_norm": final.relative_gradient_norm,
            "relative_gap": final.bound,
            "trainable_params": float(final.weight.numel()),
        }

        def say(weight: torch.Tensor, split: Split) -> list[str | None]:
            return read_answers(backbone, _scores(backbone, layer, weight), split, none)

        return Predictor(
            partial(say, final.weight), splits.valid,
            lambda split: LaterAnswers(partial(say, point.weight, split)),
            {"lambda": point.lam, "layer": layer}, facts,
            tuple(flag for flag, holds in flags.items() if holds),
        )  # fmt: skip

    def _path(self, held: ProbeStates, layer: int, device: torch.device) -> list[SpanPoint]:
        from zoobench.solvers.spans import span_path

        train, valid, _ = held.data(layer, device)
        return span_path(train, valid, held.judge, self.lambdas, self.decades)


@dataclass(frozen=True)
class ProbeStates:
    """What the probe is fitted on: `splits`, train and valid, and the states of their windows."""

    splits: tuple[Split, Split]
    features: tuple[PairFeatures, ...]
    none: bool

    @property
    def layers(self) -> tuple[int, ...]:
        return self.features[0].layers

    def judge(self, scores: torch.Tensor) -> float:
        """1 - F1 of (W, P, 2) scores of valid's windows."""
        windows, values = self.features[1].windows, scores.cpu().numpy()
        of = [one[: len(w.places)] for w, one in zip(windows, values, strict=True)]
        valid = self.splits[1]
        return 1.0 - f1(answers(valid, windows, of, self.none), valid)

    def data(self, layer: int, device: torch.device) -> tuple[SpanData, SpanData, SpanData]:
        """Train, valid and both, whose rows are the same memory, in the coordinates of train."""
        import torch

        from zoobench.solvers.spans import SpanData, Windows

        shape = sum(len(one.values) for one in self.features), self.features[0].values.shape[2]
        kind = torch.float64 if shape[0] * shape[1] <= SMALL else torch.float32
        rows = torch.empty(shape, dtype=kind, device=device)
        self.features[0].put(layer, rows[: len(self.features[0].values)])
        self.features[1].put(layer, rows[len(self.features[0].values) :])
        golds = [answers_of(split).golds for split in self.splits]
        truth = [
            [window.target(next(iter(own[window.number]), None)) for window in one.windows]
            for one, own in zip(self.features, golds, strict=True)
        ]
        first, other = (one.starts for one in self.features)
        many = int(first[-1])
        train = SpanData.of(rows[:many], Windows.of(first.tolist(), truth[0], device))
        valid = SpanData.of(rows[many:], Windows.of(other.tolist(), truth[1], device), train)
        whole = [*first.tolist(), *(many + other[1:]).tolist()]
        windows = Windows.of(whole, [*truth[0], *truth[1]], device)
        return train, valid, SpanData(rows, windows, train.basis, train.curvature)

    def solved(self, layer: int, point: SpanPoint, device: torch.device, refit: bool) -> SpanPoint:
        """The optimum at the lambda of `point`, on train and valid under `refit`, else on train."""
        from zoobench.solvers.lbfgs import Pairs

        train, _, both = self.data(layer, device)
        data = both if refit else train
        return data.solved(point.lam, data.inside(point.weight), Pairs(), strict=True)[0]


def _scores(source: Any, layer: int, weight: torch.Tensor) -> ScoredPairs:
    """What embeds the probe's scores of windows."""
    states = states_of(source, [layer])
    turned = weight.float().t().to(source.device)
    return ScoredPairs(
        states.reader, states.module, states.input_spec, states.layers,
        score=lambda found: found[:, :, 0].float() @ turned,
    )  # fmt: skip


def first_by_hash(split: Split, characters: int) -> Split:
    """The questions whose hashes come first, as many as have so many characters of text together,
    at least one; in their old order."""
    keys = np.asarray(hash_order("span-probe", split.ids))
    order = np.argsort(keys, kind="stable")
    lengths = np.asarray([len(split.read(int(i)).context) for i in order])
    many = max(1, int((np.cumsum(lengths) <= characters).sum()))
    return split if many >= len(split) else split.subset(np.sort(order[:many]))
