"""Each medium shows a text as it is: nothing in it is markup, and nothing of it is lost."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from html.parser import HTMLParser
from xml.etree.ElementTree import Element, fromstring, tostring

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from zoobench import escape

MARKS = st.text(
    "\\`*_{}[]()<>#+-.!|~&@$:=;'\"/ \t\n\r\x00\x1b\x7f\x9b\u2028\u202e\ud800aw1", max_size=12
)
TEXTS = st.one_of(st.text(), MARKS)
INVISIBLE = re.compile(r"[\u200b]")


def blanks(text: str) -> str:
    return " ".join(text.split())


@given(TEXTS)
def test_plain_text_is_one_line_that_hides_nothing(text: str) -> None:
    line = escape.plain(text)
    assert len(line.splitlines()) <= 1
    assert not {unicodedata.category(c) for c in line} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(c) for c in line} & {"RLO", "LRO", "RLE", "LRE", "RLI"}
    assert escape.plain(line) == line


def test_plain_text_keeps_what_people_write() -> None:
    for text in ("Ünïcode · ×", "日本語 العربية", "👩‍🔬 ❤️", "a\\b", "می‌خواهم"):
        assert escape.plain(text) == text


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@given(TEXTS)
@example("- a").via("a list")
@example("1. a").via("a numbered list")
@example("# a").via("a heading")
@example("    a").via("code")
@example("~~~").via("a fence")
@example("![a](http://a.b)").via("a picture")
@example("_a_ __b__ ~~c~~").via("emphasis")
@example("<!-- a").via("a comment")
@example("&lt;script&gt;").via("an entity")
def test_markdown_renders_to_the_text(text: str) -> None:
    for before, kinds in (("", ["paragraph"]), ("## ", ["heading"]), ("- ", ["bullet_list"])):
        source = before + escape.markdown(text)
        tokens = MARKDOWN.parse(source)
        inline = [token for token in tokens if token.type == "inline"]
        if not blanks(escape.plain(text)):
            continue
        assert [
            t.type.removesuffix("_open") for t in tokens if t.level == 0 and t.nesting > 0
        ] == kinds
        assert len(inline) == 1
        children = inline[0].children or []
        assert {child.type for child in children} <= {"text", "text_special"}, source
        shown = "".join(child.content for child in children)
        assert INVISIBLE.sub("", shown) == INVISIBLE.sub("", blanks(escape.plain(text)))


@given(TEXTS, TEXTS)
def test_a_cell_of_a_markdown_table_stays_one(first: str, second: str) -> None:
    row = f"| {escape.markdown(first)} | {escape.markdown(second)} |"
    tokens = MARKDOWN.parse(f"| a | b |\n| --- | --- |\n{row}\n")
    assert sum(token.type == "td_open" for token in tokens) == 2


@pytest.mark.parametrize(
    "text", ["@team", "(@a/b)", "#12", "see GH-7", "a@b.cd", "https://a.b", "www.a.b", "ftp://a"]
)
def test_github_finds_no_user_issue_or_link(text: str) -> None:
    shown = escape.markdown(text)
    assert not re.search(r"@\w|(?<!&)#\d|GH-\d|www\.|\w://", shown)


@given(TEXTS)
def test_html_is_text(text: str) -> None:
    class Reader(HTMLParser):
        shown = ""

        def handle_starttag(self, tag: str, attrs: object) -> None:
            raise AssertionError(tag)

        def handle_comment(self, data: str) -> None:
            raise AssertionError(data)

        def handle_data(self, data: str) -> None:
            self.shown += data

    reader = Reader()
    reader.feed(escape.html(text))
    reader.close()
    assert reader.shown == escape.plain(text)


@given(TEXTS)
def test_xml_is_read_back(text: str) -> None:
    kept = escape.xml(text)
    made = Element("a", {"b": kept})
    made.text = kept
    read = fromstring(tostring(made, encoding="unicode"))
    assert (read.get("b"), read.text or "") == (kept, kept)


@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_a_spreadsheet_sees_no_formula(texts: list[str]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerow(map(escape.csv, texts))
    (row,) = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    for text, cell in zip(texts, row, strict=True):
        assert not cell.lstrip().startswith(tuple("=+-@＝＋－＠"))
        assert cell.removeprefix("'").replace("\n", " ") == escape.plain(text).removeprefix("'")


def test_csv_leaves_numbers_alone() -> None:
    assert [escape.csv(value) for value in (-1.5, None, True)] == [-1.5, None, True]


@given(TEXTS)
def test_a_comment_is_not_ended_and_names_one_thing(text: str) -> None:
    shown = f"<!-- zoobench compare: {escape.comment(text)} -->"
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.find("--", 4) == len(shown) - 3
    assert escape.comment(text) != escape.comment(text + "-")


@given(TEXTS)
def test_a_workflow_command_stays_one(text: str) -> None:
    line = f"::error title={escape.annotation_property(text)}::{escape.annotation(text)}"
    assert len(line.splitlines()) == 1
    title, _, message = line.removeprefix("::error title=").partition("::")
    assert not re.search("[:,]", title)
    assert escape.annotation(text) == message


@pytest.mark.parametrize("line", ["::error::x", "  ::add-mask::x", "##[group]x", "##vso[task.x]y"])
def test_a_line_of_a_log_is_no_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("TF_BUILD", raising=False)
    assert escape.terminal(line) == line
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert not re.search(r"::|##[\w-]*\[", escape.terminal(line))


@given(st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=3)))
def test_json_is_ascii_and_the_same_values(value: object) -> None:
    text = escape.json_ascii(json.dumps(value, ensure_ascii=False))
    assert re.fullmatch(r"[\n\x20-\x7e]*", text)
    assert json.loads(text) == value
