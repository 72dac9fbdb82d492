"""The probes of a run's models, asked once each and kept in the run directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    """The models of a run, each once: those of its suite, or those of its records without one."""
    named = [Ref.parse(text) for text in run.suite.get("models", ())]
    seen = (record.cell.model for record in run.records)
    return list(dict.fromkeys(named or [ref for ref in seen if ref.source != CONTROL_SOURCE]))


def check_run(
    run: Run, wanted: Sequence[str] = (), again: bool = False, threads: int = 0
) -> Iterator[tuple[Ref, UsabilityAnswer, bool]]:
    """(model, answer, whether it was asked just now) of each of `wanted`, or of all probes.

    What the run directory holds is not asked again, but for an unknown that other libraries may
    answer by now, or with `again`. Each new answer is on the disk before it is yielded. Raises
    UnknownName for a probe that is none, and StoreError.
    """
    for name in wanted:
        probe(name)
    with writing(run.path) as write:
        held = read(run.path)
        for ref in models_of(run):
            names = list(wanted or PROBES)
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
