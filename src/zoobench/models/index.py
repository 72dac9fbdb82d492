"""The whole of timm and torchvision as cards, without importing them each time.

Importing both takes seconds, so it is done once for each of their versions; what was
found is kept in one JSON file under $ZOOBENCH_CACHE and read in milliseconds.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import msgspec

from zoobench import machine
from zoobench.schema import ModelCard

VERSION = 2
"""Raised when what a card says of the same library changes."""

INDEXED: dict[str, str] = {
    "timm": "zoobench.models.timm_",
    "torchvision": "zoobench.models.torchvision_",
}


@dataclass(frozen=True)
class _Listed:
    """The cards of one library, and the version of it that they were read from."""

    library: str
    cards: tuple[ModelCard, ...]


@dataclass(frozen=True)
class _Index:
    """What the file holds, by source."""

    version: int
    sources: dict[str, _Listed]


_FIRST_WORDS = ("tf", "legacy", "wide", "test", "gluon", "ssl", "swsl", "ig")


def family(architecture: str) -> str:
    """The architecture's family, for grouping: tf_efficientnet_lite0 -> efficientnet-lite.

    The first word without its size, and with its generation where the name has one.
    """
    words = architecture.lower().split("_")
    while len(words) > 1 and words[0] in _FIRST_WORDS:
        words = words[1:]
    if words[0] == "efficientnet" and len(words) > 1 and words[1].startswith("lite"):
        return "efficientnet-lite"
    stem = re.fullmatch(r"([a-z]+?(?:\d+[a-z]+?)*?(?:v\d)?)(?:\d+[a-z]{0,3})?", words[0])
    name = stem.group(1) if stem else words[0]
    if len(words) > 1 and re.fullmatch(r"v\d", words[1]):
        name += words[1]
    return name


def cards(source: str) -> tuple[ModelCard, ...]:
    """All cards of "timm" or "torchvision"."""
    return _read(machine.cache_dir() / "models.json", source, version(source))


@lru_cache(maxsize=4)
def by_name(source: str) -> dict[str, tuple[ModelCard, ...]]:
    """Name -> its cards, the default first; a bare timm architecture names its default's card."""
    table: dict[str, list[ModelCard]] = {}
    for card in cards(source):
        facts = dict(card.extra)
        first = bool(facts.get("default"))
        names = {card.name, str(facts.get("architecture", card.name)) if first else card.name}
        for name in names:
            row = table.setdefault(name, [])
            row.insert(0 if first else len(row), card)
    return {name: tuple(row) for name, row in table.items()}


@lru_cache(maxsize=8)
def _read(path: Path, source: str, library: str) -> tuple[ModelCard, ...]:
    """The cards of `source` from the file at `path`, which is built when it is not of today."""
    from zoobench.files import write_atomic

    with contextlib.suppress(OSError, msgspec.DecodeError):  # absent or damaged
        index = msgspec.json.decode(path.read_bytes(), type=_Index)
        listed = index.sources.get(source)
        if index.version == VERSION and listed is not None and listed.library == library:
            return listed.cards
    content = msgspec.json.encode(_build())
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not the run
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    return msgspec.json.decode(content, type=_Index).sources[source].cards


def _build() -> _Index:
    return _Index(
        VERSION,
        {
            source: _Listed(version(source), importlib.import_module(module).cards())
            for source, module in INDEXED.items()
        },
    )
