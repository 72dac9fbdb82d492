"""What was found out is kept by the line: read strictly, written so that a kill loses one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoobench import store
from zoobench.errors import StoreError, UserError
from zoobench.schema import Ref
from zoobench.usability import PROBES, ProbeResult
from zoobench.usability.answers import (
    FILE,
    UsabilityAnswer,
    answer,
    answers_of,
    decode,
    encode,
    read,
    versions,
    writing,
)

YES = UsabilityAnswer("planted/sound@1", "permissive", "yes", None, "MIT", {}, "2026-01-01")
SAID = st.sampled_from(("yes", "no", "unknown"))
NUMBER = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(PROBES)), SAID, NUMBER, st.text(), st.dictionaries(st.text(), st.text())
)
def test_a_line_gives_its_answer_back(
    probe: str, said: str, value: float | None, why: str, libraries: dict[str, str]
) -> None:
    one = UsabilityAnswer("planted/sound@1", probe, said, value, why, libraries, "now")  # type: ignore[arg-type]
    line = encode(one)
    assert line.count(b"\n") == 1
    assert decode(line) == one


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"answer": "perhaps"}, "Invalid enum value 'perhaps'"),
        ({"model": "nowhere"}, "not a name of the form source/name"),
        ({"value": "1"}, "Expected `float | null`, got `str`"),
        ({"probe": 1}, "Expected `str`"),
        ({"schema": 2}, "of schema 2, but this zoobench reads 1"),
        ({"schema": None}, "Expected `int`"),
    ],
)
def test_a_damaged_line_is_named(change: dict[str, object], why: str, tmp_path: Path) -> None:
    told = json.loads(encode(YES)) | change
    (tmp_path / FILE).write_bytes(encode(YES) + json.dumps(told).encode() + b"\n")
    with pytest.raises(
        StoreError, match=f"{FILE}:2: not an answer of a probe: .*{why[:20]}"
    ) as told_:
        read(tmp_path)
    assert why in str(told_.value)


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"schema":1}'])
def test_a_foreign_line_is_no_answer(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(line)


def test_the_newest_line_counts_and_a_cut_one_is_dropped(tmp_path: Path) -> None:
    newer = UsabilityAnswer(YES.model, YES.probe, "no", None, "GPL-3.0", {}, "2026-01-02")
    with writing(tmp_path) as write:
        write(YES)
        write(newer)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole + whole[:30])
    assert read(tmp_path) == {(YES.model, YES.probe): newer}
    with writing(tmp_path) as write:
        assert (tmp_path / FILE).read_bytes() == whole
        with pytest.raises(StoreError, match="another zoobench is writing here"), writing(tmp_path):
            pass
        write(YES)
    assert read(tmp_path) == {(YES.model, YES.probe): YES}
    assert read(tmp_path / "elsewhere") == {}


def test_of_several_runs_the_newest_answer_counts(tmp_path: Path) -> None:
    older = UsabilityAnswer(YES.model, YES.probe, "unknown", None, "", {}, "2025-01-01")
    other = UsabilityAnswer(YES.model, "loads", "yes", 2.5, "", {}, "2025-01-01")
    for name, kept in (("a", [YES]), ("b", [older, other]), ("c", [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_bytes(b"".join(map(encode, kept)))
    found = answers_of([tmp_path / name for name in "abc"])
    assert found == {(YES.model, YES.probe): YES, (YES.model, "loads"): other}


def test_an_answer_names_the_libraries_that_decide_it_and_no_place(tmp_path: Path) -> None:
    ref = Ref("timm", "resnet18").with_options(weights=str(tmp_path / "own.pth"))
    found = answer(ref, "deterministic", ProbeResult("no", f"{tmp_path}/own.pth is odd"))
    assert str(tmp_path) not in encode(found).decode()
    assert sorted(found.versions) == ["timm", "torch", "zoobench"]
    assert sorted(versions(ref, "permissive")) == ["zoobench"]
    assert set(versions(ref, "quantises")) >= {"timm", "torch", "zoobench"}


def test_a_link_that_leads_out_is_not_written_through(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / FILE).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="leads out of"), writing(run):
        pass
    (run / FILE).unlink()
    (run / FILE).mkdir()
    with pytest.raises(StoreError, match="not a regular file"):
        read(run)
    assert not (tmp_path / "outside").exists()
    assert store.LOCK not in {path.name for path in tmp_path.iterdir()}
