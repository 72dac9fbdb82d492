"""The advisor at work: decide, do, write down, until the budget or the questions end."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from zoobench import datasets, machine, methods, models, network
from zoobench.advise.candidates import Pool, broken, gather, worth_fetching
from zoobench.advise.conclusion import conclude
from zoobench.advise.fetching import PATIENCE, Fetched, Fetcher
from zoobench.advise.journal import Journal, read
from zoobench.advise.needs import known, settle
from zoobench.advise.nouns import (
    METHOD,
    RAW,
    Action,
    Advice,
    Candidate,
    Done,
    Rung,
    State,
    packed,
)
from zoobench.advise.policy import OPENING_SHARE, ladder, next_action, static_order
from zoobench.advise.worker import AdviceWorker, Answer, Ask, Look, Open, Opened
from zoobench.errors import UserError
from zoobench.machine import cache_dir
from zoobench.quantities import data_size, duration
from zoobench.ranking.recommend import Limits
from zoobench.runs import planning, session, suite
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import Cell, Ref
from zoobench.store import Store
from zoobench.workers.local import died
from zoobench.workers.request_worker import Died, RequestWorker
from zoobench.workers.settings import Settings

GRACE = 0.08
"""A step that is still at it when this share over the budget is spent is killed."""

RAW_SECONDS = 0.03
"""Of an example of raw input: a photograph of 375 x 500 is decoded and read twice in less."""

WAIT = 0.5
"""Seconds between two looks at the downloads, where there is nothing else to do."""


@dataclass(frozen=True)
class AdviceRequest:
    """What is asked. `data` is a resolved dataset, `budget` in seconds and `max_download` in bytes
    over all sessions. `models` stand in the place of the pool."""

    data: Ref
    budget: float
    out: Path
    limits: Limits = field(default_factory=Limits)
    models: tuple[str, ...] = ()
    device: str = "auto"
    fine_tune: bool = True
    started: float = field(default_factory=time.monotonic)
    pool: Pool = "offline"
    max_download: float = 5e9


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
    journal = read(request.out)
    room = _room(request, journal, say)
    order = gather(modality, request.models, request.pool, request.limits, room)
    request = dataclasses.replace(request, limits=known(request.limits, order, request.out))
    candidates = static_order(order)
    spec = _suite(request, candidates)
    device = machine.resolve(request.device)
    with Store(request.out, to_toml(spec), spec.identity) as held:
        held.write_environment(session.environment(device))
        settings = Settings(device, machine.threads(), str(cache_dir() / "features"))
        state = partial(AdviceWorker, dataset=request.data)
        heavy = session.preload(planning.plan(spec))
        out = broken(order, journal.done, request.limits)
        coming = [one for one in order if one.bytes is not None and one.model not in out]
        left = request.budget * OPENING_SHARE - journal.spent - _since(request)
        _announce(coming, request, say)
        with (
            Fetcher(coming, room or 0.0, left) as fetcher,
            RequestWorker(state, settings, heavy) as worker,
        ):
            work = Session(
                request, spec, candidates, journal, held, worker, fetcher, say, journal.spent
            )
            try:
                ended = work.run()
                work.check()
            finally:
                journal.closed(work.spent)

    def again(limits: Limits) -> Advice:
        work.request = dataclasses.replace(request, limits=limits)
        return conclude(request.data, request.out, limits, state_then(work, spent), ended)

    spent = work.spent
    wanted, more = worth_fetching(candidates, modality, request.limits)
    advice = settle(again(request.limits), request.limits, request.out, again, say)
    return dataclasses.replace(advice, wanted=wanted, not_available=more)


def state_then(work: Session, spent: float) -> State:
    """What was found, without the time that went by since."""
    return dataclasses.replace(work.state, spent=spent)


def _since(request: AdviceRequest) -> float:
    return time.monotonic() - request.started


def _room(request: AdviceRequest, journal: Journal, say: Say) -> float | None:
    """Bytes that may yet be downloaded; None where it was not asked for, or nobody answers."""
    if request.pool == "offline" or network.offline():
        return None
    silent = network.reach()
    if silent:
        say(f"The hub at {network.address()} cannot be reached ({silent}): what is here is tried.")
        return None
    return max(0.0, request.max_download - journal.downloaded)


def _announce(coming: Sequence[Candidate], request: AdviceRequest, say: Say) -> None:
    if coming:
        sizes = [one.bytes or 0 for one in coming]
        size = f"about {data_size(sum(sizes))}" if all(sizes) else "of unknown size"
        most = data_size(request.max_download)
        many = f"{len(coming)} model{'s' if len(coming) > 1 else ''}"
        say(f"Fetching {many} that are not here, {size} (at most {most}), meanwhile:")


@dataclass(frozen=True)
class Question(suite.Suite):
    """A suite that stays the same one where other models are found on the disk, or fetched."""

    @property
    def identity(self) -> str:
        return suite.Suite(**{**vars(self), "models": ()}).identity


def _suite(request: AdviceRequest, candidates: tuple[Candidate, ...]) -> suite.Suite:
    """The whole question as a suite: its limits and budget are no part of it."""
    specs = tuple(
        suite.MethodSpec(name, methods.params_of(methods.build(name, {})))
        for name in METHOD.values()
    )
    refs = tuple(sorted(Ref.parse(one.model) for one in candidates))
    kind = suite.Suite if request.models else Question
    about = "written by recommend --data"
    return kind(f"advice-{request.data.name}", about, refs, (request.data,), specs, ())


@dataclass
class Session:
    """One sitting of the advisor: what it was asked, what it knows, and its worker."""

    request: AdviceRequest
    spec: suite.Suite
    candidates: tuple[Candidate, ...]
    journal: Journal
    store: Store
    worker: RequestWorker
    fetcher: Fetcher
    say: Say
    before: float
    """Seconds that earlier sessions spent."""
    coming: tuple[str, ...] = ()
    arrival: float = 0.0
    came: set[str] = field(default_factory=set)
    """Models that were downloaded by this session."""
    waited: float = 0.0
    """Seconds spent on nothing but waiting for the next of them."""

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
        absent = {one.model for one in self.candidates if one.bytes is not None}
        return State(
            self.candidates, rungs, asked.budget, self.spent, done, asked.fine_tune, ruled_out,
            frozenset(absent - self.came), self.coming, self.arrival,
        )  # fmt: skip

    def run(self) -> str:
        """Session by step; why it ended."""
        if self.journal.sizes is None:
            self._open()
        while True:
            self._take()
            action = next_action(self.state)
            if isinstance(action, str):
                return action
            if action.stage == "download":
                self._take(WAIT)
                continue
            if not self.worker.alive:
                self._open()  # its time is no model's
                continue
            self._step(action)

    def check(self) -> None:
        """Asks raw input on the furthest rung of probes, once, where time is left: data that it
        answers as well need no network."""
        rungs = dict.fromkeys(("probe", "control"), -1)
        for one in self.journal.done:
            if one.right or (one.stage == "control" and one.status in ("crash", "oom")):
                rungs[one.stage] = max(rungs[one.stage], one.rung)
        if rungs["probe"] > rungs["control"] and self.worker.alive:
            seconds = RAW_SECONDS * self.state.ladder[rungs["probe"]].total
            if seconds < self._seconds():
                self._step(Action(RAW, "control", rungs["probe"], seconds))

    def _step(self, action: Action) -> None:
        self.journal.begun(action, self.spent)
        one = self._do(action)
        self.journal.ended(one, self.spent)
        self.say(_line(one, self.spent, self.request.budget, self.state.ladder))

    def _take(self, seconds: float = 0.0) -> None:
        """Notes the downloads that ended; waits so long for the next one."""
        clock = time.monotonic()
        ended, self.coming, self.arrival = self.fetcher.poll(seconds)
        self.waited += time.monotonic() - clock
        for one in ended:
            facts = {"download_bytes": float(one.received), "download_seconds": one.seconds}
            done = Done(
                one.model, "download", 0, self.waited, one.status, one.why,
                predicted=one.predicted or 0.0, facts=facts,
            )  # fmt: skip
            self.waited = 0.0
            self.journal.fetched(done, self.spent)
            self.say(fetched_line(one, self.spent, self.request.budget))
            if one.status == "ok":
                self.came.add(one.model)

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
        mine = [d.rung for d in self.journal.done if d.model == action.model and d.stage in METHOD]
        # As they came: parts are what each added, and a rung met lower adds nothing.
        climbed = dict.fromkeys([*mine, action.rung])
        rungs = tuple(self._rung(rung) for rung in climbed)
        timed = {"latency_ms_p50", "peak_memory_bytes"} & self.request.limits.costs.keys()
        costs = action.stage == "scores" and bool(timed)
        look = action.stage == "pace"
        ask = Look(cell) if look else Ask(cell, self._rung(0), rungs, costs)
        try:
            patience = PATIENCE + 4 * action.predicted  # a model that hangs is not waited for
            with self.fetcher.still() if costs else contextlib.nullcontext():
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
        if action.stage == "control":
            control = Ref.parse(RAW)
            one = dataclasses.replace(
                self.spec, models=(), datasets=(self._rung(action.rung),), methods=(),
                controls=(control.name,),
            )  # fmt: skip
            return planning.plan(one)[0]
        name = METHOD.get(action.stage, "knn")
        recipe = dataclasses.asdict(action.recipe) if action.recipe else {}
        method = suite.MethodSpec(name, methods.params_of(methods.build(name, recipe)))
        precision = self.spec.precision
        if precision == "auto":  # no time for the question that it asks
            precision = machine.default_precision(machine.resolve(self.request.device))
        one = dataclasses.replace(
            self.spec,
            models=tuple(models.pin(ref) for ref in self.spec.models if ref.text == action.model),
            datasets=(self._rung(action.rung),),
            methods=(method,),
            precision=precision,
        )
        return planning.plan(one)[0]


def _line(one: Done, spent: float, budget: float, rungs: tuple[Rung, ...]) -> str:
    name = Ref.parse(one.model).short
    what = {
        "pace": "a first look", "scores": "kNN, LogME, H-score", "probe": "linear probe",
        "control": "linear probe",
    }  # fmt: skip
    done = what.get(one.stage, one.stage)
    rung = rungs[one.rung]
    many = rung.total if one.stage in ("probe", "control") else rung.train
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


def fetched_line(one: Fetched, spent: float, budget: float) -> str:
    """How a download went."""
    told = f"downloaded {data_size(one.received)}" if one.status == "ok" else one.why
    wanted = "not predicted" if one.predicted is None else f"predicted {duration(one.predicted)}"
    name = Ref.parse(one.model).short
    at = f"[{duration(spent)} of {duration(budget)}] {name}"
    return f"{at}: {told} ({duration(one.seconds)}, {wanted})"
