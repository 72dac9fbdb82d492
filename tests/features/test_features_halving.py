"""Memory that ends in an extraction: batches are cut, and the features are what they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from imitated_card import DEVICE, imitated
from zoobench import datasets, models
from zoobench.features import compiled
from zoobench.features.compiled import Compiled, rows_of
from zoobench.features.halving import Halving
from zoobench.features.source import Features, View
from zoobench.interfaces import Split

SOURCES = {
    "pictures": ("timm/test_resnet?input_size=32&weights=random", "stripes"),
    "texts": ("synthetic/bag", "phrases"),
    "recordings": ("synthetic/chirplet", "tones"),
}


def split_of(name: str) -> Split:
    return datasets.load(datasets.resolve(f"synthetic/{name}?train=40&valid=8&test=8")).train


def source_of(model: str, device: str) -> Features:
    return Features(models.load(models.resolve(model), 0), View(model, device, batch_size=16))


class Memory:
    """Of a card: room for so many examples at once; how many each call has asked for."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[int] = []

    def take(self, batch: Any) -> None:
        self.asked.append(rows_of(batch))
        if self.asked[-1] > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")


def give(monkeypatch: pytest.MonkeyPatch, network: type, memory: Memory) -> None:
    """Backbones of a kind no more than `memory`."""
    embed: Any = network.embed  # type: ignore[attr-defined]

    def bounded(self: Any, batch: Any) -> Any:
        memory.take(batch)
        return embed(self, batch)

    monkeypatch.setattr(network, "embed", bounded)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("device", ["cpu", DEVICE.type])
def test_features_are_those_of_whole_batches(
    kind: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = SOURCES[kind]
    split, memory = split_of(data), Memory(5)
    expected = source_of(model, "cpu").features(split)
    with imitated(monkeypatch):
        source = source_of(model, device)
        assert source.fast is not None  # it is looked at two pictures at once
        give(monkeypatch, type(source.backbone), memory)
        found = source.features(split)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert [size for size in memory.asked if size > memory.room][:2] == [16, 8]
    assert source.stages[split.fingerprint].batch == 4, "a record says what was computed at once"
    if kind == "pictures":  # which are all as large: no later batch is tried whole
        assert memory.asked == [16, 8] + 10 * [4]


@pytest.mark.parametrize("device", ["cpu", DEVICE.type])
def test_an_example_that_does_not_fit_is_the_cell_s_end(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(0)
    with imitated(monkeypatch):
        source = source_of("synthetic/gabor", device)
        assert source.fast is not None
        give(monkeypatch, type(source.backbone), memory)
        with pytest.raises(torch.OutOfMemoryError):
            source.features(split_of("stripes"))
    assert memory.asked == [16, 8, 4, 2, 1]


def test_other_errors_are_not_tried_again() -> None:
    asked: list[int] = []

    def broken(batch: Any) -> torch.Tensor:
        asked.append(rows_of(batch))
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel"):
        Halving(broken)(torch.zeros(8, 2))
    assert asked == [8]


def test_of_short_texts_more_are_computed_at_once_than_of_long_ones() -> None:
    """Memory for 40 numbers: what is remembered is not a number of texts."""
    asked: list[tuple[int, ...]] = []

    def embed(batch: Any) -> torch.Tensor:
        ids = batch["input_ids"]
        asked.append(tuple(ids.shape))
        if ids.numel() > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        found: torch.Tensor = ids.sum(1, keepdim=True).float()
        return found

    halving = Halving(embed)
    for rows, width in ((8, 10), (8, 3), (8, 5), (3, 20), (16, 3)):
        ids = torch.arange(rows * width).reshape(rows, width)
        found, _ = halving({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        assert torch.equal(found, ids.sum(1, keepdim=True).float())
    assert asked == [(8, 10), (4, 10), (4, 10), (8, 3), (8, 5), (2, 20), (1, 20), (13, 3), (3, 3)]


def test_parts_of_a_compiled_batch_are_not_filled_up_to_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory ends at a size that went well before, when others hold more of it."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    memory, net = Memory(16), torch.nn.Conv2d(3, 4, 3)

    def embed(batch: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = net(batch).mean(dim=(2, 3))
        return found

    quick = Compiled(embed, False)
    batch = torch.randn(16, 3, 8, 8)
    with torch.no_grad():
        expected = embed(batch)
        quick(batch)
        assert quick._run is not None
        run = quick._run

        def bounded(given: Any) -> torch.Tensor:
            memory.take(given)
            return run(given)

        memory.room, quick._run = 8, bounded
        found, at_once = Halving(quick)(batch)
    torch.testing.assert_close(found, expected)
    assert at_once == 8
    assert memory.asked == [16, 8, 8, 8], "the first part is compared with the plain network"
    assert not quick.compiling.failed
