"""Token classification: a tag for each word of a sentence (PROTOCOL section 2 and 3).

An example is a tuple of words, its answer as many tags: named entities in IOB2 (B-PER I-PER O), or
plain ones such as parts of speech. The primary metric is entity F1 as conlleval and seqeval
count: an entity is right where its first word, its last and its type are (Tjong Kim Sang &
Buchholz 2000); an I- that follows nothing of its type begins one. Strict IOB2 counts only what
begins with a B-. Of plain tags each word that is not "O" is an entity of its own, so that entity
F1 is micro F1 over words. n sentences, T types of entities. All metrics but one are ratios of sums
over sentences; where nothing is true and nothing said, F1 is 0, in a resample too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.ratios import Ratio, Ratios, Sums
from zoobench.tasks.tagsets import Spans, Tagset, spans
from zoobench.tasks.targets import targets_of


@dataclass(frozen=True, eq=False)
class Tags:
    """Targets: `values` (R,) int32, the numbers of all words' tags, sentence after sentence, which
    begin at `starts` (N + 1,); `names` are the C tags."""

    values: NDArray[np.int32]
    starts: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[str]], names: tuple[str, ...]) -> Tags:
        """Of names; a tag that is none of `names` is a KeyError."""
        place = {name: number for number, name in enumerate(names)}
        values = np.asarray([place[tag] for row in rows for tag in row], dtype=np.int32)
        starts = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        return cls(values, starts, names)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def words(self) -> NDArray[np.int64]:
        """(N,) words of each sentence."""
        return np.diff(self.starts)

    @cached_property
    def sentence(self) -> NDArray[np.int64]:
        """(R,) the sentence of each word."""
        return np.repeat(np.arange(len(self)), self.words)

    @cached_property
    def tagset(self) -> Tagset:
        return Tagset(self.names)

    @cached_property
    def spans(self) -> Spans:
        return spans(self.values, self.starts, self.tagset)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(N, T) entities of each type."""
        return _by_type(self.spans.start, self.spans.type, self)

    @property
    def strata(self) -> NDArray[np.int64]:
        """(N,) the rarest type of each sentence, by the number of sentences that it is in; the
        number of types where it has no entity."""
        inside = self.counts > 0
        many = np.where(inside, inside.sum(axis=0), len(self) + 1)
        rarest = np.append(many, np.full((len(self), 1), len(self)), axis=1).argmin(axis=1)
        return np.asarray(rarest, dtype=np.int64)

    def row(self, i: int) -> NDArray[np.int32]:
        """The tags of sentence i."""
        return self.values[self.starts[i] : self.starts[i + 1]]

    def subset(self, rows: NDArray[np.intp]) -> Self:
        some = [self.row(int(i)) for i in rows]
        starts = np.cumsum([0, *(len(row) for row in some)], dtype=np.int64)
        values = np.concatenate(some) if some else self.values[:0]
        return type(self)(values, starts, self.names)

    def keys(self) -> list[bytes]:
        return [self.row(i).tobytes() for i in range(len(self))]

    def content(self) -> bytes:
        numbers = (self.starts.astype("<i8").tobytes(), self.values.astype("<i4").tobytes())
        return b"".join(("\n".join(self.names).encode("utf-8", "surrogatepass"), *numbers))


def tags_of(split: Split) -> Tags:
    return targets_of(split, Tags)


@dataclass(frozen=True)
class TokenClassification:
    """A tag for each word. Outputs are for each sentence the numbers of its words' tags, -1 for
    none of them."""

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = (
        "entity_f1", "strict_entity_f1", "entity_precision", "entity_recall", "token_accuracy",
        "sentence_accuracy",
    )  # fmt: skip
    truth: ClassVar[tuple[str, ...]] = ("true", "words")
    rounded: ClassVar[tuple[str, ...]] = ()

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """See `outcomes_of`; nothing is calibrated."""
        return outcomes_of(output, tags_of(split))

    def statistics(self, outcomes: Outcomes) -> Ratios:
        return statistics(outcomes)

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        """Entity F1 with that of each type that the test set holds."""
        correct, predicted, true = (
            outcomes.arrays[name].sum(axis=0) for name in ("correct", "predicted", "true")
        )
        types = Tagset(splits.classes).types
        scores = f1(correct, predicted, true)
        details: dict[str, dict[str, Any]] = {name: {} for name in self.metrics}
        details["entity_f1"]["f1"] = {
            name: round(float(score), 6)
            for name, score, many in zip(types, scores, true, strict=True)
            if many
        }
        if absent := int((true == 0).sum()):
            details["entity_f1"]["types_not_in_test"] = absent
        return details


def outcomes_of(said: Sequence[ArrayLike], truth: Tags) -> Outcomes:
    """What is kept of n sentences: (n, T) int32 entities that are `true`, `predicted`, `correct`,
    and of those that begin with a B- `strict_predicted` and `strict_correct`; (n,) int32 `words`,
    and the `right` ones of them.

    Raises ValueError where there are not as many tags as words, or one that is no number of a
    class and not -1; NotFinite where it is no number.
    """
    if len(said) != len(truth):
        raise ValueError(f"predictions must be of {len(truth)} sentences, not {len(said)}")
    rows = [np.asarray(row) for row in said]
    bad = sum(row.dtype.kind == "f" and not bool(np.isfinite(row).all()) for row in rows)
    if bad:
        raise NotFinite(f"{bad} of {len(rows)} test examples have predictions that are no number")
    for i, (row, many) in enumerate(zip(rows, truth.words, strict=True)):
        if row.shape != (many,):
            raise ValueError(f"prediction {i} must be {many} tags, not {row.shape}")
    tags = np.concatenate([*rows, np.zeros(0)]).astype(np.int64)
    if ((tags < -1) | (tags >= len(truth.names))).any():
        raise ValueError(f"predictions must lie in 0 to {len(truth.names) - 1}, or be -1")
    found, held = spans(tags, truth.starts, truth.tagset), truth.spans
    end, kind = np.full(len(tags), -1), np.full(len(tags), -1)
    end[held.start], kind[held.start] = held.end, held.type
    correct = (end[found.start] == found.end) & (kind[found.start] == found.type)

    def counted(of: NDArray[np.bool_]) -> NDArray[np.int32]:
        return _by_type(found.start[of], found.type[of], truth).astype(np.int32)

    right = np.bincount(truth.sentence[tags == truth.values], minlength=len(truth))
    arrays = {
        "true": truth.counts.astype(np.int32),
        "words": truth.words.astype(np.int32),
        "predicted": counted(np.ones_like(correct)),
        "correct": counted(correct),
        "strict_predicted": counted(found.begun),
        "strict_correct": counted(correct & found.begun),
        "right": right.astype(np.int32),
    }
    return Outcomes(len(truth), arrays)


def _by_type(start: NDArray[np.int64], kind: NDArray[np.int64], of: Tags) -> NDArray[np.int64]:
    """(N, T) how many of some entities, which begin at words `start`, each sentence has."""
    types = len(of.tagset.types)
    cells = of.sentence[start] * types + kind
    return np.bincount(cells, minlength=len(of) * types).reshape(len(of), types)


def f1(correct: Any, predicted: Any, true: Any) -> Floats:
    """2 correct / (predicted + true), the harmonic mean of precision and recall; 0 of nothing."""
    return _share(2.0 * np.asarray(correct), np.asarray(predicted) + np.asarray(true))


def _share(part: Any, of: Any) -> Floats:
    """0 where `of` is."""
    return np.asarray(part / np.where(np.asarray(of) > 0, of, 1.0))


def entity_f1(said: Sequence[ArrayLike], truth: Tags) -> float:
    """Entity F1 of all sentences together: what recipes choose by on `valid`."""
    judged = outcomes_of(said, truth)
    return float(statistics(judged)(np.ones((1, judged.n)), ["entity_f1"])["entity_f1"][0])


def statistics(outcomes: Outcomes) -> Ratios:
    """Every metric as a function of the sentences' weights."""
    kept = outcomes.arrays
    names = ("true", "predicted", "correct", "strict_predicted", "strict_correct")
    # Kept by type for the report; the metrics are of all types together.
    totals = {name: np.asarray(kept[name]).sum(axis=1) for name in names}
    totals |= {name: np.asarray(kept[name]) for name in ("words", "right")}

    def block(name: str) -> Callable[[], Floats]:
        return lambda: totals[name].astype(np.float64)[:, None]

    whole = totals["right"] == totals["words"]
    return Ratios({"sentence_accuracy": whole}, {name: block(name) for name in totals}, RATIOS)


def _ratio(*blocks: str) -> Ratio:
    """The first block over the second; of three blocks their F1."""

    def of(sums: Sums, total: Floats) -> Floats:
        values = [sums[name][:, 0] for name in blocks]
        return f1(*values) if len(values) == 3 else _share(*values)

    return Ratio(blocks, of)


RATIOS = {
    "entity_f1": _ratio("correct", "predicted", "true"),
    "strict_entity_f1": _ratio("strict_correct", "strict_predicted", "true"),
    "entity_precision": _ratio("correct", "predicted"),
    "entity_recall": _ratio("correct", "true"),
    "token_accuracy": _ratio("right", "words"),
}
