"""The columns of a table's file as texts, whatever its format: "" where a value is missing.

The format is told by the content, then by the name: Parquet, Feather, JSON (a list, or an object
a line) and delimited text, each also packed by gzip, bzip2 or xz. Other kinds are named.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

from zoobench.datasets import delimited
from zoobench.errors import UserError, missing_extra, one_line
from zoobench.files import parse_json

LARGEST = 2**30
"""Bytes that a packed table may unpack to: a few kilobytes can hold any number of them."""

_PACKED: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
}
_SAVE = "save it as CSV (UTF-8) or Parquet"
_NOT_READ = {
    b"\xd0\xcf\x11\xe0": f"an Excel workbook (.xls): {_SAVE}",
    b"SQLite format 3\x00": f"an SQLite database: {_SAVE}",
    b"\x89HDF": f"an HDF5 file: {_SAVE}",
    b"ORC": f"an ORC file: {_SAVE}",
    b"Obj\x01": f"an Avro file: {_SAVE}",
    b"FEA1": f"a Feather file of version 1: {_SAVE}",
    b"%PDF": f"a PDF document: {_SAVE}",
    b"{\\rtf": f"a text document (RTF): {_SAVE}",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it first, or pack it by gzip",
    b"7z\xbc\xaf": "a 7-Zip archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: run git lfs pull",
    b"\x80\x02": f"a pickle, which is never opened: {_SAVE}",
    b"\x80\x03": f"a pickle, which is never opened: {_SAVE}",
    b"\x80\x04": f"a pickle, which is never opened: {_SAVE}",
    b"\x80\x05": f"a pickle, which is never opened: {_SAVE}",
    b"\x89PNG": "a picture: a table names pictures in a column",
    b"\xff\xd8\xff": "a picture: a table names pictures in a column",
}
"""How a file begins that is not read, what it is, and what helps."""
_NESTED = (dict, list)


def columns(
    path: Path, raw: bytes, wanted: Sequence[str], how: delimited.How, lists: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Column -> its values, a row each, of a file that holds `raw`.

    `wanted` begins with the content and the label; those of it that are in `lists` may hold lists
    and tables, which become JSON text, as delimited text holds them. Raises UserError for a file
    that is of no kind that is read, is damaged, or lacks a column; MissingExtra where Arrow is not
    installed.
    """
    name, raw = _unpacked(path, raw)
    suffix = name.suffix.casefold()
    if kind := _arrow_kind(name, raw):
        table = _arrow_table(path, raw, wanted, kind)
        return {one: _texts(path, one, table.column(one).to_pylist(), lists) for one in wanted}
    what = _named(raw)
    if what:
        raise UserError(f"{path}: it is {what}")
    text = delimited.decoded(path, raw, how.encoding)
    if text.lstrip()[:15].casefold().startswith(("<!doctype html", "<html")):
        raise UserError(f"{path}: it is a web page, not a table; was the download refused?")
    if suffix in (".json", ".jsonl", ".ndjson"):
        return _json(path, text, wanted, lists, lines=suffix != ".json")
    return delimited.columns(path, text, wanted, name.suffix, how)


def _unpacked(path: Path, raw: bytes) -> tuple[PurePath, bytes]:
    """The name and content inside a packed file; both as they are where it is not packed."""
    for magic, (kind, opened) in _PACKED.items():
        if not raw.startswith(magic):
            continue
        try:
            with opened(io.BytesIO(raw)) as file:
                inside = file.read(LARGEST + 1)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise UserError(f"{path}: not a readable {kind} file: {one_line(error)}") from error
        if len(inside) > LARGEST:
            raise UserError(
                f"{path}: it unpacks to more than {LARGEST:,} bytes; unpack it first, if that is "
                "what it should hold"
            )
        return PurePath(path.name).with_suffix(""), inside
    return PurePath(path.name), raw


def _named(raw: bytes) -> str:
    """What a file is that is not read, and what helps; "" of a text."""
    if raw.startswith(b"PK\x03\x04"):
        if b"xl/" in raw or b"[Content_Types].xml" in raw:
            return f"an Excel workbook (.xlsx): {_SAVE}"
        if raw[30:].startswith(b"mimetypeapplication/vnd.oasis.opendocument"):
            return f"an OpenDocument file (.ods): {_SAVE}"
        return "a ZIP archive: unpack it first, or pack it by gzip"
    for magic, what in _NOT_READ.items():
        if raw.startswith(magic):
            return what
    packed = next((kind for magic, (kind, _) in _PACKED.items() if raw.startswith(magic)), "")
    return f"packed twice, and inside by {packed}: unpack it first" if packed else ""


def stored(path: Path, raw: bytes, column: str) -> list[bytes] | None:
    """The files that a column of Parquet or Arrow holds, a row each, as their bytes or as tables of
    `bytes` and `path`; b"" where there are none. None where it holds something else, such as names.

    Raises UserError and MissingExtra as `columns` does.
    """
    name, raw = _unpacked(path, raw)
    kind = _arrow_kind(name, raw)
    if not kind:
        return None
    values = _arrow_table(path, raw, [column], kind).column(column)
    holds = str(values.type)
    if holds in ("binary", "large_binary"):
        return [value or b"" for value in values.to_pylist()]
    if holds.startswith("struct<bytes: binary"):
        return [(value or {}).get("bytes") or b"" for value in values.to_pylist()]
    return None


def _arrow_kind(name: PurePath, raw: bytes) -> str:
    suffix = name.suffix.casefold()
    if raw.startswith(b"PAR1") or suffix in (".parquet", ".pq"):
        return "Parquet"
    return "Feather" if raw.startswith(b"ARROW1") or suffix in (".feather", ".arrow") else ""


def _arrow_table(path: Path, raw: bytes, wanted: Sequence[str], kind: str) -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "parquet", f"reading {path.name}") from None
    source = pyarrow.BufferReader(raw)
    try:
        if kind == "Parquet":
            file = pyarrow.parquet.ParquetFile(source)
            delimited.check_header(path, file.schema_arrow.names, wanted)
            return file.read(columns=list(wanted))
        whole = raw.startswith(b"ARROW1")
        reader = (pyarrow.ipc.open_file if whole else pyarrow.ipc.open_stream)(source)
        delimited.check_header(path, reader.schema.names, wanted)
        return reader.read_all()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable {kind} file: {one_line(error)}") from error


def _json(
    path: Path, text: str, wanted: Sequence[str], lists: Sequence[str], *, lines: bool
) -> dict[str, list[str]]:
    """A list of objects, an object a line, or an object of columns."""
    found = None if lines else _parsed(path, text, "")
    if found is None:
        found = [
            _parsed(path, line, f"line {i}: ")
            for i, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
    if isinstance(found, dict) and all(isinstance(found.get(name), list) for name in wanted):
        sizes = {len(found[name]) for name in wanted}
        if len(sizes) > 1:
            raise UserError(f"{path}: the columns {', '.join(wanted)} are not of one length")
        return {name: _texts(path, name, found[name], lists) for name in wanted}
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise UserError(
            f"{path}: JSON is read as a list of objects, as an object a line, or as an object of "
            "lists, a list a column"
        )
    known = list(dict.fromkeys(key for row in found for key in row))
    delimited.check_header(path, known, wanted)
    return {name: _texts(path, name, [row.get(name) for row in found], lists) for name in wanted}


def _parsed(path: Path, text: str, place: str) -> Any:
    """The value; None of a whole file (no `place`) that holds one object a line.

    Numbers keep their spelling, and NaN and Infinity, which JSON has not, are missing values.
    """
    try:
        return parse_json(
            text, parse_int=str, parse_float=str, parse_constant=lambda _: None, strict=False
        )
    except json.JSONDecodeError as error:
        if not place and error.msg == "Extra data":
            return None
        where = place or f"line {error.lineno}: "
        raise UserError(f"{path}: {where}not readable JSON: {error.msg}") from None
    except ValueError as error:
        raise UserError(f"{path}: {place}not readable JSON: {error}") from None


def _texts(path: Path, name: str, values: Sequence[Any], lists: Sequence[str]) -> list[str]:
    """NaN is how files from pandas and R say that a value is missing."""
    if name in lists:
        values = [
            json.dumps(v, ensure_ascii=False) if isinstance(v, _NESTED) else v for v in values
        ]
    odd = next((v for v in values if isinstance(v, (bytes, dict, list))), None)
    if odd is not None:
        raise UserError(
            f"{path}: column {name!r} holds {type(odd).__name__} values; text or numbers "
            "are read, and pictures as file names relative to the table"
        )
    return ["" if value is None or value != value else str(value) for value in values]
