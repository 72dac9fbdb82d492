"""`zoobench recommend --data` through the real download path, against a hub on 127.0.0.1."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import forked
from hubstub import HubStub
from tinymodels import tiny_timm
from zoobench import datasets, store
from zoobench.tasks.classification import labels_of

ROOM = 3_000_000
"""No file of the child may be larger: what a full disk would do to the largest."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    split = datasets.load(datasets.resolve("synthetic/stripes?train=160")).train
    for i in range(len(split)):
        folder = tmp_path / "stripes" / f"class{labels_of(split)[i]}"
        folder.mkdir(parents=True, exist_ok=True)
        split.read(i).save(folder / f"{i}.png")
    return tmp_path / "stripes"


def recommend(hub: HubStub, home: Path, *args: str) -> tuple[Any, str]:
    done = forked.run(
        "-m", "zoobench", "recommend", "--json", "--no-fine-tune", "--device", "cpu",
        "--budget", "120s", *args, env={**os.environ, **hub.env(home)}, largest_file=ROOM,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_two_are_fetched_tried_and_ranked_and_three_faults_cost_one_each(
    pictures: Path, tmp_path: Path
) -> None:
    names = ["gone", "slow", "large", "a", "b"]
    repos = {f"u/{name}": tiny_timm(seed) for seed, name in enumerate(names)}
    repos["u/large"]["model.safetensors"] += bytes(ROOM)
    asked = [part for name in names for part in ("--models", f"timm/u/{name}")]
    common = ["--data", str(pictures), "--out", str(tmp_path / "run"), *asked]
    with HubStub(repos) as hub:
        hub.faults.missing.add("u/gone")
        hub.faults.slow["u/slow"] = 20_000
        found, told = recommend(hub, tmp_path / "home", *common)
        tried = {one["candidate"]["model"] for one in found["standings"]}
        assert tried == {"timm/u/a", "timm/u/b"}
        assert sum(one["first"] for one in found["standings"]) == pytest.approx(1)
        assert found["spent"] <= 120
        why = found["ruled_out"]
        assert "no such file (404)" in why["timm/u/gone"]
        assert "kB/s" in why["timm/u/slow"]
        assert "too large" in why["timm/u/large"]
        assert len(why) == 3
        assert "Fetching 5 models that are not here, of unknown size (at most 5 GB)" in told
        assert "timm/u/a: downloaded 1.51 MB" in told
        measured = [record.cell.model for record in store.load(tmp_path / "run").records]
        commits = {model.revision for model in measured if model.source != "control"}
        assert commits == {hub.commit("u/a"), hub.commit("u/b")}, "pinned to what was fetched"
        downloads = [one for one in found["done"] if one["stage"] == "download"]
        assert sum(one["facts"]["download_bytes"] for one in downloads) > 3e6
        assert found["stages"]["download"] < found["spent"]
