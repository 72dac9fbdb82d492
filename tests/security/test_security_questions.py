"""Questions of strangers: what is no SQuAD JSON, what never ends, and names that are markup."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hostile import Canary
from zoobench import datasets
from zoobench.errors import UserError, ZoobenchError

MARKED = "\x1b[31m<script>alert(1)</script>\n::error::|`"


def article(title: str, question: str, answer: str, number: str) -> dict[str, Any]:
    context = f"A text of {title}, in which nothing stands."
    asked = {"id": number, "question": question, "answers": [{"text": answer, "answer_start": 2}]}
    return {"title": title, "paragraphs": [{"context": context, "qas": [asked]}]}


def test_titles_ids_and_answers_stay_text_in_what_is_said(inside: Path) -> None:
    rows = [article(f"t{i}", f"{i}?", ("text", "nothing")[i % 2], str(i)) for i in range(20)]
    rows.append(article(MARKED, MARKED, MARKED * 999, MARKED * 999))
    path = inside / "marked.json"
    path.write_text(json.dumps({"data": rows}))
    splits = datasets.load(datasets.resolve(f"squad/mine?path={path}"))
    (said,) = splits.notes["corrupt_files"]
    assert "\x1b" not in said
    assert "\n" not in said
    assert len(said) < 400


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        b'{"data": ' + b'[{"paragraphs": ' * 50_000,
        b'{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": 1}]}]}]}',
        b'{"data": [{"paragraphs": [{"context": "\\ud800", "qas": []}]}]}',
        b'{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "q", "answers": '
        b'[{"text": "a", "answer_start": 1e400}]}]}]}]}',
        b"\x80\x04cos\nsystem\n.",
    ],
)
def test_what_is_no_squad_json_is_refused_in_a_word(
    content: bytes, inside: Path, canary: Canary
) -> None:
    path = inside / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        datasets.resolve(f"squad/mine?path={path}")
    assert len(str(refused.value)) < 600


def test_starts_of_any_size_are_places_in_the_text_or_none(inside: Path) -> None:
    rows = [article(f"t{i}", f"{i}?", ("text", "nothing")[i % 2], str(i)) for i in range(20)]
    for row, start in zip(rows, (-(2**62), 2**62, -1, 10**9), strict=False):
        row["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = start
    path = inside / "far.json"
    path.write_text(json.dumps({"data": rows}))
    splits = datasets.load(datasets.resolve(f"squad/mine?path={path}"))
    assert splits.notes["answers_moved"] == 12, (
        "half of the others, and two of those that were right"
    )


def test_pipes_and_links_out_of_a_folder_do_not_hang(inside: Path) -> None:
    pipe = inside / "train.json"
    os.mkfifo(pipe)
    for path in (pipe, inside):
        with pytest.raises(ZoobenchError, match="named pipe"):
            datasets.resolve(f"squad/mine?path={path}")
