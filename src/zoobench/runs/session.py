"""A whole run: resolve, plan, skip what is done, run the rest, write each record as it comes."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zoobench import __version__, machine, models, network
from zoobench.errors import UserError, unknown
from zoobench.files import check_within
from zoobench.machine import cache_dir
from zoobench.runs import forecast, memory, planning, suite, workers
from zoobench.runs.pins import pinned
from zoobench.runs.pretraining import keep, with_needed
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import STATUSES, Cell, Record, Ref
from zoobench.store import RECORDS, Store, read_records
from zoobench.workers import interrupts
from zoobench.workers.events import Engine, Event, Finished
from zoobench.workers.local import LocalEngine, WorkerLimits, default_memory_bytes
from zoobench.workers.runner import groups
from zoobench.workers.settings import Result, Settings

RELEVANT = (
    "torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "scipy",
    "scikit-learn", "pillow", "safetensors", "huggingface_hub", "datasets", "zoobench",
)  # fmt: skip
"""Distributions whose versions environment.json holds."""

TRANSFORMERS = (
    "transformers", "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto", "transformers.models.bert.modeling_bert",
)  # fmt: skip
"""`import transformers` alone loads next to nothing: each worker would load 700 modules again."""

PRELOAD = {"timm": ("timm",), "torchvision": ("torchvision",), "hf": TRANSFORMERS}
"""What loading a model of a source imports; the fork server imports it once for all workers."""

RUNS = Path("results/runs")
"""Where runs lie by default, below the working directory: a folder of its own each."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a suite; nothing here changes a quality number but what `only` leaves out."""

    out: Path
    device: str = "auto"
    workers: int = 1
    ranks: int = 1
    only: tuple[tuple[str, str], ...] = ()
    retry: tuple[str, ...] = ()
    shard: tuple[int, int] = (1, 1)
    engine: str = "local"
    address: str = "local"


@dataclass(frozen=True)
class Plan:
    """The cells of a run, and the records that are there already: key -> its newest."""

    suite: suite.Suite
    cells: tuple[Cell, ...]
    done: dict[str, Record]
    retry: tuple[str, ...] = ()

    @property
    def todo(self) -> tuple[Cell, ...]:
        """Cells without an answer, or with one that is to be tried again."""
        answered = {key for key, record in self.done.items() if record.status not in self.retry}
        return tuple(cell for cell in self.cells if cell.key not in answered)

    @property
    def records(self) -> tuple[Record, ...]:
        return tuple(self.done[cell.key] for cell in self.cells if cell.key in self.done)


def parse_only(items: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """("model=vit*", ...) as pairs. Raises UserError."""
    pairs = []
    for item in items:
        key, equals, glob = item.partition("=")
        if not equals or not glob:
            raise UserError(f"--only: expected KEY=GLOB such as model='vit*', got {item!r}")
        if key not in ("model", "dataset", "method"):
            raise unknown("--only", "key", key, ("model", "dataset", "method"))
        pairs.append((key, glob))
    return tuple(pairs)


def parse_retry(text: str | None) -> tuple[str, ...]:
    """None, "all" or "oom,timeout" as statuses. Raises UserError."""
    known = tuple(status for status in STATUSES if status != "ok")
    if text is None:
        return ()
    if text == "all":
        return known
    wanted = tuple(part.strip() for part in text.split(",") if part.strip())
    for status in wanted:
        if status not in known:
            raise unknown("--retry-failed", "status", status, known)
    return wanted


def parse_shard(text: str | None) -> tuple[int, int]:
    """None or "2/5" as (number from 1, how many). Raises UserError."""
    if text is None:
        return (1, 1)
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UserError(f"--shard: expected I/N such as 2/5, I from 1 to N, got {text!r}")
    return int(number), int(of)


def share(cells: Sequence[Cell], shard: tuple[int, int]) -> tuple[Cell, ...]:
    """The cells of one shard, in the suite's order; every model is in one shard, whole.

    The same suite gives the same shards everywhere. Raises UserError where there are
    more shards than groups.
    """
    number, of = shard
    if of == 1:
        return tuple(cells)
    found = groups(cells)
    if of > max(1, len(found)):
        raise UserError(
            f"--shard {number}/{of}: the suite has {len(found)} groups (its models, and the "
            f"controls together), so at most {len(found)} shards"
        )
    mine = {cell.key for cell in forecast.shares(found, of)[number - 1]}
    return tuple(cell for cell in cells if cell.key in mine)


def select(cells: Sequence[Cell], only: Sequence[tuple[str, str]]) -> tuple[Cell, ...]:
    """Cells that every pattern of `only` lets through. Raises UserError when none is left."""
    chosen = [cell for cell in cells if all(_lets(cell, key, glob) for key, glob in only)]
    kept = with_needed(chosen, cells)
    if cells and not kept:
        shown = " ".join(f"{key}={glob}" for key, glob in only)
        raise UserError(f"--only {shown}: no cell of the suite matches; see `zoobench plan`")
    return tuple(kept)


def _lets(cell: Cell, key: str, glob: str) -> bool:
    ref = Ref("method", cell.method) if key == "method" else getattr(cell, key)
    return suite.matches(ref, glob)


def make_plan(spec: suite.Suite, options: RunOptions) -> Plan:
    """What would be run, and what is done already in `options.out`. Writes nothing."""
    device = machine.resolve(options.device)  # one that is not here is said before the plan
    plan = _planned(spec, options)
    check_memory(plan, with_workers(options, spec, plan.todo), device)
    return plan


def _planned(spec: suite.Suite, options: RunOptions) -> Plan:
    return Plan(spec, chosen_cells(spec, options), recorded(options.out), options.retry)


def with_workers(options: RunOptions, spec: suite.Suite, todo: Sequence[Cell]) -> RunOptions:
    """`options` with a number of workers for `todo`, where it is AUTO. Raises UserError."""
    if options.workers != workers.AUTO:
        return options
    number = 1
    if options.engine == "local" and options.ranks == 1:
        number = workers.best(todo, options.device, limits(spec).memory_bytes)
    return dataclasses.replace(options, workers=number)


def check_memory(plan: Plan, options: RunOptions, device: str) -> None:
    """Raises UserError where one of the cells cannot fit. A cluster's nodes are not asked."""
    if options.engine == "local":
        bound = limits(plan.suite).memory_bytes
        memory.check(plan.cells, device, bound or default_memory_bytes(options.workers))


def recorded(out: Path) -> dict[str, Record]:
    """Key -> newest record of the run directory `out`, which need not be there yet.

    Raises UserError where the file is a link that leads out of it.
    """
    file = out / RECORDS
    check_within(out, file)
    return read_records(file) if file.exists() else {}


def chosen_cells(spec: suite.Suite, options: RunOptions) -> tuple[Cell, ...]:
    """The cells of `spec` that `only` and `shard` leave. Raises UserError."""
    cells = planning.plan(spec)
    return share(select(cells, options.only), options.shard)


def predicted(plan: Plan) -> tuple[list[float], bool]:
    """Seconds of each cell of `plan`, and whether the run's own records set their scale.

    Without a record, cores count as equals of one nominal core.
    """
    guesses = forecast.seconds(plan.cells)
    measured = forecast.scale(plan.cells, plan.done)
    factor = 1.0 if measured is None else measured
    return [guess * factor for guess in guesses], measured is not None


def predicted_end(
    plan: Plan, options: RunOptions, guesses: Sequence[float], measured: bool
) -> tuple[int, float]:
    """Workers that a run of `plan` takes, and seconds until the last of them ends.

    `guesses` and `measured` are `predicted`'s.
    """
    number = with_workers(options, plan.suite, plan.todo).workers
    took = {cell.key: guess for cell, guess in zip(plan.cells, guesses, strict=True)}
    costs = sorted((sum(took[c.key] for c in group) for group in groups(plan.todo)), reverse=True)
    # What was measured holds the gain of the threads already.
    return number, workers.makespan(costs, number, 1 if measured else machine.threads(number))


def _unreachable(todo: Sequence[Cell]) -> str:
    """Why the hub cannot be reached; asked for all workers, where a model is not here yet."""
    away = {c.model for c in todo if c.model.source != "control"}
    return network.reach() if any(not models.available(ref)[0] for ref in away) else ""


def execute(spec: suite.Suite, options: RunOptions, watch: Callable[[Plan, Event], None]) -> Plan:
    """Run what is not done, calling `watch` on each event; returns the plan with all records.

    Raises UserError before any work, StoreError when the run directory fails: records stay.
    """
    bounds = limits(spec)
    if options.workers == workers.AUTO:
        options = with_workers(options, spec, _planned(spec, options).todo)
    with opened(options, bounds) as site:
        if spec.compile:
            check_compiling(options, site.device)
        network.begin()
        spec = pinned(spec, options.out)
        cells = chosen_cells(spec, options)
        check_memory(Plan(spec, cells, {}), options, site.device)
        with (
            Store(options.out, to_toml(spec), spec.identity) as store,
            interrupts.noted() as stopping,
        ):
            plan = Plan(spec, cells, recorded(options.out), options.retry)
            store.write_environment({**environment(site.device), **site.facts})
            cache = str(cache_dir() / "features")
            spent = spec.limits.cost_seconds
            settings = Settings(
                site.device, site.threads, cache, measure_costs=spent > 0, cost_seconds=spent,
                timed_threads=machine.threads() if options.engine == "local" else 0,
                workers=options.workers, ranks=options.ranks, compile=spec.compile,
                unreachable=_unreachable(plan.todo),
            )  # fmt: skip
            engine = site.engine(settings, preload=preload(plan.todo), stopping=stopping)
            events = engine.events(in_order(plan.todo, site.parallel))
            try:
                for event in events:
                    if isinstance(event, Finished):
                        record = store.append(event.result.record, event.result.outcomes)
                        plan.done[record.key] = record
                        keep(options.out, record)
                        event = Finished(Result(record, event.result.outcomes))  # as others read it
                    watch(plan, event)
            finally:
                events.close()  # its children end here
    return plan


@dataclass(frozen=True)
class Site:
    """Where a run takes place: `threads` a worker, `parallel` workers at least, what to record."""

    device: str
    threads: int
    parallel: int
    engine: Callable[..., Engine]
    facts: Mapping[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def opened(options: RunOptions, bounds: WorkerLimits) -> Iterator[Site]:
    """This machine, or a cluster that is joined while the run lasts. Raises UserError."""
    number = options.workers
    if options.engine == "local":
        device = machine.resolve(options.device)
        devices = machine.cards(options.device) if options.ranks == 1 else (device,)
        local = partial(LocalEngine, limits=bounds, workers=number, devices=devices)
        yield Site(device, machine.threads(number), number, local)
        return
    if options.engine != "ray":
        raise unknown("--engine", "engine", options.engine, ("local", "ray"))
    from zoobench.workers import ray_

    with ray_.connected(options.address, machine.cores()) as nodes:
        device = ray_.resolve_device(options.device, nodes)
        asked = ray_.needs(device, number, bounds, nodes)
        ray_.check_versions(nodes, ray_.versions())
        cluster = partial(ray_.RayEngine, limits=bounds, asked=asked)
        facts = {"engine": "ray", "nodes": sorted(node.size for node in nodes)}
        yield Site(device, asked.cpus, max(2, len(nodes)), cluster, facts)


def in_order(cells: Sequence[Cell], workers: int) -> Sequence[Sequence[Cell]]:
    """Groups of `cells`, longest first where several workers should end together.

    The controls come first, and show what is wrong early; one worker keeps the suite's order.
    """
    found = groups(cells)
    if workers == 1:
        return found
    controls = [group for group in found if group[0].model.source == "control"]
    return controls + forecast.longest_first(group for group in found if group not in controls)


def check_compiling(options: RunOptions, device: str) -> None:
    """Raises UserError where `compile = true` cannot be met. A cluster's nodes are not asked."""
    if options.ranks > 1:
        raise UserError(
            f"compile = true: the {options.ranks} processes of --ranks train a network as it is; "
            "leave out one of the two"
        )
    if options.engine == "local":
        machine.check_compiler(device, "compile = true")


def limits(spec: suite.Suite) -> WorkerLimits:
    memory = spec.limits.memory_gb
    bound = None if memory is None else int(memory * 10**9)
    return WorkerLimits(spec.limits.cell_seconds, bound, spec.limits.silent_seconds)


def preload(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Heavy modules that the workers of these cells will want."""
    refs = {cell.model for cell in cells}
    found: set[str] = set()
    for ref in refs:
        if ref.source == "packaged":
            image = models.card(ref).modality == "image"
            found.update(("timm",) if image else TRANSFORMERS)
        found.update(PRELOAD.get(ref.source, ()))
    return tuple(sorted(found))


def environment(device: str) -> dict[str, Any]:
    """environment.json: the machine and the libraries of a run."""
    import psutil

    from zoobench.machine import device_name

    versions = {}
    for name in RELEVANT:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "zoobench": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": device_name("cpu"),
        "cores": machine.cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": device,
        "libraries": versions,
    }
