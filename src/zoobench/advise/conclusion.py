"""What follows from the steps that were done: who is best, how sure, and who was left out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zoobench import store
from zoobench.advise.nouns import (
    METHOD,
    Advice,
    Candidate,
    Done,
    RawInputResult,
    Rung,
    Stage,
    Standing,
    State,
    unpacked,
)
from zoobench.advise.picks import picks
from zoobench.advise.policy import running
from zoobench.advise.verdict import Outcomes, Verdicts, telling, verdicts
from zoobench.ranking.recommend import Limits
from zoobench.schema import Record, Ref
from zoobench.statistics.bootstrap import ALPHA
from zoobench.statistics.paired import mcnemar, wilson
from zoobench.tasks import task_of


def conclude(data: Ref, out: Path, limits: Limits, state: State, ended: str) -> Advice:
    """The answer from what was measured; reads the predictions kept in the run at `out`."""
    run = store.load(out)
    records = {record.key: record for record in run.records}
    levels: list[Outcomes] = []
    shares: list[float] = []
    steps: list[dict[str, Done]] = []
    for stage, rung in _basis(state):
        steps.append({})
        level = state.outcomes(rung) if stage == "probe" else {}
        for one in state.candidates:
            done = state.find(one.model, stage, rung)
            if done is None or one.model in state.ruled_out or done.key not in records:
                continue
            if stage != "probe":
                kept = run.outcomes(records[done.key])
                if kept is None:
                    continue
                right = task_of(records[done.key].cell).statistics(kept).mean_of("accuracy")
                assert right is not None
                level[one.model] = right
            steps[-1][one.model] = done
        levels.append(level)
        shares.append(state.share(rung))
    end = telling(levels)
    levels, shares, steps = levels[:end], shares[:end], steps[:end]
    last = {model: done for level in steps for model, done in level.items()}
    on = {one.model for level in levels for one in state.candidates if one.model in level}
    untried = sum(one.model not in on for one in running(state))
    found = verdicts(levels, shares, untried=untried)
    standings = _standings(state, found, last, records) if found else ()
    tried = {s.candidate.model for s in standings}
    stages: dict[str, float] = {}
    for step in state.done:
        stages[step.stage] = stages.get(step.stage, 0.0) + step.seconds
    stages["reading, starting"] = state.spent - sum(stages.values())
    chosen = picks(standings, found, limits)
    pick = chosen["pick"]
    return Advice(
        data=data.short,
        **chosen,
        standings=standings,
        ruled_out={
            **{c.model: _untried(state, c) for c in state.candidates if c.model not in tried},
            **state.ruled_out,
        },
        wanted=(),
        not_available=0,
        budget=state.budget,
        spent=state.spent,
        stages=stages,
        ended=ended,
        done=state.done,
        sizes=state.ladder[-1],
        untried=1 - float(found.first.sum()) if found else 1.0,
        needs=limits.needs,
        raw_input=None if pick is None else _raw_input(state, pick.candidate.model),
    )


def _raw_input(state: State, best: str) -> RawInputResult | None:
    """How raw input did beside the probe of `best` on the same examples, where both were asked.
    The best is the best of all that were probed there, so that p is Bonferroni's."""
    for one in reversed(state.done):
        pick = state.find(best, "probe", one.rung)
        if one.stage != "control" or not one.right or pick is None or not pick.right:
            continue
        n = state.ladder[one.rung].total
        raw, own = unpacked(one.right, n), unpacked(pick.right, n)
        ahead, behind = int((own > raw).sum()), int((own < raw).sum())
        value = float(raw.mean())
        p = min(1.0, float(mcnemar(ahead, behind)) * len(state.outcomes(one.rung)))
        return RawInputResult(value, *wilson(value, n), n, p, ahead > behind and p <= ALPHA)
    return None


def _basis(state: State) -> list[tuple[Stage, int]]:
    """The levels to compare by: fine-tunes are the last where they beat the probes."""
    levels: list[tuple[Stage, int]] = []
    if any(state.find(d.model, "probe") is None for d in state.done if d.stage == "scores"):
        levels.append(("scores", state.first or 0))
    levels += [("probe", rung) for rung in range(len(state.ladder))]
    tuned = [d.value for d in state.done if d.stage == "fine-tune" and d.value is not None]
    probes = [d for d in state.done if d.stage == "probe" and d.right]
    far = max((d.rung for d in probes), default=-1)
    rung = state.ladder[far]
    # On the test examples, as the fine-tunes': a rung's outcomes end with them.
    right = [unpacked(d.right, rung.total)[-rung.test :] for d in probes if d.rung == far]
    probed = max((float(one.mean()) for one in right), default=0.0)
    if len(tuned) > 1 and max(tuned) >= probed:
        levels.append(("fine-tune", len(state.ladder) - 1))
    return levels


def _untried(state: State, one: Candidate) -> str:
    failure = state.failed(one.model)
    if failure is not None:
        return f"{failure.status}: {failure.why}"
    if one.model in state.absent:
        return "not tried: it was not downloaded in time"
    return "not tried: the budget did not reach it"


def _standings(
    state: State, found: Verdicts, last: Mapping[str, Done], records: Mapping[str, Record]
) -> tuple[Standing, ...]:
    by_name = {one.model: one for one in state.candidates}
    furthest = last[found.models[0]]
    rows = []
    for place, name in enumerate(found.models):
        one = last[name]
        low, high = _interval(one, state.ladder[one.rung], records[one.key])
        early = (one.stage, one.rung) != (furthest.stage, furthest.rung)
        facts: dict[str, float] = {}
        for step in state.done:
            if step.model == name:
                facts.update(step.facts)
        rung = state.ladder[one.rung]
        examples = rung.total if one.stage == "probe" else rung.train
        rows.append(
            Standing(
                candidate=by_name[name],
                stage=one.stage,
                examples=examples,
                value=one.value,
                low=low,
                high=high,
                first=float(found.first[place]),
                tied=found.tied[place],
                why=f"left the race at {METHOD[one.stage]} on {examples}" if early else "",
                facts=facts,
            )
        )
    return tuple(rows)


def _interval(one: Done, rung: Rung, record: Record) -> tuple[float | None, float | None]:
    """95% of `one.value`: Wilson's (1927) over a rung's examples, else the record's own."""
    if not one.right:
        number = record.get("accuracy")
        return (number.low, number.high) if number else (None, None)
    hits = round((one.value or 0.0) * rung.total)
    return wilson(hits / rung.total, rung.total)
