"""Names that become files, and TOML as editors save it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoobench.errors import UserError
from zoobench.files import LONGEST, check_within, file_name, read_toml

KEPT = ("smoke", "my suite", "fine-tune-5-shot", "advice-pets", "größe", "a.b", "x+y", "v=2", "(1)")
CHANGED = (
    "", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "-rf", "a\x00b", "a\nb", "a:b",
    "a*", "~", "$HOME", "\x1b[31m", "a.", "a ", " a", "\udce9", "x" * 300,
    "é" * 80, "\u202egnp.exe", "<b>", "`id`", "a|b", "?", "%2e%2e%2f",
)  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_a_safe_name_stays(name: str) -> None:
    assert file_name(name) == name


@pytest.mark.parametrize("name", CHANGED)
def test_an_unsafe_name_becomes_one_plain_part(name: str, tmp_path: Path) -> None:
    made = file_name(name)
    assert made != name
    (tmp_path / made).write_text("x", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [made]
    assert file_name(made) == made


@given(st.text(), st.text())
def test_names_stay_apart_and_in_their_folder(one: str, other: str) -> None:
    names = file_name(one), file_name(other)
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert Path("a", name).parent == Path("a")
        assert 0 < len(name.encode()) <= LONGEST
        assert name[0] not in ".-"


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "real").mkdir(parents=True)
    outside.mkdir()
    (inside / "near").symlink_to("real")
    (inside / "far").symlink_to(outside)
    (inside / "loop").symlink_to("loop")
    check_within(inside, inside / "near" / "x")
    check_within(inside, inside / "absent")
    for name in ("far", "far/below", "loop/x"):
        with pytest.raises(UserError, match=r"far|loop"):
            check_within(inside, inside / name)


@pytest.mark.parametrize("text", ["a = 1\n", "\ufeffa = 1\n", "\ufeffa = 1\r\n"])
def test_toml_with_a_byte_order_mark_is_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(text.encode())
    assert read_toml(tmp_path / "x.toml") == {"a": 1}


DAMAGED = {
    "not toml": b"a = ",
    "conflict markers": b"<<<<<<< HEAD\n",
    "utf-16": "a = 1\n".encode("utf-16"),
    "latin-1": b'a = "\xe9"\n',
    "deep": b"a = " + b"[" * 20_000 + b"]" * 20_000,
    "zeros": b"\x00" * 64,
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_toml_is_named(case: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(DAMAGED[case])
    with pytest.raises(UserError, match="suite: not valid TOML"):
        read_toml(tmp_path / "x.toml", "suite")


@pytest.mark.parametrize("name", ["absent", "folder", "n" * 300, "null\x00"])
def test_what_is_no_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"cannot be read|not a regular file"):
        read_toml(tmp_path / name)
