"""The real download path, against a hub on 127.0.0.1: a child process for each client.

HF_ENDPOINT is read when huggingface_hub is imported, so nothing here can run in this process.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

import forked
from hubstub import HubStub, folder_files
from tinyclassifiers import tiny_classifier
from tinymodels import byte_tokenizer, tiny_bert, tiny_decoder, tiny_timm

FETCH = """
from zoobench.errors import MissingWeights
from zoobench.models import hub
def choose(names):
    wanted = ["config.json", "model.safetensors"]
    return wanted if set(wanted) <= set(names) else []
try:
    print("commit", hub.fetch(REPO, "", choose, "model.safetensors").commit)
except MissingWeights as error:
    print("MissingWeights", error)
"""
LOAD = """
import json
from PIL import Image
from zoobench import models
found = {}
for name in ("timm/u/net", "hf/u/bert?modality=text", "classifier/u/mood?modality=text"):
    ref = models.pin(models.resolve(name))
    backbone = models.load(ref)
    raw = "the cat sat" if "text" in name else Image.new("RGB", (9, 7))
    features = backbone.embed(backbone.collate([backbone.prepare(raw)]))
    found[name] = {
        "ref": str(ref), "available": models.available(ref)[0], "dim": backbone.feature_dim,
        "sum": float(features.sum()), **backbone.provenance,
    }
print(json.dumps(found))
"""
FILES = {"config.json": b"{}", "model.safetensors": b"0123456789" * 1000}


def child(code: str, hub: HubStub, home: Path, **env: str) -> str:
    done = forked.run("-c", code, env={**os.environ, **hub.env(home), **env})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fetch(hub: HubStub, home: Path, repo: str = "u/m", **env: str) -> str:
    return child(FETCH.replace("REPO", repr(repo)), hub, home, **env)


def test_models_come_from_the_hub_and_then_from_its_cache(tmp_path: Path) -> None:
    tiny_classifier("text", tmp_path / "mood", ["good", "bad", "neither"])
    mood = folder_files(tmp_path / "mood")
    repos = {"u/net": tiny_timm(), "u/bert": tiny_bert(), "u/mood": mood}
    with HubStub(repos) as hub:
        first = json.loads(child(LOAD, hub, tmp_path))
        assert hub.requests
        hub.requests.clear()
        again = json.loads(child(LOAD, hub, tmp_path, HF_HUB_OFFLINE="1"))
        assert hub.requests == []
    assert again == first
    net, bert = first["timm/u/net"], first["hf/u/bert?modality=text"]
    assert net["ref"] == f"timm/u/net@{hub.commit('u/net')}"
    assert net["revision"] == hub.commit("u/net")
    assert bert["revision"] == hub.commit("u/bert")
    assert bert["ref"] == f"hf/u/bert@{hub.commit('u/bert')}?modality=text"
    judge = first["classifier/u/mood?modality=text"]
    assert judge["ref"] == f"classifier/u/mood@{hub.commit('u/mood')}?modality=text"
    assert judge["dim"] == 3
    assert net["available"]
    assert bert["available"]
    assert judge["available"]
    assert bert["dim"] == 32
    assert net["file"] == bert["file"] == "model.safetensors"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", "no such file (404)"),
        ("truncated", "truncated file"),
        ("corrupt", "came damaged"),
    ],
)
def test_a_fault_is_explained_and_leaves_nothing_bad_behind(
    fault: str, said: str, tmp_path: Path
) -> None:
    with HubStub({"u/m": FILES}) as hub:
        setattr(hub.faults, fault, {"model.safetensors"})
        answer = fetch(hub, tmp_path)
        assert answer.startswith("MissingWeights")
        assert said in answer
        assert "u/m" in answer
        setattr(hub.faults, fault, set())
        assert fetch(hub, tmp_path) == f"commit {hub.commit('u/m')}"


def test_a_blob_that_rots_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    with HubStub({"u/m": FILES}) as hub:
        fetch(hub, tmp_path)
        (blob,) = (p for p in tmp_path.rglob("blobs/*") if p.stat().st_size == 10_000)
        blob.write_bytes(b"x" * 10_000)
        assert fetch(hub, tmp_path) == f"commit {hub.commit('u/m')}"
        assert blob.read_bytes() == FILES["model.safetensors"]


def test_a_busy_hub_is_asked_again(tmp_path: Path) -> None:
    with HubStub({"u/m": FILES}) as hub:
        hub.faults.unavailable = 2
        assert fetch(hub, tmp_path) == f"commit {hub.commit('u/m')}"


def test_no_hub_no_repository_and_no_weights(tmp_path: Path) -> None:
    with HubStub({"u/m": FILES, "u/empty": {"config.json": b"{}"}}) as hub:
        refused = fetch(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
        absent = fetch(hub, tmp_path, repo="u/nothing")
        empty = fetch(hub, tmp_path, repo="u/empty")
        offline = fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "refused the connection" in refused
    assert str(tmp_path) in refused  # where it was looked for
    assert "no such repository" in absent
    assert "holds no model.safetensors" in empty
    assert "HF_HUB_OFFLINE" in offline


LANGUAGE = """
import json
from zoobench import models
from zoobench.models.likelihood import causal_bits
ref = models.pin(models.resolve("language-model/u/gpt"))
model = models.load(ref)
bits = causal_bits(model.module, model.coder, [model.coder.encode("the cat sat")])[0]
print(json.dumps([str(ref), models.card(ref).answers, len(bits), bool((bits > 0).all()),
                  models.available(ref)[0]]))
"""


def test_a_language_model_comes_from_the_hub(tmp_path: Path) -> None:
    folder = tiny_decoder("gpt2", tmp_path / "gpt", byte_tokenizer(280))
    with HubStub({"u/gpt": folder_files(folder)}) as hub:
        said = json.loads(child(LANGUAGE, hub, tmp_path / "home").splitlines()[-1])
        commit = hub.commit("u/gpt")
    name, answers, many, sound, here = said
    assert name == f"language-model/u/gpt@{commit}"
    assert answers == ["language-modelling", "multiple-choice"], "as its configuration says"
    assert many > 2
    assert sound
    assert here


def test_a_dead_hub_does_not_matter_once_the_files_are_here(tmp_path: Path) -> None:
    with HubStub({"u/m": FILES}) as hub:
        fetch(hub, tmp_path)
        answer = fetch(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
        assert answer == f"commit {hub.commit('u/m')}"


def test_a_damaged_file_is_called_damaged_and_kept_while_offline(tmp_path: Path) -> None:
    with HubStub({"u/m": FILES}) as hub:
        fetch(hub, tmp_path)
        (blob,) = (p for p in tmp_path.rglob("blobs/*") if p.stat().st_size == 10_000)
        blob.write_bytes(b"x" * 10_000)
        offline = fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
        assert "model.safetensors of u/m" in offline
        assert "is damaged" in offline
        assert "not downloaded yet" not in offline
        assert blob.exists()
        hub.faults.missing = {"model.safetensors"}
        assert "damaged" in fetch(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")


def without_links(home: Path) -> Path:
    """The cache as it is where a file system has no links: copies, and no blobs."""
    (weights,) = home.rglob("snapshots/*/model.safetensors")
    for path in weights.parent.iterdir():
        blob = path.resolve()
        path.unlink()
        blob.rename(path)
    return weights


@pytest.mark.parametrize("noted", [True, False])
def test_a_cache_without_links_is_verified_too(noted: bool, tmp_path: Path) -> None:
    with HubStub({"u/m": FILES}) as hub:
        fetch(hub, tmp_path)
        weights = without_links(tmp_path)
        if not noted:  # another programme filled the cache
            for note in tmp_path.rglob("zoobench/hub/*/*.json"):
                note.unlink()
        assert fetch(hub, tmp_path) == f"commit {hub.commit('u/m')}"
        weights.write_bytes(b"x" * 10_000)
        assert "is damaged" in fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
        assert fetch(hub, tmp_path) == f"commit {hub.commit('u/m')}"
        assert weights.read_bytes() == FILES["model.safetensors"]


PART = """
from huggingface_hub import hf_hub_download
hf_hub_download("u/m", "config.json")
hf_hub_download("u/m", "model.safetensors")
from zoobench import hub
def choose(names):
    return [n for n in ("config.json", "recipe.json", "model.safetensors") if n in names]
print(*(p.name for p in hub.fetch("u/m", "", choose, "x").files))
"""


def test_a_part_that_another_programme_left_out_is_fetched(tmp_path: Path) -> None:
    with HubStub({"u/m": {**FILES, "recipe.json": b"{}"}}) as hub:
        assert child(PART, hub, tmp_path) == "config.json recipe.json model.safetensors"


HOSTILE = """
import json
from zoobench import models
from zoobench.errors import CellError
said = {}
for name in NAMES:
    try:
        said[name] = models.load(models.pin(models.resolve(name))).provenance["weights_sha256"]
    except CellError as error:
        said[name] = f"{error.status}: {error}"
print(json.dumps(said))
"""


def hostile_repos(canary: Path) -> dict[str, dict[str, bytes]]:
    """Repositories that would run code, or lead to other files, where a library is left alone."""
    run = f"open({str(canary)!r}, 'w').close()\nclass X: ...\n".encode()
    bert, net = tiny_bert(), tiny_timm()
    elsewhere = json.loads(net["config.json"])
    elsewhere["pretrained_cfg"] |= {
        "source": "hf-hub", "hf_hub_id": "u/pickle", "hf_hub_filename": "pytorch_model.bin",
        "custom_load": "hf", "file": "/etc/passwd", "url": "http://127.0.0.1:9/x.pth",
    }  # fmt: skip
    checkpoint = {**json.loads(net["config.json"]), "model_args": {"checkpoint_path": "x.pth"}}
    coded = {**json.loads(bert["config.json"]), "auto_map": {"AutoModel": "code.X"}}
    shard = "model-00001-of-00001.safetensors"
    index = {"weight_map": {"embeddings.word_embeddings.weight": "../../../x.safetensors"}}
    led = {k: v for k, v in bert.items() if k != "model.safetensors"}
    pickled = pickle.dumps(Evil(canary))
    return {
        "u/elsewhere": {**net, "config.json": json.dumps(elsewhere).encode()},
        "u/checkpoint": {**net, "config.json": json.dumps(checkpoint).encode()},
        "u/pickle": {"config.json": net["config.json"], "pytorch_model.bin": pickled},
        "u/code": {**bert, "config.json": json.dumps(coded).encode(), "code.py": run},
        "u/led": {
            **led, shard: bert["model.safetensors"],
            "model.safetensors.index.json": json.dumps(index).encode(),
        },
        "u/nothing": {k: v for k, v in bert.items() if k != "tokenizer.json"},
    }  # fmt: skip


class Evil:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def test_a_repository_runs_nothing_and_leads_nowhere(tmp_path: Path) -> None:
    repos = hostile_repos(tmp_path / "executed")
    weights = hashlib.sha256(repos["u/elsewhere"]["model.safetensors"]).hexdigest()
    kinds = {"u/code": "hf", "u/led": "hf", "u/nothing": "hf"}
    names = [
        f"{kinds.get(repo, 'timm')}/{repo}" + "?modality=text" * (repo in kinds) for repo in repos
    ]
    with HubStub(repos) as hub:
        said = json.loads(child(HOSTILE.replace("NAMES", repr(names)), hub, tmp_path / "home"))
        asked = [path for path in hub.requests if "resolve" in path and "/u/elsewhere/" in path]
    assert not (tmp_path / "executed").exists()
    assert said["timm/u/elsewhere"] == weights
    assert not [path for path in asked if not path.endswith(("config.json", "model.safetensors"))]
    for name, status, words in (
        ("timm/u/checkpoint", "unsupported", "checkpoint_path"),
        ("timm/u/pickle", "unsupported", "plain tensors"),
        ("hf/u/code?modality=text", "unsupported", "code of its own"),
        ("hf/u/led?modality=text", "unsupported", "outside of the folder"),
        ("hf/u/nothing?modality=text", "missing-weights", "holds no tokenizer"),
    ):
        assert said[name].startswith(status), said[name]
        assert words in said[name]
