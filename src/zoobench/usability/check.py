"""All probes of one model, each in a process of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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
    ref = models.pin(models.resolve(name))
    rows = {one: probe(one) for one in wanted or PROBES}
    blocked = ""
    for one, row in rows.items():
        if not row.loads:
            yield one, answered((one, ref.text))
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
    with RequestWorker(_answerer, Settings(threads=threads)) as worker:
        try:
            found: ProbeResult = worker.ask((name, ref.text), seconds)
            return found
        except Died as death:
            if death.status == "timeout":
                return ProbeResult("unknown", f"its process was {death}")
            return ProbeResult("no", f"its process ended: {death}")


def _answerer(settings: Settings) -> Callable[[Any], ProbeResult]:
    return answered


def answered(request: tuple[str, str]) -> ProbeResult:
    """What the probe finds; it never raises. A model that cannot be loaded is unknown."""
    name, text = request
    module, _, function = PROBES[name].function.partition(":")
    subject = Subject(Ref.parse(text))
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
