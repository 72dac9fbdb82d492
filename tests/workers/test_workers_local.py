"""Real worker processes: what fails costs its own cell, with the right kind of failure."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.spawn
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from cells import GABOR, cell, run, settings
from devices import CARD
from zoobench import machine
from zoobench.runs import session
from zoobench.schema import Cell, Record
from zoobench.workers import local, starting
from zoobench.workers.events import Begun, Event, Finished
from zoobench.workers.local import LocalEngine, WorkerLimits
from zoobench.workers.oom_kills import oom_kills
from zoobench.workers.request_worker import RequestWorker
from zoobench.workers.runner import groups
from zoobench.workers.settings import Settings
from zoobench.workers.starting import Starter
from zoobench.workers.worker import work

GOOD = cell()


@pytest.mark.parametrize(
    ("fault", "status", "says", "device"),
    [
        ("crash", "crash", "SIGSEGV", "cpu"),
        pytest.param("crash", "crash", "SIGSEGV", "cuda", marks=CARD.marks),
        ("exit", "crash", "exit code 7", "cpu"),
        ("oom", "oom", "out of memory", "cpu"),
        ("nan", "nan", "features of", "cpu"),
        ("error", "error", "ValueError", "cpu"),
        ("missing-weights", "missing-weights", "no weights", "cpu"),
    ],
)
def test_a_fault_becomes_a_record_and_the_rest_goes_on(
    fault: str, status: str, says: str, device: str
) -> None:
    bad = cell(f"{GABOR}?fault={fault}")
    found = run([bad, GOOD], device=device)
    assert found[bad.key].status == status
    assert says in (found[bad.key].error or {})["message"]
    assert found[GOOD.key].status == "ok"


def test_a_crash_keeps_the_stack(tmp_path: Path) -> None:
    bad = cell(f"{GABOR}?fault=crash")
    detail = (run([bad])[bad.key].error or {})["detail"]
    assert "Segmentation fault" in detail
    assert "misbehave" in detail


def test_a_hang_ends_at_its_time_limit() -> None:
    bad = cell(f"{GABOR}?fault=hang")
    # It sleeps longer than a silence may last, but it beats: its time limit ends it, no sooner.
    found = run([bad, GOOD], WorkerLimits(cell_seconds=9, silent_seconds=6))
    assert found[bad.key].status == "timeout"
    assert "9 s a cell" in (found[bad.key].error or {})["message"]
    assert found[GOOD.key].status == "ok"


def test_a_worker_that_outgrows_its_memory_is_stopped() -> None:
    bad = cell(f"{GABOR}?fault=hang")  # it lives until somebody looks
    found = run([bad], WorkerLimits(memory_bytes=2**20))
    assert found[bad.key].status == "oom"
    assert "the limit is" in (found[bad.key].error or {})["message"]


def test_a_model_that_dies_twice_is_not_tried_for_ever() -> None:
    bad = [cell(f"{GABOR}?fault=crash", seed=seed) for seed in range(5)]
    found = run(bad)
    assert [found[c.key].status for c in bad] == ["crash"] * 5
    assert "not tried" in (found[bad[-1].key].error or {})["message"]
    assert "not tried" not in (found[bad[1].key].error or {})["message"]


def test_two_workers_give_what_one_gives() -> None:
    cells = [cell(), cell(f"{GABOR}?weights=random"), cell("synthetic/gabor@1?mean=0.4")]
    one, two = run(cells), run(cells, workers=2)
    assert {k: r.measurements[0] for k, r in one.items()} == {
        k: r.measurements[0] for k, r in two.items()
    }


def test_the_parent_need_not_import_torch_to_read_a_record() -> None:
    """torch.__version__ is of a class of torch's own: unpickling one costs seconds."""
    environment = run([GOOD])[GOOD.key].environment
    assert {type(value) for value in environment.values()} <= {str, int}


def test_a_worker_collects_garbage_but_not_among_what_was_loaded_before_it() -> None:
    with RequestWorker(collector, settings()) as worker:
        enabled, frozen = worker.ask(None, 60)
    assert enabled
    assert frozen > 100_000


def collector(settings: Settings) -> Callable[[None], tuple[bool, int]]:
    return lambda request: (gc.isenabled(), gc.get_freeze_count())


def test_a_worker_does_not_import_the_main_module_of_its_parent() -> None:
    with starting.nothing_of_ours(()):
        told = multiprocessing.spawn.get_preparation_data("worker")
    assert not {"init_main_from_name", "init_main_from_path"} & told.keys()


def on_a_lost_card(pipe: Connection, cells: Sequence[Cell], settings: Settings, log: str) -> None:
    machine.lost = lambda device: True
    work(pipe, cells, settings, log)


def test_after_a_failure_that_spoils_its_card_another_process_does_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[None] = []
    start = Starter.start

    def counted(self: Starter, *args: Any) -> Any:
        started.append(None)
        return start(self, *args)

    monkeypatch.setattr(local, "work", on_a_lost_card)
    monkeypatch.setattr(Starter, "start", counted)
    cells = [cell(f"{GABOR}?fault=error", seed=s) for s in range(3)]
    assert ["ValueError" in str(record.error) for record in run(cells).values()] == [True] * 3
    assert len(started) == 3
    started.clear()
    assert [record.status for record in run([GOOD, cell(seed=1)]).values()] == ["ok"] * 2
    assert len(started) == 1


def test_every_cell_ends_once_even_if_all_fail() -> None:
    cells = [cell(f"{GABOR}?fault=error", seed=s) for s in range(3)]
    assert {r.status for r in run(cells).values()} == {"error"}


def signalled(
    engine: LocalEngine, cells: list[Cell], number: signal.Signals, after: type[Event] = Begun
) -> dict[str, Record]:
    """Records of `cells`, whose first worker gets the signal when the first `after` event comes."""
    found: dict[str, Record] = {}
    sent = False
    for event in engine.events(groups(cells)):
        if isinstance(event, after) and not sent:
            sent = True
            worker = next(p for p in multiprocessing.active_children() if p.pid)
            os.kill(worker.pid or 0, number)
        if isinstance(event, Finished):
            found[event.result.record.key] = event.result.record
    return found


def test_a_stopped_worker_is_found_by_its_silence() -> None:
    cells = [cell(f"{GABOR}?fault=hang"), GOOD]
    engine = LocalEngine(settings(), WorkerLimits(cell_seconds=600, silent_seconds=6))
    found = signalled(engine, cells, signal.SIGSTOP)
    assert found[cells[0].key].status == "timeout"
    message = (found[cells[0].key].error or {})["message"]
    assert "no sign of life" in message
    assert "stopped by a signal" in message
    assert found[GOOD.key].status == "ok"


@pytest.mark.parametrize(
    ("counted", "status", "says"),
    [
        ((3, 3), "crash", "from outside"),
        ((3, 4), "oom", "ran out of memory"),
        ((None, None), "crash", "does not say"),
    ],
)
def test_sigkill_is_out_of_memory_only_where_the_kernel_counted_it(
    counted: tuple[int | None, int | None],
    status: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter(counted)
    monkeypatch.setattr(local, "oom_kills", lambda: next(answers))
    bad = cell(f"{GABOR}?fault=hang")
    found = signalled(LocalEngine(settings()), [bad], signal.SIGKILL)
    assert found[bad.key].status == status
    assert says in (found[bad.key].error or {})["message"]


@pytest.mark.parametrize(
    ("group", "file"),
    [
        ("0::/user/run", "user/run/memory.events"),
        ("0::/the/hosts/path", "memory.events"),
        ("4:cpu:/x\n3:memory:/job", "memory/job/memory.oom_control"),
        ("3:hugetlb,memory:/the/hosts", "memory/memory.oom_control"),
    ],
)
def test_the_count_of_oom_kills_is_our_groups(group: str, file: str, tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    assert oom_kills(proc, groups) is None
    (proc / "vmstat").write_text("oom_kill 70\n")
    assert oom_kills(proc, groups) == 70
    (proc / "self" / "cgroup").write_text(group + "\n")
    assert oom_kills(proc, groups) == 70
    (groups / file).parent.mkdir(parents=True, exist_ok=True)
    (groups / file).write_text("oom 9\noom_kill 2\noom_group_kill 0\n")
    assert oom_kills(proc, groups) == 2


def test_groups_start_longest_first_where_workers_share() -> None:
    tiny = cell("synthetic/gabor@1?mean=0.4")
    long = cell("packaged/efficientnet-lite0@0.1.0", "packaged/digits@1", "linear-probe")
    assert session.in_order([tiny, long], workers=1) == [(tiny,), (long,)]
    assert session.in_order([tiny, long], workers=2) == [(long,), (tiny,)]
