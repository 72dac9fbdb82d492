"""What the advised models must be able to do: cards first, and of those about to be named the rest.

A probe that loads a model takes seconds or minutes, so it is asked only of the two picks; one that
does not keep the needs makes room for the next, which is asked in turn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from zoobench.advise.nouns import Advice, Candidate
from zoobench.ranking.recommend import Limits
from zoobench.schema import Ref
from zoobench.usability.answers import read
from zoobench.usability.beside import ask
from zoobench.usability.needs import by_cards, unasked, unmet


def known(limits: Limits, candidates: Sequence[Candidate], out: Path) -> Limits:
    """`limits` with what their cards, and the answers kept in `out`, say of the candidates."""
    if not limits.needs:
        return limits
    refs = [Ref.parse(one.model) for one in candidates]
    answers = read(out)
    answers |= by_cards(answers, refs, limits.needs)
    found = unmet(answers, refs, limits.needs, only_asked=True)
    return dataclasses.replace(limits, unmet={ref.text: why for ref, why in found.items()})


def settle(
    advice: Advice,
    limits: Limits,
    out: Path,
    again: Callable[[Limits], Advice],
    say: Callable[[str], None],
) -> Advice:
    """The advice whose picks keep the needs: each is asked what is not known of it, and what does
    not keep them is left out of the next, `again(limits)`."""
    while limits.needs:
        picks = [one.candidate for one in (advice.pick, advice.cheapest) if one is not None]
        refs = list(dict.fromkeys(Ref.parse(one.model) for one in picks))
        held = read(out)
        due = {ref: names for ref in refs if (names := unasked(held, ref, limits.needs))}
        if not due:
            break
        for ref, names in due.items():
            say(f"Asking {ref.short}: {', '.join(names)} (beside the budget)")
            for _, one, _ in ask(out, [ref], names):
                say(f"  {one.probe}: {one.answer}" + (f", {one.why}" if one.why else ""))
        found = unmet(read(out), refs, limits.needs, only_asked=True)
        more = {ref.text: why for ref, why in found.items()}
        limits = dataclasses.replace(limits, unmet={**limits.unmet, **more})
        advice = again(limits)
    return advice
