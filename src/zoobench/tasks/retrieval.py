"""Retrieval: which caption belongs to a picture, and which picture to a caption.

One worked example: of three pictures, with one caption each, two have the highest cosine with
their own caption: R@1 from picture to text is 2/3. A picture with several captions is found by the
best of them; each of its captions looks for the picture on its own. What has the same cosine as
the right answer, to SAME, stands before it: ties count against. n pictures with M captions in all,
E dimensions.

The unit is the picture with its captions. The ranks are those among all pictures and captions of
the test set, which is the pool: R@k says nothing without its size (Karpathy and Fei-Fei 2015,
arXiv:1412.2306, section 4.2).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.ratios import Ratio, Ratios, Sums
from zoobench.tasks.targets import targets_of

DEPTHS = (1, 5, 10)
"""The k of R@k."""
SAME = 4e-6
"""Cosines that are no further apart are one: float32 in another order differs by less (at most
1.3e-6 was seen, of cosines near 1)."""
BLOCK = 2**24
"""Cosines that are held at once (float32: 64 MB)."""
TO_TEXT, TO_IMAGE, BOTH = "image_to_text_recall_at_", "text_to_image_recall_at_", "recall_at_"


@dataclass(frozen=True, eq=False)
class Captions:
    """Targets: the captions of each of N pictures, at least one."""

    of_pictures: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.of_pictures)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """(M,) all captions, picture by picture."""
        return tuple(text for one in self.of_pictures for text in one)

    @cached_property
    def owner(self) -> NDArray[np.int32]:
        """(M,) the number of the picture that each of `texts` belongs to."""
        counts = [len(one) for one in self.of_pictures]
        return np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    @property
    def strata(self) -> NDArray[np.int64]:
        """(N,) zeros: there is nothing that splits are balanced by."""
        return np.zeros(len(self), dtype=np.int64)

    def subset(self, rows: NDArray[np.intp]) -> Self:
        return type(self)(tuple(self.of_pictures[i] for i in rows))

    def keys(self) -> list[int]:
        """All equal: one picture may be described in many ways, which contradict each other not."""
        return [0] * len(self)

    def content(self) -> bytes:
        return json.dumps(self.of_pictures).encode()


class Embedded(NamedTuple):
    """What a model says of a split: `pictures` (N, E) and `captions` (M, E) float32, in the order
    of Captions.texts, whose cosines rank them."""

    pictures: NDArray[np.float32]
    captions: NDArray[np.float32]


def captions_of(split: Split) -> Captions:
    return targets_of(split, Captions)


def ranks(said: Embedded, owner: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(N,) the rank of each picture's best own caption among all captions of others, and (M,) that
    of each caption's picture among all pictures; 1 is the best.

    Memory is bounded by BLOCK beside the embeddings. Raises ValueError for other numbers of
    pictures and captions than `owner` (M,) has, NotFinite where an embedding is no number or 0.
    """
    counts = np.bincount(owner)
    if len(said.pictures) != len(counts) or len(said.captions) != len(owner):
        raise ValueError(
            f"{len(said.pictures)} pictures and {len(said.captions)} captions are embedded, of "
            f"{len(counts)} and {len(owner)}"
        )
    pictures, captions = _unit(said.pictures, "pictures"), _unit(said.captions, "captions")
    starts = np.concatenate([[0], np.cumsum(counts)])
    own = np.einsum("me,me->m", pictures[owner], captions)
    best = np.maximum.reduceat(own, starts[:-1])
    to_text = np.ones(len(pictures), dtype=np.int32)
    to_image = np.ones(len(captions), dtype=np.int32)
    step = max(1, BLOCK // len(captions))
    for first in range(0, len(pictures), step):
        block = slice(first, min(first + step, len(pictures)))
        cosines = pictures[block] @ captions.T
        mine = slice(starts[block.start], starts[block.stop])
        # What is its own is no rival.
        cosines[owner[mine] - first, np.arange(mine.start, mine.stop)] = -np.inf
        to_text[block] += (cosines >= best[block, None] - SAME).sum(axis=1, dtype=np.int32)
        to_image += (cosines >= own - SAME).sum(axis=0, dtype=np.int32)
    return to_text, to_image


def _unit(vectors: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """The vectors at length 1."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    bad = int((~np.isfinite(lengths) | (lengths == 0)).sum())
    if bad:
        raise NotFinite(f"{bad} of {len(vectors)} {what} have an embedding that is no direction")
    return np.asarray(vectors / lengths, dtype=np.float32)


@dataclass(frozen=True)
class Retrieval:
    """Pictures and captions that are to be found for each other. Outputs are Embedded."""

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = tuple(
        f"{way}{k}" for way in (BOTH, TO_TEXT, TO_IMAGE) for k in DEPTHS
    )
    truth: ClassVar[tuple[str, ...]] = ("owner",)
    rounded: ClassVar[tuple[str, ...]] = ()

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """See `ranks`; nothing is calibrated. Kept are `to_text` (n,) int32, and `to_image` (M,)
        int32 beside its `owner` (M,) int32."""
        owner = captions_of(split).owner
        if not isinstance(output, Embedded):
            raise ValueError(f"outputs must be Embedded, not a {type(output).__name__}")
        to_text, to_image = ranks(output, owner)
        arrays = {"to_text": to_text, "to_image": to_image, "owner": owner}
        return Outcomes(len(to_text), arrays)

    def statistics(self, outcomes: Outcomes) -> Ratios:
        """R@k of pictures, a mean; that of captions, found of all; and the mean of both ways.

        Raises ValueError for ranks below 1, or a picture without a caption.
        """
        to_text, to_image = outcomes.arrays["to_text"], outcomes.arrays["to_image"]
        owner = outcomes.arrays["owner"]
        captions = np.bincount(owner, minlength=outcomes.n)
        if to_text.shape != (outcomes.n,) or len(captions) != outcomes.n or (captions < 1).any():
            raise ValueError("each picture has a rank, and a caption at least")
        if min(to_text.min(), to_image.min()) < 1:
            raise ValueError("ranks are not below 1")
        means, ratios, blocks = {}, {}, {}
        for k in DEPTHS:
            found = (to_text <= k).astype(np.float64)
            hits = np.bincount(owner[to_image <= k], minlength=outcomes.n)
            columns = np.stack([found, hits, captions], axis=1).astype(np.float64)
            means[f"{TO_TEXT}{k}"] = found
            blocks[f"{k}"] = partial(_itself, columns)
            ratios[f"{TO_IMAGE}{k}"] = Ratio((f"{k}",), partial(_to_image, f"{k}"))
            ratios[f"{BOTH}{k}"] = Ratio((f"{k}",), partial(_both, f"{k}"))
        return Ratios(means, blocks, ratios)

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        details: dict[str, dict[str, Any]] = {name: {} for name in self.metrics}
        # Of a larger pool every R@k is lower.
        details[self.metrics[0]] = {
            "pictures": outcomes.n, "captions": len(outcomes.arrays["owner"]),
        }  # fmt: skip
        return details


def _itself(columns: Floats) -> Floats:
    return columns


def _to_image(block: str, sums: Sums, total: Floats) -> Floats:
    _, hits, captions = sums[block].T
    return np.asarray(hits / captions)


def _both(block: str, sums: Sums, total: Floats) -> Floats:
    found, hits, captions = sums[block].T
    return np.asarray((found / total + hits / captions) / 2)
