"""A comparison as text, Markdown, JSON, JUnit XML and annotations. It decides nothing.

`write` puts all of them into one folder; each renderer is a function from a
`Comparison` to a str.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import msgspec

from zoobench import escape
from zoobench.compare.false_alarms import FalseAlarms
from zoobench.compare.gates import Measure
from zoobench.compare.quality import drop, unit_of
from zoobench.compare.verdicts import Comparison, Finding
from zoobench.errors import StoreError
from zoobench.files import write_atomic
from zoobench.schema import to_json

COMMENT_LIMIT = 60_000
"""Characters of a pull-request comment; GitHub refuses more than 65,536."""
SUMMARY_LIMIT = 900_000
"""Bytes of a step summary; GitHub refuses more than 1 MiB."""
MARKER = "<!-- zoobench compare: {} -->"
"""The hidden line by which a comment is found again, so that it is edited and not repeated."""
VERDICT = {
    0: "passed",
    1: "failed: a confirmed regression, or a change that nobody has accepted",
    3: "failed: cells are missing or failed",
    4: "nothing could be compared",
    5: "inconclusive, which --strict does not let pass",
}
WIDTH = 80
"""Of the text, which is the same in a terminal, a pipe and a file."""
COLUMNS = ("cell", "metric", "baseline", "candidate", "why")
"""Of a table of findings: see `cells`."""
SHOWN = 50
"""Findings of one outcome that the text lists; the files have all of them."""


def title(found: Comparison) -> str:
    return f"zoobench compare: {verdict(found)}"


def verdict(found: Comparison) -> str:
    """In words; what fell by more than the margin has not passed, proven or not."""
    doubtful = sum(f.doubtful for f in found.findings)
    if found.exit_code or not doubtful:
        return VERDICT[found.exit_code]
    cells = "1 cell" if doubtful == 1 else f"{doubtful} cells"
    return f"inconclusive: {cells} fell by more than the margin, which may be luck"


def tally(found: Comparison) -> str:
    """ "2 regressed, 1 missing, 40 same": what there is any of, worst first."""
    named = {"accept": "to accept", "warnings": "warnings about times"}
    told = [f"{n} {named.get(k, k)}" for k, n in found.counts.items() if n]
    return ", ".join(told) or "no cells"


def text(found: Comparison) -> str:
    """For a terminal: the verdict, what is behind it worst first, then the rest.

    A cell that stayed the same is only counted; a time that was measured is always shown.
    """
    lines = [*_wrapped(title(found), 0, 2), *_wrapped(tally(found), 2, 2)]
    if found.family:
        tests = "1 test" if found.family == 1 else f"{found.family} tests"
        lines.append(f"  Holm's correction at {found.alpha:g} over {tests} that could differ")
    groups = by_outcome(found)
    for name, findings in groups:
        if name == "same":  # nothing to read, but for what was measured just now
            findings = [f for f in findings if f.kind == "measured"]
            if not findings:
                continue
        lines += ["", name.upper()]
        for f in findings[:SHOWN]:
            lines += [*_wrapped(_subject(f), 2), *_wrapped(f.why, 6, 6)]
        if len(findings) > SHOWN:
            lines.append(f"  ... and {len(findings) - SHOWN} more")
    for heading, rows in extras(found):
        lines += ["", heading.upper()]
        lines += [line for row in rows[:SHOWN] for line in _wrapped(row, 2)]
        if len(rows) > SHOWN:
            lines.append(f"  ... and {len(rows) - SHOWN} more")
    return "\n".join(map(escape.terminal, lines)) + "\n"


def _wrapped(words: str, first: int, rest: int = 4) -> list[str]:
    """Lines of at most `WIDTH` characters, indented; long names stay whole, to be copied."""
    return textwrap.wrap(
        words, WIDTH, initial_indent=" " * first, subsequent_indent=" " * rest,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def by_outcome(found: Comparison) -> list[tuple[str, list[Finding]]]:
    """Non-empty outcomes in order of weight; what must be accepted stands with the regressed."""
    order = ("regressed", "missing", "inconclusive", "incomparable", "improved", "same")
    groups: dict[str, list[Finding]] = {name: [] for name in order}
    for f in found.findings:
        groups["regressed" if f.failing else f.outcome].append(f)
    if any(f.accept for f in groups["regressed"]):
        groups = {"regressed or to accept" if k == "regressed" else k: v for k, v in groups.items()}
    return [(name, findings) for name, findings in groups.items() if findings]


def _subject(f: Finding) -> str:
    head = f"{f.name}  {f.metric}".rstrip()
    if f.baseline is None or f.candidate is None:
        return head
    return f"{head}  {_value(f.baseline)} -> {_value(f.candidate)}"


def _value(value: float) -> str:
    if abs(value) <= 1:
        return f"{value:.4f}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def extras(found: Comparison) -> list[tuple[str, list[str]]]:
    """Everything that gates nothing: drifts, blind spots, times, new cells, notes."""
    drifts = [f"{d.model}: {d.why}" for d in found.drifts]
    seen = [
        f"{r.dataset} {r.metric}: drops of {drop(r.metric, r.detectable, '.1f')}"
        f"{unit_of(r.metric)} or more are seen ({r.n} examples)"
        + (f"; a drop of the margin, {drop(r.metric, r.margin, 'g')}, is not" if r.blind else "")
        for r in found.resolutions
    ]
    times = [f"{f.name}  {f.metric}: {f.why}" for f in found.warnings]
    new = [
        f"{c.cell.label}: {c.status}"
        + (f", {c.value:.4f}" if c.value is not None else "")
        + (f": {c.message}" if c.message else "")
        for c in found.new
    ]
    named = (
        ("where the runs part", drifts),
        ("what the test sets can show", seen),
        ("times and memory (warnings only)", times),
        ("new cells (listed, not gated)", new),
        ("notes", list(found.notes)),
    )
    return [(heading, rows) for heading, rows in named if rows]


def marker(found: Comparison) -> str:
    return MARKER.format(escape.comment(found.suite or "unnamed"))


def markdown(found: Comparison, limit: int = COMMENT_LIMIT) -> str:
    """For a comment (`COMMENT_LIMIT` characters) or a step summary (`summary`): the hidden
    marker, the verdict, worst first; what is not failing is folded. Rows that would pass
    `limit` are left out and counted."""
    head, counts = escape.markdown(title(found)), escape.markdown(tally(found))
    out = f"{marker(found)}\n### {head}\n\n{counts}\n\n"
    blocks: list[tuple[str, str, list[str]]] = []
    for name, findings in by_outcome(found):
        top = f"| {' | '.join(COLUMNS)} |\n| --- | --- | --: | --: | --- |\n"
        blocks.append((name, top, [_row(f) for f in findings]))
    for heading, told in extras(found):
        blocks.append((heading, "", [f"- {escape.markdown(row)}\n" for row in told]))
    reserve = 200 * (len(blocks) + 1)
    for name, top, rows in blocks:
        opened = name.startswith(("regressed", "missing", "where the runs part"))
        start, end = (
            (f"\n**{name.capitalize()}** ({len(rows)})\n\n{top}", "\n")
            if opened
            else (f"\n<details><summary>{name} ({len(rows)})</summary>\n\n{top}", "\n</details>\n")
        )
        room = limit - reserve - len(out) - len(start) - len(end)
        kept = _fitting(rows, room)
        left = len(rows) - len(kept)
        more = f"\n... and {left} more in gate.json\n" if left else ""
        if kept or len(start) + len(end) + len(more) < limit - len(out) - 100:
            out += start + "".join(kept) + more + end
    return out


def summary(found: Comparison) -> str:
    """The step summary: `markdown` in under `SUMMARY_LIMIT` bytes of UTF-8."""
    limit = SUMMARY_LIMIT
    while True:
        page = markdown(found, limit)
        size = len(page.encode())
        if size < SUMMARY_LIMIT:
            return page
        limit = int(limit * 0.95 * SUMMARY_LIMIT / size)


def _fitting(rows: Sequence[str], room: int) -> list[str]:
    """The first rows, in `room` characters."""
    ends = accumulate(map(len, rows))
    return [row for row, end in zip(rows, ends, strict=True) if end <= room]


def cells(f: Finding) -> list[str]:
    """A finding as a row of a table with the header `COLUMNS`."""
    values = ["" if v is None else _value(v) for v in (f.baseline, f.candidate)]
    return [f.name, f.metric or "", *values, f.why]


def _row(f: Finding) -> str:
    return f"| {' | '.join(map(escape.markdown, cells(f)))} |\n"


def gate_json(found: Comparison) -> str:
    """gate.json: the whole decision, one object; absent numbers are left out."""
    body: dict[str, Any] = {
        "format": 1,
        "exit_code": found.exit_code,
        "verdict": verdict(found),
        "counts": found.counts,
        "findings": [],
        **to_json(found),
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=1).decode() + "\n"


def junit(found: Comparison) -> str:
    """JUnit XML: failure = regressed or unaccepted, error = missing or crashed, skipped =
    incomparable or inconclusive. One test case a finding; the suite's name is its class."""
    skipped = ("incomparable", "inconclusive")
    counts = {
        "tests": len(found.findings),
        "failures": sum(f.failing for f in found.findings),
        "errors": sum(f.outcome == "missing" for f in found.findings),
        "skipped": sum(f.outcome in skipped and not f.failing for f in found.findings),
    }
    attributes = {k: str(v) for k, v in counts.items()}
    root = Element("testsuites", {"name": "zoobench compare", **attributes})
    of = escape.xml(found.suite or "zoobench")
    suite = SubElement(root, "testsuite", {"name": of, **attributes})
    for f in found.findings:
        name = escape.xml(f"{f.name} {f.metric}".strip())
        case = SubElement(suite, "testcase", {"classname": f"{of}.{f.kind}", "name": name})
        why = {"message": escape.xml(f.why), "type": f.outcome}
        if f.failing:
            SubElement(case, "failure", why)
        elif f.outcome == "missing":
            SubElement(case, "error", why)
        elif f.outcome in skipped:
            SubElement(case, "skipped", {"message": f"{f.outcome}: {why['message']}"})
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def github_annotations(found: Comparison, limit: int = 10) -> str:
    """GitHub workflow commands: an error a failing or missing finding, a warning a slow time.

    GitHub shows ten of a kind in a step; the last one then says how many there are.
    """
    failing = [f for f in found.findings if f.failing or f.outcome == "missing"]
    lines = [*_commands("error", failing, limit), *_commands("warning", found.warnings, limit)]
    return "".join(f"{line}\n" for line in lines)


def _commands(level: str, findings: Sequence[Finding], limit: int) -> Iterable[str]:
    shown = findings if len(findings) <= limit else findings[: limit - 1]
    for f in shown:
        head = f"{f.outcome}: {f.name} {f.metric}".rstrip() if level == "error" else f.name
        yield f"::{level} title={escape.annotation_property(head)}::{escape.annotation(f.why)}"
    if len(shown) < len(findings):
        yield f"::{level} title=zoobench::and {len(findings) - len(shown)} more; see gate.json"


FILES: dict[str, Callable[[Comparison], str]] = {
    "gate.txt": text,
    "gate.md": markdown,
    "summary.md": summary,
    "gate.json": gate_json,
    "junit.xml": junit,
    "annotations.txt": github_annotations,
}


def write(found: Comparison, folder: str | Path) -> tuple[Path, ...]:
    """All files of `FILES` into `folder`, which is made where it is absent. Returns them.

    Raises StoreError where they can't be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, render in FILES.items():
            write_atomic(folder / name, render(found).encode())
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from error
    return tuple(folder / name for name in FILES)


def aa_text(found: FalseAlarms, limits: Measure) -> list[str]:
    """Lines for a terminal; the last ones are a gates file."""
    times = "comparison" if found.comparisons == 1 else "comparisons"
    return [
        f"A against A: {found.comparisons} {times} of {limits.blocks} blocks, "
        f"{len(found.models)} models",
        f"  called slower or faster, before any confirming set: {found.alarms}",
        f"  the same blocks dealt anew: {found.rate:.1%} called slower, "
        f"{found.confirmed_rate:.2%} with the confirming set (limit {limits.ratio:.2f})",
        f"  one process against another: up to {found.spread:.2f} times (99 in 100)",
        "thresholds that keep false alarms under 1% here, before the confirming set:",
        "",
        "[measure]",
        f"low = {found.low:.3f}",
        f"ratio = {found.ratio:.2f}",
        f"memory_bytes = {found.memory_bytes}",
    ]
