"""Lines of a records file that are no records: said in one line, and nothing else happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hostile import Said

LINES = {
    "empty object": "{}",
    "a number": "1",
    "a list": "[1, 2]",
    "a word": "record",
    "cut off": '{"key": "',
    "not finite": '{"key": NaN}',
    "deep": "[" * 20_000 + "]" * 20_000,
    "deep object": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "a huge number": '{"key": 1e999999}',
    "zeros": "\x00" * 100,
    "lone surrogate": '{"key": "\\ud800"}',
    "a newer schema": '{"schema": 999, "key": "x"}',
}


@pytest.mark.parametrize("command", ["report", "recommend", "compare", "history"])
@pytest.mark.parametrize("name", LINES)
def test_a_line_that_is_no_record_is_named(
    command: str, name: str, inside: Path, zoobench: Callable[..., Said]
) -> None:
    for run in ("a", "b"):
        (inside / run).mkdir()
        (inside / run / "records.jsonl").write_text(LINES[name] + "\n", encoding="utf-8")
        (inside / run / "suite.toml").write_text('name = "x"\n', encoding="utf-8")
    runs = ["a"] if command == "recommend" else ["a", "b"]
    said = zoobench(command, *runs)
    assert said.code == 2
    assert "records.jsonl:1" in said.error
