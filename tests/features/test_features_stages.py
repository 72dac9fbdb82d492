"""What bounded an extraction: of made-up times, of a slow decoder, of a slow network, of a card."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imitated_card import DEVICE, imitated
from zoobench import datasets, machine, models
from zoobench.features import stages
from zoobench.features.cache import FeatureCache
from zoobench.features.source import Features, View
from zoobench.features.stages import NOTHING, StageClock, StageSeconds
from zoobench.interfaces import Split

NETWORK = "timm/test_resnet?input_size=32&weights=random"
SLOW = 0.03
"""Seconds that a slow stage sleeps for a batch."""


def split_of() -> Split:
    return datasets.load(datasets.resolve("synthetic/stripes?train=24&valid=8&test=8")).train


def source_of(device: str = "cpu", cache: Path | None = None) -> Features:
    kept = FeatureCache(cache) if cache is not None else None
    backbone = models.load(models.resolve(NETWORK), 0)
    return Features(backbone, View(NETWORK, device, batch_size=8), kept)


def slowly_read(split: Split, seconds: float) -> Split:
    def read(i: int) -> Any:
        time.sleep(seconds)
        return split.read(i)

    return dataclasses.replace(split, read=read)


class Told:
    """An event of a GPU, at a second of its own."""

    def __init__(self, at: float) -> None:
        self.at = at

    def elapsed_time(self, later: Told) -> float:
        return 1000 * (later.at - self.at)


def test_a_gpu_s_events_tell_its_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken up, copied, computed; before the first batch nobody waits."""
    monkeypatch.setattr(machine, "reads_pinned", lambda device: True)
    events = iter([Told(one) for one in (5.0, 5.5, 7.5, 10.5, 10.75, 12.75)])
    monkeypatch.setattr(stages, "marked", lambda device: next(events))
    clock = StageClock(torch.device("cpu"))
    for rows in (64, 32):
        clock.batch(rows, clock.mark(), clock.mark())
    found = clock.seconds()
    assert found == StageSeconds(waited=3.0, copied=0.75, computed=4.0, batch=64)
    assert found.bound == "compute"
    assert found.waiting_share == 3.0 / 7.75


@pytest.mark.parametrize(
    ("waited", "copied", "computed", "host", "bound"),
    [
        (3.0, 1.0, 2.0, 2.5, "decode"), (3.0, 1.0, 2.0, 0.5, "host"), (1.0, 3.0, 2.0, 9.0, "copy"),
        (1.0, 0.5, 2.0, 9.0, "compute"), (3.0, 0.0, 2.0, 0.0, "decode"),
    ],
)  # fmt: skip
def test_the_longest_stage_bounds(
    waited: float, copied: float, computed: float, host: float, bound: str
) -> None:
    """A GPU that waits while batches are there waits for the thread that tells it what to do."""
    assert StageSeconds(waited, copied, computed, host, 8).bound == bound


def test_sums_and_facts_are_those_of_both() -> None:
    one, other = StageSeconds(1, 2, 3, 4, 8), StageSeconds(0.5, 0, 0, 0, 16)
    assert one + other == StageSeconds(1.5, 2, 3, 4, 16)
    assert StageSeconds.of((one + other).facts()) == one + other
    assert NOTHING.waiting_share == 0
    for damaged in (None, "x", {"waited": 1}, {}):
        assert StageSeconds.of(damaged) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_slow_decoder_and_a_slow_network_are_told_apart(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    split = split_of()
    decoding = source_of()
    decoding.features(slowly_read(split, SLOW))
    found = decoding.stages[split.fingerprint]
    assert found.bound == "decode"
    assert found.waited >= 24 * SLOW
    computing = source_of()
    embed = computing.fast.embed

    def slow(batch: Any) -> torch.Tensor:
        time.sleep(10 * SLOW)
        return embed(batch)

    object.__setattr__(computing.fast, "embed", slow)
    computing.features(split)
    found = computing.stages[split.fingerprint]
    assert found.bound == "compute"
    assert found.computed >= 3 * 10 * SLOW
    assert found.waiting_share < 0.5
    assert found.batch == 8


def test_texts_that_are_slow_to_prepare_are_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are prepared before their batches are formed, to be sorted."""
    split = datasets.load(datasets.resolve("synthetic/phrases?train=24&valid=8&test=8")).train
    source = Features(models.load(models.resolve("synthetic/bag"), 0), View("synthetic/bag"))
    prepare = source.backbone.prepare

    def slow(raw: Any) -> Any:
        time.sleep(SLOW)
        return prepare(raw)

    object.__setattr__(source.backbone, "prepare", slow)
    source.features(split)
    found = source.stages[split.fingerprint]
    assert found.bound == "decode"
    assert found.waited >= 24 * SLOW
    assert found.host_waited == 0


def test_a_card_that_gets_no_batches_waits_and_so_does_its_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split = split_of()
    with imitated(monkeypatch):
        source = source_of(DEVICE.type)
        source.features(split.subset(np.arange(8)))  # what is done once
        source.features(slowly_read(split, SLOW))
    found = source.stages[split.fingerprint]
    assert found.bound == "decode"
    assert found.host_waited >= 8 * SLOW
    assert found.waiting_share > 0.5


def test_what_was_kept_says_it_again(tmp_path: Path) -> None:
    split = split_of()
    first = source_of(cache=tmp_path)
    first.features(split)
    second = source_of(cache=tmp_path)
    second.features(split)
    assert not second.computed
    ours, theirs = (one.stages[split.fingerprint].facts() for one in (first, second))
    assert ours == theirs
