"""The advisor at work: decide, do, write down, until the budget or the questions end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from zoobench import datasets, machine, methods, store
from zoobench.advise.candidates import available, broken, worth_fetching
from zoobench.advise.journal import Journal, read
from zoobench.advise.nouns import (
    METHOD,
    Action,
    Advice,
    Candidate,
    Done,
    Rung,
    Stage,
    Standing,
    State,
    packed,
    unpacked,
)
from zoobench.advise.picks import picks
from zoobench.advise.policy import ladder, next_action, running
from zoobench.advise.verdict import Outcomes, Verdicts, telling, verdicts
from zoobench.advise.worker import AdviceWorker, Answer, Ask, Look, Open, Opened
from zoobench.errors import UserError
from zoobench.machine import cache_dir
from zoobench.quantities import duration
from zoobench.ranking.recommend import Limits
from zoobench.runs import planning, session, suite
from zoobench.schema import Cell, Record, Ref
from zoobench.statistics.paired import wilson
from zoobench.store import Store
from zoobench.tasks import task_of
from zoobench.workers.local import died
from zoobench.workers.request_worker import Died, RequestWorker
from zoobench.workers.settings import Settings

GRACE = 0.08
"""A step that is still at it when this share over the budget is spent is killed."""

PATIENCE = 20.0
"""Seconds that a step may take over four times what was predicted."""


@dataclass(frozen=True)
class AdviceRequest:
    """What is asked. `data` is a resolved dataset, `budget` in seconds over all sessions."""

    data: Ref
    budget: float
    out: Path
    limits: Limits = field(default_factory=Limits)
    models: tuple[str, ...] = ()
    device: str = "auto"
    fine_tune: bool = True
    started: float = field(default_factory=time.monotonic)


Say = Callable[[str], None]


def advise(request: AdviceRequest, say: Say = lambda line: None) -> Advice:
    """The advice for `request.data`; goes on where an earlier session in `request.out` ended.

    Raises UserError (no model, data that is unusable or not of classes, a budget that cannot
    even read it) and StoreError. On Ctrl-C what is done is kept.
    """
    card = datasets.card(request.data)
    if card.task != "classification":
        raise UserError(
            f"{request.data.short} asks {card.task}, and models are tried on classes: run a suite, "
            "and recommend from its RUN"
        )
    modality = card.modality
    candidates = available(modality, request.models)
    spec = _suite(request, candidates)
    device = machine.resolve(request.device)
    with Store(request.out, suite.to_toml(spec), spec.identity) as held:
        held.write_environment(session.environment(device))
        journal = read(request.out)
        settings = Settings(device, machine.threads(), str(cache_dir() / "features"))
        state = partial(AdviceWorker, dataset=request.data)
        heavy = session.preload(planning.plan(spec))
        with RequestWorker(state, settings, heavy) as worker:
            work = Session(request, spec, candidates, journal, held, worker, say, journal.spent)
            try:
                ended = work.run()
            finally:
                journal.closed(work.spent)
    wanted, more = worth_fetching(candidates, modality, request.limits)
    advice = conclude(request, work.state, ended)
    return dataclasses.replace(advice, wanted=wanted, not_available=more)


def _suite(request: AdviceRequest, candidates: tuple[Candidate, ...]) -> suite.Suite:
    """The whole question as a suite: its limits and budget are no part of it."""
    specs = tuple(
        suite.MethodSpec(name, methods.params_of(methods.build(name, {})))
        for name in METHOD.values()
    )
    refs = tuple(sorted(Ref.parse(one.model) for one in candidates))
    about = "written by recommend --data"
    return suite.Suite(f"advice-{request.data.name}", about, refs, (request.data,), specs, ())


@dataclass
class Session:
    """One sitting of the advisor: what it was asked, what it knows, and its worker."""

    request: AdviceRequest
    spec: suite.Suite
    candidates: tuple[Candidate, ...]
    journal: Journal
    store: Store
    worker: RequestWorker
    say: Say
    before: float
    """Seconds that earlier sessions spent."""

    @property
    def spent(self) -> float:
        return self.before + time.monotonic() - self.request.started

    @property
    def state(self) -> State:
        sizes = self.journal.sizes
        assert sizes is not None
        asked, done = self.request, self.journal.done
        rungs = ladder(sizes, self.journal.classes)
        ruled_out = broken(self.candidates, done, asked.limits)
        return State(
            self.candidates, rungs, asked.budget, self.spent, done, asked.fine_tune, ruled_out
        )

    def run(self) -> str:
        """Session by step; why it ended."""
        if self.journal.sizes is None:
            self._open()
        while True:
            action = next_action(self.state)
            if isinstance(action, str):
                return action
            if not self.worker.alive:
                self._open()  # its time is no model's
                continue
            self.journal.begun(action, self.spent)
            one = self._do(action)
            self.journal.ended(one, self.spent)
            self.say(_line(one, self.spent, self.request.budget, self.state.ladder))

    def _seconds(self) -> float:
        return max(0.0, self.request.budget * (1 + GRACE) - self.spent)

    def _open(self) -> None:
        where = self.request.data.short
        try:
            found: Opened = self.worker.ask(Open(), self._seconds())
        except Died as error:
            raise UserError(f"{where}: could not be read: {error.reason}") from error
        if found.error:
            raise UserError(found.error)
        self.journal.opened(found.sizes, found.classes, self.spent)

    def _do(self, action: Action) -> Done:
        """The step's outcome; a model that fails is an outcome too."""
        clock = time.monotonic()
        cell = self._cell(action)
        mine = [d.rung for d in self.journal.done if d.model == action.model and d.stage != "pace"]
        # As they came: parts are what each added, and a rung met lower adds nothing.
        climbed = dict.fromkeys([*mine, action.rung])
        rungs = tuple(self._rung(rung) for rung in climbed)
        timed = {"latency_ms_p50", "peak_memory_bytes"} & self.request.limits.costs.keys()
        costs = action.stage == "scores" and bool(timed)
        look = action.stage == "pace"
        ask = Look(cell) if look else Ask(cell, self._rung(0), rungs, costs)
        try:
            patience = PATIENCE + 4 * action.predicted  # a model that hangs is not waited for
            answer: Answer = self.worker.ask(ask, min(patience, self._seconds()))
        except Died as error:
            answer = Answer(status=error.status, why=error.reason)
            if action.stage != "pace":
                seconds = round(time.monotonic() - clock, 3)
                self.store.append(died(cell, error.status, error.reason, error.tail, seconds))
        value = None
        if answer.result is not None:
            record = self.store.append(answer.result.record, answer.result.outcomes)
            value = record.value("accuracy")
        right = "" if answer.right is None else packed(answer.right)
        if answer.right is not None:
            value = float(answer.right.mean())
        return Done(
            action.model,
            action.stage,
            action.rung,
            time.monotonic() - clock,
            answer.status,
            answer.why,
            cell.key if action.stage != "pace" else "",
            value,
            answer.new,
            answer.extract,
            action.recipe,
            action.predicted,
            dict(answer.facts),
            action.among,
            right,
        )

    def _rung(self, number: int) -> Ref:
        rung = self.state.ladder[number]
        if rung.whole:
            return self.request.data
        return self.request.data.with_options(
            max_train=rung.train, max_valid=rung.valid, max_test=rung.test
        )

    def _cell(self, action: Action) -> Cell:
        name = METHOD.get(action.stage, "knn")
        recipe = dataclasses.asdict(action.recipe) if action.recipe else {}
        method = suite.MethodSpec(name, methods.params_of(methods.build(name, recipe)))
        precision = self.spec.precision
        if precision == "auto":  # no time for the question that it asks
            precision = machine.default_precision(machine.resolve(self.request.device))
        one = dataclasses.replace(
            self.spec,
            models=tuple(ref for ref in self.spec.models if ref.text == action.model),
            datasets=(self._rung(action.rung),),
            methods=(method,),
            precision=precision,
        )
        return planning.plan(one)[0]


def _line(one: Done, spent: float, budget: float, rungs: tuple[Rung, ...]) -> str:
    name = Ref.parse(one.model).short
    what = {"pace": "a first look", "scores": "kNN, LogME, H-score", "probe": "linear probe"}
    done = what.get(one.stage, one.stage)
    rung = rungs[one.rung]
    many = rung.total if one.stage == "probe" else rung.train
    on = "" if one.stage == "pace" else f" on {many}"
    if one.status != "ok":
        told = f"{one.status}: {one.why}"
    elif one.value is not None:
        told = f"accuracy {100 * one.value:.1f}"
    else:
        told = f"{1000 * one.extract / max(1, one.new):.3g} ms an example"
    return (
        f"[{duration(spent)} of {duration(budget)}] {name}: {done}{on}: {told} "
        f"({duration(one.seconds)}, predicted {duration(one.predicted)})"
    )


def conclude(request: AdviceRequest, state: State, ended: str) -> Advice:
    """The answer from what was measured; reads the kept predictions."""
    run = store.load(request.out)
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
    return Advice(
        data=request.data.short,
        **picks(standings, found, request.limits),
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
    )


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
