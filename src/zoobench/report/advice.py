"""What `zoobench recommend --data` says: lines for a person, plain JSON types for a machine."""

from __future__ import annotations

from typing import Any

from zoobench.advise.nouns import METHOD, Advice, Standing
from zoobench.metrics import difference, written
from zoobench.quantities import data_size, duration
from zoobench.ranking.choice import SURE
from zoobench.report.text import COST_TITLES, labels, si, with_interval
from zoobench.schema import Ref, to_json

METRIC = "accuracy"


def advice_text(found: Advice) -> list[str]:
    """The pick, how sure that is, the others, what was not tried, and what it cost."""
    every = [s.candidate.model for s in found.standings]
    every += [*found.ruled_out, *(one.model for one in found.wanted)]
    refs = [Ref.parse(name) for name in every]
    names = {ref.text: label for ref, label in labels(refs).items()}
    lines = [*_pick(found, names), *_raw_input(found)]
    lines += [_standing(one, names[one.candidate.model]) for one in found.standings]
    if found.needs:
        lines.append(f"Needed: {', '.join(found.needs)}. Only a yes keeps a need.")
    lines += [f"Not {names[model]}: {why}." for model, why in found.ruled_out.items()]
    if found.wanted:
        lines += ["", *_wanted(found)]
    lines += ["", _spent(found)]
    return lines


def _wanted(found: Advice) -> list[str]:
    """Models that would be worth fetching."""
    lines = ["Would be worth fetching (not available offline), by what is published of them:"]
    for one in found.wanted:
        prior = "" if one.prior is None else f", mean published top-1 {written(METRIC, one.prior)}"
        lines.append(
            f"  {one.model}: {one.kind}, about {data_size(one.bytes)}, {one.license}{prior}"
        )
    rest = found.not_available - len(found.wanted)
    more = f"  and {rest} more; " if rest > 0 else "  "
    return [*lines, f"{more}online --pool wide fetches them, --models NAME one of them."]


def _pick(found: Advice, names: dict[str, str]) -> list[str]:
    if found.pick is None:
        return [f"No advice for {found.data}: {found.ended}."]
    pick = found.pick
    lines = [f"Most accurate: {_told(found, pick, names)}, of {found.data}."]
    if len(found.standings) == 1:
        only = "It is the only model that was measured: nothing to choose between."
        return [*lines, only, *_untried(found), ""]
    lines += [_cheapest(found, pick, names), *_untried(found)]
    tied = [one for one in found.standings if one.tied and one is not pick]
    if tied:
        others = ", ".join(names[one.candidate.model] for one in tied)
        lines.append(f"It cannot be told from: {others}.")
        lines += _copies([pick, *tied])
    else:
        lines.append("The data suffice to tell it from every other candidate.")
    return [*lines, ""]


def _told(found: Advice, one: Standing, names: dict[str, str]) -> str:
    value = with_interval(METRIC, one.value or 0.0, one.low, one.high)
    how = "out of fold over" if one.stage == "probe" else "from"
    what = "examples" if one.stage == "probe" else "training examples"
    size = f", {si(one.facts['params'])} parameters" if "params" in one.facts else ""
    sure = ""
    if len(found.standings) > 1:
        loss = difference(METRIC, found.loss[one.candidate.model])
        sure = f", P(best) {one.first:.2f}, expected loss {loss}"
    return (
        f"{names[one.candidate.model]} with {METHOD[one.stage]}, {METRIC} {value}{size}, licence "
        f"{one.candidate.license}{sure}, {how} {one.examples} {what}"
    )


def _cheapest(found: Advice, pick: Standing, names: dict[str, str]) -> str:
    cheap, title = found.cheapest, COST_TITLES[found.cost]
    far = f"within {difference(METRIC, found.tolerance)} of the true best measured"
    if cheap is None:
        return (
            f"Cheapest good enough: none whose {title} is known is {far} with probability {SURE:g}."
        )
    sure = f"{far} with probability {found.within or 0.0:.2f}"
    if cheap is pick:
        return f"It is also the cheapest good enough, by {title}: {sure}."
    spent, saved = (si(one.facts.get(found.cost)) or "unknown" for one in (cheap, pick))
    return (
        f"Cheapest good enough: {_told(found, cheap, names)}; {sure}; {title} {spent} for {saved}."
    )


def _raw_input(found: Advice) -> list[str]:
    """Whether these data need a network."""
    raw = found.raw_input
    if raw is None:
        if found.pick is None or found.pick.stage == "scores":
            return []
        asked = [one for one in found.done if one.stage == "control"]
        why = "the budget did not reach it"
        if asked:
            why = asked[-1].why or "the most accurate model was not probed on the same examples"
        return [f"Not compared with raw input: {why}.", ""]
    value = with_interval(METRIC, raw.value, raw.low, raw.high)
    told = f"Raw input, without a network: {METRIC} {value} on the same {raw.examples} examples."
    if raw.beaten:
        return [f"{told} The most accurate model's probe beats it.", ""]
    warned = (
        "The most accurate model's probe is not shown to beat it: either these data need no "
        "network, or something spoils what the networks are shown."
    )
    return [f"{told} {warned}", ""]


def _untried(found: Advice) -> list[str]:
    if found.untried < 0.005:
        return []
    return [f"P(best is a candidate that was not tried) = {found.untried:.2f}, its prior share."]


def _copies(tied: list[Standing]) -> list[str]:
    families = [one.candidate.family for one in tied if one.candidate.family]
    many = sorted({f for f in families if families.count(f) > 1})
    return [
        f"Of these, {families.count(f)} are variants of {f}: near-copies, not independent."
        for f in many
    ]


def _standing(one: Standing, name: str) -> str:
    value = with_interval(METRIC, one.value or 0.0, one.low, one.high)
    prior = f", published {written(METRIC, one.candidate.prior)}" if one.candidate.prior else ""
    why = f"; {one.why}" if one.why else ""
    return f"  {name}: P(best) {one.first:.2f}, {value} at {one.examples}{prior}{why}"


def _spent(found: Advice) -> str:
    stages = ", ".join(f"{name} {duration(value)}" for name, value in found.stages.items())
    left = found.budget - found.spent
    over = f"{duration(left)} left" if left >= 0 else f"{duration(-left)} over"
    return (
        f"Spent {duration(found.spent)} of {duration(found.budget)} ({over}): {stages}. "
        f"Ended: {found.ended}."
    )


def advice_json(found: Advice) -> dict[str, Any]:
    """Plain JSON types, for `--json`."""
    plain: dict[str, Any] = to_json({**vars(found), "left": found.budget - found.spent})
    return plain
