"""Every text of a record through every writer: the shape is what plain names give."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from fakes import make_run
from hostile import Said
from zoobench.compare.verdicts import Comparison, Drift, Finding, NewCell
from zoobench.ranking.nouns import Ranking
from zoobench.ranking.rank import rank
from zoobench.report import gate, notebook
from zoobench.report.markdown import markdown
from zoobench.report.page import page
from zoobench.report.parts import ReportParts
from zoobench.report.tables import csv_bytes, measurements_table, ranking_table
from zoobench.report.terminal import print_ranking, ranking_text
from zoobench.report.usability_view import usability_view
from zoobench.schema import Cell, Outcome, Record, Ref
from zoobench.store import Run, encode
from zoobench.usability.answers import UsabilityAnswer

WORST = {
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "end of script": "</script><!--</style></title>",
    "attribute": "\" onload='x' &quot;",
    "link": "[a](javascript:x) ![b](http://evil.example/c.png) <http://d.e>",
    "mention": "@everyone #1 GH-2 https://evil.example www.evil.example",
    "blocks": "a\n\n# b\n\n- c\n\n> d\n\n```\n~~~\n===\n---\n| e | f |",
    "emphasis": "**a** __b__ *c* _d_ ~~e~~ `f` $g$",
    "entities": "&lt;b&gt; &#64; &amp;",
    "comment": "--> <b> <!--",
    "formula": '=HYPERLINK("http://evil.example")',
    "at formula": "@SUM(1+1)*cmd|' /C calc'!A0",
    "terminal": "\x1b]0;title\x07\x1b[2J\x1b[31m\x9b5m\r\b\x00\x7f",
    "rich": "[/INST] [red]a[/red] [link=http://evil.example]b[/link] :smile: [",
    "direction": "\u202eabc\u2066def\u2029ghi\u2028",
    "commands": "\n::error::x\n::stop-commands::y\n##[group]z",
    "template": "{{ 7 * 7 }} {% raw %} {# a #}",
    "mathtext": "$\\frac{1}{$ %s %(a)s {0}",
}
PLAIN = "plain"
KEPT = {"source", "status", "metric", "better", "predictions", "started", "schema", "method"}
"""Fields that hold a word of ours, or a digest, and are checked as such where they are read."""


def poisoned(value: Any, text: str, name: str = "") -> Any:
    """`value` with `text` in each of its texts, a different one where they were different."""
    if name in KEPT:
        return value
    if isinstance(value, str):
        return f"{text}{value}"
    if isinstance(value, Ref):
        options = ((k, poisoned(v, text)) for k, v in value.options if k != "weights")
        drawn = [("weights", "random")] if value.option("weights") == "random" else []
        plain_name = value.source == "control"
        named = value.name if plain_name else f"{text}{value.name}"
        return Ref(value.source, named, value.revision, [*options, *drawn])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **{k: poisoned(v, text, k) for k, v in fields.items()})
    if isinstance(value, Mapping):
        return {k: poisoned(v, text) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(poisoned(item, text) for item in value)
    return value


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    truth = {"timm/netA@1": 0.9, "timm/netB@1": 0.9, "timm/other@1": 0.4}
    sets = ["packaged/digits@1", "packaged/mnist-5k@1?max_train=500"]
    fault = {("timm/broken@1", sets[0]): ("oom", "needed 3 GB")}
    return make_run(
        tmp_path_factory.mktemp("run"), [*truth, "timm/broken@1"], sets, truth, n=60, failures=fault
    )


def made(run: Run, text: str) -> Run:
    records = tuple(poisoned(record, text) for record in run.records)
    # Other names are other cells, whose predictions nobody kept.
    marked = tuple(dataclasses.replace(r, flags=(f"{text}flag",), predictions="") for r in records)
    return dataclasses.replace(run, records=marked, suite={"name": text})


def ranked(run: Run) -> Ranking:
    return rank([run])


def environment(text: str) -> dict[str, Any]:
    return {f"{text}key": {f"{text}inner": text}, "cpu": text}


def markdown_shape(source: str) -> list[str]:
    engine = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shape = []
    for token in engine.parse(source):
        shape.append(token.type)
        inner = [child.type for child in token.children or []]
        shape += [kind for kind in inner if kind not in ("text", "text_special")]
    return shape


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.shape: list[Any] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, *(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.shape.append(tag)

    def handle_comment(self, data: str) -> None:
        self.shape.append("comment")

    def handle_data(self, data: str) -> None:
        self.text += data


def html_shape(source: str) -> list[Any]:
    reader = Elements()
    reader.feed(source)
    reader.close()
    return reader.shape


HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def usable(text: str) -> ReportParts:
    """Answers of probes whose reasons, models and libraries say `text`."""
    made = UsabilityAnswer(Ref("timm", text or "x").text, "exports-onnx", "no", None, text)
    return ReportParts(usability=usability_view({(made.model, made.probe): made}))


WRITERS: dict[str, tuple[Callable[[Ranking, str], str], Callable[[str], Any]]] = {
    "report.md": (
        lambda found, text: markdown(found, text, environment(text), usable(text)),
        markdown_shape,
    ),
    "report.html": (
        lambda found, text: page(found, text, environment(text), text, usable(text)),
        html_shape,
    ),
    "notebook": (lambda found, _: notebook.ranking_html(found), html_shape),
}


@pytest.fixture(scope="module")
def plain(run: Run) -> Mapping[str, Any]:
    found = ranked(made(run, PLAIN))
    return {name: shape(write(found, PLAIN)) for name, (write, shape) in WRITERS.items()}


@pytest.mark.parametrize("name", WORST)
def test_a_report_has_the_shape_that_plain_names_give(
    name: str, run: Run, plain: Mapping[str, Any]
) -> None:
    text = WORST[name]
    found = ranked(made(run, text))
    for writer, (write, shape) in WRITERS.items():
        page = write(found, text)
        assert shape(page) == plain[writer], writer
        assert not HIDDEN.search(re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)), writer
        assert page.encode()


@pytest.mark.parametrize("name", WORST)
def test_tables_and_terminal_hold_text_alone(name: str, run: Run) -> None:
    hostile = made(run, WORST[name])
    found = ranked(hostile)
    for table in (ranking_table(found), measurements_table(hostile.records)):
        rows = [*csv.reader(io.StringIO(csv_bytes(table).decode(), newline=""))]
        assert len(rows) == 1 + len(next(iter(table.values())))
        assert {len(row) for row in rows} == {len(table)}
        texts = [c for row in rows for c in row if not re.fullmatch(r"-?[\d.e+-]+", c)]
        assert not [c for c in texts if c.lstrip().startswith(("=", "+", "-", "@"))]
    assert not HIDDEN.search(ranking_text(found))
    stream = io.StringIO()
    print_ranking(found, Console(file=stream, width=80, force_terminal=True, highlight=False))
    assert not HIDDEN.search(re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue()))


def comparison(text: str) -> Comparison:
    cell = Cell(Ref("timm", text), Ref("packaged", text), text)
    finding = Finding(cell, text, 0.9, 0.8, "regressed", text, change=-0.1, p=0.01, margin=0.05)
    outcomes: tuple[Outcome, ...] = (
        "regressed",
        "missing",
        "inconclusive",
        "incomparable",
        "improved",
        "same",
    )
    return Comparison(
        text, text, text,
        tuple(dataclasses.replace(finding, outcome=outcome) for outcome in outcomes),
        new=(NewCell(cell, "oom", None, text),),
        warnings=(dataclasses.replace(finding, kind="times"),),
        drifts=(Drift(text, "pixels", text),),
        notes=(text,),
    )  # fmt: skip


@pytest.mark.parametrize("name", WORST)
def test_a_comparison_has_the_shape_that_plain_names_give(name: str, tmp_path: Path) -> None:
    found, usual = comparison(WORST[name]), comparison(PLAIN)
    gate.write(found, tmp_path)
    assert markdown_shape(gate.markdown(found)) == markdown_shape(gate.markdown(usual))
    first, *rest = gate.markdown(found).splitlines()
    assert re.fullmatch(r"<!-- zoobench compare: [\w%/. ~-]+ -->", first)
    assert not [line for line in rest if re.search(r"@\w|(?<!&)#\d|\w://|www\.", line)]
    assert html_shape(notebook.comparison_html(found)) == html_shape(
        notebook.comparison_html(usual)
    )
    root, plain_root = fromstring(gate.junit(found)), fromstring(gate.junit(usual))
    assert [e.tag for e in root.iter()] == [e.tag for e in plain_root.iter()]
    lines = gate.github_annotations(found).splitlines()
    assert len(lines) == len(gate.github_annotations(usual).splitlines())
    assert all(re.match(r"::(error|warning) title=[^:,]*::", line) for line in lines)
    assert json.loads(gate.gate_json(found))["findings"][0]["why"] == WORST[name]
    assert not HIDDEN.search(gate.text(found))
    assert all(file.read_text(encoding="utf-8") for file in tmp_path.iterdir())


def write_run(folder: Path, run: Run, text: str, suite: str) -> None:
    folder.mkdir()
    records: list[Record] = [dataclasses.replace(r, predictions="") for r in run.records]
    lines = b"".join(encode(poisoned(record, text)) for record in records)
    (folder / "records.jsonl").write_bytes(lines)
    (folder / "suite.toml").write_text(f"name = {quoted(suite)}\n", encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(environment(text)), encoding="utf-8")


def quoted(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f")


@pytest.mark.parametrize("name", WORST)
@pytest.mark.parametrize("command", ["recommend", "history", "compare", "run"])
def test_commands_print_no_more_than_text(
    name: str, command: str, run: Run, inside: Path, zoobench: Callable[..., Said]
) -> None:
    for folder in ("a", "b"):
        write_run(inside / folder, run, WORST[name], "s")
    (inside / "s.toml").write_text(f"{quoted(WORST[name])} = 1\n", encoding="utf-8")
    said = zoobench(command, *{"recommend": ["a"], "run": ["s.toml"]}.get(command, ["a", "b"]))
    assert not HIDDEN.search(said.out)
    assert not HIDDEN.search(said.err)
    if said.code == 2:
        assert said.error


def test_the_whole_report_is_written_of_the_worst_of_all(
    run: Run, inside: Path, zoobench: Callable[..., Said]
) -> None:
    text = "".join(WORST.values())
    write_run(inside / "a", run, text, text)
    said = zoobench("report", "a", "--out", "report")
    assert said.code == 0
    assert not HIDDEN.search(said.out)
    pictures = [*(inside / "report" / "figures").glob("*.svg")]
    assert pictures
    for path in pictures:
        fromstring(path.read_text(encoding="utf-8"))
