"""Multinomial logistic regression on words' features (PROTOCOL section 2, Token classification).

What `linear-probe` is to texts: the same solver, path and certificate, a row for each word. R rows,
D features, C tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets.splits import hash_order
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.machine import placed
from zoobench.methods.linear_probe import LambdaPath, facts_of, flags_of
from zoobench.methods.predictor import Predictor
from zoobench.tasks.token_classification import entity_f1, tags_of

if TYPE_CHECKING:
    import torch

    from zoobench.views import WordFeatures

MOST = 300_000
"""Words of train that are learned from, at most: a bound of the memory."""
CHOOSING = 10_000
"""Words of train that a layer is chosen on, at most. Three whole paths would be most of the time
that the probe takes, where only the difference of layers is asked."""
COARSE, HASTY = 15, 60
"""Lambdas of the path that a layer is tried by, and evaluations at each."""
LIMIT = 1000
"""Evaluations at one lambda: of words that nearly all can be told apart it takes hundreds."""
BLOCK = 2**16
"""Words whose features are scored at once."""


@dataclass(frozen=True)
class WordProbe(LambdaPath):
    """The linear probe on the words of a text, chosen on `valid` by NLL with entity F1 beside it.

    `lambdas`, `decades`, `refit` and the flags are as of whole texts. The layer is one of those at
    a half and three quarters of the depth and the last: the one with the least NLL along a coarse
    path on at most 10,000 words of train; the path itself is on at most 300,000. Both are whole
    sentences by the hash of their ids. The words of one layer are in memory at a time, with the
    solver's copies 16 bytes a word and feature.
    """

    tasks: ClassVar[tuple[str, ...]] = ("token-classification",)
    view: ClassVar[str] = "words"

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` gives `words`; `seed` changes nothing."""
        from zoobench.solvers.logistic import PathOptions, logistic_path

        train, valid = backbone.words(splits.train), backbone.words(splits.valid)
        layers = train.layers
        layer = layers[-1] if len(layers) == 1 else self._layer(backbone, splits, train, valid)
        rows = Rows.of(backbone, splits, train, valid, layer, some_sentences(splits.train, MOST))
        options = PathOptions(lambdas=self.lambdas, decades=self.decades, limit=LIMIT)
        path, present = logistic_path(*rows.arguments, options), rows.present
        final = path.refit if self.refit else path.fit

        def said_by(score: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Split], Any]:
            return lambda split: said(backbone.words(split), layer, backbone.device, score, present)

        before = said_by(path.fit.head.scores)
        facts = {
            "valid_entity_f1": entity_f1(before(splits.valid), tags_of(splits.valid)),
            **facts_of(path),
            "train_words": float(len(rows.labels)),
            "trainable_params": float(len(present) * (train.values.shape[-1] + 1)),
        }
        chosen = {"lambda": path.fit.lam, "layer": layer}
        return Predictor(
            said_by(final.head.scores), splits.valid, before, chosen, facts, flags_of(path)
        )

    def _layer(
        self, source: Any, splits: SealedSplits, train: WordFeatures, valid: WordFeatures
    ) -> int:
        """The layer whose words tell tags apart best on `valid`; of equal ones the later."""
        from zoobench.solvers.logistic import PathOptions, least_nll

        coarse = PathOptions(lambdas=COARSE, decades=self.decades, limit=HASTY)
        some = some_sentences(splits.train, CHOOSING)
        losses = {
            layer: least_nll(
                *Rows.of(source, splits, train, valid, layer, some).arguments, options=coarse
            )
            for layer in train.layers
        }
        return min(losses, key=lambda layer: (losses[layer], -layer))


@dataclass(frozen=True)
class Rows:
    """Words of train and valid as a solver takes them: features and tags, numbered among those that
    are `present` in train, -1 where a tag is not."""

    train: torch.Tensor
    labels: torch.Tensor
    valid: torch.Tensor
    valid_labels: torch.Tensor
    present: torch.Tensor

    @classmethod
    def of(
        cls, source: Any, splits: SealedSplits, train: WordFeatures, valid: WordFeatures,
        layer: int, some: NDArray[np.intp],
    ) -> Rows:  # fmt: skip
        """Of one layer, and of `some` sentences of train."""
        import torch

        from zoobench.solvers.classes import relabel
        from zoobench.solvers.logistic import COPIES

        tags = tags_of(splits.train)
        inside = np.flatnonzero(np.isin(tags.sentence, some))
        kept = train.values[inside, train.layers.index(layer)]
        rows = torch.from_numpy(kept.astype(np.float32))
        labels = torch.from_numpy(tags.values[inside]).long()
        present, local = torch.unique(labels, return_inverse=True)
        true = torch.from_numpy(tags_of(splits.valid).values).long()
        held, to = relabel(true, present, len(splits.classes)), source.device
        own, others = placed([rows, valid.layer(layer)], to, COPIES)
        return cls(own, local.to(to), others, held.to(to), present)

    @property
    def arguments(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """What a solver is called with."""
        return self.train, self.labels, self.valid, self.valid_labels, len(self.present)


def some_sentences(split: Split, most: int) -> NDArray[np.intp]:
    """The sentences with the first `most` words by the hash of their ids, at least one."""
    keys = np.asarray(hash_order("layer", split.ids))
    order = np.argsort(keys, kind="stable")
    many = np.cumsum(tags_of(split).words[order])
    return np.sort(order[: max(1, int((many <= most).sum()))])


def said(
    words: WordFeatures,
    layer: int,
    device: torch.device,
    score: Callable[[torch.Tensor], torch.Tensor],
    present: torch.Tensor,
) -> list[NDArray[np.int64]]:
    """The tag of each word, a sentence each, by the greatest of `score`'s (R, P) scores of the tags
    that are `present`."""

    def blocks() -> Iterator[NDArray[np.int64]]:
        rows = words.layer(layer)
        for start in range(0, len(rows), BLOCK):
            best = score(rows[start : start + BLOCK].to(device)).argmax(dim=1).cpu()
            yield present[best].numpy()

    tags = np.concatenate([np.zeros(0, dtype=np.int64), *blocks()])
    return np.split(tags, words.starts[1:-1])
