"""Twelve ways in which people keep a table (docs/datasets.md): each is read, or named."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from zoobench import datasets
from zoobench.datasets import formats
from zoobench.datasets.faults import about
from zoobench.errors import UserError
from zoobench.schema import Ref, Value

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"

HEADER = ("review", "stars")
ROWS = [[f"café number {i}, so it is", "good" if i % 3 else "bad"] for i in range(40)]
ROWS[5][0] = 'she said "no",\nand left; so\tit is'
NAMED: list[dict[str, str]] = [dict(zip(HEADER, row, strict=True)) for row in ROWS]


def delimited(delimiter: str, encoding: str = "utf-8", rows: Sequence[Sequence[str]] = ()) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([HEADER, *(rows or ROWS)])
    return out.getvalue().encode(encoding)


def arrow(kind: str) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    feather = pytest.importorskip("pyarrow.feather")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({name: [row[name] for row in NAMED] for name in HEADER})
    out = io.BytesIO()
    if kind == "stream":
        with pyarrow.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table)
    elif kind == "feather":
        feather.write_feather(table, out)
    else:
        parquet.write_table(table, out)
    return out.getvalue()


def lines() -> bytes:
    return "\n".join(json.dumps(row) for row in NAMED).encode()


Way = tuple[str, Callable[[], bytes], dict[str, Value]]

WAYS: dict[str, list[Way]] = {
    "commas, UTF-8, `.csv`": [("r.csv", lambda: delimited(","), {})],
    "a byte order mark, as Excel writes it": [("r.csv", lambda: delimited(",", "utf-8-sig"), {})],
    "semicolons or bars, `.csv`": [
        ("r.csv", lambda: delimited(";"), {}),
        ("r.csv", lambda: b"sep=;\r\n" + delimited(";"), {}),
        ("r.csv", lambda: delimited("|"), {}),
        ("r.csv", lambda: delimited(";"), {"delimiter": "semicolon"}),
        ("r.csv", lambda: delimited("~"), {"delimiter": "~"}),
    ],
    "tabs, `.tsv`, `.tab` or `.txt`": [
        ("r.tsv", lambda: delimited("\t"), {}),
        ("r.tab", lambda: delimited("\t"), {}),
        ("r.txt", lambda: delimited("\t"), {}),
        ("r", lambda: delimited("\t"), {"delimiter": "tab"}),
        ("r.tsv", lambda: delimited(","), {}),
    ],
    "UTF-16, Excel's \"Unicode text\"": [
        ("r.txt", lambda: delimited("\t", "utf-16"), {}),
        ("r.csv", lambda: delimited(",", "utf-32"), {}),
        ("r.csv", lambda: delimited(",", "utf-16-be"), {"encoding": "utf-16-be"}),
    ],
    "Latin-1, Windows-1252 and others": [
        ("r.csv", lambda: delimited(",", "latin-1"), {"encoding": "latin-1"}),
        ("r.csv", lambda: delimited(";", "cp1252"), {"encoding": "cp1252"}),
    ],
    "packed, `.csv.gz`, `.bz2`, `.xz`": [
        ("r.csv.gz", lambda: gzip.compress(delimited(",")), {}),
        ("r.tsv.bz2", lambda: bz2.compress(delimited("\t")), {}),
        ("r.csv.xz", lambda: lzma.compress(delimited(";")), {}),
        ("r.jsonl.gz", lambda: gzip.compress(lines()), {}),
        ("r.csv", lambda: gzip.compress(delimited(",")), {}),
    ],
    "an object a line, `.jsonl`, `.ndjson`": [
        ("r.jsonl", lines, {}),
        ("r.ndjson", lambda: lines() + b"\n\n", {}),
        ("r.json", lines, {}),
    ],
    "a list, or an object of lists, `.json`": [
        ("r.json", lambda: json.dumps(NAMED, indent=1).encode("utf-8-sig"), {}),
        ("r.json", lambda: json.dumps(
            {name: [row[name] for row in NAMED] for name in HEADER}).encode(), {}),
    ],
    "Parquet, `.parquet`, `.pq`": [
        ("r.parquet", lambda: arrow("parquet"), {}),
        ("r.csv", lambda: arrow("parquet"), {}),
    ],
    "Feather and Arrow, `.feather`, `.arrow`": [
        ("r.feather", lambda: arrow("feather"), {}),
        ("r.arrow", lambda: arrow("stream"), {}),
    ],
    "Excel and OpenDocument, `.xlsx`, `.xls`, `.ods`": [],
}  # fmt: skip


def test_the_docs_list_these_ways() -> None:
    page = DOCS.read_text(encoding="utf-8")
    block = page.split("| a table with | is read |\n| --- | --- |\n")[1].split("\n\n")[0]
    assert [row.split(" | ")[0].removeprefix("| ") for row in block.splitlines()] == list(WAYS)
    assert len(WAYS) == 12


def named(path: Path, **options: Value) -> Ref:
    told = {"path": str(path), "text": "review", "label": "stars", **options}
    return Ref("table", "reviews").with_options(**told)


def refused(path: Path, content: bytes | str, **options: Value) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        datasets.resolve(named(path, **options), "s.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "options"),
    [pytest.param(*case, id=f"{way}-{i}") for way in WAYS for i, case in enumerate(WAYS[way])],
)
def test_every_way_gives_the_same_examples(
    file: str, content: Callable[[], bytes], options: dict[str, Value], tmp_path: Path
) -> None:
    (tmp_path / "plain.csv").write_bytes(delimited(","))
    plain = datasets.load(datasets.resolve(named(tmp_path / "plain.csv")))
    (tmp_path / file).write_bytes(content())
    made = datasets.load(datasets.resolve(named(tmp_path / file, **options)))
    assert made.fingerprints == plain.fingerprints
    assert (made.classes, made.notes) == (plain.classes, plain.notes)


def zipped(*names: str, content: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, content)
    return out.getvalue()


SPREADSHEET = "application/vnd.oasis.opendocument.spreadsheet"


NOT_READ = [
    ("r.xlsx", zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook"),
    ("r.csv", zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook"),
    ("r.ods", zipped("mimetype", content=SPREADSHEET), "an OpenDocument file"),
    ("r.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "an Excel workbook"),
    ("r.csv.zip", zipped("r.csv"), "a ZIP archive: unpack it first"),
    ("r.csv.zst", b"\x28\xb5\x2f\xfd" + bytes(99), "packed by zstd"),
    ("r.csv.gz.gz", gzip.compress(gzip.compress(b"review,stars")), "packed twice"),
    ("r.db", b"SQLite format 3\x00" + bytes(99), "an SQLite database"),
    ("r.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    ("r.pkl", b"\x80\x04cposix\nsystem\n", "a pickle, which is never opened"),
    ("r.csv", b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
    ("r.csv", b"\n<!DOCTYPE html><html>sign in</html>", "a web page, not a table"),
    ("r.csv", b"\x89PNG\r\n\x1a\n", "a picture"),
    ("r.csv", b"%PDF-1.7", "a PDF document"),
    ("r.csv.gz", gzip.compress(b"x" * 99)[:-9], "not a readable gzip file"),
    ("r.csv.gz", b"\x1f\x8b" + bytes(30), "not a readable gzip file"),
    ("r.bz2", b"BZh9" + bytes(30), "not a readable bzip2 file"),
    ("r.xz", b"\xfd7zXZ\x00" + bytes(30), "not a readable xz file"),
    ("r.feather", b"ARROW1" + bytes(30), "not a readable Feather file"),
    ("r.arrow", b"rubbish", "not a readable Feather file"),
    ("r.parquet", b"rubbish", "not a readable Parquet file"),
    ("r.jsonl", b'{"review": "x"}\n{"review', "line 2: not readable JSON"),
    ("r.json", b'[{"review": 1},\n oops]', "line 2: not readable JSON"),
    ("r.json", b"[" * 200_000, "nested too deeply"),
    ("r.jsonl", b'{"a":' * 200_000, "nested too deeply"),
    ("r.json", b"[1, 2]", "JSON is read as a list of objects"),
    ("r.json", b'"text"', "JSON is read as a list of objects"),
    ("r.json", b'{"data": [{"review": "x"}]}', "JSON is read as a list of objects"),
    ("r.json", b'{"review": ["x"], "stars": []}', "not of one length"),
    ("r.json", b'[{"review": ["x"], "stars": "a"}]', "column 'review' holds list values"),
    ("r.json", b"[]", "unknown column 'review'"),
    ("r.json", b'[{"reviw": "x", "stars": 1}]', "Did you mean 'reviw'?"),
    ("r.csv", b"reviw;stars\nx;a\n", "Did you mean 'reviw'? Known: reviw, stars."),
    ("r.csv", b"review,stars,stars\nx,a,b\n", "2 columns are called 'stars'"),
    ("r.csv", delimited(",", "utf-16-le"), "say so with encoding=utf-16-le"),
    ("r.csv", delimited(",", "utf-16-be"), "say so with encoding=utf-16-be"),
    ("r.csv", delimited(",", "latin-1"), "encoding=latin-1"),
    ("r.csv", b"", "unknown column 'review'"),
    ("r.csv", bytes(64), "unknown column 'review'"),
]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [pytest.param(*case, id=f"{i}-{case[0]}") for i, case in enumerate(NOT_READ)],
)
def test_what_is_not_read_is_named(file: str, content: bytes, said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path / file, content)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quotes": "nonne"}, "unknown quotes 'nonne'. Did you mean 'none'?"),
        ({"delimiter": "semi"}, "a delimiter is one character, or one of comma"),
        ({"delimiter": '"'}, "a delimiter is one character"),
        ({"delimiter": "\n"}, "a delimiter is one character"),
        ({"encoding": "utf-9"}, "unknown encoding 'utf-9'"),
        ({"encoding": "rot13"}, "unknown encoding 'rot13'"),
        ({"encoding": "undefined"}, "cannot be read with encoding='undefined'"),
        ({"encoding": "a\x00b"}, "encoding"),
        ({"encoding": "../codec"}, "unknown encoding"),
    ],
)
def test_bad_options_are_the_users(options: dict[str, Value], said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path / "r.csv", delimited(","), **options)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "LARGEST", 2**20)
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        bomb = pack(b"review,stars\n" + bytes(2**24))
        assert "it unpacks to more than 1,048,576 bytes" in refused(tmp_path / "r.csv.gz", bomb)


def plain_quotes(rows: Sequence[tuple[str, str]], mark: str) -> str:
    return "".join(f"{text}{mark}{label}\n" for text, label in [HEADER, *rows])


@pytest.mark.parametrize("first", ["stars,review", "review,stars"])
def test_a_quote_before_a_comma_swallows_no_rows(first: str, tmp_path: Path) -> None:
    """The line that opens it has a field more than a row."""
    lines = [first]
    for i in range(40):
        text = {5: f'"he, {i}', 9: f'he {i}"'}.get(i, f"he {i}")
        lines.append(",".join((text, "ab"[i % 2]) if first[0] == "r" else ("ab"[i % 2], text)))
    file = tmp_path / "t.csv"
    message = refused(file, "\n".join(lines))
    assert "line 7: a quote that opens there closes in line 11 and takes 5 rows" in message


@pytest.mark.parametrize("first", ["stars,review", "review,stars"])
def test_texts_of_several_lines_are_texts(first: str, tmp_path: Path) -> None:
    lines = [first]
    for i in range(40):
        text = f'"one, {i}\ntwo, and\nthree"'
        lines.append(",".join((text, "ab"[i % 2]) if first[0] == "r" else ("ab"[i % 2], text)))
    file = tmp_path / "t.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    made = datasets.load(datasets.resolve(named(file)))
    assert sum(map(len, (made.train, made.valid, made.test))) == 40


def test_a_column_of_splits_that_nobody_asked_for_is_named(tmp_path: Path) -> None:
    rows = [f"he {i},{'ab'[i % 2]},{'test' if i % 4 == 0 else 'train'}" for i in range(40)]
    file = tmp_path / "t.csv"
    file.write_text("\n".join(["review,stars,Split", *rows]), encoding="utf-8")
    made = datasets.load(datasets.resolve(named(file)))
    assert made.notes["split_column"] == ["Split"]
    assert "split=" in about(made.notes)
    asked = datasets.load(datasets.resolve(named(file, split="Split")))
    assert "split_column" not in asked.notes
    assert len(asked.test) == 10


@pytest.mark.parametrize(("file", "mark"), [("r.tsv", "\t"), ("r.csv", ","), ("r.csv", ";")])
@pytest.mark.parametrize("labels", ["words", "numbers"])
def test_a_quote_swallows_no_rows(file: str, mark: str, labels: str, tmp_path: Path) -> None:
    names = {"words": ("good", "bad"), "numbers": ("1", "2.5")}[labels]
    rows = [(f"review number {i}", names[i % 2]) for i in range(40)]
    rows[3] = ('"Stay" is what nobody said', "good" if labels == "words" else "1")
    assert "quotes=none" in refused(tmp_path / file, plain_quotes(rows, mark))
    rows[3] = ('"it never closed', names[0])
    assert "quotes=none" in refused(tmp_path / file, plain_quotes(rows, mark))
    rows[20] = ('closed here"', names[1])  # 18 rows as one field, and no word of it
    message = refused(tmp_path / file, plain_quotes(rows, mark))
    assert "line 5: a quote that opens there closes in line 22 and takes 18 rows" in message
    made = datasets.load(datasets.resolve(named(tmp_path / file, quotes="none")))
    assert sum(map(len, (made.train, made.valid, made.test))) == 40
    texts = [made.train.read(i) for i in range(len(made.train))]
    texts += [split.read(i) for split in (made.valid, made.test) for i in range(len(split))]
    assert '"it never closed' in texts


def test_texts_of_many_lines_are_no_swallowed_rows(tmp_path: Path) -> None:
    rows = [[f"Good {i}, but\nbad, really", "good" if i % 2 else "bad"] for i in range(40)]
    rows += [[f"One {i}\ntwo, three\nfour, five", "good"] for i in range(10)]
    rows += [["dear all, good\n\nwe came and saw,\nand left", "bad"]]
    (tmp_path / "r.csv").write_bytes(delimited(",", rows=rows))
    made = datasets.load(datasets.resolve(named(tmp_path / "r.csv")))
    assert sum(map(len, (made.train, made.valid, made.test))) == 51


@pytest.mark.parametrize("name", ["true", "1.50", "NaN", "null", "2020", "a&b", "[1]", "a=b", "%"])
def test_a_column_may_be_called_anything(name: str, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("review," + name + "\n" + "".join(f"{a},{i % 2}\n" for i, (a, _) in
                    enumerate((f"text {i}", "") for i in range(40))))  # fmt: skip
    ref = datasets.resolve(str(named(path, label=name)))
    assert datasets.load(ref).classes == ("0", "1")
    assert datasets.load(str(ref)).classes == ("0", "1")


def test_json_numbers_keep_their_spelling_and_nan_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    rows = [f'{{"review": "text {i}", "stars": {i % 2}.0}}' for i in range(150)]
    rows[7] = '{"review": "text 7", "stars": NaN}'
    rows[100] = '{"review": "text 100"}'
    path.write_text("\n".join(rows) + f'\n{{"review": {"9" * 5000}, "stars": 1}}\n')
    faults = datasets.load(datasets.resolve(named(path))).notes["corrupt_files"]
    assert faults == ["row 8: the label is empty", "row 101: the label is empty"]
    path.write_text("\n".join(rows[:7] + rows[8:]))
    made = datasets.load(datasets.resolve(named(path)))
    assert (made.classes, made.notes["corrupt"]) == (("0.0", "1.0"), 1)
