"""What this machine offers, and what a user leaves of it."""

from __future__ import annotations

import pytest

from zoobench import machine


@pytest.mark.parametrize(
    ("asked", "processes", "threads"),
    [("", 1, 8), ("", 3, 2), ("", 99, 1), ("3", 1, 3), ("3", 4, 2), ("99", 1, 8), ("2,1", 1, 2),
     ("0", 1, 8), ("many", 1, 8)],
)  # fmt: skip
def test_threads_keep_to_omp_num_threads(
    monkeypatch: pytest.MonkeyPatch, asked: str, processes: int, threads: int
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert machine.threads(processes) == threads


@pytest.mark.parametrize("given", ["", None])
def test_an_empty_cache_variable_is_the_default(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """Of an unset variable in a script, and not the folder that one happens to be in."""
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("ZOOBENCH_CACHE")
    if given is not None:
        monkeypatch.setenv("ZOOBENCH_CACHE", given)
    assert str(machine.cache_dir()) == "/home/ada/.cache/zoobench"
