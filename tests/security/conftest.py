"""Every hostile case: nothing executed, nothing touched outside, a documented exit code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile import Canary, snapshot


@pytest.fixture(autouse=True)
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    planted = Canary(tmp_path_factory.mktemp("canary") / "executed")
    yield planted
    assert not planted.path.exists(), "something that was read was executed"


@pytest.fixture(autouse=True)
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that no case is given: its files must be as they were, whatever the case reaches."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.txt").write_text("a secret of somebody else's\n", encoding="utf-8")
    (folder / "records.jsonl").write_text('{"key": "0"}\n', encoding="utf-8")
    (folder / "below").mkdir()
    (folder / "below" / "notes.md").write_text("notes\n", encoding="utf-8")
    before = snapshot(folder)
    yield folder
    assert snapshot(folder) == before, "files outside of the case's folder were touched"


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The case's own folder, which is the current one."""
    folder = tmp_path / "inside"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
