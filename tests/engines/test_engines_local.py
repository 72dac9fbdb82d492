"""Real worker processes: what fails costs its own cell, with the right kind of failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from cells import GABOR, cell, run
from zoobench.engines.local import Limits

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
    found = run([bad, GOOD], Limits(cell_seconds=8))
    assert found[bad.key].status == "timeout"
    assert "8 s a cell" in (found[bad.key].error or {})["message"]
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


def test_every_cell_ends_once_even_if_all_fail() -> None:
    cells = [cell(f"{GABOR}?fault=error", seed=s) for s in range(3)]
    assert {r.status for r in run(cells).values()} == {"error"}
