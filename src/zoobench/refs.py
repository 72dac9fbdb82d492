"""How models and datasets are named: in one line, which can be read back."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from functools import cached_property, total_ordering
from pathlib import PurePath
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from zoobench.errors import UserError

Scalar: TypeAlias = "str | int | float | bool"
Value: TypeAlias = "Scalar | tuple[Scalar, ...]"

SCALARS = (str, int, float, bool)
_RESERVED = re.compile(r"[%@?\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What a name may not hold as it is: our own marks, controls, and bytes that are no text."""


PLACES = ("path", "weights", "configuration")
"""Options that may say where files lie."""
RECIPES = {"pretrained-here": ("architecture", "dataset", "objective")}
"""Source -> options that say what a model was made of, for which its name stands in a table."""


def _digest(path: str) -> str:
    return hashlib.sha256(os.fsencode(PurePath(path).parent)).hexdigest()[:8]


def _escaped(name: str) -> str:
    return _RESERVED.sub(lambda found: quote(found[0], safe="", errors="surrogatepass"), name)


def _quoted(text: str) -> str:
    return quote(text, safe="/.,:[]", errors="surrogatepass")


def _unquoted(text: str) -> str:
    return unquote(text, errors="surrogatepass")


def _written(value: Value) -> str:
    """As JSON; a text as it is, where it reads as nothing else."""
    if isinstance(value, str) and _read(value) == value:
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _read(text: str) -> Value:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, list) and all(isinstance(one, SCALARS) for one in value):
        return tuple(value)
    return value if isinstance(value, SCALARS) else text


@total_ordering
class Ref:
    """The name of a model or dataset: `source/name@revision?option=value&...`. Immutable.

    `text` is the identity, by which refs are equal and in order; it stands in suites,
    records, tables and `--only` patterns, and `Ref.parse(ref.text) == ref` whatever the name
    and the options hold. An empty revision means "not pinned yet"; options are sorted by name;
    reserved characters are percent-encoded, and a text that reads as another type is quoted.
    """

    source: str
    name: str
    revision: str
    options: tuple[tuple[str, Value], ...]
    text: str

    def __init__(
        self,
        source: str,
        name: str,
        revision: str = "",
        options: Iterable[tuple[str, Value]] = (),
    ) -> None:
        ordered = tuple(sorted(options, key=lambda item: item[0]))
        at = f"@{_escaped(revision)}" if revision else ""
        query = "&".join(f"{_quoted(k)}={_quoted(_written(v))}" for k, v in ordered)
        text = f"{source}/{_escaped(name)}{at}{'?' + query if query else ''}"
        vars(self).update(source=source, name=name, revision=revision, options=ordered, text=text)

    @classmethod
    def parse(cls, text: str) -> Ref:
        """For the edges, where a name comes in as text. Raises UserError without `source/name`."""
        body, _, query = text.partition("?")
        path, _, revision = body.partition("@")
        source, _, name = path.partition("/")
        if not source or not name:
            raise UserError(
                f"{text!r} is not a name of the form source/name, such as timm/resnet18"
            )
        pairs = [item.partition("=") for item in query.split("&") if item]
        try:
            options = [(_unquoted(k), _read(_unquoted(v))) for k, _, v in pairs]
            return cls(source, _unquoted(name), _unquoted(revision), options)
        except UnicodeDecodeError:
            raise UserError(f"{text!r}: what is percent-encoded there is not UTF-8") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Ref is immutable: {name} can't be set")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.text == other.text

    def __lt__(self, other: Ref) -> bool:
        return self.text < other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Ref.parse({self.text!r})"

    @property
    def id(self) -> str:
        """`source/name`, with neither revision nor options."""
        return f"{self.source}/{self.name}"

    @cached_property
    def located(self) -> Ref:
        """The same thing, wherever it lies: paths left out, since contents are hashed instead."""
        ref = self.without("path")
        paths = {
            name: PurePath(str(value)).name
            for name, value in ref.options
            if name == "configuration"
            or (name == "weights" and value not in ("random", "pretrained"))
        }
        return ref.with_options(**paths)

    @cached_property
    def private(self) -> Ref:
        """The same thing as it stands in records, which others read: without absolute paths.

        A dataset's is left out, since its revision says what it held; of a checkpoint's the
        name is left and a digest of its folder, by which two of one name are told apart.
        """
        placed = {
            k: str(v) for k, v in self.options if k in PLACES and PurePath(str(v)).is_absolute()
        }
        if not placed:
            return self
        short = {k: f"{_digest(v)}/{PurePath(v).name}" for k, v in placed.items() if k != "path"}
        return self.without("path" if "path" in placed else "").with_options(**short)

    @cached_property
    def short(self) -> str:
        """What a table shows: neither the revision, nor where the files lie, nor a recipe."""
        return self.located.at("").without(*RECIPES.get(self.source, ())).text

    def option(self, name: str, default: Any = None) -> Any:
        return dict(self.options).get(name, default)

    def with_options(self, **changes: Value) -> Ref:
        return Ref(self.source, self.name, self.revision, {**dict(self.options), **changes}.items())

    def without(self, *names: str) -> Ref:
        kept = [item for item in self.options if item[0] not in names]
        return (
            self
            if len(kept) == len(self.options)
            else Ref(self.source, self.name, self.revision, kept)
        )

    def at(self, revision: str) -> Ref:
        return (
            self
            if revision == self.revision
            else Ref(self.source, self.name, revision, self.options)
        )


def is_name(given: object) -> bool:
    """Whether it is a text that `Ref.parse` reads."""
    try:
        return isinstance(given, str) and bool(Ref.parse(given))
    except UserError:
        return False
