"""Shards and machines joined: nothing lost, nothing mixed, every conflict said."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cells import GABOR, write_suite
from fakes import kept
from zoobench import store
from zoobench.cli.main import main
from zoobench.errors import StoreError, UserError
from zoobench.runs import merge, session, suite
from zoobench.runs.session import RunOptions
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import Measurement, Outcomes, Record

MODELS = (GABOR, f"{GABOR}?mean=0.4", f"{GABOR}?mean=0.6")


def arrays(seed: int, n: int = 40) -> Outcomes:
    """Outcomes of `n` examples that no other seed gives."""
    rng = np.random.default_rng(seed)
    ints, floats = rng.integers(0, 4, n).astype(np.int32), rng.random(n).astype(np.float32)
    return kept(ints, ints, ints, floats, floats, floats)


def answer(file: Path, out: Path, shard: tuple[int, int] = (1, 1)) -> Path:
    """A finished run of the suite at `file`: numbers of the cell's own, written by the store."""
    spec = suite.read(str(file))
    plan = session.make_plan(spec, RunOptions(out, device="cpu", shard=shard))
    with store.Store(out, to_toml(spec), spec.identity) as writer:
        writer.write_environment({"cpu": "one"})
        for cell in plan.todo:
            seed = int(cell.key[:6], 16)
            number = Measurement("accuracy", seed / 16**6, "fraction", "higher")
            writer.append(Record(cell, "ok", (number,)), arrays(seed))
    return out


def left(file: Path, out: Path) -> int:
    """Cells of the suite that a run in `out` would still have to do."""
    return len(session.make_plan(suite.read(str(file)), RunOptions(out, device="cpu")).todo)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """s.toml, its run `whole`, and the same in two shards, `one` and `two`."""
    folder = tmp_path_factory.mktemp("merge")
    file = write_suite(folder / "s.toml", models=MODELS, controls="true")
    answer(file, folder / "whole")
    answer(file, folder / "one", (1, 2))
    answer(file, folder / "two", (2, 2))
    return folder


def changed(run: Path, out: Path, key: str, value: float) -> Path:
    """A copy of `run` at `out` in which the accuracy of `key` is another."""
    shutil.copytree(run, out)
    lines = []
    for record in store.load(run).records:
        if record.key == key:
            first = dataclasses.replace(record.measurements[0], value=value)
            measurements = (first, *record.measurements[1:])
            record = dataclasses.replace(record, measurements=measurements, predictions="")
        lines.append(store.encode(record))
    (out / store.RECORDS).write_bytes(b"".join(lines))
    return out


def test_shards_together_are_the_whole(world: Path, tmp_path: Path) -> None:
    one, two, whole = (store.load(world / name).records for name in ("one", "two", "whole"))
    assert not {r.key for r in one} & {r.key for r in two}
    merged = merge.merge([world / "two", world / "one"], tmp_path / "out")
    assert not merged.missing
    run = store.load(tmp_path / "out")
    assert [(r.key, r.predictions) for r in run.records] == [
        (r.key, r.predictions) for r in whole
    ], "in the suite's order, with the same predictions"
    for record in run.records:
        assert run.outcomes(record) is not None
    assert (tmp_path / "out" / store.ENVIRONMENT).exists()
    assert left(world / "s.toml", tmp_path / "out") == 0


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_merged_run_is_for_whom_the_umask_says(world: Path, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        merge.merge([world / "two", world / "one"], tmp_path / "out")
    finally:
        os.umask(before)
    made = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert len(made) > 4
    for path in made:
        whole = 0o777 if path.is_dir() else 0o666
        assert path.stat().st_mode & 0o777 == whole & ~umask, path.name


def test_a_missing_shard_is_said_and_can_be_run_later(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["merge", str(world / "one"), "--out", str(out)])
    assert done.exit_code == 3
    assert "cells are missing" in done.output
    assert left(world / "s.toml", out) > 0
    answer(world / "s.toml", out)
    assert not merge.merge([out, world / "two"], tmp_path / "all").missing


def test_mixed_suites_are_refused(world: Path, tmp_path: Path) -> None:
    other = write_suite(tmp_path / "o.toml", name="other")
    answer(other, tmp_path / "other")
    with pytest.raises(UserError, match="only runs of one suite"):
        merge.merge([world / "one", tmp_path / "other"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_conflicts_are_named_and_nothing_is_written(world: Path, tmp_path: Path) -> None:
    record = store.load(world / "one").records[0]
    assert record.measurements[0].metric == "accuracy"
    other = changed(world / "one", tmp_path / "other", record.key, 0.123)
    command = ["merge", str(world / "whole"), str(other), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert "0.123" in done.output
    assert record.cell.label in done.output
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(main, [*command, "--keep-first"])
    assert done.exit_code == 0, done.output
    assert "conflict:" in done.output
    held = {r.key: r.measurements[0].value for r in store.load(tmp_path / "out").records}
    assert held[record.key] == record.measurements[0].value


def test_rounding_is_no_conflict(world: Path, tmp_path: Path) -> None:
    record = store.load(world / "one").records[0]
    near = record.measurements[0].value * (1 + 1e-6)
    other = changed(world / "one", tmp_path / "other", record.key, near)
    assert not merge.merge([world / "whole", other], tmp_path / "out").conflicts


def test_an_ok_record_goes_before_a_failed_one(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "one", tmp_path / "bad")
    bad = [
        dataclasses.replace(r, status="oom", measurements=(), predictions="")
        for r in store.load(world / "one").records
    ]
    (tmp_path / "bad" / store.RECORDS).write_bytes(b"".join(map(store.encode, bad)))
    merged = merge.merge([tmp_path / "bad", world / "whole"], tmp_path / "out")
    assert merged.failed == 0
    assert merge.merge([tmp_path / "bad"], tmp_path / "alone").failed == len(bad)


def test_damaged_or_missing_predictions_are_found(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "one", tmp_path / "run")
    file = next((tmp_path / "run" / store.PREDICTIONS).glob("*.npz"))
    file.write_bytes(b"junk")
    with pytest.raises(StoreError, match="damaged"):
        merge.merge([tmp_path / "run"], tmp_path / "out")
    file.unlink()
    with pytest.raises(StoreError, match="is missing"):
        merge.merge([tmp_path / "run"], tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["run"], "nothing half-made is left"


def test_other_hub_commits_are_refused(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "one", tmp_path / "run")
    file = tmp_path / "run" / store.SUITE
    file.write_text(file.read_text().replace("synthetic/gabor@1", "synthetic/gabor@2"))
    with pytest.raises(UserError, match="name the revision"):
        merge.merge([world / "two", tmp_path / "run"], tmp_path / "out")


def test_environments_of_several_machines_are_all_kept(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "two", tmp_path / "two")
    (tmp_path / "two" / store.ENVIRONMENT).write_text('{"cpu": "another"}')
    merge.merge([world / "one", tmp_path / "two"], tmp_path / "out")
    body = json.loads((tmp_path / "out" / store.ENVIRONMENT).read_text())
    assert body["runs"]["2 two"] == {"cpu": "another"}
    assert str(tmp_path) not in json.dumps(body)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1]", '"x"'])
def test_a_damaged_environment_is_named(world: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(world / "two", tmp_path / "two")
    (tmp_path / "two" / store.ENVIRONMENT).write_text(text)
    with pytest.raises(StoreError, match=r"environment\.json: damaged"):
        merge.merge([world / "one", tmp_path / "two"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["0/2", "3/2", "x", "1", "1/0", "-1/2"])
def test_a_shard_is_checked(text: str) -> None:
    with pytest.raises(UserError, match="I/N"):
        session.parse_shard(text)


def test_more_shards_than_models_are_refused(world: Path) -> None:
    with pytest.raises(UserError, match="at most 7 shards"):
        answer(world / "s.toml", world / "none", (1, 9))
