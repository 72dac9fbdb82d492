"""Tables as strangers make them: a documented exit code, one line, nothing opened or executed."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hostile import Said
from zoobench import datasets
from zoobench.datasets import formats
from zoobench.errors import BadData, UserError
from zoobench.schema import Ref

Run = Callable[..., Said]


class Trap:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch executed",)


def rows(label: str = "{}", many: int = 40) -> str:
    return "text,label\n" + "".join(f"text {i},{label.format('ab'[i % 2])}\n" for i in range(many))


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "blank lines": b"\n" * 1000,
    "zeros": bytes(10_000),
    "ones": b"\xff" * 10_000,
    "header alone": b"text,label\n",
    "commas": b"," * 100_000,
    "quotes": b'"' * 100_001,
    "one open quote": b'text,label\n"' + b"a,b\n" * 1000,
    "a quote in the header": b'"text,label\na,b\n',
    "a wide row": b"text,label\n" + b"a," * 50_000 + b"b\n",
    "a wide header": b",".join(b"c%d" % i for i in range(20_000)) + b"\n",
    "the same column again": b"text,label,text\na,b,c\n",
    "no label": b"text\n" + b"a\n" * 40,
    "a class a row": ("text,label\n" + "".join(f"t{i},c{i}\n" for i in range(99))).encode(),
    "labels of blanks": rows(" ").encode(),
    "labels of no width": rows("\u200b").encode(),
    "labels of escapes": rows("\x1b[31m").encode(),
    "only NaN": rows("nan").encode(),
    "only infinity": rows("inf").encode(),
    "a pickle": pickle.dumps(Trap()),
    "a pickle of protocol 0": pickle.dumps(Trap(), 0),
    "a packed pickle": gzip.compress(pickle.dumps(Trap()), mtime=0),
    "a bomb": gzip.compress(bytes(2**22), mtime=0),
    "a bomb (bzip2)": bz2.compress(bytes(2**22)),
    "a bomb (xz)": lzma.compress(bytes(2**22)),
    "a bomb of bombs": gzip.compress(gzip.compress(bytes(2**22), mtime=0), mtime=0),
    "cut gzip": gzip.compress(rows().encode(), mtime=0)[:-20],
    "damaged Parquet": b"PAR1" + bytes(500) + b"PAR1",
    "Parquet of a huge footer": b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1",
    "damaged Arrow": b"ARROW1\x00\x00" + b"\xff" * 500 + b"ARROW1",
    "lone surrogates": b"text,label\n\xed\xa0\x80,a\n",
    "UTF-7": b"+AHQAZQB4AHQ-,label\n",
    "odd UTF-16": b"\xff\xfet\x00e",
    "UTF-32 out of range": b"\xff\xfe\x00\x00" + b"\xff\xff\xff\x7f" * 9,
    "a web page": b"<html><script>alert(1)</script>",
    "an LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "sep= and nothing": b"sep=;",
    "sep= of a quote": b'sep="\ntext"label\n',
}
JSON: dict[str, bytes] = {
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a huge number": b'[{"text": 1e999999, "label": 1}]',
    "many digits": b'[{"text": "a", "label": ' + b"9" * 9999 + b"}]",
    "lone surrogates": b'[{"text": "\\ud800", "label": "\\udfff"}]',
    "the same key again": b'[{"text": "a", "label": 1, "label": 2}]',
    "rows that are no objects": b'[{"text": "a"}, 5]',
    "cut off": b'[{"text": "a", "label"',
    "a number": b"5",
    "null": b"null",
    "an object of objects": b'{"text": {"0": "a"}, "label": {"0": "b"}}',
    "columns of another length": b'{"text": ["a"], "label": []}',
    "lists in cells": b'[{"text": ["a"], "label": {}}]',
    "NaN": b'[{"text": NaN, "label": Infinity}]',
}
CASES = {
    **{f"{name}.csv": content for name, content in HOSTILE.items()},
    **{f"{name}.json": content for name, content in JSON.items()},
    **{f"{name}.jsonl": content for name, content in JSON.items()},
    "rubbish.parquet": b"rubbish",
    "a pickle.parquet": pickle.dumps(Trap()),
    "rubbish.feather": b"rubbish",
    "a pickle.arrow": pickle.dumps(Trap()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_table_is_one_line(
    name: str, inside: Path, zoobench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "LARGEST", 2**20)
    file = f"t{Path(name).suffix}"
    (inside / file).write_bytes(CASES[name])
    (inside / "s.toml").write_text(
        'name = "s"\nmodels = ["synthetic/bag"]\nmethods = ["knn"]\n'
        f'datasets = ["table/t?path={file}&text=text&label=label"]\n'
    )
    said = zoobench("plan", "s.toml")
    assert said.code == 2
    assert said.error.startswith("Error: s.toml: datasets[0]: ")
    assert len(said.err.splitlines()) == 1
    assert said.err.rstrip("\n").isprintable()
    assert sorted(path.name for path in inside.iterdir()) == ["s.toml", file]


SOUND = {
    "labels without end": rows("{}" + "9" * 5000),
    "labels that are numbers and words": rows("{}").replace(",a", ",--5"),
    "labels of markup": rows("<script>{}</script>"),
    "labels of formulas": rows("=cmd|'/c calc'!{}"),
    "labels of rich's markup": rows("[/{}]"),
    "labels of escapes": rows("\x1b[3{}m"),
    "texts of escapes": rows().replace("text ", "\x1b]0;x\x07 "),
    "digits": rows("{}").replace(",a", "," + "9" * 5000),
    "exponents": rows("{}").replace(",a", ",1e9999").replace(",b", ",-1e-9999"),
}


@pytest.mark.parametrize("name", SOUND)
def test_odd_labels_are_classes_like_others(name: str, inside: Path, zoobench: Run) -> None:
    (inside / "t.csv").write_text(SOUND[name], encoding="utf-8")
    (inside / "s.toml").write_text(
        'name = "s"\nmodels = ["synthetic/bag"]\nmethods = ["knn"]\n'
        'datasets = ["table/t?path=t.csv&text=text&label=label"]\n'
    )
    said = zoobench("plan", "s.toml")
    assert said.code == 0
    assert "Traceback" not in said.err
    assert "\x1b]" not in said.out + said.err


NAMES = {
    "a FIFO": "fifo", "zeros without end": "/dev/zero", "a terminal": "/dev/tty", "a folder": ".",
    "nothing": "absent.png", "an empty name": "", "a NUL byte": "a\x00b.png", "a loop": "loop",
    "too long": "a" * 5000, "memory": "/proc/self/mem", "a pipe": "/dev/stdin",
    "a URL": "http://127.0.0.1:9/a.png", "the table": "t.json", "escapes": "\x1b]0;x\x07.png",
}  # fmt: skip


@pytest.mark.parametrize("which", NAMES)
@pytest.mark.timeout(60)
def test_a_table_of_pictures_opens_pictures_alone(which: str, inside: Path) -> None:
    os.mkfifo(inside / "fifo")
    (inside / "loop").symlink_to(inside / "loop")
    for i in range(10):
        Image.new("RGB", (4, 4), (i, 2 * i, 99)).save(inside / f"{i}.png")
    listed = [{"file": f"{i}.png", "label": "ab"[i % 2]} for i in range(10)]
    listed += [{"file": NAMES[which], "label": "a"}] * 2
    (inside / "t.json").write_text(json.dumps(listed))
    ref = Ref("table", "t").with_options(path="t.json", image="file", label="label")
    with pytest.raises(
        (UserError, BadData), match=r"2 of 12 rows cannot be used.* row 11"
    ) as caught:
        datasets.load(datasets.resolve(ref, "s.toml"))  # what is no picture is found by decoding
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "device", "absent", "long"])
def test_a_table_is_a_regular_file(kind: str, inside: Path) -> None:
    os.mkfifo(inside / "fifo")
    (inside / "folder").mkdir()
    (inside / "loop").symlink_to(inside / "loop")
    path = {"device": "/dev/zero", "long": "a" * 5000}.get(kind, kind)
    ref = Ref("table", "t").with_options(path=path, text="text", label="label")
    assert datasets.available(ref)[0] is False
    with pytest.raises(UserError, match=r"s\.toml: "):
        datasets.resolve(ref, "s.toml")


SEEDS = {
    ".csv": rows().encode(),
    ".tsv": rows().replace(",", "\t").encode("utf-16"),
    ".json": json.dumps([{"text": f"t{i}", "label": i % 2} for i in range(9)]).encode(),
    ".csv.gz": gzip.compress(rows().encode(), mtime=0),
    ".csv.xz": lzma.compress(rows().encode()),
}
CHUNKS = st.sampled_from(
    [
        b'"',
        b"\n",
        b"\r",
        b",",
        b"\t",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"sep=;\n",
        b"[",
        b"{",
        b"}",
    ]
) | st.binary(max_size=4)


@given(
    suffix=st.sampled_from(sorted(SEEDS)),
    edits=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 9), CHUNKS), max_size=6),
)
@settings(max_examples=150)
def test_a_damaged_table_is_read_or_refused(
    suffix: str, edits: list[tuple[int, int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = SEEDS[suffix]
    for at, many, new in edits:
        content = content[:at] + new + content[at + many :]
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(content)
    ref = Ref("table", "t").with_options(path=str(path), text="text", label="label")
    try:
        pinned = datasets.resolve(ref, "s.toml")
    except UserError as error:
        assert str(error).startswith("s.toml: ")  # noqa: PT017 - both ends are right
    else:
        assert len(datasets.load(pinned).classes) >= 2
