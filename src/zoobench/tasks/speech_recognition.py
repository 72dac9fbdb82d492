"""Speech recognition: the words that are spoken in a recording.

One worked example: of "turn the light on", said as "turn light on please", a word is left out and
one is put in, so that 2 edits of 4 words make a WER of 0.5. WER is the least number of words to be
substituted, deleted and inserted, of all utterances together, over the words of all references;
CER the same of characters, the blanks between words among them. Both may exceed 1: whatever a
model says beyond the reference, such as a phrase again and again, is so many insertions. An empty
reference adds no words, and what is said of it counts as insertions. n utterances.

jiwer counts. What of a text is compared, its normaliser says, which is a choice of the dataset.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import BadData, NotFinite, missing_extra
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks import normalisers
from zoobench.tasks.ratios import Ratio, Ratios, Sums
from zoobench.tasks.targets import targets_of

EDITS = ("substitutions", "deletions", "insertions")
COUNTS = (*EDITS, "words", "character_edits", "characters")
"""What is kept of each utterance."""


@dataclass(frozen=True, eq=False)
class Transcripts:
    """Targets: `texts` (N,) as the data set has them, and the name of their normaliser."""

    texts: tuple[str, ...]
    normaliser: str

    @classmethod
    def of(cls, texts: Sequence[str], normaliser: str = normalisers.DEFAULT) -> Transcripts:
        """Raises UnknownName for another normaliser, MissingExtra without jiwer."""
        normalisers.check(normaliser)
        library()
        return cls(tuple(texts), normaliser)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def compared(self) -> tuple[str, ...]:
        """(N,) what an answer is compared with."""
        return tuple(map(normalisers.normaliser(self.normaliser), self.texts))

    @cached_property
    def learned(self) -> tuple[str, ...]:
        """(N,) what a method learns to write. `english` is no form that can be normalised again."""
        if self.normaliser != "english":
            return self.compared
        return tuple(map(normalisers.basic, self.texts))

    @cached_property
    def words(self) -> NDArray[np.int64]:
        """(N,) words of each reference."""
        return np.asarray([len(text.split()) for text in self.compared], dtype=np.int64)

    @property
    def strata(self) -> NDArray[np.int64]:
        """(N,) 0 of no words, then up to 1, 4, 9, 19, and more: splits are balanced by length."""
        return np.digitize(self.words, [1, 2, 5, 10, 20]).astype(np.int64)

    def subset(self, rows: NDArray[np.intp]) -> Self:
        return type(self)(tuple(self.texts[i] for i in rows), self.normaliser)

    def keys(self) -> tuple[str, ...]:
        return self.compared

    def content(self) -> bytes:
        version = normalisers.VERSIONS[self.normaliser]
        return json.dumps([f"{self.normaliser}@{version}", self.texts]).encode()


def transcripts_of(split: Split) -> Transcripts:
    return targets_of(split, Transcripts)


def library() -> Any:
    """The module jiwer. Raises MissingExtra."""
    try:
        import jiwer
    except ImportError as error:
        raise missing_extra("jiwer", "sound", "speech recognition") from error
    return jiwer


def aligned(
    references: Sequence[str], answers: Sequence[str], characters: bool = False
) -> list[list[Any]]:
    """jiwer's alignment of each answer with its reference, in chunks that are equal, substitute,
    delete or insert; of normalised texts, word by word or by `characters`."""
    jiwer = library()
    counts = jiwer.process_characters if characters else jiwer.process_words
    chunks: list[list[Any]] = counts(list(references), list(answers)).alignments
    return chunks


def edits(alignment: Sequence[Any]) -> tuple[int, int, int]:
    """(substitutions, deletions, insertions) of an alignment."""
    made = dict.fromkeys(("substitute", "delete", "insert", "equal"), 0)
    for chunk in alignment:
        side = "hyp" if chunk.type == "insert" else "ref"
        made[chunk.type] += getattr(chunk, f"{side}_end_idx") - getattr(chunk, f"{side}_start_idx")
    return made["substitute"], made["delete"], made["insert"]


def outcomes_of(said: Sequence[Any], truth: Transcripts) -> Outcomes:
    """What is kept of n utterances: COUNTS, each (n,) int32, and what was `said`, normalised, as
    the bytes of its UTF-8 (K,) uint8 beside their `owner` (K,) int32.

    Raises BadData where no reference has a word, ValueError where there are not n answers,
    NotFinite where one is no text.
    """
    if len(said) != len(truth):
        raise ValueError(f"predictions must be {len(truth)} texts, not {len(said)}")
    if bad := sum(not isinstance(one, str) for one in said):
        raise NotFinite(f"{bad} of {len(said)} test examples have predictions that are no number")
    if not truth.words.any():
        raise BadData("no recording has a word in its transcript, so there is no word error rate")
    answers = [*map(normalisers.normaliser(truth.normaliser), said)]
    by_word = [edits(one) for one in aligned(truth.compared, answers)]
    by_character = [sum(edits(one)) for one in aligned(truth.compared, answers, characters=True)]
    sizes = [len(text) for text in truth.compared]
    columns = (*zip(*by_word, strict=True), truth.words, by_character, sizes)
    arrays: dict[str, NDArray[Any]] = {
        name: np.asarray(column, dtype=np.int32)
        for name, column in zip(COUNTS, columns, strict=True)
    }
    written = [text.encode("utf-8", "replace") for text in answers]
    arrays["said"] = np.frombuffer(b"".join(written), dtype=np.uint8)
    arrays["owner"] = np.repeat(np.arange(len(said), dtype=np.int32), [*map(len, written)])
    return Outcomes(len(said), arrays)


def answers_kept(outcomes: Outcomes) -> list[str]:
    """(n,) what was said of each utterance, normalised."""
    ends = np.cumsum(np.bincount(outcomes.arrays["owner"], minlength=outcomes.n))[:-1]
    parts = np.split(outcomes.arrays["said"].astype(np.uint8), ends)
    return [part.tobytes().decode("utf-8", "replace") for part in parts]


def error_rates(said: Sequence[Any], truth: Transcripts) -> tuple[float, float]:
    """(WER, CER) of all utterances together: what recipes choose by on `valid`."""
    judged = outcomes_of(said, truth)
    found = statistics(judged)(np.ones((1, judged.n)), ["wer", "cer"])
    return float(found["wer"][0]), float(found["cer"][0])


def statistics(outcomes: Outcomes) -> Ratios:
    """Every metric as a function of the utterances' weights. Raises ValueError for counts that no
    utterance can have."""
    kept = {name: outcomes.arrays[name].astype(np.float64) for name in COUNTS}
    if any(one.shape != (outcomes.n,) or (one < 0).any() for one in kept.values()):
        raise ValueError("edits, words and characters are one number an utterance, not below 0")
    wrong = np.sum([kept[name] for name in EDITS], axis=0)
    pairs = {
        "wer": np.stack([wrong, kept["words"]], axis=1),
        "cer": np.stack([kept["character_edits"], kept["characters"]], axis=1),
    }
    return Ratios(
        {"utterance_accuracy": wrong == 0},
        {name: partial(np.asarray, block) for name, block in pairs.items()},
        {name: Ratio((name,), _rate(name)) for name in pairs},
    )


def _rate(name: str) -> Any:
    def of(sums: Sums, total: Floats) -> Floats:
        """Edits over the reference's size; of a resample without any words, as if of one."""
        wrong, size = sums[name].T
        return np.asarray(wrong / np.where(size > 0, size, 1.0))

    return of


@dataclass(frozen=True)
class SpeechRecognition:
    """The transcript of a recording. Outputs are N texts, as a model writes them."""

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("wer", "cer", "utterance_accuracy")
    truth: ClassVar[tuple[str, ...]] = ("words", "characters")
    rounded: ClassVar[tuple[str, ...]] = ()

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """See `outcomes_of`; nothing is calibrated."""
        return outcomes_of(output, transcripts_of(split))

    def statistics(self, outcomes: Outcomes) -> Ratios:
        return statistics(outcomes)

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        """WER with its kinds of edits, the words of all references and the normaliser."""
        details: dict[str, dict[str, Any]] = {name: {} for name in self.metrics}
        counts = {name: int(outcomes.arrays[name].sum()) for name in COUNTS}
        of_words = {name: counts[name] for name in (*EDITS, "words")}
        details["wer"] = {**of_words, "normaliser": transcripts_of(splits.test).normaliser}
        details["cer"]["characters"] = counts["characters"]
        if silent := int((outcomes.arrays["words"] == 0).sum()):
            details["wer"]["empty_references"] = silent
        return details
