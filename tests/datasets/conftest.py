"""Small data of a user's own, made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

Picture = Callable[..., Image.Image]
MakeFolder = Callable[[Mapping[str, int]], Path]


@pytest.fixture
def picture() -> Picture:
    """A small RGB picture that only its seed decides."""

    def make(seed: int, size: int = 12) -> Image.Image:
        values = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
        return Image.fromarray(values)

    return make


@pytest.fixture
def make_folder(tmp_path: Path, picture: Picture) -> MakeFolder:
    """{"train/cat": 5, ...} as a folder of different PNG pictures, numbered in each class."""

    def make(sizes: Mapping[str, int]) -> Path:
        root = tmp_path / "pets"
        root.mkdir(exist_ok=True)
        for nth, (name, many) in enumerate(sizes.items()):
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(many):
                picture(nth * 10_000 + i).save(root / name / f"{i:04}.png")
        return root

    return make


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Any]], list[Any]]:
    """Make the library give these tables; returns the list of what it was asked."""
    library = pytest.importorskip("datasets")

    def give(tables: Mapping[str, Any]) -> list[Any]:
        asked: list[Any] = []

        def load(*args: Any, **options: Any) -> Any:
            asked.append((args, options))
            return SimpleNamespace(
                config=SimpleNamespace(data_files=None),
                download_and_prepare=lambda: None,
                as_dataset=lambda: library.DatasetDict(dict(tables)),
            )

        monkeypatch.setattr(library, "load_dataset_builder", load)
        return asked

    return give
