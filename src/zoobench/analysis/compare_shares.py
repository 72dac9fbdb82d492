"""Two large runs by models, so that several processes can each read and examine a share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from zoobench.analysis.compare_decode import Span, spans_of_models
from zoobench.analysis.compare_load import Share
from zoobench.analysis.compare_match import short
from zoobench.analysis.compare_packed import SUPERSEDED
from zoobench.store import located

LARGE = 2**25
"""Bytes of records that are worth a process: reading them takes about as long as starting it."""
MOST = 4
"""Processes: each holds a tenth of a gibibyte of libraries, and one alone finds the lines."""


def worthwhile(baseline: Path, candidate: Path, processes: int) -> int:
    """How many of `processes` to share the two sides' records among. Raises StoreError."""
    size = sum(located(path)[1].stat().st_size for path in (baseline, candidate))
    return max(1, min(processes, MOST, size // LARGE))


def shares(baseline: Path, candidate: Path, count: int) -> list[Share]:
    """The models of both sides in `count` shares of about equal size, or in fewer where there are
    fewer models. Empty where a line doesn't say its model: whose it is has to be read first."""
    sides = [spans_of_models(located(path)[1]) for path in (baseline, candidate)]
    older = located(baseline)[0] / SUPERSEDED  # may bring back models that nothing else has
    size: Counter[str] = Counter()
    for side in (*sides, spans_of_models(older) if older.exists() else {}):
        for model, spans in side.items():
            if not model:
                return []
            size[short(model)] += sum(span.stop - span.start for span in spans)
    groups: list[tuple[int, list[str]]] = [(0, []) for _ in range(min(count, len(size)))]
    for model, held in size.most_common():  # the largest first, each to the smallest group
        least = min(range(len(groups)), key=lambda i: groups[i][0])
        groups[least] = (groups[least][0] + held, [*groups[least][1], model])
    chosen = [frozenset(models) for _, models in groups]
    return [Share(models, *(_theirs(side, models) for side in sides)) for models in chosen]


def _theirs(side: Mapping[str, Iterable[Span]], models: frozenset[str]) -> list[Span]:
    """The lines of `models`, in the file's order, in as few spans as may be."""
    found = sorted(s for model, spans in side.items() if short(model) in models for s in spans)
    joined: list[Span] = []
    for span in found:
        if joined and joined[-1].stop == span.start:
            joined[-1] = joined[-1]._replace(stop=span.stop)
        else:
            joined.append(span)
    return joined
