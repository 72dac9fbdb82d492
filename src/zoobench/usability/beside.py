"""The probes of a run's models, asked once each and kept in the run directory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from zoobench import models
from zoobench.errors import ZoobenchError, one_line
from zoobench.ranking.comparability import CONTROL_SOURCE
from zoobench.schema import Ref
from zoobench.store import Run
from zoobench.usability import PROBES, ProbeResult, probe
from zoobench.usability.answers import (
    Answers,
    UsabilityAnswer,
    answer,
    read,
    versions,
    writing,
)
from zoobench.usability.check import UNLOADED, probed


def models_of(run: Run) -> list[Ref]:
    """The models of a run, each once: those of its suite, or without one those of its records, but
    for its controls."""
    named = [Ref.parse(text) for text in run.suite.get("models", ())]
    seen = {record.cell.model for record in run.records} if not named else set()
    real = sorted(ref for ref in seen if ref.source != CONTROL_SOURCE)
    return list(dict.fromkeys(named or [ref for ref in real if not _is_control(ref, seen)]))


def _is_control(ref: Ref, among: Collection[Ref]) -> bool:
    """Whether it is a model of the run once more, with random weights."""
    return ref.option("weights") == "random" and ref.without("weights") in among


def check_run(
    run: Run, wanted: Sequence[str] = (), again: bool = False
) -> Iterator[tuple[Ref, UsabilityAnswer, bool]]:
    """(model, answer, whether it was asked just now) of each of `wanted`, or of all probes.

    What the run directory holds is not asked again, but for an unknown that other libraries may
    answer by now, or with `again`. Each new answer is on the disk before it is yielded. Raises
    UnknownName for a probe that is none, and StoreError.
    """
    yield from ask(run.path, models_of(run), wanted or tuple(PROBES), again)


def ask(
    folder: Path, refs: Sequence[Ref], names: Sequence[str], again: bool = False, threads: int = 0
) -> Iterator[tuple[Ref, UsabilityAnswer, bool]]:
    """The same of the models `refs`, kept in the run directory `folder`."""
    for name in names:
        probe(name)
    with writing(folder) as write:
        held = read(folder)
        for ref in refs:
            new = [name for name in names if again or due(held, ref, name)]
            asked = _asked(ref, new, threads)
            for name in names:
                if name in new:
                    one = answer(ref, *next(asked))
                    write(one)
                else:
                    one = held[ref.private.text, name]
                yield ref, one, name in new


def due(held: Answers, ref: Ref, name: str) -> bool:
    """Whether a probe is to be asked: nobody did, or nobody knew, with other libraries."""
    one = held.get((ref.private.text, name))
    return one is None or (one.answer == "unknown" and one.versions != versions(ref, name))


def _asked(ref: Ref, names: Sequence[str], threads: int) -> Iterator[tuple[str, ProbeResult]]:
    """A model that has no name here any more is unknown."""
    if not names:
        return
    try:
        resolved = models.resolve(ref)
    except ZoobenchError as error:
        for name in names:
            yield name, ProbeResult("unknown", UNLOADED + one_line(error))
    else:
        yield from probed(resolved, names, threads)
