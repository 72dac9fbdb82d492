"""Ray: the same groups, on the nodes of a cluster.

A group is one Ray task that runs a LocalEngine on its node, so a model's crash, hang or
hunger costs a record there as it does here. Only lost infrastructure (a node, Ray's own
worker) is tried again, a bounded number of times. Events stream back as they happen;
this process alone writes. Start-up: docs/engines.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoobench.errors import UserError, missing_extra
from zoobench.machine import SAFE_PATH
from zoobench.schema import Cell
from zoobench.workers.events import Begun, Event, Finished
from zoobench.workers.local import LocalEngine, WorkerLimits, default_memory_bytes, died
from zoobench.workers.settings import Result, Settings

POLL_SECONDS = 0.25
LOSSES = 3
"""So many losses of a node or of Ray's worker at one cell, and the cell is a crash."""

PAUSE_SECONDS = 3.0
"""Before a group is sent out again, times its losses: on a busy machine Ray takes seconds to know
that a node is dead, and would send it there."""

STRANDED_SECONDS = 60.0
"""How long cells wait for a node that could run them, once there is none left."""

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""At "0" Ray binds to 127.0.0.1 on every system, as it does by itself on Windows and macOS. Told
that address, it would take the machine's public one."""

ANSWER_SECONDS = 120.0
"""How long a node may take to say which versions it has."""


ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\w.])")
"""Of a node, in Ray's messages, which become records."""


@dataclass(frozen=True)
class Node:
    """A living node of the cluster; memory in bytes."""

    id: str
    address: str
    cpus: float
    gpus: float
    memory: float

    def __str__(self) -> str:
        return f"{self.address} ({self.size})"

    @property
    def size(self) -> str:
        """For records, which say nothing of where a cluster is."""
        return f"{self.cpus:g} CPUs, {self.gpus:g} GPUs, {self.memory / 2**30:.1f} GiB"


@dataclass(frozen=True)
class Needs:
    """What one task asks Ray for."""

    cpus: int
    gpus: int = 0
    memory: int = 0

    def met_by(self, node: Node) -> bool:
        return node.cpus >= self.cpus and node.gpus >= self.gpus and node.memory >= self.memory

    def __str__(self) -> str:
        gpu = f", {self.gpus} GPU" if self.gpus else ""
        memory = f", {self.memory / 2**30:.1f} GiB of memory" if self.memory else ""
        return f"{self.cpus} CPUs{gpu}{memory}"


@contextlib.contextmanager
def connected(address: str, cores: int) -> Iterator[list[Node]]:
    """The nodes of the cluster at `address`, or of one of `cores` CPUs on this machine ("local"),
    which no other machine reaches.

    Raises MissingExtra without Ray, UserError where nobody answers.
    """
    with own_cluster() if address == "local" else contextlib.nullcontext():
        yield from _connected(address, cores)


@contextlib.contextmanager
def own_cluster() -> Iterator[None]:
    """What Ray starts meanwhile listens on the loopback alone, asks for a token, and imports
    nothing from the folder that we stand in."""
    own = {**SAFE_PATH, "RAY_AUTH_MODE": "token", LOOPBACK: "0"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)  # before Ray is imported, which reads it then
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _connected(address: str, cores: int) -> Iterator[list[Node]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise missing_extra("ray", "ray", "--engine ray") from None
    if address not in ("auto", "local") and not re.fullmatch(r"[\w.-]+:\d+", address):
        raise UserError(f"--address: expected auto, local or HOST:PORT, got {address!r}")
    own = {"num_cpus": cores, "include_dashboard": False} if address == "local" else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address, log_to_driver=False, logging_level=logging.ERROR, job_config=_job(), **own
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"--address {address}: no Ray cluster there that this process can join: {first} "
            "Start one with `ray start --head` (docs/engines.md), or use --address local"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray takes it for itself
    try:
        # Ray says on stdout what it lost; results alone belong there.
        with contextlib.redirect_stdout(sys.stderr):
            yield alive()
    finally:
        ray.shutdown()


def _job() -> Any:
    """Ray would put the folder that we stand in first on its workers' path, and a torch.py there
    would run; it does not where the job has a working directory."""
    from ray.job_config import JobConfig

    class Elsewhere(JobConfig):  # type: ignore[misc]  # ray has no types here
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    return Elsewhere()


def alive() -> list[Node]:
    """The nodes that are up."""
    import ray

    return [
        Node(
            body["NodeID"],
            body["NodeManagerAddress"],
            float(body["Resources"].get("CPU", 0)),
            float(body["Resources"].get("GPU", 0)),
            float(body["Resources"].get("memory", 0)),
        )
        for body in ray.nodes()
        if body["Alive"]
    ]


def resolve_device(device: str, nodes: Sequence[Node]) -> str:
    """What the tasks compute on: Ray gives each its own GPU, which it sees as cuda:0."""
    gpus = any(node.gpus >= 1 for node in nodes)
    if device == "cpu" or (device == "auto" and not gpus):
        return "cpu"
    if device not in ("auto", "cuda"):
        raise UserError(
            f"--device: {device!r} with --engine ray: Ray places the cells. Known: auto, cpu, cuda."
        )
    if not gpus:
        raise UserError("--device: no node of the cluster has a GPU")
    return "cuda:0"


def needs(device: str, workers: int, limits: WorkerLimits, nodes: Sequence[Node]) -> Needs:
    """A share of the smallest node that will do, `workers` tasks a node.

    Every task has the same number of threads wherever it runs, so that its numbers do not
    depend on the node. Raises UserError where no node can ever run a task: Ray would wait.
    """
    gpus = int(device.startswith("cuda"))
    memory = limits.memory_bytes or 0
    fit = [node for node in nodes if Needs(1, gpus, memory).met_by(node)]
    if not fit:
        here = "; ".join(str(node) for node in nodes) or "none"
        raise UserError(f"no node of the cluster has {Needs(1, gpus, memory)}. Nodes: {here}.")
    shared = min(node.cpus // max(workers, node.gpus if gpus else 1) for node in fit)
    return Needs(max(1, int(shared)), gpus, memory)


def versions() -> dict[str, str]:
    """What must agree between the driver and the nodes; torch is not imported for it."""
    from importlib.metadata import version

    from zoobench import __version__

    return {"zoobench": __version__, "torch": version("torch")}


def check_versions(nodes: Sequence[Node], expected: Mapping[str, str]) -> None:
    """Ask every node. Raises UserError naming each that has something else, or does not answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def ask() -> dict[str, str]:  # nested, so that it travels whole: zoobench may not be there
        from importlib.metadata import PackageNotFoundError, version

        found = {"zoobench": "not installed", "torch": "not installed"}
        with contextlib.suppress(ImportError):
            from zoobench import __version__

            found["zoobench"] = __version__
        with contextlib.suppress(PackageNotFoundError):
            found["torch"] = version("torch")
        return found

    task = ray.remote(num_cpus=0, max_retries=1)(ask)
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n.id, soft=False)).remote()
        for n in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        try:
            found = ray.get(answer, timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError as error:
            first = str(error).partition("\n")[0]
            raise UserError(f"node {node.address} does not answer: {first}") from error
        check_same(found, expected, node.address)


def check_same(found: Mapping[str, str], expected: Mapping[str, str], where: str) -> None:
    """Raises UserError where a node has other versions than the driver."""
    other = [f"{k} {found[k]} (here {v})" for k, v in expected.items() if found[k] != v]
    if other:
        raise UserError(
            f"node {where} has {', '.join(other)}: numbers from different versions must not be "
            "mixed. Install the same versions on every node"
        )


def run_on_node(
    cells: Sequence[Cell], settings: Settings, limits: WorkerLimits, preload: Sequence[str],
    expected: Mapping[str, str],
) -> Iterator[Event]:  # fmt: skip
    """The Ray task: a group on this node, by one worker process of its own.

    The features are kept below this node's own $ZOOBENCH_CACHE: the same folder on every
    node where it is shared, a folder each where it is not.
    """
    from zoobench.machine import cache_dir

    check_same(versions(), expected, os.uname().nodename)  # it may have joined since the check
    settings = dataclasses.replace(settings, cache=str(cache_dir() / "features"))
    memory = limits.memory_bytes or default_memory_bytes(settings.workers)
    engine = LocalEngine(settings, dataclasses.replace(limits, memory_bytes=memory), 1, preload)
    yield from engine.events([cells])


@dataclass(eq=False)
class Batch:
    """A group on its way: what is left of it, and how often it was lost since its last result."""

    stream: Any
    waiting: deque[Cell]
    losses: int
    since: float


@dataclass
class RayEngine:
    """Runs groups as Ray tasks; like LocalEngine, every cell ends in exactly one Finished."""

    settings: Settings
    limits: WorkerLimits
    asked: Needs
    preload: Sequence[str] = ()
    stopping: Callable[[], bool] = lambda: False
    _running: list[Batch] = field(default_factory=list)
    _stranded: float | None = None

    def events(self, groups: Sequence[Sequence[Cell]]) -> Generator[Event, None, None]:
        """All groups are handed to Ray in order, and start as its nodes have room."""
        import ray

        self._running = [self._submit(deque(group), 0) for group in groups if group]
        try:
            while self._running:
                if self.stopping():
                    raise KeyboardInterrupt
                by_stream = {task.stream: task for task in self._running}
                ready, _ = ray.wait(list(by_stream), num_returns=1, timeout=POLL_SECONDS)
                for stream in ready:
                    yield from self._take(by_stream[stream])
                if self._is_stranded():
                    yield from self._give_up()
        finally:
            for task in self._running:
                with contextlib.suppress(ray.exceptions.RayError, ValueError):
                    ray.cancel(task.stream, force=True)

    def _submit(self, cells: deque[Cell], losses: int) -> Batch:
        import ray

        remote = ray.remote(run_on_node).options(
            num_cpus=self.asked.cpus,
            num_gpus=self.asked.gpus,
            memory=self.asked.memory or None,
            num_returns="streaming",
            max_retries=0,  # ours to do: what was answered already is not asked again
        )
        stream = remote.remote(tuple(cells), self.settings, self.limits, self.preload, versions())
        return Batch(stream, cells, losses, time.monotonic())

    def _take(self, task: Batch) -> Iterator[Event]:
        """The next event of a task, its end, or its loss."""
        import ray

        try:
            event = ray.get(next(task.stream))
        except StopIteration:
            self._running.remove(task)
            if task.waiting:  # cannot be, but must not lose a cell
                yield from self._lost(task, "crash", "the task ended early")
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise UserError(str(cause)) if isinstance(cause, UserError) else error from error
        except ray.exceptions.RayError as error:
            self._running.remove(task)
            hungry = isinstance(error, ray.exceptions.OutOfMemoryError)
            why = ADDRESS.sub("…", str(error).strip().partition("\n")[0])
            yield from self._lost(task, "oom" if hungry else "crash", why)
        else:
            if isinstance(event, Begun):
                task.since = time.monotonic()
            elif isinstance(event, Finished):
                done = task.waiting.popleft()
                assert done.key == event.result.record.key, "a task does its cells in order"
                task.losses, task.since = 0, time.monotonic()
            yield event

    def _lost(self, task: Batch, status: str, why: str) -> Iterator[Event]:
        """Try again what is left; a cell that was lost LOSSES times is recorded instead."""
        losses = task.losses + 1
        if losses >= LOSSES:
            seconds = round(time.monotonic() - task.since, 3)
            reason = f"its node or Ray's worker was lost {losses} times: {why}"
            yield Finished(Result(died(task.waiting.popleft(), status, reason, "", seconds)))
            losses = 0
        if task.waiting:
            time.sleep(PAUSE_SECONDS * losses)
            self._running.append(self._submit(task.waiting, losses))

    def _is_stranded(self) -> bool:
        """Whether for STRANDED_SECONDS no living node could have run a task."""
        if any(self.asked.met_by(node) for node in alive()):
            self._stranded = None
            return False
        self._stranded = self._stranded or time.monotonic()
        return time.monotonic() - self._stranded > STRANDED_SECONDS

    def _give_up(self) -> Iterator[Event]:
        import ray

        reason = f"no node of the cluster is left that has {self.asked}"
        for task in list(self._running):
            self._running.remove(task)
            ray.cancel(task.stream, force=True)
            for cell in task.waiting:
                yield Finished(Result(died(cell, "crash", reason, "", 0.0)))
