"""Cells of maps: the numbers of the maps themselves, half as large, kept and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoobench import models
from zoobench.errors import NotFinite, Unsupported
from zoobench.features.cache import FeatureCache
from zoobench.features.cells import grid_of
from zoobench.features.mapped import MappedCache
from zoobench.features.source import Features, View
from zoobench.interfaces import Split
from zoobench.models.dense import dense, resample
from zoobench.tasks.classification import Labels

SIZE = (64, 96)


def pictures(n: int = 5, seed: int = 0) -> Split:
    """Pictures of noise, of unlike sizes."""
    rng = np.random.default_rng(seed)
    sides = [(int(h), int(w)) for h, w in rng.integers(20, 120, (n, 2))]
    drawn = [Image.fromarray(rng.integers(0, 255, (*s, 3), dtype=np.uint8)) for s in sides]
    ids = tuple(f"{seed}-{i}" for i in range(n))
    return Split("train", ids, Labels(np.zeros(n, dtype=np.int64)), drawn.__getitem__)


def source(folder: Path | None, name: str = "synthetic/gabor", **view: Any) -> Features:
    backbone = models.load(models.resolve(name), seed=1)
    cache = FeatureCache(folder) if folder is not None else None
    return Features(backbone, View(name, **{"batch_size": 2, **view}), cache)


@pytest.fixture(scope="module", params=["synthetic/gabor", "timm/test_resnet?weights=random"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("layers", ["last", "pyramid"])
def test_cells_are_the_maps_on_the_grid(name: str, layers: str) -> None:
    split, made = pictures(), source(None, name)
    cells = made.cells(split, SIZE, layers)
    view = dense(made.backbone, SIZE)
    assert cells.grid == grid_of(SIZE) == (4, 6)
    for i in range(len(split)):
        frame, where = view.place(split.read(i))
        assert cells.places[i] == where
        with torch.no_grad():
            maps = view.maps(view.tensor(torch.from_numpy(frame[None])))
        chosen = maps[-1:] if layers == "last" else maps
        want = torch.cat([resample(one, view.input_size, SIZE, (4, 6)) for one in chosen], dim=1)
        rows = cells.rows(np.arange(i * 24, (i + 1) * 24))
        torch.testing.assert_close(rows, want[0].permute(1, 2, 0).reshape(24, -1), rtol=2**-10,
                                   atol=1e-5)  # fmt: skip
    assert cells.values.dtype == np.float16
    assert 0 < cells.loss < 2**-11


def test_a_frame_that_the_grid_does_not_divide_is_covered() -> None:
    cells = source(None).cells(pictures(1), (40, 50))
    assert cells.grid == (3, 4)
    assert np.isfinite(cells.values).all()


def test_cells_are_kept_and_read_again(tmp_path: Path) -> None:
    split, first, second = pictures(), source(tmp_path), source(tmp_path)
    computed = first.cells(split, SIZE)
    assert first.cells(split, SIZE) is computed
    backbone: Any = second.backbone
    seen: list[int] = []
    backbone.map_reader = _counted(backbone.map_reader, seen)
    kept = second.cells(split, SIZE)
    assert isinstance(kept.values, np.memmap)
    assert not kept.values.flags.writeable
    np.testing.assert_array_equal(computed.values, kept.values)
    assert (kept.places, kept.loss) == (computed.places, computed.loss)
    assert second.seconds == first.seconds
    assert seen == [1, 4]  # one to see the shapes, and the fixed pictures
    assert not list((tmp_path / "cells").glob("*.tmp"))


def _counted(made: Any, seen: list[int]) -> Any:
    """`map_reader` that notes how many pictures were read."""
    import dataclasses

    def reader(size: Any) -> Any:
        inner = made(size)

        def read(module: Any, batch: Any, wanted: Any) -> Any:
            seen.append(len(batch))
            return inner.read(module, batch, wanted)

        return dataclasses.replace(inner, read=read)

    return reader


def test_keys_flip_with_each_thing_that_changes_a_number(tmp_path: Path) -> None:
    def keys(name: str, split: Split, size: Any = SIZE, layers: str = "last") -> set[str]:
        folder = tmp_path / f"{name}{split.ids}{size}{layers}".replace("/", "-")[:99]
        source(folder, name).cells(split, size, layers)
        return {path.stem for path in (folder / "cells").glob("*.f2")}

    split, resnet = pictures(2), "timm/test_resnet?weights=random"
    told = [
        keys("synthetic/gabor", split),
        keys("synthetic/gabor", pictures(2, seed=1)),
        keys("synthetic/gabor", split, (64, 64)),
        keys("synthetic/gabor?mean=0.4", split),
        keys("synthetic/gabor?weights=random", split),
        keys(resnet, split),
        keys(resnet, split, SIZE, "pyramid"),
    ]
    assert all(len(one) == 1 for one in told)
    assert len(set.union(*told)) == len(told)
    assert keys("synthetic/gabor", split) == told[0]


def test_a_damaged_entry_is_computed_again(tmp_path: Path) -> None:
    split = pictures()
    good = np.array(source(tmp_path).cells(split, SIZE).values)
    data = next((tmp_path / "cells").glob("*.f2"))
    blob = bytearray(data.read_bytes())
    blob[7] ^= 255
    data.write_bytes(blob)
    np.testing.assert_array_equal(source(tmp_path).cells(split, SIZE).values, good)
    assert data.read_bytes() == good.tobytes()


def test_an_entry_of_a_model_that_computes_otherwise_is_not_taken(tmp_path: Path) -> None:
    """A fault of a kind that the key does not name: the fixed pictures tell."""
    split = pictures()
    good = np.array(source(tmp_path).cells(split, SIZE).values)
    manifest = next((tmp_path / "cells").glob("*.json"))
    from zoobench.features.cache import sealed, unsealed

    body = unsealed(manifest.read_bytes())
    body["probe"]["sketch"] = [2 * value for value in body["probe"]["sketch"]]
    manifest.write_bytes(sealed(body))
    data = manifest.with_suffix(".f2")
    before = data.stat().st_ino
    np.testing.assert_array_equal(source(tmp_path).cells(split, SIZE).values, good)
    assert data.stat().st_ino != before


def test_without_room_cells_stay_in_memory(tmp_path: Path) -> None:
    cache = MappedCache(tmp_path, limit_bytes=1000)
    assert cache.room("key", (1, 4, 6, 32)) is None
    assert cache.room("key", (1, 1, 1, 32)) is not None
    (tmp_path / "file").write_text("")
    assert MappedCache(tmp_path / "file").room("key", (1, 1, 1, 32)) is None
    blocked = source(tmp_path / "file" / "below")
    assert blocked.cells(pictures(1), SIZE).values.shape == (1, 4, 6, 32)


def test_batches_and_threads_change_nothing() -> None:
    split = pictures(7)
    one, many = (source(None, batch_size=n).cells(split, SIZE) for n in (1, 7))
    np.testing.assert_allclose(one.values.astype(float), many.values.astype(float), atol=1e-3)
    assert one.places == many.places


def test_what_is_not_finite_is_an_error_and_what_is_large_is_cut() -> None:
    made = source(None)
    weight = next(made.module.parameters())
    with torch.no_grad():
        weight[0] = 1e4
    cells = made.cells(pictures(2), SIZE)
    assert cells.values.max() == 65504
    assert np.isfinite(cells.values).all()
    assert cells.loss > 0.5
    with torch.no_grad():
        weight[0] = float("nan")
    with pytest.raises(NotFinite, match="the maps of 3 of 3 train examples"):
        source_of(made).cells(pictures(3), SIZE)


def source_of(made: Features) -> Features:
    """A new source over the same backbone."""
    return Features(made.backbone, made.view)


def test_texts_have_no_cells() -> None:
    with pytest.raises(Unsupported, match="no maps"):
        source(None, "synthetic/bag").cells(pictures(1), SIZE)


def test_manifests_are_json_that_says_the_loss(tmp_path: Path) -> None:
    cells = source(tmp_path).cells(pictures(), SIZE)
    body = json.loads(next((tmp_path / "cells").glob("*.json")).read_text())
    assert body["loss"] == cells.loss
    assert body["shape"] == list(cells.values.shape)
