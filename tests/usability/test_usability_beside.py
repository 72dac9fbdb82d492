"""`zoobench check RUN`: each model is asked once, and what is there is not asked again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cells import cell, write_suite
from hostile import Said
from zoobench import store
from zoobench.runs import merge, planning, suite
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import Measurement, Record, Ref
from zoobench.usability import beside
from zoobench.usability import check as checking
from zoobench.usability.answers import FILE, encode, read
from zoobench.usability.beside import check_run, models_of
from zoobench.usability.check import answered
from zoobench.usability.subject import Subject

MODELS = ("planted/sound", "planted/state")
ASKED = ("permissive", "stateless")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Probes are answered in this process; those that load a model are noted."""
    noted: list[tuple[str, str]] = []

    def here(name: str, ref: Ref, seconds: float, threads: int) -> Any:
        noted.append((ref.name, name))
        return answered(name, Subject(ref))

    monkeypatch.setattr(checking, "_apart", here)
    return noted


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of two planted models."""
    file = write_suite(tmp_path / "s.toml", models=MODELS)
    spec = suite.read(str(file))
    with store.Store(tmp_path / "run", to_toml(spec), spec.identity) as writer:
        for one in planning.plan(spec):
            number = Measurement("accuracy", 0.5, "fraction", "higher")
            writer.append(Record(one, "ok", (number,)))
    return tmp_path / "run"


def test_answers_are_kept_and_not_asked_again(run: Path, asked: list[tuple[str, str]]) -> None:
    first = list(check_run(store.load(run), ASKED))
    assert [(ref.name, one.probe, one.answer, new) for ref, one, new in first] == [
        ("sound", "permissive", "yes", True),
        ("sound", "stateless", "yes", True),
        ("state", "permissive", "yes", True),
        ("state", "stateless", "no", True),
    ]
    assert asked == [("sound", "stateless"), ("state", "stateless")]
    assert [one for _, one, _ in first] == list(read(run).values())
    more = list(check_run(store.load(run), (*ASKED, "other-sizes")))
    assert [new for _, _, new in more] == [False, False, True] * 2
    assert [one for _, one, _ in more][:2] == [one for _, one, _ in first][:2]
    list(check_run(store.load(run), ASKED, again=True))
    assert len(asked) == 6


def test_a_stopped_check_keeps_what_it_has(run: Path, asked: list[tuple[str, str]]) -> None:
    going = check_run(store.load(run), ASKED)
    next(going)
    next(going)
    del going
    assert [key[1] for key in read(run)] == list(ASKED)
    list(check_run(store.load(run), ASKED))
    assert asked == [("sound", "stateless"), ("state", "stateless")]


def test_an_unknown_is_asked_again_when_the_libraries_are_others(
    run: Path, asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [one for _, one, _ in check_run(store.load(run), ("stateless",))]
    unknown = [dataclasses.replace(one, answer="unknown") for one in kept]
    (run / FILE).write_bytes(b"".join(map(encode, unknown)))
    assert not any(new for *_, new in check_run(store.load(run), ("stateless",)))
    monkeypatch.setattr(beside, "versions", lambda ref, name: {"torch": "3"})
    assert all(new for *_, new in check_run(store.load(run), ("stateless",)))
    assert not any(new for *_, new in check_run(store.load(run), ("stateless",)))


def test_a_model_that_is_here_no_more_is_unknown(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plantedmodels.Planted.resolve", classmethod(gone))
    found = [one for _, one, _ in check_run(store.load(run), ASKED)]
    assert {one.answer for one in found} == {"unknown"}
    assert {one.why for one in found} == {"it cannot be loaded: no such model"}


def gone(cls: type, ref: Ref, where: str) -> Ref:
    from zoobench.errors import UserError

    raise UserError("no such model")


def test_without_a_suite_its_records_name_the_models(tmp_path: Path) -> None:
    names = ("planted/sound@1", "control/raw-probe@1", "planted/sound@1?weights=random")
    records = tuple(Record(cell(name), "ok") for name in names)
    assert models_of(store.Run(tmp_path, records, {})) == [Ref.parse("planted/sound@1")]


def test_merge_takes_the_answers_along(
    run: Path, asked: list[tuple[str, str]], tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "other")
    list(check_run(store.load(run), ("stateless",)))
    list(check_run(store.load(tmp_path / "other"), ("permissive",)))
    merge.merge([run, tmp_path / "other"], tmp_path / "merged")
    assert read(tmp_path / "merged") == read(run) | read(tmp_path / "other")
    assert len(read(tmp_path / "merged")) == 4


def test_the_command_says_what_was_there(
    run: Path, asked: list[tuple[str, str]], zoobench: Callable[..., Said]
) -> None:
    only = [part for name in ASKED for part in ("--only", name)]
    first = zoobench("check", run, *only)
    assert (first.code, len(asked)) == (0, 2)
    assert "planted/state@1\n" in first.out
    assert "4 answers are new" in first.out
    told = [json.loads(line) for line in zoobench("check", run, *only, "--json").out.splitlines()]
    assert [one["model"] for one in told] == ["planted/sound@1", "planted/state@1"]
    assert [row["answer"] for row in told[1]["usability"]] == ["yes", "no"]
    assert "0 answers are new, 4 were there" in zoobench("check", run, *only).out
    assert len(asked) == 2
    (run / FILE).write_text("{}\n")
    damaged = zoobench("check", run)
    assert damaged.code == 2
    assert f"{FILE}:1: not an answer of a probe" in damaged.error
    empty = zoobench("check", run.parent)
    assert "this is no run directory" in empty.error
