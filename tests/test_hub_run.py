"""`zoobench run` through the real download path, against a hub on 127.0.0.1; then offline."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

import forked
from cells import write_suite
from hubstub import HubStub, folder_files
from tinymodels import tiny_bert, tiny_timm, write_files
from tinypairs import KINDS, tiny_pair

MODELS = ["timm/u/net", "{ id = 'hf/u/bert', modality = 'text' }"]
DATASETS = ["synthetic/stripes?train=40&valid=12&test=20", "synthetic/phrases?train=40&valid=12"]
BIG = "model.safetensors"


def run(suite: Path, out: Path, env: dict[str, str], *more: str) -> tuple[int, str]:
    return zoobench(env, "run", str(suite), "--out", str(out), *more)


def zoobench(env: dict[str, str], *args: str) -> tuple[int, str]:
    done = forked.run("-m", "zoobench", *args, env={**os.environ, **env})
    return done.returncode, done.stdout + done.stderr


def answers(out: Path) -> dict[str, tuple[str, str]]:
    """model name -> (status, message) of the newest record."""
    found = {}
    for line in (out / "records.jsonl").read_text().splitlines():
        body = json.loads(line)
        name = body["cell"]["model"].split("@")[0].split("?")[0]
        found[name] = (body["status"], body.get("error", {}).get("message", ""))
    return found


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    rest = "[limits]\ncost_seconds = 0"  # nothing is timed here
    return write_suite(tmp_path / "s.toml", models=MODELS, datasets=DATASETS, rest=rest)


@pytest.fixture
def hub() -> HubStub:
    return HubStub({"u/net": tiny_timm(), "u/bert": tiny_bert()})


def test_download_run_and_run_again_offline(tmp_path: Path, suite: Path, hub: HubStub) -> None:
    with hub:
        env = hub.env(tmp_path / "home")
        code, told = run(suite, tmp_path / "run", env)
        assert code == 0, told
        assert {status for status, _ in answers(tmp_path / "run").values()} == {"ok"}
        records = (tmp_path / "run" / "records.jsonl").read_text()
        assert hub.commit("u/net") in records, "the revision was not pinned to its commit"
        asked = len(hub.requests)
        code, told = run(suite, tmp_path / "again", {**env, "HF_HUB_OFFLINE": "1"})
        assert code == 0, told
        assert len(hub.requests) == asked, "a request was made while offline"
    first, again = (
        [json.loads(line) for line in (tmp_path / name / "records.jsonl").read_text().splitlines()]
        for name in ("run", "again")
    )
    assert {r["key"]: r["predictions"] for r in first} == {
        r["key"]: r["predictions"] for r in again
    }
    assert len(first) == len(again)


def test_a_profile_fetches_no_weights(tmp_path: Path, hub: HubStub) -> None:
    whole = "hf/u/bert?modality=text"
    with hub:
        env = hub.env(tmp_path / "home")
        code, told = zoobench(env, "profile", whole)
        assert code == 0, told
        assert "parameters" in told
        assert not [asked for asked in hub.requests if asked.endswith(BIG)]
    env["HF_HUB_OFFLINE"] = "1"
    folder = write_files(tiny_bert(), tmp_path / "bert")
    local = f"hf/bert?weights={folder}"
    # One after the other in one process: what is small is here now, a folder is, another is not.
    code, told = zoobench(env, "profile", whole, local, "hf/u/absent?modality=text")
    assert told.count("  weights  ") == 2, told
    assert code == 2
    assert "not downloaded yet, and HF_HUB_OFFLINE forbids fetching it" in told


@pytest.mark.rare
def test_classes_are_told_by_their_names_through_the_hub(tmp_path: Path) -> None:
    """A CLIP and a SigLIP of random weights, beside few-shot probes of theirs: chance, and said."""
    for kind in KINDS:
        tiny_pair(kind, tmp_path / kind)
    suite = write_suite(
        tmp_path / "s.toml",
        models=[f"hf/u/{kind}?modality=image" for kind in KINDS],
        datasets=["synthetic/stripes?train=80&valid=20&test=200&noise=20"],
        methods=["as-is", "ridge"],
        controls="true",
        rest="seeds = [0, 1, 2]\nshots = [1, 4]\ndraws = 3\n[limits]\ncost_seconds = 0",
    ).rename(tmp_path / "zero-shot.toml")
    out = tmp_path / "run"
    with HubStub({f"u/{kind}": folder_files(tmp_path / kind) for kind in KINDS}) as hub:
        code, told = run(suite, out, hub.env(tmp_path / "home"))
        assert code == 0, told
        commits = {hub.commit(f"u/{kind}") for kind in KINDS}
    bodies = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    untouched = [body for body in bodies if body["cell"]["method"] == "as-is"]
    # Nothing of it is drawn: one cell of each, whatever the seeds.
    assert {
        body["cell"]["model"].partition("@")[2].partition("?")[0] for body in untouched
    } == commits
    assert len(untouched) == len(KINDS)
    for body in untouched:
        assert body["status"] == "ok"
        said = {one["metric"]: one for one in body["measurements"]}
        chance = 1 / len(body["chosen"]["class_names"])
        assert said["accuracy"]["value"] < 2 * chance
        assert said["least_template_accuracy"]["value"] <= said["accuracy"]["value"] + 0.2
        assert len(body["chosen"]["templates"]) > 1
    report = (out / "report/report.md").read_text()
    _, _, table = report.partition("valid=20: as-is\n")
    for kind in KINDS:
        flagged = rf"- ! u/{kind}, as-is: suspect: (chance|one answer to everything) reaches"
        assert re.search(flagged, table), report
    assert "it does not know the classes by these names" in table
    assert "_chance_" in table.partition("\n##")[0]
    assert "## From how many examples of a class a probe beats zero-shot" in report


# The other faults, without a whole run for each: tests/models/test_models_hub.py.
@pytest.mark.rare
@pytest.mark.parametrize(("fault", "says"), [("corrupt", "damaged")])
def test_a_faulty_hub_costs_its_own_model_only(
    tmp_path: Path, suite: Path, hub: HubStub, fault: str, says: str
) -> None:
    with hub:
        del hub.repos["u/bert"]  # and the other's repository is not there at all
        getattr(hub.faults, fault).add(BIG)
        code, told = run(suite, tmp_path / "run", hub.env(tmp_path / "home"))
        assert code == 3, told
        found = answers(tmp_path / "run")
        assert found["timm/u/net"][0] == "missing-weights"
        assert says in found["timm/u/net"][1]
        assert found["hf/u/bert"][0] == "missing-weights"
        # The hub is well again: only what failed is tried, and now it works.
        getattr(hub.faults, fault).clear()
        hub.repos["u/bert"] = dict(tiny_bert())
        code, told = run(suite, tmp_path / "run", hub.env(tmp_path / "home"), "--retry-failed")
        assert code == 0, told
    assert {status for status, _ in answers(tmp_path / "run").values()} == {"ok"}


def test_a_refused_connection_is_said_at_once(tmp_path: Path, suite: Path, hub: HubStub) -> None:
    with hub:
        env = hub.env(tmp_path / "home")
    code, told = run(suite, tmp_path / "run", env)  # nobody listens there any more
    assert code == 3, told
    found = answers(tmp_path / "run")
    assert {status for status, _ in found.values()} == {"missing-weights"}
    assert "Traceback" not in told
    for _, message in found.values():
        assert "refused" in message.lower() or "connect" in message.lower()
