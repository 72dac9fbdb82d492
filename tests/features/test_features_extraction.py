"""Batches, order and decoded pictures change speed, never features."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from devices import DEVICES
from zoobench import datasets, models
from zoobench.datasets.readers import PixelArray
from zoobench.features import extraction
from zoobench.features.extraction import Job, packed, picture_batch, widest_layer
from zoobench.features.pixels import PixelCache, pixel_reader
from zoobench.features.source import Features, View
from zoobench.interfaces import InputSpec, Split
from zoobench.models.backbones import ImageBackbone
from zoobench.models.images import pixel_path
from zoobench.tasks.classification import Labels

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def shared_index(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of all models takes seconds to build: once for this file."""
    monkeypatch.setenv("ZOOBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "extraction-cache"))


def pictures(count: int = 6) -> Split:
    """Colour noise of 40 x 60, which no resize leaves alone."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 40, 60, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 2
    return Split("train", tuple(map(str, range(count))), Labels(labels), PixelArray(pixels))


def timm_backbone(name: str = "timm/resnet10t", options: str = "") -> Any:
    return models.load(models.resolve(f"{name}?weights=random&input_size=64{options}"), seed=0)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 120), st.integers(1, 9)
)
def test_packing_covers_every_row_within_the_budget(
    widths: list[int], budget: int, most: int
) -> None:
    widths.sort()
    parts = list(packed(widths, budget, most))
    assert [i for part in parts for i in part] == list(range(len(widths)))
    for part in parts:
        assert 1 <= len(part) <= most
        assert len(part) == 1 or len(part) * widths[part[-1]] <= budget


def test_texts_of_any_length_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extraction.TOKENS, "cpu", 40)
    monkeypatch.setattr(extraction, "CHUNK", 7)  # several chunks
    rng = np.random.default_rng(0)
    words = tuple(
        " ".join(f"w{k}" for k in rng.integers(0, 99, n)) for n in rng.integers(1, 30, 23)
    )
    split = Split("train", words, Labels(np.zeros(23, dtype=np.int64)), words.__getitem__)
    bag = models.load(models.resolve("synthetic/bag"), seed=0)
    found = Features(bag, View("bag")).features(split)
    for i in range(len(split)):
        alone = bag.embed(bag.collate([bag.prepare(split.read(i))]))
        torch.testing.assert_close(found[i : i + 1], alone.detach())


def test_the_batch_follows_the_widest_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.Flatten())
    spec = InputSpec("image", (3, 32, 32))
    blank = torch.zeros(3, 32, 32)
    small = ImageBackbone(module, spec, "", lambda picture: blank, lambda net, batch: net(batch))
    assert widest_layer(small, CPU) == 2 * 16 * 32 * 32  # flattening reads and writes it
    monkeypatch.setattr(extraction, "last_cache_bytes", lambda: 4 * 16 * 2 * 16 * 32 * 32)
    assert picture_batch(small, CPU) == 16
    assert picture_batch(small, CPU, item_bytes=2) == 32
    monkeypatch.setattr(extraction, "last_cache_bytes", lambda: 1)
    assert picture_batch(small, CPU) == 8


@pytest.mark.parametrize(
    "name", ["timm/resnet10t", "packaged/efficientnet-lite0", "torchvision/mobilenet_v3_small"]
)
@pytest.mark.parametrize("options", ["", "&crop_pct=0.8", "&interpolation=bilinear"])
def test_cut_pixels_are_those_of_the_weights_own_transform(name: str, options: str) -> None:
    """How far apart may they lie? Not at all: every bit is equal."""
    backbone = timm_backbone(name, options)
    path = pixel_path(backbone.transform)
    assert path is not None
    split = pictures()
    own = torch.stack([backbone.prepare(split.read(i)) for i in range(len(split))])
    cut = np.stack([path.pixels(split.read(i)) for i in range(len(split))])
    assert cut.dtype == np.uint8
    assert torch.equal(path.tensor(torch.from_numpy(cut)), own)


def test_a_transform_that_is_not_known_is_run_as_it_is() -> None:
    backbone = timm_backbone()
    backbone.transform = torch.nn.Identity()
    assert pixel_path(backbone.transform) is None
    assert pixel_reader(backbone, pictures(), None) is None


def test_a_cut_that_gives_other_values_is_not_used() -> None:
    backbone = timm_backbone()
    honest = backbone.transform
    backbone.transform = Shifted(honest.transforms)
    assert pixel_path(backbone.transform) is not None
    assert pixel_reader(backbone, pictures(), None) is None


class Shifted:
    """A transform that looks like timm's, and is not."""

    def __init__(self, transforms: Any) -> None:
        self.transforms = transforms

    def __call__(self, picture: Any) -> torch.Tensor:
        for step in self.transforms:
            picture = step(picture)
        shifted: torch.Tensor = picture + 1e-6
        return shifted


def features(
    backbone: Any, split: Split, cache: PixelCache | None, device: str = "cpu"
) -> torch.Tensor:
    return Features(backbone, View("m", device, batch_size=4), pixels=cache).features(split)


class Counting:
    """A reader that counts what it is asked for."""

    def __init__(self, split: Split) -> None:
        self.inner, self.asked = split.read, 0

    def __call__(self, i: int) -> Any:
        self.asked += 1
        return self.inner(i)


@pytest.mark.parametrize("device", DEVICES)
def test_models_of_one_geometry_decode_once(device: str, tmp_path: Path) -> None:
    split, cache = pictures(), PixelCache(tmp_path)
    counting = Counting(split)
    counted = dataclasses.replace(split, read=counting)
    first, second = timm_backbone(), timm_backbone(options="&mean=[0.1,0.2,0.3]")
    plain = [features(b, split, None, device) for b in (first, second)]
    assert torch.equal(features(first, counted, cache, device), plain[0])
    assert counting.asked >= len(split)
    counting.asked = 0
    assert torch.equal(features(second, counted, cache, device), plain[1])
    assert counting.asked == 1  # the first picture, to compare with the transform itself
    features(timm_backbone(options="&crop_pct=0.7"), counted, cache, device)
    assert counting.asked > len(split)


@pytest.fixture
def five_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    yield
    torch.set_num_threads(before)


def test_threads_change_no_bit(tmp_path: Path, five_threads: None) -> None:
    split, cache, backbone = pictures(50), PixelCache(tmp_path), timm_backbone()
    side_by_side = features(backbone, split, cache)
    assert torch.get_num_threads() == 5
    torch.set_num_threads(1)
    assert torch.equal(side_by_side, features(backbone, split, None))
    counting = Counting(split)
    kept = features(backbone, dataclasses.replace(split, read=counting), cache)
    assert torch.equal(side_by_side, kept)
    assert counting.asked == 1  # what several threads put there is whole, and in order


def test_texts_of_several_threads_keep_their_places(five_threads: None) -> None:
    words = tuple(f"{'a ' * (i % 7)}w{i}" for i in range(40))
    split = Split("train", words, Labels(np.zeros(40, dtype=np.int64)), words.__getitem__)
    bag = models.load(models.resolve("synthetic/bag"), seed=0)
    view = View("bag", batch_size=3)
    side_by_side = Features(bag, view).features(split)
    torch.set_num_threads(1)
    assert torch.equal(side_by_side, Features(bag, view).features(split))


class Broken(Counting):
    """A reader whose second picture cannot be read."""

    def __call__(self, i: int) -> Any:
        if i == 1:
            raise OSError("gone")
        return super().__call__(i)


def test_one_thread_that_fails_ends_them_all(five_threads: None) -> None:
    broken = Broken(pictures(600))
    split = dataclasses.replace(pictures(600), read=broken)
    with pytest.raises(OSError, match="gone"):
        features(timm_backbone(), split, None)
    assert broken.asked < 600
    assert torch.get_num_threads() == 5


@pytest.mark.parametrize(
    ("threads", "examples", "taken"),
    [(2, 40, 1), (8, 40, 1), (9, 40, 2), (16, 40, 2), (8, 6, 4), (8, 3, 8)],
)
def test_cores_are_shared_out(
    threads: int, examples: int, taken: int, monkeypatch: pytest.MonkeyPatch, five_threads: None
) -> None:
    seen = set()
    bag = models.load(models.resolve("synthetic/bag"), seed=0)
    embed = type(bag).embed

    def watched(self: Any, batch: Any) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return embed(self, batch)

    monkeypatch.setattr(type(bag), "embed", watched)
    words = tuple(map(str, range(examples)))
    split = Split("train", words, Labels(np.zeros(examples, dtype=np.int64)), words.__getitem__)
    torch.set_num_threads(threads)
    Features(bag, View("bag", batch_size=3)).features(split)
    assert seen == {taken}


def test_a_damaged_picture_is_decoded_again(tmp_path: Path) -> None:
    split, cache, backbone = pictures(), PixelCache(tmp_path), timm_backbone()
    good = features(backbone, split, cache)
    (data,) = tmp_path.glob("*.u8")
    blob = bytearray(data.read_bytes())
    blob[3 * 64 * 64 * 3 + 5] ^= 255
    data.write_bytes(blob)
    assert torch.equal(features(backbone, split, cache), good)
    data.write_bytes(blob[:100])  # cut short: nothing can be mapped
    assert torch.equal(features(backbone, split, cache), good)


def test_the_picture_cache_is_bounded(tmp_path: Path) -> None:
    split, size = pictures(), 6 * 64 * 64 * 3
    features(timm_backbone(), split, PixelCache(tmp_path, size - 1))
    assert not list(tmp_path.glob("*"))
    cache = PixelCache(tmp_path, size)
    for crop in ("0.9", "0.8"):
        features(timm_backbone(options=f"&crop_pct={crop}"), split, cache)
    assert len(list(tmp_path.glob("*.u8"))) == len(list(tmp_path.glob("*.json"))) == 1
    (tmp_path / "file").write_text("")
    blocked = PixelCache(tmp_path / "file" / "below", size)
    assert torch.isfinite(features(timm_backbone(), split, blocked)).all()


def test_recordings_of_any_length_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of unlike lengths, in several chunks; each recording's features are its own."""
    monkeypatch.setitem(extraction.HEARD, "cpu", 9000)
    monkeypatch.setattr(extraction, "DECODED", 7)
    split = datasets.load(datasets.resolve("synthetic/tones?train=17&valid=2&test=2")).train
    ears: Any = models.load(models.resolve("synthetic/chirplet"), seed=0)
    found = Features(ears, View("chirplet")).features(split)
    for i in range(len(split)):
        alone = ears.embed(ears.collate([ears.prepare(split.read(i))]))
        torch.testing.assert_close(found[i : i + 1], alone.detach())
    widths = [int(ears.prepare(split.read(i))["values"].numel()) for i in range(len(split))]
    job = Job(ears, ears, CPU)
    batches = [rows for rows, _ in extraction.batches(job, split, None)]
    assert sorted(i for rows in batches for i in rows) == list(range(17))
    assert all(len(rows) * max(widths[i] for i in rows) <= 9000 for rows in batches)
    assert max(map(len, batches)) > 1
