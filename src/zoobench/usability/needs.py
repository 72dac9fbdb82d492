"""Probes as limits: which models are left out by `recommend --needs exports-onnx,permissive`.

Only a yes keeps a need. A model of which an answer is unknown is left out too, and it is said that
nobody knows. What a card tells is looked up at once; what needs the model loaded is asked by
`zoobench check`, or by `recommend --data` of the models that it is about to name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zoobench import models
from zoobench.errors import ZoobenchError, one_line
from zoobench.schema import Ref
from zoobench.store import Run
from zoobench.usability import PROBES, ProbeResult, probe
from zoobench.usability.answers import Answers, answer, read
from zoobench.usability.beside import models_of
from zoobench.usability.check import UNLOADED, answered
from zoobench.usability.subject import Subject


def parse(names: str | Iterable[str], where: str) -> tuple[str, ...]:
    """Names of probes, as a text with commas or one by one; UnknownName for what is none."""
    every = names.split(",") if isinstance(names, str) else names
    wanted = dict.fromkeys(name.strip() for name in every)
    for name in wanted:
        probe(name, where)
    return tuple(wanted)


def left_out(run: Run, needs: Sequence[str]) -> dict[str, str]:
    """The models of a run, as its records name them, that do not keep the needs: why not.

    By what is kept beside the run, and by what their cards tell. Raises StoreError.
    """
    if not needs:
        return {}
    refs, answers = models_of(run), read(run.path)
    found = unmet(answers | by_cards(answers, refs, needs), refs, needs)
    return {ref.private.text: why for ref, why in found.items()}


def by_cards(answers: Answers, refs: Iterable[Ref], needs: Sequence[str]) -> Answers:
    """What `answers` lack and the models' cards tell: nothing is loaded."""
    found: Answers = {}
    for ref in refs:
        for need in needs:
            if not PROBES[need].loads and (ref.private.text, need) not in answers:
                found[ref.private.text, need] = answer(ref, need, _by_card(ref, need))
    return found


def _by_card(ref: Ref, need: str) -> ProbeResult:
    try:
        return answered(need, Subject(models.resolve(ref)))
    except ZoobenchError as error:
        return ProbeResult("unknown", UNLOADED + one_line(error))


def unmet(
    answers: Answers, refs: Iterable[Ref], needs: Sequence[str], only_asked: bool = False
) -> dict[Ref, str]:
    """model -> which needs it does not keep, and why.

    With `only_asked` a need that nobody asked about leaves nobody out.
    """
    found = {}
    for ref in refs:
        whys = []
        for need in needs:
            one = answers.get((ref.private.text, need))
            if one is None and not only_asked:
                whys.append(f"{need} is unknown: not asked (zoobench check RUN --only {need})")
            elif one is not None and one.answer != "yes":
                said = "is unknown" if one.answer == "unknown" else "is no"
                whys.append(f"{need} {said}" + (f": {one.why}" if one.why else ""))
        if whys:
            found[ref] = "; ".join(whys)
    return found


def unasked(answers: Answers, ref: Ref, needs: Sequence[str]) -> list[str]:
    """The needs whose answer is not known yet, and takes loading the model."""
    return [n for n in needs if PROBES[n].loads and (ref.private.text, n) not in answers]
