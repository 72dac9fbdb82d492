"""A whole suite under a seeded schedule of faults: in the end every cell is right, once.

SIGKILL to workers and to the parent, a worker whose clock stands still, a quota that cuts a
write in half, a last line cut short, damaged feature files, and a hub that has lost the weights
and then is busy. Each cell asks at a gate before it learns, and each fault falls at a gate: the
same seed gives the same story however fast the machine is.
"""

from __future__ import annotations

import collections
import itertools
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import forked
from cells import GABOR, write_suite
from hubstub import HubStub
from zoobench.metrics import METRICS

SEED = 20

SILENT_SECONDS = 6
"""Long enough that a worker which a busy machine starves is not taken for a stopped one."""

PATIENCE_SECONDS = 60
"""What does not happen within them never will."""

WEIGHTS = "model.safetensors"

CELLS = 70

PLUGIN = """
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from zoobench.models import synthetic_
from zoobench.methods.knn import Knn
from zoobench.methods.ridge import Ridge
from zoobench.models import hub
from zoobench.schema import ModelCard

CARD = ModelCard("fetched", "gabor", "image", "1")

def cards():
    return (CARD,)

def resolve(ref, where):
    return ref.at("1")

def available(ref):
    return True, "from the hub"

def load(ref, seed):
    held = hub.fetch("u/net", "", lambda names: [n for n in names if n == WEIGHTS], "weights")
    scale = float(Path(held.files[0]).read_text())
    model = synthetic_.Models.load(ref, seed)
    model.module.filters.weight.data *= scale
    return model

WEIGHTS = "model.safetensors"

def pass_the_gate():
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(os.environ["CHAOS_GATE"])
        gate.sendall(b"%d\\n" % os.getpid())
        gate.recv(1)

@dataclass(frozen=True)
class GatedKnn(Knn):
    def adapt(self, backbone, splits, seed):
        pass_the_gate()
        return super().adapt(backbone, splits, seed)

@dataclass(frozen=True)
class GatedRidge(Ridge):
    def adapt(self, backbone, splits, seed):
        pass_the_gate()
        return super().adapt(backbone, splits, seed)
"""
"""A source whose weights come by the real download path, and two methods that ask first."""

ENTRY_POINTS = """
[zoobench.models]
fetched = fetched
[zoobench.methods]
gated-knn = fetched:GatedKnn
gated-ridge = fetched:GatedRidge
"""


def plugin(folder: Path) -> Path:
    """A site directory with PLUGIN in it, found by its entry points."""
    (folder / "fetched.py").write_text(PLUGIN)
    info = folder / "fetched-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fetched\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


def suite_file(path: Path) -> Path:
    """CELLS cells: 10 of a control, 20 of each of one model from a hub and two synthetic ones."""
    limits = f"[limits]\ncost_seconds = 0\nsilent_seconds = {SILENT_SECONDS}"
    return write_suite(
        path,
        models=["fetched/gabor", GABOR, f"{GABOR}?mean=0.4"],
        datasets=["synthetic/stripes?test=40&train=40&valid=12"],
        methods=["gated-knn", "gated-ridge"],
        controls='["chance"]',
        rest=f"shots = [1, 2]\ndraws = 5\n{limits}",
    )


Fault = Callable[["Chaos", int], bool]
"""Done to the worker of that process number, which waits at the gate; whether it may go on."""


@dataclass
class Chaos:
    """Runs of one suite in one directory, and what was done to them."""

    suite: Path
    out: Path
    env: dict[str, str]
    gate: socket.socket
    draw: random.Random = field(default_factory=lambda: random.Random(SEED))
    starts: int = 0
    survived: collections.Counter[str] = field(default_factory=collections.Counter)
    damaged: dict[Path, bytes] = field(default_factory=dict)
    process: forked.Child | None = None

    @property
    def records(self) -> Path:
        return self.out / "records.jsonl"

    def lines(self) -> int:
        return self.records.read_bytes().count(b"\n") if self.records.exists() else 0

    def run(self, *faults: Fault) -> tuple[int, str]:
        """A start that meets each fault 2 to 4 gates after the one before: (exit code, stderr)."""
        self.starts += 1
        steps = [self.draw.randrange(2, 5) for _ in faults]
        gates = dict(zip(itertools.accumulate(steps), faults, strict=True))
        # One worker: with two, the next faults would fall before a stopped one is found out.
        command = ["-m", "zoobench", "run", str(self.suite), "--out", str(self.out)]
        command += ["--workers", "1", "--device", "cpu", "--json", "--retry-failed"]
        log, held = self.out.with_suffix(".log"), self.lines()
        with log.open("wb") as stderr, open(os.devnull, "wb") as stdout:
            self.process = forked.start(
                *command, env={**os.environ, **self.env}, stdout=stdout, stderr=stderr
            )
            arrived = 0
            while self.process.poll() is None:
                try:
                    asking, _ = self.gate.accept()
                except TimeoutError:
                    continue
                with asking:
                    worker = int(asking.makefile().readline())
                    arrived += 1
                    fault = gates.pop(arrived, None)
                    if fault is not None:
                        self._recorded(held + arrived - 1)
                        self.survived[fault.__name__] += 1
                    if fault is None or fault(self, worker):
                        asking.sendall(b".")
        told = log.read_text()
        assert not gates, told
        return self.process.wait(), told

    def _recorded(self, count: int) -> None:
        """Wait until what was sent before is on the disk."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.lines() < count:
            assert time.monotonic() < deadline, f"{self.lines()} records of {count}"
            time.sleep(0.002)

    def cut_the_last_line(self) -> None:
        size = self.records.stat().st_size
        os.truncate(self.records, size - self.draw.randrange(2, 200))
        self.survived["cut_the_last_line"] += 1


def kill_a_worker(chaos: Chaos, worker: int) -> bool:
    os.kill(worker, signal.SIGKILL)
    return False


def stop_a_workers_clock(chaos: Chaos, worker: int) -> bool:
    os.kill(worker, signal.SIGSTOP)
    return False


def kill_the_parent(chaos: Chaos, worker: int) -> bool:
    """Its worker must not live on."""
    assert chaos.process is not None
    orphan = psutil.Process(worker)
    chaos.process.kill()
    assert not psutil.wait_procs([orphan], PATIENCE_SECONDS)[1], "a worker outlived its parent"
    return False


def fill_the_disk(chaos: Chaos, worker: int) -> bool:
    """A quota in the middle of the next record: the write ends there, half done."""
    assert chaos.process is not None
    size = chaos.records.stat().st_size + 700
    psutil.Process(chaos.process.pid).rlimit(psutil.RLIMIT_FSIZE, (size, size))
    return True


def damage_the_cache(chaos: Chaos, worker: int) -> bool:
    """One byte of each file of features, half of every second manifest; the reader starts anew."""
    files = sorted((Path(chaos.env["ZOOBENCH_CACHE"]) / "features").glob("*.f4"))
    assert files
    for number, path in enumerate(files):
        blob = bytearray(path.read_bytes())
        blob[chaos.draw.randrange(len(blob))] ^= 0xFF
        path.write_bytes(blob)
        chaos.damaged[path] = bytes(blob)
        if number % 2:
            manifest = path.with_suffix(".json")
            os.truncate(manifest, manifest.stat().st_size // 2)
    return kill_a_worker(chaos, worker)


def bodies(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def answers(out: Path) -> dict[str, Any]:
    """Cell -> its predictions' digest and quality numbers, of its only ok record."""
    ok: dict[str, Any] = {}
    for body in bodies(out):
        if body["status"] == "ok":
            assert body["key"] not in ok, "a cell was answered twice"
            numbers = {
                m["metric"]: (m["value"], m.get("low"), m.get("high"))
                for m in body["measurements"]
                if METRICS[m["metric"]].section == "quality"
            }
            assert numbers
            ok[body["key"]] = body["predictions"], numbers
    return ok


def disturb(chaos: Chaos, hub: HubStub) -> None:
    """The story: five kinds of faults at gates, one between two starts, and two of the hub."""
    hub.faults.missing.add(WEIGHTS)
    code, told = chaos.run(kill_a_worker, stop_a_workers_clock, kill_a_worker, kill_the_parent)
    assert code == -signal.SIGKILL, told
    chaos.survived["the_hub_lost_the_weights"] += 1
    chaos.cut_the_last_line()
    hub.faults.missing.clear()
    hub.faults.unavailable = 1
    code, told = chaos.run(kill_a_worker, damage_the_cache, kill_a_worker, fill_the_disk)
    assert (code, "what was recorded is kept" in told) == (2, True), told
    assert hub.faults.unavailable == 0, "nobody met the busy hub"
    chaos.survived["the_hub_was_busy"] += 1
    chaos.cut_the_last_line()
    code, told = chaos.run()
    assert code == 0, told


@pytest.mark.timeout(420)
def test_every_cell_is_right_in_the_end(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    site = {
        "PYTHONPATH": os.pathsep.join([str(plugin(tmp_path)), *sys.path]),
        "CHAOS_GATE": str(tmp_path / "gate"),
    }
    suite = suite_file(tmp_path / "s.toml")
    files = {"config.json": b"{}", WEIGHTS: b"1.5"}
    with HubStub({"u/net": files}) as hub, socket.socket(socket.AF_UNIX) as gate:
        gate.bind(site["CHAOS_GATE"])
        gate.listen()
        gate.settimeout(0.1)
        quiet = Chaos(suite, tmp_path / "quiet", {**hub.env(tmp_path / "a"), **site}, gate)
        code, told = quiet.run()
        assert code == 0, told
        expected = answers(quiet.out)
        assert len(expected) == CELLS
        chaos = Chaos(suite, tmp_path / "run", {**hub.env(tmp_path / "b"), **site}, gate)
        disturb(chaos, hub)
    assert answers(chaos.out) == expected
    mended = [path for path, blob in chaos.damaged.items() if path.read_bytes() != blob]
    assert mended, "no damaged file was read again"
    left = collections.Counter(body["status"] for body in bodies(chaos.out))
    deaths = chaos.survived["kill_a_worker"] + chaos.survived["damage_the_cache"]
    assert left == {"ok": CELLS, "crash": deaths, "timeout": 1, "missing-weights": 20}
    count = sum(chaos.survived.values())
    assert len(chaos.survived) == 8
    print(f"\n{count} faults survived in {chaos.starts} starts: {dict(chaos.survived)}")
    record_property("faults survived", count)
