"""Documents and options of strangers: pipes, nestings, special tokens, and tokenizers' own code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tinymodels import byte_tokenizer, tiny_decoder
from zoobench import datasets, models
from zoobench.errors import Unsupported


def test_a_pipe_and_a_device_are_no_documents(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text(f"document {i}")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.md").symlink_to("/dev/zero")
    (tmp_path / "round").symlink_to(tmp_path)
    splits = datasets.load(
        datasets.resolve(f"folder/notes?path={tmp_path}&task=language-modelling")
    )
    assert splits.notes["corrupt_files"] == [
        "pipe.txt: cannot be read: it is a named pipe",
        "zero.md: cannot be read: it is a device",
    ]
    assert splits.notes["unused"] == {"linked folder": 1}


@pytest.mark.parametrize("choices", ["[" * 10**5, '{"text": ' * 10**4, "9" * 10**5])
def test_options_that_are_nested_or_huge_are_a_fault_and_no_crash(
    choices: str, tmp_path: Path
) -> None:
    rows = [{"c": json.dumps(["a", f"b{i}"]), "a": 0} for i in range(19)]
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"c": choices, "a": 0}])))
    name = f"table/q?path={path}&choices=c&label=a&task=multiple-choice"
    (fault,) = datasets.load(datasets.resolve(name)).notes["corrupt_files"]
    assert fault.startswith("row 20: the choices are no ")
    assert len(fault) < 100


def test_a_language_model_runs_no_code_of_its_folder(tmp_path: Path) -> None:
    folder = tiny_decoder("gpt2", tmp_path / "gpt", byte_tokenizer(270))
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model", "AutoModel": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(Unsupported, match="needs code of its own"):
        models.load(models.resolve(f"language-model/gpt?weights={folder}"))
