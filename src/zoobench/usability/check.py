"""All probes of one model, each in a process of its own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence

from zoobench import models
from zoobench.errors import MissingExtra, MissingWeights, ZoobenchError, one_line
from zoobench.schema import Ref
from zoobench.usability import PROBES, ProbeResult, probe
from zoobench.usability.subject import Subject
from zoobench.workers.request_worker import Died, RequestWorker
from zoobench.workers.settings import Settings


def check(
    name: str | Ref, wanted: Sequence[str] = (), threads: int = 0
) -> Iterator[tuple[str, ProbeResult]]:
    """(probe, answer) of each of `wanted`, or of all, as they end.

    Raises UnknownName for a probe or a model that is none. What a probe raises is its answer.
    """
    for one in wanted:
        probe(one)
    yield from probed(models.pin(models.resolve(name)), wanted or tuple(PROBES), threads)


def probed(ref: Ref, names: Sequence[str], threads: int = 0) -> Iterator[tuple[str, ProbeResult]]:
    """The same of a resolved model. One that cannot be loaded is not tried again."""
    blocked = ""
    for one in names:
        row = PROBES[one]
        if not row.loads:
            yield one, answered(one, Subject(ref))
            continue
        if blocked:
            yield one, ProbeResult("unknown", blocked)
            continue
        answer = _apart(one, ref, row.seconds, threads)
        if answer.answer == "unknown" and answer.why.startswith(UNLOADED):
            blocked = answer.why
        yield one, answer


UNLOADED = "it cannot be loaded: "


def _apart(name: str, ref: Ref, seconds: float, threads: int) -> ProbeResult:
    """What `answered` says in a process of its own, or how that ended."""
    with RequestWorker(Prober, Settings(threads=threads)) as worker:
        return outcome(worker, name, ref, seconds)


def outcome(worker: RequestWorker, name: str, ref: Ref, seconds: float) -> ProbeResult:
    """What a worker's `Prober` finds, or how its process ended."""
    try:
        found: ProbeResult = worker.ask((name, ref.text), seconds)
        return found
    except Died as death:
        if death.status == "timeout":
            return ProbeResult("unknown", f"its process was {death}")
        return ProbeResult("no", f"its process ended: {death}")


class Prober:
    """Answers in a worker process. Each probe has the model loaded anew: some networks keep what
    they computed of a size, or without gradients, and show it to the next probe."""

    def __init__(self, settings: Settings) -> None:
        pass

    def __call__(self, request: tuple[str, str]) -> ProbeResult:
        name, text = request
        return answered(name, Subject(Ref.parse(text)))


def answered(name: str, subject: Subject) -> ProbeResult:
    """What the probe finds; only a lack of memory is raised. A model that cannot be loaded is
    unknown."""
    module, _, function = PROBES[name].function.partition(":")
    if PROBES[name].loads and name != "loads":
        try:
            _ = subject.backbone
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - of any kind: the model is a stranger's
            return ProbeResult("unknown", f"{UNLOADED}{one_line(error)}")
    try:
        run = getattr(importlib.import_module(f"zoobench.usability.{module}"), function)
        found: ProbeResult = run(subject)
        return found
    except MemoryError:
        raise
    except (MissingWeights, MissingExtra) as error:
        return ProbeResult("unknown", one_line(error))
    except ZoobenchError as error:
        return ProbeResult("no", one_line(error))
    except Exception as error:  # noqa: BLE001 - exporters and networks raise whatever they like
        return ProbeResult("no", one_line(error))
