"""packaged/docstring-qa: questions on the parameters that real docstrings describe.

    What is the default of `alpha`?      "alpha : float, default=1.0"       -> 1.0
    What type is `alpha`?                                                   -> float
    Which values can `norm` take?        "norm : {'l1', 'l2'}, optional"    -> 'l1', 'l2'

The texts are numpy's, scipy's and scikit-learn's docstrings as they are installed, from their first
line to the end of their section on parameters. Their files are parsed, and none is imported. The
questions are rendered; a default that its parameter's entry nowhere speaks of has no answer.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from zoobench.datasets.questions import QuestionRow, found
from zoobench.datasets.splits import Found
from zoobench.schema import digest

PACKAGES = ("numpy", "scipy", "sklearn")
SHORTEST, LONGEST = 200, 2400
"""Characters of a text."""
KINDS = {
    "default": ("What is the default of `{}`?", 750),
    "type": ("What type is `{}`?", 750),
    "values": ("Which values can `{}` take?", 750),
    "none": ("What is the default of `{}`?", 450),
}
"""What is asked of a parameter, and of how many at most: the first by a hash."""
PER_TEXT = 3
"""Most questions on one text: more of them would say the same."""

_SECTION = re.compile(r"^Parameters\n-{6,}\n(.*?)(?=^[A-Z][A-Za-z ]*\n-{3,}$|\Z)", re.M | re.S)
_ENTRY = re.compile(r"^(\w+) : +(\S.*)\n((?:[ ]{2,}.*\n|[ ]*\n)*)", re.M)
_DEFAULT = re.compile(r", default(?:=| |: )(\S.*)$")
_VALUES = re.compile(r"\{((?:'[^'{}]*'|\"[^\"{}]*\"|None|True|False|, |\d)+)\}")
_TYPE = re.compile(r".*?(?=\.?$|,? \(?(?:optional|default))")
_SILENT = re.compile(r"default|optional|if none|if not", re.I)
"""What an entry that says nothing of a default does not hold."""


def docstring_qa() -> Found:
    """Raises BadData where what is installed gives no questions."""
    return found(_rows(), "packaged/docstring-qa", allowed=False)


def revision() -> str:
    """A digest of the questions that what is installed gives."""
    return digest([[r.question, r.context, r.answers[:1], r.group] for r in _rows()])


@cache  # parsing the sources takes seconds, and a process needs them twice
def _rows() -> tuple[QuestionRow, ...]:
    kinds: dict[str, list[tuple[str, QuestionRow]]] = {kind: [] for kind in KINDS}
    for module, text in _docstrings():
        on_text = []
        for kind, name, answer, start in _asked(text):
            question = KINDS[kind][0].format(name)
            order = hashlib.sha256(f"docstring-qa:{question}:{text}".encode()).hexdigest()
            answers = ((answer, start),) if answer else ()
            row = QuestionRow(f"{module}, {question}", question, text, answers, group=module)
            on_text.append((order, kind, row))
        for order, kind, row in sorted(on_text, key=lambda one: one[0])[:PER_TEXT]:
            kinds[kind].append((order, row))
    chosen = [
        row for kind, rows in kinds.items() for row in sorted(rows, key=_first)[: KINDS[kind][1]]
    ]
    return tuple(row for _, row in sorted(chosen, key=_first))


def _first(one: tuple[str, QuestionRow]) -> str:
    return one[0]


def files() -> Iterator[tuple[str, Path]]:
    """(module, file) of all that the packages have, but their tests and what is others'."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            root = Path(place)
            for path in sorted(root.rglob("*.py")):
                inside = path.relative_to(root).with_suffix("").parts
                if "tests" not in inside and "externals" not in inside:
                    yield ".".join((package, *inside)), path


def _docstrings() -> Iterator[tuple[str, str]]:
    """(module, text) of each docstring with parameters, each text once."""
    seen = set()
    for module, path in files():
        for text in _of_file(path):
            if text not in seen:
                seen.add(text)
                yield module, text


def _of_file(path: Path) -> Iterator[str]:
    """The texts of one file's docstrings: to the end of the section on parameters."""
    source = path.read_bytes()
    if b"Parameters\n" not in source:
        return
    for node, doc in documented(source):
        section = _SECTION.search(doc + "\n") if not isinstance(node, ast.Module) else None
        text = section.string[: section.end()].strip() if section else ""
        if SHORTEST <= len(text) <= LONGEST:
            yield text


def documented(source: bytes) -> Iterator[tuple[ast.AST, str]]:
    """A file's modules, classes, methods and functions that have a docstring, and the docstring.
    Bodies of functions are not entered: they hold most of a tree, and hardly a docstring."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Module, ast.ClassDef)):
            waiting.extend(reversed(node.body))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (
            doc := ast.get_docstring(node)
        ):
            yield node, doc


def _asked(text: str) -> Iterator[tuple[str, str, str, int]]:
    """(kind, parameter, answer, its start) of all that can be asked of a text."""
    section = _SECTION.search(text + "\n")
    assert section is not None  # it was cut there
    for entry in _ENTRY.finditer(text + "\n", section.start(1)):
        name, said, start = entry[1], entry[2], entry.start(2)
        default = _DEFAULT.search(said)
        if default and not re.search(r"\s\(|[,;]", default[1]):
            yield "default", name, default[1].rstrip("."), start + default.start(1)
        elif not _SILENT.search(entry[0]):
            yield "none", name, "", 0
        if values := _VALUES.match(said):
            yield "values", name, values[1], start + 1
        elif (kind := _TYPE.match(said)) and 2 < len(kind[0]) <= 60 and "`" not in kind[0]:
            yield "type", name, kind[0], start
