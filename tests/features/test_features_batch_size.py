"""The batch of pictures on a GPU: of made-up throughput and memory, and on an imitated card."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from imitated_card import DEVICE, imitated
from zoobench import datasets, models
from zoobench.features import batch_size, extraction
from zoobench.features.batch_size import knee, rates
from zoobench.features.source import Features, View

NETWORK = "timm/test_resnet?input_size=32&weights=random"


def card(
    most: float, half: float, fits: int, asked: list[int] | None = None
) -> Callable[[int], float]:
    """Examples a second: `most` at last, half of that of a batch of `half`; memory for `fits`."""

    def rate(size: int) -> float:
        if asked is not None:
            asked.append(size)
        if size > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return most * size / (size + half)

    return rate


@pytest.mark.parametrize(
    ("half", "fits", "most", "batch", "asked"),
    [
        (2, 10**6, 1024, 32, [32, 64, 128]),  # flat from the first on
        (30, 10**6, 1024, 512, [32, 64, 128, 256, 512, 1024]),
        (300, 10**6, 1024, 1024, [32, 64, 128, 256, 512, 1024]),  # as far as it may
        (30, 10**6, 128, 128, [32, 64, 128]),
        (300, 200, 1024, 128, [32, 64, 128, 256]),  # memory ends
        (30, 5, 1024, 4, [32, 16, 8, 4]),  # it ends before the search begins
        (30, 10**6, 4, 4, [4]),
    ],
)
def test_the_knee_of_made_up_cards(
    half: float, fits: int, most: int, batch: int, asked: list[int]
) -> None:
    tried: list[int] = []
    found = rates(card(1e4, half, fits, tried), most)
    assert tried == asked
    assert knee(found) == batch


def test_the_knee_is_the_least_that_is_good_enough() -> None:
    assert knee({32: 900, 64: 940, 128: 1000, 256: 990}) == 128
    assert knee({32: 900, 64: 940, 128: 1000, 256: 1001}) == 128
    assert knee({32: 960, 64: 1000}) == 32


def test_errors_are_raised_as_they_are() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        rates(card(1e4, 30, 0), 1024)

    def broken(size: int) -> float:
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel"):
        rates(broken, 1024)


def test_a_card_s_batch_is_measured_once_and_changes_no_feature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[int] = []
    rate = batch_size._rate

    def counted(backbone: object, device: torch.device, size: int) -> float:
        assert rate(backbone, device, size) > 0  # type: ignore[arg-type]
        measured.append(size)
        return card(1e4, 30, 100)(size)

    splits = datasets.load(datasets.resolve("synthetic/stripes?train=80&valid=8&test=8"))
    expected = Features(models.load(models.resolve(NETWORK), 0), View(NETWORK)).features(
        splits.train
    )
    monkeypatch.setattr(batch_size, "_rate", counted)
    monkeypatch.setattr(extraction, "MEASURED_FROM", 8)
    with imitated(monkeypatch):
        source = Features(models.load(models.resolve(NETWORK), 0), View(NETWORK, DEVICE.type))
        found = source.features(splits.train)
        source.features(splits.valid)
    assert measured == [32, 64, 128], "128 do not fit"
    assert source.stages[splits.train.fingerprint].batch == 64
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
