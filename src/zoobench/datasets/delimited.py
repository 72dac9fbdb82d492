"""A table as delimited text: CSV, TSV and their kin, in any encoding that is told or marked.

The delimiter is the one whose header holds the columns that are asked for, so that it need not be
guessed from statistics of the text.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from zoobench.datasets.labels import number
from zoobench.errors import UserError, unknown

DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|"}
"""Names of delimiters, which can be said in their place."""
QUOTES = ("csv", "none")

_MARKS = (  # the longer first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)  # fmt: skip


BEGINNING = 1 << 20
"""Characters in which a header stands."""


class TextRow(NamedTuple):
    """Fields that stand in the lines `start` to `end`, counted from 0, the last one excluded."""

    start: int
    end: int
    fields: list[str]


@dataclass(frozen=True)
class How:
    """What a user says of a text: "" is to be found out. `quotes` is one of `QUOTES`."""

    encoding: str = ""
    delimiter: str = ""
    quotes: str = "csv"

    def __post_init__(self) -> None:
        if self.quotes not in QUOTES:
            raise unknown("", "quotes", self.quotes, QUOTES)
        if self.delimiter and (len(self.mark) != 1 or self.mark in '"\r\n'):
            raise UserError(
                f"a delimiter is one character, or one of {', '.join(DELIMITERS)}, not "
                f"{self.delimiter!r}"
            )

    @property
    def mark(self) -> str:
        return DELIMITERS.get(self.delimiter, "\t" if self.delimiter == r"\t" else self.delimiter)


def decoded(path: Path, raw: bytes, encoding: str) -> str:
    """The text in `encoding`; without one, by its byte order mark, else UTF-8."""
    marked = next((name for mark, name in _MARKS if raw.startswith(mark)), "")
    chosen = encoding or marked or "utf-8"
    if not encoding and not marked and (wide := _wide(raw)):
        raise UserError(
            f"{path}: it looks like UTF-16 without a byte order mark; say so with encoding={wide}"
        )
    try:
        return raw.decode(chosen).removeprefix("\ufeff")
    except LookupError:
        raise UserError(f"{path}: unknown encoding {encoding!r}") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line} is not {chosen}: {error.reason} (byte "
            f"0x{raw[error.start]:02x}). Save it as UTF-8, or say which with encoding=, "
            "such as encoding=latin-1"
        ) from error
    except ValueError as error:  # codecs that are no text's, and names that are no codec's
        raise UserError(f"{path}: it cannot be read with encoding={encoding!r}: {error}") from None


def _wide(raw: bytes) -> str:
    """The UTF-16 that every other byte's being zero shows; "" where it does not."""
    head = raw[: min(len(raw), 4096) // 2 * 2]
    if len(head) >= 16:
        for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
            if head[first::2].count(0) > 0.4 * len(head) / 2 > head[1 - first :: 2].count(0):
                return name
    return ""


def check_header(path: Path, header: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises UserError for a column that is not there, or there twice."""
    for name in wanted:
        if name not in header:
            raise unknown(str(path), "column", name, header)
        if list(header).count(name) > 1:
            raise UserError(f"{path}: {list(header).count(name)} columns are called {name!r}")


def columns(
    path: Path, text: str, wanted: Sequence[str], suffix: str, how: How
) -> dict[str, list[str]]:
    """Column -> its values, a row each; `wanted` begins with the content and, where there is one,
    the label.

    Raises UserError for a column that is not there, a row with more or fewer fields than the
    header, and a quote that swallows rows.
    """
    names = [name.strip() for name in wanted]
    lines, mark = _begun(text, names, suffix, how)
    skipped = text.count("\n", 0, len(text) - sum(map(len, lines)))
    rows = _rows(path, lines, mark, how, skipped)
    header = [name.strip() for name in rows[0].fields] if rows else []
    check_header(path, header, names)
    for row in rows:
        if len(row.fields) != len(header):
            raise UserError(
                f"{path}: line {row.end + skipped} has {len(row.fields)} fields, the header has "
                f"{len(header)}"
            )
    at = [header.index(name) for name in names]
    if how.quotes == "csv" and len(at) > 1:
        _check_quotes(f"{path}: line", lines, rows, (mark, at[1], skipped))
    return {name: [row.fields[i] for row in rows[1:]] for name, i in zip(wanted, at, strict=True)}


def header(path: Path, raw: bytes, wanted: Sequence[str], how: How) -> list[str]:
    """The names of all columns, however they are written; [] where that can't be told."""
    lines, mark = _begun(decoded(path, raw, how.encoding)[:BEGINNING], wanted, path.suffix, how)
    return _first(lines, mark, how)


def _begun(text: str, names: Sequence[str], suffix: str, how: How) -> tuple[list[str], str]:
    """(lines from the header on, the delimiter)."""
    # The module's bound on a field, 131,072 characters, is one for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    lines = list(io.StringIO(text, newline=""))
    if lines and lines[0].casefold().startswith("sep=") and len(lines[0].strip()) == 5:
        return lines[1:], how.mark or lines[0][4]  # as Excel marks it
    return lines, how.mark or _delimiter(lines, names, suffix, how)


def _delimiter(lines: Sequence[str], names: Sequence[str], suffix: str, how: How) -> str:
    """The delimiter whose header holds `names`, the usual one of `suffix` first; else the one
    that makes the most columns, so that what is missing can be told."""
    usual = "\t" if suffix.casefold() in (".tsv", ".tab") else ","
    headers = {
        mark: _first(lines, mark, how)
        for mark in sorted(DELIMITERS.values(), key=lambda mark: mark != usual)
    }
    fit = [mark for mark, header in headers.items() if set(names) <= set(header)]
    return fit[0] if fit else max(headers, key=lambda mark: len(headers[mark]))


def _first(lines: Sequence[str], mark: str, how: How) -> list[str]:
    """The names in the first row; [] where a quote in it stands as no delimiter lets it."""
    with contextlib.suppress(csv.Error):
        return next(
            ([name.strip() for name in row] for row in _reader(lines, mark, how) if row), []
        )
    return []


def _reader(lines: Sequence[str], mark: str, how: How) -> csv._reader:  # type: ignore[name-defined]
    if how.quotes == "none":
        return csv.reader(lines, delimiter=mark, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(lines, delimiter=mark, strict=True)


def _rows(path: Path, lines: Sequence[str], mark: str, how: How, skipped: int) -> list[TextRow]:
    """The rows, the header first; blank lines are none."""
    reader = _reader(lines, mark, how)
    rows: list[TextRow] = []
    start = 0
    try:
        for fields in reader:
            if fields:
                rows.append(TextRow(start, reader.line_num, fields))
            start = reader.line_num
    except csv.Error as error:
        raise UserError(
            f"{path}: line {reader.line_num + skipped}: {error} (the row begins in line "
            f"{start + 1 + skipped}). A quote inside of a quoted field is written twice; where "
            "quotes are characters like others, say quotes=none"
        ) from error
    return rows


def _check_quotes(
    place: str, lines: Sequence[str], rows: Sequence[TextRow], where: tuple[str, int, int]
) -> None:
    """Raises UserError where an unbalanced quote made one row of many.

    Lines of a row over several lines are rows themselves where they have as many fields as the
    header, and a label that other rows have. In a text with line breaks hardly a line is, but for
    the one that holds the row's own label.
    """
    mark, label, skipped = where
    width = len(rows[0].fields)
    known = {row.fields[label].strip() for row in rows[1:] if row.end - row.start == 1}
    numbers = bool(known) and all(number(text) is not None for text in known)

    def is_row(line: str) -> bool:
        fields = line.rstrip("\r\n").split(mark)
        text = fields[label].strip().strip('"') if len(fields) == width else ""
        return text in known or (numbers and number(text) is not None)

    for start, end, fields in rows[1:]:
        if end - start == 1:
            continue
        broken = next((i for i, field in enumerate(fields) if "\n" in field or "\r" in field), 0)
        inside = [is_row(line) for line in lines[start:end] if line.strip()]
        others = inside[:-1] if broken < label else inside[1:]
        if others and sum(others) > len(others) / 2:
            raise UserError(
                f"{place} {start + 1 + skipped}: a quote that opens there closes in line "
                f"{end + skipped} and takes {len(inside)} rows for one. Where quotes are "
                "characters like others, say quotes=none; else write the quote twice"
            )
