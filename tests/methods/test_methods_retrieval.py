"""Captions by a network of pictures and texts as it is: what is read for it, and what is timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cells import cell, settings
from tinypairs import tiny_pair
from zoobench import datasets, models
from zoobench.workers.runner import Bench


def test_nothing_is_read_of_train_and_what_is_read_is_timed(tmp_path: Path) -> None:
    tiny_pair("clip", tmp_path)
    pair = models.resolve(f"hf/pair?weights={tmp_path}").text
    data = datasets.resolve("synthetic/stripes?task=retrieval&test=9&train=40&valid=5")
    usual, bench = cell(pair, data.text, "as-is"), Bench(settings())
    asked = replace(usual, params={}, versions={**usual.versions, "task": "retrieval@1"})
    record = bench.run(asked).record
    assert record.status == "ok", record.error
    splits, (loaded,) = datasets.load(data), bench.held
    read = {splits.valid.fingerprint, splits.test.fingerprint}
    assert loaded.features.seconds.keys() == read
    spent = sum(loaded.features.seconds.values())
    assert record.value("extract_seconds") == pytest.approx(spent, abs=1e-6)
