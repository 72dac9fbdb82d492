"""Building the index imports all of timm, so these tests share one."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def index_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index")


@pytest.fixture(autouse=True)
def shared_index(surroundings: Path, index_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `surroundings`, which gives every test an empty cache."""
    monkeypatch.setenv("ZOOBENCH_CACHE", str(index_folder))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two spinning OpenMP threads on a busy machine are a hundred times slower than one."""
    import torch

    torch.set_num_threads(1)
