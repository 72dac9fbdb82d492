"""The whole of timm and torchvision as cards, without importing them each time.

Importing both takes seconds, so it is done once for each of their versions; what was
found is kept in one JSON file under $ZOOBENCH_CACHE and read in milliseconds.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
from dataclasses import fields
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zoobench.schema import ModelCard

VERSION = 1
"""Raised when what a card says of the same library changes."""

INDEXED: dict[str, str] = {
    "timm": "zoobench.models.timm_",
    "torchvision": "zoobench.models.torchvision_",
}
FIELDS = tuple(field.name for field in fields(ModelCard))  # source first, extra last

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
    return _read(cache_file(), source, _library(source))


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


def cache_file() -> Path:
    home = os.environ.get("ZOOBENCH_CACHE")
    base = Path(home).expanduser() if home else Path.home() / ".cache" / "zoobench"
    return base / "models.json"


def _library(source: str) -> str:
    try:
        return version(source)
    except PackageNotFoundError:
        return ""


@lru_cache(maxsize=8)
def _read(path: Path, source: str, library: str) -> tuple[ModelCard, ...]:
    """The cards of `source` from the file at `path`, which is built when it is not of today."""
    stored = _stored(path, source, library)
    if stored is None:
        body = _build()
        _write(path, body)
        stored = tuple(_card(source, row) for row in body["sources"][source]["cards"])
    return stored


def _stored(path: Path, source: str, library: str) -> tuple[ModelCard, ...] | None:
    """None when the file is absent, damaged, or of other versions."""
    try:
        body = json.loads(path.read_text("utf-8"))
        part = body["sources"][source]
        if body["version"] != VERSION or part["library"] != library:
            return None
        return tuple(_card(source, row) for row in part["cards"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _card(source: str, row: list[Any]) -> ModelCard:
    facts = dict(zip(FIELDS[1:], row, strict=True))
    extra = tuple((str(k), v) for k, v in facts.pop("extra"))
    return ModelCard(source=source, extra=extra, **facts)


def _build() -> dict[str, Any]:
    sources = {
        source: {
            "library": _library(source),
            "cards": [
                [getattr(card, name) for name in FIELDS[1:]]
                for card in importlib.import_module(module).cards()
            ],
        }
        for source, module in INDEXED.items()
    }
    return {"version": VERSION, "sources": sources}


def _write(path: Path, body: dict[str, Any]) -> None:
    """Whole or not at all; a cache that cannot be written costs time, not the run."""
    from zoobench.store import write_atomic

    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(body, separators=(",", ":")).encode())
