"""From scores of beginnings and ends to the answer of each question (PROTOCOL section 2).

As SQuAD's readers do it (Devlin et al. 2019, section 4.2): the best pair of one of the BEST best
beginnings and ends of a window that is at most LONGEST pieces long, by the sum of its two scores,
over all windows of the question. It has no answer where the least of its windows' scores for none
is no less than that. P places of a window, the first of which stands for no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.features.pairs import PairStates, current, windows_of
from zoobench.features.windowed import run
from zoobench.interfaces import Split
from zoobench.models.pairs import NONE, PairWindow
from zoobench.tasks.question_answering import answers_of, scored

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features

BEST, LONGEST = 20, 30
BLOCK = 512
"""Questions whose windows are held at once."""

Scores = NDArray[np.float32]


def best_pair(scores: Scores) -> tuple[float, int, int] | None:
    """(score, beginning, end) of the best answer of a window, of its (P, 2) scores; of equals the
    first. None where no pair of the best is in order and short enough."""
    begins, ends = (np.sort(_best(scores[1:, end])) + 1 for end in (0, 1))
    length = ends[None, :] - begins[:, None]
    total = scores[begins, 0].astype(np.float64)[:, None] + scores[ends, 1].astype(np.float64)
    total = np.where((length >= 0) & (length < LONGEST), total, -np.inf)
    if not total.size or total.max() == -np.inf:
        return None
    i, j = np.unravel_index(int(total.argmax()), total.shape)
    return float(total[i, j]), int(begins[i]), int(ends[j])


def _best(column: Scores) -> NDArray[np.intp]:
    return np.argsort(-column, kind="stable")[:BEST]


def answer(
    windows: Sequence[PairWindow], scores: Sequence[Scores], context: str, none: bool
) -> str | None:
    """What is said of one question, of the (P, 2) scores of its windows: "" for no answer, which
    may be said where `none`; None where a score is no number."""
    if not all(np.isfinite(one).all() for one in scores):
        return None
    best: tuple[float, str] = (-np.inf, "")
    least = min(float(one[NONE].astype(np.float64).sum()) for one in scores)
    for window, one in zip(windows, scores, strict=True):
        found = best_pair(one)
        if found is not None and found[0] > best[0]:
            best = (found[0], window.said(context, found[1], found[2]))
    return "" if none and least >= best[0] else best[1]


def answers(
    split: Split, windows: Sequence[PairWindow], scores: Sequence[Scores], none: bool
) -> list[str | None]:
    """The answer of each question, of the scores of all their windows, in order."""
    pairs = zip(windows, scores, strict=True)
    said: list[str | None] = []
    for number, group in groupby(pairs, key=lambda pair: pair[0].number):
        own, values = zip(*group, strict=True)
        said.append(answer(own, values, split.read(number).context, none))
    return said


def f1(said: Sequence[str | None], split: Split) -> float:
    """The mean over questions, 0 for what is no answer."""
    golds = answers_of(split).golds
    return float(np.mean([scored(s, g)[1] if s is not None else 0.0
                          for s, g in zip(said, golds, strict=True)]))  # fmt: skip


def may_be_none(train: Split) -> bool:
    """Whether "no answer" may be said: where train has questions without any."""
    return not answers_of(train).answerable.all()


@dataclass(frozen=True)
class ScoredPairs(PairStates):
    """Embeds the two scores of each place: `score` makes (B, P, 2) of (B, P, L, D) states."""

    score: Callable[[torch.Tensor], torch.Tensor] = lambda states: states

    def embed(self, batch: Any) -> torch.Tensor:
        return self.score(super().embed(batch))


class LaterAnswers(Sequence[str | None]):
    """Answers that are read when somebody asks for them: those on `valid`, by which nothing is
    calibrated here, take as long as those on `test`."""

    def __init__(self, read: Callable[[], list[str | None]]) -> None:
        self._read = read

    @cached_property
    def said(self) -> list[str | None]:
        return self._read()

    def __len__(self) -> int:
        return len(self.said)

    def __getitem__(self, i: Any) -> Any:
        return self.said[i]


def read_answers(
    source: Features, states: PairStates, split: Split, none: bool
) -> list[str | None]:
    """What is said of each question of `split`, whose windows are held BLOCK questions at a time.
    `states` embed the scores (B, P, 2)."""
    said: list[str | None] = []
    for part in _parts(split):
        windows = windows_of(part, states.reader)
        scores: dict[int, Scores] = {}
        run(current(source), states, part, windows, scores.__setitem__)
        own = [scores[i][: len(one.places)] for i, one in enumerate(windows)]
        said += answers(part, windows, own, none)
    return said


def _parts(split: Split) -> Iterator[Split]:
    for start in range(0, len(split), BLOCK):
        yield split.subset(np.arange(start, min(start + BLOCK, len(split))))
