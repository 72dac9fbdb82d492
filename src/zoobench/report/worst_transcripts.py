"""The recordings whose words the best model gets most wrong, its answer beside the reference.

A run keeps what was said, and not the reference, which is read from the data at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoobench.interfaces import Splits
from zoobench.ranking.nouns import Ranking
from zoobench.ranking.outcomes import Book
from zoobench.report.worst import of_best
from zoobench.schema import Outcomes, Record
from zoobench.store import Run
from zoobench.tasks.speech_recognition import EDITS, aligned, answers_kept, transcripts_of

WORST = 10
"""Recordings of a section."""
MOST = 400
"""Words of an alignment that are shown."""
NOTHING = "\u2014"
"""In the place of a word that is not there."""


@dataclass(frozen=True)
class WorstTranscript:
    """`words` (edit, reference, answer), where edit is "", "substituted", "deleted", "inserted"."""

    caption: str
    words: tuple[tuple[str, str, str], ...]

    @property
    def line(self) -> str:
        """In one line of text: a wrong word as [reference > answer]."""
        parts = (own if not edit else f"[{own} > {said}]" for edit, own, said in self.words)
        return " ".join(parts)


@dataclass(frozen=True)
class WorstTranscripts:
    """Of one section; `about` says of what, or why there are none."""

    title: str
    about: str
    transcripts: tuple[WorstTranscript, ...]


def worst_transcripts(book: Book, ranking: Ranking, runs: Sequence[Run]) -> list[WorstTranscripts]:
    """One for each section of speech. What is not at hand is not fetched, and said."""
    walk = of_best(book, ranking, runs, ("speech-recognition",), "transcripts", compared)
    return [WorstTranscripts(*one) for one in walk]


def compared(splits: Splits, kept: Outcomes, record: Record) -> tuple[WorstTranscript, ...]:
    """The recordings with most edits, as far as there are any."""
    truth, said = transcripts_of(splits.test).compared, answers_kept(kept)
    wrong = np.sum([kept.arrays[name] for name in EDITS], axis=0)
    order = [int(i) for i in np.argsort(-wrong, kind="stable")[:WORST] if wrong[i]]
    chunks = aligned([truth[i] for i in order], [said[i] for i in order]) if order else []
    return tuple(
        WorstTranscript(_caption(kept, i), _words(truth[i].split(), said[i].split(), one))
        for i, one in zip(order, chunks, strict=True)
    )


def _caption(kept: Outcomes, i: int) -> str:
    parts = [f"{many} {name}" for name in EDITS if (many := int(kept.arrays[name][i]))]
    return f"{', '.join(parts)}; {int(kept.arrays['words'][i])} words"


def _words(
    truth: Sequence[str], said: Sequence[str], alignment: Sequence[object]
) -> tuple[tuple[str, str, str], ...]:
    names = {"equal": "", "substitute": "substituted", "delete": "deleted", "insert": "inserted"}
    found: list[tuple[str, str, str]] = []
    for chunk in alignment:
        one: dict[str, int] = vars(chunk)
        own = list(truth[one["ref_start_idx"] : one["ref_end_idx"]])
        other = list(said[one["hyp_start_idx"] : one["hyp_end_idx"]])
        many = max(len(own), len(other))
        own, other = (part + [NOTHING] * (many - len(part)) for part in (own, other))
        found += [(names[str(one["type"])], *pair) for pair in zip(own, other, strict=True)]
    more = [("", f"... {len(found) - MOST} more", "")] if len(found) > MOST else []
    return (*found[:MOST], *more)
