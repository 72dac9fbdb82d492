"""Controls of language modelling and multiple choice: what is known without any network.

V = 256 byte values, N documents, R bytes of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import Unsupported
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.predictor import Predictor
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.language_modelling import encoded
from zoobench.tasks.multiple_choice import right_options_of

VALUES = 256
LARGEST = 2**24
"""Bytes of train that are counted, the documents in the split's order. Each order takes a sort of
them, 3 s at this size."""
Answer = Callable[[Split], Any]


class Untrained:
    """Abstract: a control without weights; `answerer` says what it learned of train."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("multiple-choice",)
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        answer = self.answerer(splits)
        return Predictor(answer, splits.valid, answer)

    def answerer(self, splits: SealedSplits) -> Answer:
        raise NotImplementedError


@dataclass(frozen=True)
class ByteFrequencies(Untrained):
    """Each byte by how often it stands in train, whatever stands before it."""

    tasks: ClassVar[tuple[str, ...]] = ("language-modelling",)

    def answerer(self, splits: SealedSplits) -> Answer:
        return _bits(ByteModel(_bytes(splits.train), 1), 1)


@dataclass(frozen=True)
class ByteNgrams(Untrained):
    """A model of each byte after those before it, of at most `order` bytes in all, smoothed by
    Witten and Bell's method (1991): no network, and no words. How many of them are looked at is
    chosen on `valid`: little text knows nothing of long contexts."""

    order: int = 5

    tasks: ClassVar[tuple[str, ...]] = ("language-modelling",)

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 8:
            raise ValueError(f"the order must be 1 to 8, not {self.order}")

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        """Counts of train; the order is chosen by the bits of valid."""
        model = ByteModel(_bytes(splits.train), self.order)
        held_out = [model.bits(document) for document in _bytes(splits.valid)]
        best = int(np.sum(held_out, axis=0).argmin()) + 1
        answer = _bits(model, best)
        return Predictor(answer, splits.valid, answer, {"order": best})


class ByteModel:
    """Probabilities of a byte after those before it, from counts c of `documents`.

    Of order 1, p(b) = (c(b) + T / V) / (c + T), where T is the number of different bytes. Of order
    k, after the k - 1 bytes h, p(b | h) = (c(hb) + T(h) p'(b)) / (c(h) + T(h)), where T(h) is the
    number of different bytes seen after h, and p' the model of order k - 1; it is p'(b) itself
    where h was never seen (Witten & Bell 1991, as in Chen & Goodman 1998, section 2.3). A document
    begins after zeros.
    """

    def __init__(self, documents: Sequence[bytes], order: int) -> None:
        self.order = order
        self._counts: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
        self._after: list[tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]] = []
        windows = np.concatenate([_windows(one) for one in documents])
        for k in range(1, order + 1):
            seen, counts = np.unique(windows & _mask(k), return_counts=True)
            heads, first = np.unique(seen >> np.uint64(8), return_index=True)
            kinds = np.diff([*first, len(seen)])
            self._counts.append((seen, counts))
            self._after.append((heads, np.add.reduceat(counts, first), kinds))

    def probabilities(self, document: bytes) -> Floats:
        """(order, R) of each of its bytes after those before it, all above 0, by each order."""
        windows = _windows(document)
        p, made = np.full(len(windows), 1 / VALUES), []
        for k in range(1, self.order + 1):
            keys = windows & _mask(k)
            heads, totals, kinds = self._after[k - 1]
            seen, counts = self._counts[k - 1]
            count = _looked_up(keys, seen, counts)
            of_head = keys >> np.uint64(8)
            total, kind = (_looked_up(of_head, heads, many) for many in (totals, kinds))
            known = total > 0
            p = np.where(known, (count + kind * p) / np.where(known, total + kind, 1), p)
            made.append(p)
        return np.stack(made)

    def bits(self, document: bytes) -> Floats:
        """(order,) bits of the whole document, by each order."""
        return np.asarray(-np.log2(self.probabilities(document)).sum(axis=1))


def _windows(document: bytes) -> NDArray[np.uint64]:
    """(R,) each byte in the lowest 8 bits, the 7 before it above, zeros before the first."""
    values = np.frombuffer(document, dtype=np.uint8).astype(np.uint64)
    windows = values.copy()
    for back in range(1, min(8, len(values))):
        windows[back:] |= values[:-back] << np.uint64(8 * back)
    return windows


def _mask(k: int) -> np.uint64:
    return np.uint64(2 ** (8 * k) - 1)


def _looked_up(
    keys: NDArray[np.uint64], known: NDArray[np.uint64], values: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The value of each key, 0 for one that is not `known` (sorted)."""
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[at] == keys, values[at], 0)


def _bytes(split: Split) -> list[bytes]:
    """The documents of a split, as many whole ones as fit in LARGEST, and one at least."""
    taken: list[bytes] = []
    size = 0
    for i in range(len(split)):
        one = encoded(split.read(i))
        if taken and size + len(one) > LARGEST:
            break
        taken.append(one)
        size += len(one)
    return taken


def _bits(model: ByteModel, order: int) -> Answer:
    def answer(split: Split) -> Floats:
        read = (encoded(split.read(i)) for i in range(len(split)))
        return np.asarray([model.bits(one)[order - 1] for one in read], dtype=np.float64)

    return answer


@dataclass(frozen=True)
class AllOptions(Untrained):
    """Every option as good as any other: right once in as many questions as there are options."""

    def answerer(self, splits: SealedSplits) -> Answer:
        return lambda split: [np.zeros(n) for n in right_options_of(split).options]


@dataclass(frozen=True)
class UsualPlace(Untrained):
    """The place among the options that is right most often in train."""

    def answerer(self, splits: SealedSplits) -> Answer:
        counts = np.bincount(right_options_of(splits.train).right)

        def answer(split: Split) -> list[Floats]:
            sizes = right_options_of(split).options
            wide = np.zeros(max(len(counts), int(sizes.max(initial=0))))
            wide[: len(counts)] = counts
            return [wide[:n] for n in sizes]

        return answer


@dataclass(frozen=True)
class SharedWords(Untrained):
    """The option that has most words in common with the question, by the cosine of their TF-IDF
    vectors; the terms' weights are those of train's questions and options."""

    def answerer(self, splits: SealedSplits) -> Answer:
        """Scores options by train's terms. Raises Unsupported where train holds no word."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = r"(?u)\w+"  # one-letter words too, as of the control of classes
        tfidf = TfidfVectorizer(token_pattern=words, dtype=np.float64)
        asked = (splits.train.read(i) for i in range(len(splits.train)))
        try:
            tfidf.fit(text for one in asked for text in (one.question, *one.options))
        except ValueError as error:  # "empty vocabulary"
            raise Unsupported(f"raw-input: train holds no word ({error})") from None

        def answer(split: Split) -> list[Floats]:
            scores = []
            for one in (split.read(i) for i in range(len(split))):
                vectors = tfidf.transform([one.question, *one.options])
                scores.append(np.asarray((vectors[1:] @ vectors[0].T).toarray()[:, 0]))
            return scores

        return answer
