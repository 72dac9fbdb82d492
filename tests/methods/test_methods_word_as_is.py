"""Complete taggers: their labels by name, whatever they write, and a folder through all of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cells import settings
from tinymodels import tiny_bert, write_files
from zoobench import datasets, methods, models
from zoobench.errors import CellError, Unsupported, UserError
from zoobench.interfaces import Splits
from zoobench.methods.word_as_is import Labelling
from zoobench.runs import planning, suite
from zoobench.tasks.token_classification import TokenClassification, entity_f1, tags_of
from zoobench.workers.runner import Bench

TASK = "token-classification"


class Planted:
    """A complete model that says what it is told, by numbers of its labels."""

    task, precision = TASK, "fp32"

    def __init__(self, labels: Sequence[str], said: dict[tuple[str, ...], list[str]]) -> None:
        self.labels, self.said = tuple(labels), said
        self.module = torch.nn.Identity()

    def answer(self, words: tuple[str, ...]) -> torch.Tensor:
        return torch.tensor([self.labels.index(label) for label in self.said[words]])

    def autocast(self, precision: str) -> Any:
        return torch.inference_mode()


def splits_of() -> Splits:
    return datasets.load(datasets.resolve(f"synthetic/phrases?task={TASK}&classes=2&test=40"))


def truth(splits: Splits) -> dict[tuple[str, ...], list[str]]:
    test = splits.test
    return {
        test.read(i): [splits.classes[k] for k in tags_of(test).row(i)] for i in range(len(test))
    }


def judged(splits: Splits, planted: Planted, **params: Any) -> tuple[Any, list[Any]]:
    fitted = methods.build("as-is", params, task=TASK).adapt(planted, splits.sealed(), 0)
    return fitted, fitted.predict(splits.test)


RENAMED = {"class0": "Class-0", "class1": "CLASS 1"}


def relabelled(tag: str) -> str:
    letter, _, kind = tag.partition("-")
    return f"{letter}-{RENAMED[kind]}" if kind else tag


def test_labels_are_matched_by_name_and_never_by_number() -> None:
    splits = splits_of()
    said = {words: [relabelled(tag) for tag in tags] for words, tags in truth(splits).items()}
    labels = ["I-CLASS 1", "O", "B-Class-0", "B-CLASS 1", "I-Class-0", "B-MISC", "I-MISC"]
    fitted, found = judged(splits, Planted(labels, said))
    assert entity_f1(found, tags_of(splits.test)) == 1.0
    assert fitted.facts["classes_known"] == 2
    assert fitted.flags == ()


def bilou(tags: list[str]) -> list[str]:
    out = []
    for i, tag in enumerate(tags):
        last = i + 1 == len(tags) or not tags[i + 1].startswith("I-")
        letter = {"B": "U" if last else "B", "I": "L" if last else "I"}.get(tag[0], "O")
        out.append(letter + tag[1:])
    return out


def io(tags: list[str]) -> list[str]:
    return [tag[2:] or "O" for tag in tags]


@pytest.mark.parametrize("write", [bilou, io, lambda tags: [t.replace("B-", "I-") for t in tags]])
def test_whatever_way_of_writing_entities_a_tagger_has(write: Any) -> None:
    splits = splits_of()
    said = {words: write(tags) for words, tags in truth(splits).items()}
    labels = sorted({label for tags in said.values() for label in tags} | {"O"})
    _, found = judged(splits, Planted(labels, said))
    judgement = TokenClassification().judge(found, splits.test, (None, splits.valid))
    whole = TokenClassification().statistics(judgement)(np.ones((1, judgement.n)), ["entity_f1"])
    # Without B- two entities of a type that touch are one.
    assert whole["entity_f1"][0] > (0.999 if write is bilou else 0.9)


def test_types_that_nobody_knows_count_as_missed_and_others_are_left_out() -> None:
    splits = splits_of()
    said = {
        words: [tag.replace("class1", "place") for tag in tags]
        for words, tags in truth(splits).items()
    }
    labels = ["O", "B-class0", "I-class0", "B-place", "I-place"]
    fitted, found = judged(splits, Planted(labels, said))
    assert fitted.chosen["unknown_classes"] == ["class1"]
    assert fitted.flags == ("classes-unknown",)
    judgement = TokenClassification().judge(found, splits.test, (None, splits.valid))
    assert judgement.arrays["predicted"].sum(axis=0)[1] == 0
    assert judgement.arrays["correct"].sum(axis=0)[0] == judgement.arrays["true"].sum(axis=0)[0]
    _, mapped = judged(splits, Planted(labels, said), labels=["place=class1"])
    assert entity_f1(mapped, tags_of(splits.test)) == 1.0
    with pytest.raises(UserError, match="'plaice' is none of"):
        judged(splits, Planted(labels, said), labels=["plaice=class1"])
    with pytest.raises(Unsupported, match="it knows none of the types class0, class1"):
        judged(splits, Planted(["O", "B-x", "I-x"], said))
    with pytest.raises(Unsupported, match="as-is needs a head"):
        judged(splits, dataclasses.replace(splits).train)  # type: ignore[arg-type]


def test_what_a_label_is() -> None:
    iob2 = Labelling.of(["O", "B-PER", "I-PER", "[PAD]"])
    assert (iob2.scheme, iob2.types) == ("iob2", ("PER",))
    assert iob2.written(np.array([2, 3, 1])) == ["I-PER", "O", "B-PER"]  # as it is said
    assert Labelling.of(["O", "I-PER", "I-LOC", "B-LOC"]).scheme == "iob1"
    assert Labelling.of(["NOUN", "O", "VERB"], whole=True).types == ("NOUN", "VERB")
    assert Labelling.of(["PER", "O"]).written(np.array([0, 0, 1])) == ["B-PER", "I-PER", "O"]


def folder_of(path: Path, labels: Sequence[str], head: bool = True) -> Path:
    """A tiny BERT that tags, with random weights, as `save_pretrained` writes it."""
    import transformers

    write_files(tiny_bert(), path)
    config = transformers.AutoConfig.from_pretrained(path)
    config.id2label = dict(enumerate(labels))
    torch.manual_seed(0)
    if head:
        transformers.BertForTokenClassification(config).save_pretrained(path)
    return path


def suite_of(path: Path, data: Path, model: str) -> suite.Suite:
    path.write_text(
        f'name = "t"\nprecision = "fp32"\nmodels = ["{model}"]\n'
        f'datasets = [{{ id = "conll/pets", path = "{data}" }}]\n'
        'methods = ["as-is"]\n[limits]\ncost_seconds = 0\n'
    )
    return suite.read(str(path))


def test_a_folder_runs_through_the_whole_path(tmp_path: Path) -> None:
    data = tmp_path / "pets.conll"
    data.write_text(
        "\n".join(f"the O\n{'cat' if i % 2 else 'dog'} B-PET\nsat{i} O\n" for i in range(40))
    )
    folder = folder_of(tmp_path / "m", ["O", "B-Pet", "I-Pet", "B-PER"])
    spec = suite_of(tmp_path / "s.toml", data, f"tagger/mine?weights={folder}")
    cells = planning.plan(spec)
    assert [c.method for c in cells] == ["majority", "raw-input", "as-is"]
    record = Bench(settings()).run(cells[-1]).record
    assert record.status == "ok", record.error
    assert record.value("classes_known") == 1
    assert record.value("macs")
    assert record.get("entity_f1") is not None


def test_long_texts_have_a_label_for_each_word(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", ["O", "B-PET"])
    tagger: Any = models.load(models.resolve(f"tagger/mine?weights={folder}"), 0)
    words = ("the", "cat", "sat", "unheardof") * 25
    with torch.no_grad():
        said = tagger.answer(words)
        assert said.shape == (100,)
        (ids,) = tagger.tokenize(["the cat sat unheardof"])
        alone = tagger.module(input_ids=torch.tensor([ids])).logits[0, 1:5].argmax(dim=1)
        assert torch.equal(tagger.answer(words[:4]), alone)
    assert tagger.answer(()).shape == (0,)


def test_a_folder_without_a_head_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", ["O", "B-PET"], head=False)
    with pytest.raises(CellError, match="the weights do not fit the model"):
        models.load(models.resolve(f"tagger/mine?weights={folder}"), 0)
    with pytest.raises(UserError, match="prefix"):
        models.resolve(f"tagger/mine?weights={folder}&prefix=query")
    with pytest.raises(UserError, match="tagger/USER/NAME"):
        models.resolve("tagger/nobody")
