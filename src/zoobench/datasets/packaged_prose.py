"""packaged/docstrings: the prose of real docstrings as documents of language modelling.

The texts are numpy's, scipy's and scikit-learn's as they are installed: of a docstring what stands
before its first section, and its Notes, and of these the paragraphs that are sentences, without
markup, formulas, code and lists. Their files are parsed, and none is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from zoobench.datasets.ids import text_id
from zoobench.datasets.packaged_docstrings import documented, files
from zoobench.datasets.readers import Texts
from zoobench.datasets.splits import Found
from zoobench.interfaces import Split
from zoobench.schema import digest
from zoobench.tasks.language_modelling import Documents

SHORTEST = 250
"""Characters of a document."""
WORDS = 12
"""Fewest words of a paragraph."""

_SECTION = re.compile(r"^([A-Z][\w ]*)\n[-=~]{3,}$", re.M)
_MARKUP = re.compile(r"^[\s.>*:#|=+-]|::|[$`\[_\\]", re.M)
"""What sentences do not hold, and how their lines do not begin."""


def docstrings() -> Found:
    """Documents, in groups by module: what one module says of its functions is much alike."""
    rows = _rows()
    texts = tuple(text for _, text in rows)
    ids = tuple(map(text_id, texts))
    train = Split("train", ids, Documents.of(texts), Texts(texts))
    groups = {one: module for one, (module, _) in zip(ids, rows, strict=True)}
    return Found(train, None, None, (), "text", {}, groups, task="language-modelling")


def revision() -> str:
    """A digest of what is installed."""
    return digest(_rows())


@cache  # parsing the sources takes seconds, and a process needs them twice
def _rows() -> tuple[tuple[str, str], ...]:
    """(module, document) in the order of their files, each document once."""
    found: dict[str, str] = {}
    for module, path in files():
        source = path.read_bytes()
        for _, doc in documented(source) if b'"""' in source else ():
            text = "\n\n".join(_paragraphs(doc))
            if len(text) >= SHORTEST:
                found.setdefault(text, module)
    return tuple((module, text) for text, module in found.items())


def _paragraphs(doc: str) -> Iterator[str]:
    """The paragraphs of sentences, each on one line."""
    first, *rest = _SECTION.split(doc)
    notes = [body for name, body in zip(rest[::2], rest[1::2], strict=True) if name == "Notes"]
    for part in (first, *notes):
        for paragraph in re.split(r"\n\s*\n", part.strip("\n")):
            text = " ".join(paragraph.split())
            if not _MARKUP.search(paragraph) and len(text.split()) >= WORDS and text[-1] == ".":
                yield text
