"""Real worker processes: what fails costs its own cell, with the right kind of failure."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cells import GABOR, cell, run, settings
from zoobench import session
from zoobench.engines import Begun, Event, Finished
from zoobench.engines.local import Limits, LocalEngine
from zoobench.engines.servant import Servant
from zoobench.runner import Settings, groups
from zoobench.schema import Cell, Record

GOOD = cell()


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        ("crash", "crash", "SIGSEGV"),
        ("exit", "crash", "exit code 7"),
        ("oom", "oom", "out of memory"),
        ("nan", "nan", "features of"),
        ("error", "error", "ValueError"),
        ("missing-weights", "missing-weights", "no weights"),
    ],
)
def test_a_fault_becomes_a_record_and_the_rest_goes_on(fault: str, status: str, says: str) -> None:
    bad = cell(f"{GABOR}?fault={fault}")
    found = run([bad, GOOD])
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
    found = run([bad, GOOD], Limits(cell_seconds=9, silent_seconds=6))
    assert found[bad.key].status == "timeout"
    assert "9 s a cell" in (found[bad.key].error or {})["message"]
    assert found[GOOD.key].status == "ok"


def test_a_worker_that_outgrows_its_memory_is_stopped() -> None:
    found = run([GOOD], Limits(memory_bytes=2**20))
    assert found[GOOD.key].status == "oom"
    assert "the limit is" in (found[GOOD.key].error or {})["message"]


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
    with Servant(collector, settings()) as servant:
        enabled, frozen = servant.ask(None, 60)
    assert enabled
    assert frozen > 100_000


def collector(settings: Settings) -> Callable[[None], tuple[bool, int]]:
    return lambda request: (gc.isenabled(), gc.get_freeze_count())


def test_every_cell_ends_once_even_if_all_fail() -> None:
    cells = [cell(f"{GABOR}?fault=error", seed=s) for s in range(3)]
    assert {r.status for r in run(cells).values()} == {"error"}


def stopping(engine: LocalEngine, cells: list[Cell], after: type[Event]) -> dict[str, Record]:
    """Records of `cells`, whose first worker gets SIGSTOP when the first `after` event comes."""
    found: dict[str, Record] = {}
    stopped = False
    for event in engine.events(groups(cells)):
        if isinstance(event, after) and not stopped:
            stopped = True
            worker = next(p for p in multiprocessing.active_children() if p.pid)
            os.kill(worker.pid or 0, signal.SIGSTOP)
        if isinstance(event, Finished):
            found[event.result.record.key] = event.result.record
    return found


def test_a_stopped_worker_is_found_by_its_silence() -> None:
    cells = [cell(f"{GABOR}?fault=hang"), GOOD]
    engine = LocalEngine(settings(), Limits(cell_seconds=600, silent_seconds=6))
    found = stopping(engine, cells, Begun)
    assert found[cells[0].key].status == "timeout"
    message = (found[cells[0].key].error or {})["message"]
    assert "no sign of life" in message
    assert "stopped by a signal" in message
    assert found[GOOD.key].status == "ok"


def test_groups_start_longest_first_where_workers_share() -> None:
    tiny = cell("synthetic/gabor@1?mean=0.4")
    long = cell("packaged/efficientnet-lite0@0.1.0", "packaged/digits@1", "linear-probe")
    assert session.in_order([tiny, long], workers=1) == [(tiny,), (long,)]
    assert session.in_order([tiny, long], workers=2) == [(long,), (tiny,)]
