"""Tags and taggers of strangers: pipes, control characters, nestings, and a folder's own code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cells import write_suite
from hostile import Canary
from tinymodels import tiny_bert, write_files
from zoobench import datasets, models
from zoobench.errors import CellError, NotFinite, Unsupported, UserError

N = 24


def blocks(tag: str = "B-X", n: int = N) -> list[str]:
    return [f"word{i} {tag}\nends O\n" for i in range(n)]


def test_a_pipe_and_a_device_are_no_columns(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.conll")
    with pytest.raises(UserError, match="it is a named pipe"):
        datasets.resolve(f"conll/t?path={tmp_path / 'train.conll'}")
    with pytest.raises(UserError, match="it is a named pipe"):
        datasets.resolve(f"conll/t?path={tmp_path}")
    (tmp_path / "zero.conll").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="it is a device"):
        datasets.resolve(f"conll/t?path={tmp_path / 'zero.conll'}")


@pytest.mark.parametrize("words", ["[" * 10**5, '{"a": ' * 10**4, "9" * 10**5])
def test_lists_that_are_nested_or_huge_are_a_fault_and_no_crash(words: str, tmp_path: Path) -> None:
    rows = [{"w": [f"a{i}", "b"], "t": ["B-X", "O"]} for i in range(19)]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"w": words, "t": ["O"]}])))
    name = f"table/t?path={path}&words=w&tags=t&task=token-classification"
    (fault,) = datasets.load(datasets.resolve(name)).notes["corrupt_files"]
    assert fault.startswith("row 20: ")
    assert len(fault) < 100


@pytest.mark.parametrize(
    "tag", ["B-<script>alert(1)</script>", "B-\x1b[31mred", "B-|a|b", "B-`rm`", "B-\u202eevil"]
)
def test_no_tag_leaves_its_cell(tag: str, tmp_path: Path, zoobench: Any) -> None:
    data = tmp_path / "t.conll"
    data.write_text("\n".join(blocks(tag)), encoding="utf-8")
    file = write_suite(
        tmp_path / "s.toml", models=["synthetic/bag"], methods=["linear-probe"],
        datasets=[f"conll/t?path={data}"], controls='["majority"]',
    )  # fmt: skip
    done = zoobench("run", str(file), "--out", str(tmp_path / "run"))
    assert done.code == 0, done.err
    page = (tmp_path / "run" / "report" / "report.html").read_text("utf-8")
    assert "<script>alert" not in page
    shown = (page, (tmp_path / "run" / "report" / "report.md").read_text("utf-8"), done.out)
    assert all("\x1b[31mred" not in text and "\u202e" not in text for text in shown)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    folder = write_files(tiny_bert(), tmp_path_factory.mktemp("tagger"))
    config = transformers.AutoConfig.from_pretrained(folder)
    config.id2label = {0: "O", 1: "B-X"}
    transformers.BertForTokenClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("config.json", {"auto_map": {"AutoModel": "code.X"}}, "needs code of its own"),
        ("config.json", {"trust_remote_code": True}, ""),
        ("config.json", {"model_type": "vit"}, ""),
        ("config.json", {"model_type": "../../bert"}, ""),
        (
            "config.json",
            {"id2label": {str(i): "x" for i in range(9)}},
            "classifier.bias: (2,) in the file, (9,) in the model",
        ),
        ("config.json", {"id2label": ["O", "B-X"]}, ""),
        ("config.json", {"hidden_size": "32"}, ""),
        (
            "config.json",
            {"id2label": {"0": "O", "5": "B-X"}},
            "numbered 0, 5 and so on, not from 0",
        ),
        ("config.json", {"id2label": {"-1": "O", "0": "B-X"}}, "numbered -1, 0 and so on, not"),
        (
            "config.json",
            {"num_hidden_layers": 10**9},
            "num_hidden_layers is no number of 0 to 10,000",
        ),
        ("config.json", {"num_hidden_layers": -1}, "num_hidden_layers is no number of 0 to 10,000"),
        ("config.json", {"text": {"depths": [2, 1e9]}}, "depths is no number of 0 to"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["code.X", None]}}, "own"),
    ],
)
def test_a_folder_that_is_no_tagger_is_refused_in_a_word(
    name: str, fields: dict[str, Any], why: str, tagger: Path, inside: Path, canary: Canary
) -> None:
    folder = inside / "m"
    folder.mkdir()
    for path in tagger.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "code.py").write_text(canary.python)
    body = json.loads((folder / name).read_text("utf-8"))
    (folder / name).write_text(json.dumps({**body, **fields}), "utf-8")
    with pytest.raises(CellError) as refused:
        models.load(models.resolve(f"tagger/mine?weights={folder}"), 0)
    assert str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert why in str(refused.value)


def test_scores_that_are_no_number_are_no_tag(tagger: Path, inside: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = inside / "m"
    folder.mkdir()
    for path in tagger.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    state = load_file(folder / "model.safetensors")
    state["classifier.bias"][1] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    model: Any = models.load(models.resolve(f"tagger/mine?weights={folder}"), 0)
    with pytest.raises(NotFinite, match="no number"):
        model.answer(("the", "cat"))


def test_a_length_without_room_for_a_word_is_said(tagger: Path, inside: Path) -> None:
    folder = inside / "m"
    folder.mkdir()
    for path in tagger.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    body = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**body, "model_max_length": 2}))
    model: Any = models.load(models.resolve(f"tagger/mine?weights={folder}"), 0)
    with pytest.raises(Unsupported, match="a window of 2 tokens has no room"):
        model.answer(("the", "cat"))
