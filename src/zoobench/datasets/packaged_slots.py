"""packaged/home-slots: what people say to their homes, and which words are a room, a time.

The templates of home-assistant-intents (Apache-2.0), as its JSON holds them, are expanded:

    (turn|switch) on [the] {name} in [<the>] {area}  ->  switch on the desk lamp in my kitchen

A slot's words are an entity of its type. A template is a unit. A fifth of the templates, by hash,
are the test split, whose rooms, devices and other open names are never said in train.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from typing import Any

from zoobench.datasets.packaged_slot_names import NAMES
from zoobench.datasets.splits import Found
from zoobench.datasets.tagged import Sentence, Written, found
from zoobench.errors import BadData
from zoobench.files import parse_json

SAID = 5
"""Times that a template is expanded, before those that become the same sentence are left out."""
TESTED = 0.2
"""Share of the templates that are the test split."""
DEEPEST = 24
"""Rules inside of rules: a file may not send us round in a circle."""
_MARK = re.compile(r"[\[\](){}<>|;]")

Node = tuple[str, Any]
"""("text", words), ("slot", "list:type"), ("rule", name), or ("one" | "maybe" | "all", sequences):
one of them, one or none, and all in any order."""


def home_slots(path: Path) -> Found:
    """Raises BadData where the file is not what the package's is."""
    try:
        grammar = Grammar.of(parse_json(path.read_text("utf-8")))
        said = [one for template in grammar.templates for one in grammar.sentences(template)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadData(f"{path.name} of home-assistant-intents cannot be read: {error}") from error
    once = {one.words: one for one in said}  # two templates may say the same: the last has it
    parts: dict[str, list[Sentence]] = {"train": [], "test": []}
    for one in once.values():
        parts["test" if in_test(one.document) else "train"].append(one)
    return found(parts, (), Written("iob2"), path.name, {"templates": len(grammar.templates)})


def in_test(template: str) -> bool:
    """Whether a template is of the test split."""
    return _drawn(template, "test") < TESTED * 2**32


def _drawn(*what: object) -> int:
    """A number below 2 ** 32 that nothing but its arguments decides."""
    text = "\x1f".join(map(str, what))
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Grammar:
    """Templates in the file's order, `rules` by name, and `values` that a list's slot may take."""

    templates: tuple[str, ...]
    rules: Mapping[str, str]
    values: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, body: Any) -> Grammar:
        """From the package's JSON; lists that it leaves open have our NAMES."""
        blocks = [block for intent in body["intents"].values() for block in intent["data"]]
        templates = dict.fromkeys(str(one) for block in blocks for one in block["sentences"])
        values = {name: _values(one) for name, one in body["lists"].items()}
        rules = {name: str(rule) for name, rule in body["expansion_rules"].items()}
        return cls(tuple(templates), rules, {name: v for name, v in values.items() if v})

    def sentences(self, template: str) -> Iterator[Sentence]:
        """At most SAID different ones, the same on every machine."""
        tree = parsed(template)
        for number in range(SAID):
            drawing = Drawing(self, template, number)
            text, slots = "", []
            for piece, slot in drawing.say(tree):
                if slot:
                    slots.append((len(text), len(text) + len(piece), slot))
                text += piece
            words, tags = tagged_words(text, slots)
            yield Sentence(words, tags, template, template)


def _values(one: Mapping[str, Any]) -> list[str]:
    """The values of a list: named, or whole numbers of a range; none of an open one."""
    if "range" in one:
        first, last = int(one["range"]["from"]), int(one["range"]["to"])
        return [str(n) for n in range(first, last + 1, int(one["range"].get("step", 1)))]
    return [str(value["in"]) for value in one.get("values", ())]


class Drawing:
    """One way of saying a template: each choice by a hash of the template and its own number."""

    def __init__(self, grammar: Grammar, template: str, number: int) -> None:
        self.grammar, self.template, self.number = grammar, template, number
        self.choices = 0

    def pick(self, many: int) -> int:
        """The next choice, of `many`."""
        self.choices += 1
        return _drawn(self.template, self.number, self.choices) % many

    def say(self, tree: Sequence[Node], depth: int = 0) -> Iterator[tuple[str, str]]:
        """(text, type of its slot or "") of one piece after another."""
        if depth > DEEPEST:
            raise ValueError(f"its rules lead in a circle in {self.template!r}")
        for kind, what in tree:
            if kind == "text":
                yield what, ""
            elif kind == "slot":
                list_, _, type_ = str(what).partition(":")
                yield self.value(list_, type_ or list_, depth)
            elif kind == "rule":
                yield from self.say(parsed(self.grammar.rules[what]), depth + 1)
            elif kind == "all":
                orders = list(permutations(what))
                for k, part in enumerate(orders[self.pick(len(orders))]):
                    yield (" ", "") if k else ("", "")
                    yield from self.say(part, depth + 1)
            else:
                chosen = self.pick(len(what) + (kind == "maybe"))
                if chosen < len(what):
                    yield from self.say(what[chosen], depth + 1)

    def value(self, list_: str, type_: str, depth: int) -> tuple[str, str]:
        """What is said in a slot: a value of its list, or a name of the template's side of ours."""
        values = self.grammar.values.get(list_)
        if values is None:
            side = in_test(self.template)
            half = [name for name in NAMES[list_] if (_drawn(name, "name") % 2 == 1) == side]
            return half[self.pick(len(half))], type_
        chosen = parsed(values[self.pick(len(values))])
        return "".join(text for text, _ in self.say(chosen, depth + 1)), type_


def parsed(template: str) -> list[Node]:
    """The tree of a template. Raises ValueError for brackets without their other half."""
    tree, end = _sequence(template, 0, "")
    if end != len(template):
        raise ValueError(f"{template!r} closes what it does not open")
    return tree


def _sequence(text: str, at: int, until: str) -> tuple[list[Node], int]:
    """The nodes from `at` on, and where they end: at one of the signs `until`, or the end."""
    nodes: list[Node] = []
    while at < len(text) and text[at] not in until:
        sign = text[at]
        if sign in "([":
            node, at = _choice(text, at + 1, sign)
            nodes.append(node)
        elif sign in "{<":
            end = text.index("}" if sign == "{" else ">", at)
            nodes.append(("slot" if sign == "{" else "rule", text[at + 1 : end]))
            at = end + 1
        elif _MARK.match(sign):
            break
        else:
            match = _MARK.search(text, at)
            end = match.start() if match else len(text)
            nodes.append(("text", text[at:end]))
            at = end
    return nodes, at


def _choice(text: str, at: int, sign: str) -> tuple[Node, int]:
    """What stands in brackets that open with `sign`, before `at`, and where it ends."""
    close, parts, marks = ")" if sign == "(" else "]", [], set[str]()
    while True:
        nodes, at = _sequence(text, at, f"|;{close}")
        parts.append(nodes)
        if at >= len(text) or text[at] not in f"|;{close}":
            raise ValueError(f"{text!r} opens what it does not close")
        if text[at] == close:
            break
        marks.add(text[at])
        at += 1
    if ";" in marks:
        if "|" in marks or sign == "[":
            raise ValueError(f"{text!r} mixes orders and choices")
        return ("all", parts), at + 1
    return ("one" if sign == "(" else "maybe", parts), at + 1


def tagged_words(
    text: str, slots: Sequence[tuple[int, int, str]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of a text and their tags; a word is of the first slot that it has a letter of."""
    words, tags, before = [], [], -1
    for match in re.finditer(r"\S+", text):
        inside = [k for k, (a, b, _) in enumerate(slots) if a < match.end() and match.start() < b]
        slot = inside[0] if inside else -1
        words.append(match[0])
        tags.append(f"{'I' if slot == before else 'B'}-{slots[slot][2]}" if inside else "O")
        before = slot
    return tuple(words), tuple(tags)
