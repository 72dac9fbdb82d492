"""Texts that are nested without end, or say two things under one key: one line, never a fault."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare_runs import Folder, answers, record
from hostile import Said
from tinymodels import tiny_bert, tiny_timm, write_files
from zoobench import datasets, models, store
from zoobench.errors import UserError, ZoobenchError
from zoobench.files import parse_json
from zoobench.schema import Ref

DEEP = {
    "lists": "[" * 100_000,
    "tables": '{"a":' * 100_000,
    "closed": "[" * 100_000 + "]" * 100_000,
    "just over": "[" * 5_000 + "]" * 5_000,
    "inside": '{"model_type": "bert", "a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "inside of tables": '{"a": {"b": ' + '{"a":' * 50_000 + "1" + "}" * 50_002,
}
TWICE = {
    "two models": '{"model_type": "bert", "model_type": "vit"}',
    "below": '{"a": [{"x": 1, "x": 2}]}',
    "escaped": '{"model_type": "bert", "model\\u005ftype": "vit"}',
}
ODD = {**DEEP, **TWICE}

FILES = ["config.json", "tokenizer_config.json", "tokenizer.json"]
MORE = ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
        "config_sentence_transformers.json", "model.safetensors.index.json",
        "preprocessor_config.json"]  # fmt: skip


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("name", [*FILES, *MORE])
def test_a_models_folder(name: str, case: str, inside: Path) -> None:
    folder = write_files(tiny_bert(sentence_transformers=name in MORE), inside / "m")
    if "index" in name:
        (folder / "model.safetensors").unlink()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(ODD[case], encoding="utf-8")
    with pytest.raises(ZoobenchError):
        models.load(models.resolve(f"hf/me/m?weights={folder}"))


@pytest.mark.parametrize("case", ODD)
def test_a_timm_folder(case: str, inside: Path) -> None:
    folder = write_files(tiny_timm(), inside / "m")
    (folder / "config.json").write_text(ODD[case], encoding="utf-8")
    with pytest.raises(ZoobenchError, match=r"config\.json"):
        models.load(models.resolve(f"timm/me/m?weights={folder}"))


@pytest.mark.parametrize("case", ODD)
def test_the_header_of_a_safetensors_file(case: str, inside: Path) -> None:
    folder = write_files(tiny_bert(), inside / "m")
    header = ODD[case].encode()
    blob = struct.pack("<Q", len(header)) + header + b"\0" * 64
    (folder / "model.safetensors").write_bytes(blob)
    with pytest.raises(ZoobenchError):
        models.load(models.resolve(f"hf/me/m?weights={folder}"))


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_table(suffix: str, case: str, inside: Path) -> None:
    (inside / f"t{suffix}").write_text(ODD[case], encoding="utf-8")
    ref = Ref("table", "t").with_options(path=f"t{suffix}", text="a", label="b")
    with pytest.raises(UserError):
        datasets.resolve(ref)


@pytest.mark.parametrize("case", DEEP)
@pytest.mark.parametrize("suite", [
    'name = "s"\nmodels = {}\ndatasets = ["synthetic/stripes"]\nmethods = ["knn"]',
    'name = "s"\nmodels = ["synthetic/gabor"]\ndatasets = [{{ id = "folder/x", a = {} }}]\n'
    'methods = ["knn"]',
    "a = {}",
])  # fmt: skip
def test_a_suite(suite: str, case: str, inside: Path, zoobench: Callable[..., Said]) -> None:
    deep = DEEP[case].replace(": ", " = ").replace(":", " = ").replace('"a"', "a")
    for text in (deep, "[" * 90 + "]" * 90, "{a = " * 90 + "1" + "}" * 90):
        (inside / "s.toml").write_text(suite.format(text), encoding="utf-8")
        said = zoobench("plan", "s.toml")
        assert said.code == 2
        assert len(said.error) < 5_000


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("command", [
    ("report", "a"), ("merge", "a", "b", "--out", "c"), ("compare", "a", "b"),
    ("plan", "a"), ("recommend", "a"),
], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("name", [store.ENVIRONMENT, store.RECORDS])
def test_a_run(
    name: str, command: tuple[str, ...], case: str, inside: Path, zoobench: Callable[..., Said]
) -> None:
    for run in ("a", "b"):
        Folder(inside / run, suite="x").add(record(answers(40, range(4)))).write()
    (inside / "a" / name).write_text(ODD[case] + "\n", encoding="utf-8")
    said = zoobench(*command)
    if said.code:
        assert said.code == 2
        assert said.error
    else:
        assert name == store.ENVIRONMENT, "of two runs one is compared without it"


@pytest.mark.parametrize("case", ODD)
def test_a_journal(case: str, inside: Path) -> None:
    from zoobench.advise import journal

    (inside / journal.FILE).write_text(ODD[case] + "\n", encoding="utf-8")
    with pytest.raises(ZoobenchError, match="not a line of a journal"):
        journal.read(inside)


def test_a_journal_that_is_no_text(inside: Path) -> None:
    from zoobench.advise import journal

    (inside / journal.FILE).write_bytes(b'{"did": "\xff\xfe"}\n')
    with pytest.raises(ZoobenchError, match="not a line of a journal"):
        journal.read(inside)


@pytest.mark.parametrize("case", ODD)
def test_a_ref(case: str) -> None:
    for text in (f"folder/x?a={ODD[case]}", f"folder/{ODD[case]}"):
        try:
            ref = Ref.parse(text)
        except UserError:
            continue
        assert Ref.parse(str(ref)) == ref


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=10,
)


@settings(max_examples=40)
@given(VALUES)
def test_what_is_said_once_is_read_as_ever(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=2), VALUES, min_size=1), st.data())
def test_what_is_said_twice_is_refused_unless_it_is_the_same(
    table: dict[str, object], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(table)))
    again = data.draw(VALUES)
    text = json.dumps(table)[:-1] + f", {json.dumps(key)}: {json.dumps(again)}}}"
    if again == table[key]:
        assert parse_json(text) == table
    else:
        with pytest.raises(ValueError, match="twice"):
            parse_json(text)
