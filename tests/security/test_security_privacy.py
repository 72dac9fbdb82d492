"""What others read says nothing of who ran it, where, and with which secrets."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile import Said
from zoobench import escape
from zoobench.schema import Cell, Record, Ref
from zoobench.store import encode, portable, read_records

TOKEN = "hf_" + "abcDEF0123456789" * 2
PASSWORD = "pa55word"


UNTOUCHED = (
    "top-1/top-5 at 3/4, https://hub.example/a/b?c=/d",
    "packaged/digits@1?classes=3 · timm/resnet18 · 12 B/s, 1e-3/2",
    "sha256 0f/1a, image/jpeg, https://hub.example:8080/x/y.tar.gz",
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read /home/alice/photos/cat/1.jpg: truncated", "cannot read …/1.jpg: truncated"),
        ("no file ~/photos/cat/1.jpg", "no file …/1.jpg"),
        ("the folder /home/alice/My photos is", "the folder …/My photos is"),
        ('"/home/a/v/lib/site-packages/torch/nn/x.py", line 3', '"…/torch/nn/x.py", line 3'),
        (f"at https://alice:{PASSWORD}@hub.example/x", "at https://***@hub.example/x"),
        (f"Bearer {TOKEN}", "Bearer ***"),
        *[(text, text) for text in UNTOUCHED],
    ],
)  # fmt: skip
def test_texts_lose_what_is_nobody_elses(text: str, shown: str) -> None:
    assert escape.private(text, known=["/home/alice/My photos"]) == shown


def test_a_token_of_any_form_is_masked_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "an-odd-one")
    assert escape.private("with an-odd-one") == "with ***"


@pytest.mark.parametrize("value", ["random", "pretrained", "/home/alice/a/model.pt"])
def test_a_cell_keeps_its_key_without_its_places(value: str, tmp_path: Path) -> None:
    model = Ref("hf", "me/net").with_options(weights=value)
    data = Ref("folder", "pets", "0123").with_options(path="/home/alice/pets", range="8bit")
    record = Record(Cell(model, data, "knn"), "error", error={"message": "in /home/alice/pets/x"})
    kept = portable(record)
    assert kept.key == record.key
    assert "alice" not in encode(kept).decode()
    assert kept.cell.dataset == data.without("path")
    assert portable(kept) == kept
    # Records that were written before are read alike, so that a run which goes on is one.
    (tmp_path / "records.jsonl").write_bytes(encode(record))
    (read,) = read_records(tmp_path / "records.jsonl").values()
    assert read.cell == kept.cell


def test_two_checkpoints_of_one_name_stay_two() -> None:
    first, second, again = (
        Ref("hf", "me/net").with_options(weights=f"/home/{who}/model.pt").private
        for who in ("alice/a", "alice/b", "alice/a")
    )
    assert first == again
    assert first != second
    assert first.located == second.located


def test_a_whole_run_leaks_nothing(
    inside: Path, zoobench: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (inside / "my pets" / label).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(inside / "my pets" / label / f"{number}.png")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", f"http://alice:{PASSWORD}@127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(inside / "hub"))
    (inside / "s.toml").write_text(
        'name = "s"\nmodels = ["synthetic/gabor", "hf/nobody/vit?modality=image"]\n'
        'datasets = [{ id = "folder/pets", path = "my pets" }]\nmethods = ["knn"]\n'
        "controls = false\n[limits]\ncost_seconds = 0\n",
        encoding="utf-8",
    )
    said = zoobench("run", inside / "s.toml", "--out", "run")
    assert said.code == 3, said.err
    again = zoobench("run", inside / "s.toml", "--out", "run")
    assert "[" not in again.err, "the run goes on where it was"
    assert zoobench("compare", "run", "run").code in (0, 3)
    kept = [p for p in (inside / "run").rglob("*") if p.is_file() and p.name != "suite.toml"]
    assert len(kept) > 10
    assert len(read_records(inside / "run" / "records.jsonl")) == 2
    secrets = (TOKEN, PASSWORD, str(inside), str(Path.home()) + "/", platform.node())
    for path in kept:
        content = path.read_bytes()
        found = [secret for secret in secrets if len(secret) > 5 and secret.encode() in content]
        assert not found, (path, found)
    for secret in (TOKEN, PASSWORD):
        assert secret not in said.out + said.err
