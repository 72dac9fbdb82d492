"""Language models judged as they are: through a run, across tokenizers, and what they cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Regex
from tokenizers.normalizers import Replace
from transformers import AutoModelForCausalLM

from cells import settings, write_suite
from tinymodels import PROSE, byte_tokenizer, tiny_decoder, tiny_masked
from zoobench import datasets, methods, models, store
from zoobench.errors import Unsupported
from zoobench.features.source import Features, View
from zoobench.interfaces import Split
from zoobench.methods.language_as_is import joined
from zoobench.models.likelihood import causal_bits
from zoobench.ranking.rank import rank
from zoobench.report.tables import frame, ranking_table
from zoobench.runs import planning, session, suite
from zoobench.schema import Cell
from zoobench.tasks.language_modelling import Documents
from zoobench.tasks.multiple_choice import Choices, RightOptions
from zoobench.workers.runner import Bench


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models and three sets."""
    root = tmp_path_factory.mktemp("language")
    tiny_decoder("gpt2", root / "gpt", byte_tokenizer(300))
    tiny_decoder("llama", root / "llama", byte_tokenizer(270))
    tiny_masked(root / "bert")
    (root / "notes").mkdir()
    for i in range(24):
        (root / "notes" / f"{i}.txt").write_text(PROSE[i % 2] * (1 + i % 3) + f" Number {i}.")
    quiz = [
        {"q": f"The cat sat {i} times on the", "c": ["mat", "the river"], "a": i % 2}
        for i in range(24)
    ]
    (root / "quiz.jsonl").write_text("\n".join(map(json.dumps, quiz)))
    return root


def write(world: Path, folder: Path) -> Path:
    notes = f"folder/notes?path={world}/notes&task="
    quiz = f"table/quiz?path={world}/quiz.jsonl&question=q&choices=c&label=a&task=multiple-choice"
    return write_suite(
        folder / "language.toml",
        models=[f"language-model/{n}?weights={world}/{n}" for n in ("gpt", "llama", "bert")],
        datasets=[f"{notes}language-modelling", f"{notes}masked-language-modelling", quiz],
        methods=["as-is"],
        controls="true",
        rest="[limits]\ncost_seconds = 0\n",
    )


def test_a_suite_of_language_models_runs_and_ranks_by_task(world: Path, tmp_path: Path) -> None:
    read = suite.read(str(write(world, tmp_path)))
    left = " ".join(planning.left_out(read))
    assert "answers masked-language-modelling, folder/notes?" in left
    session.execute(read, session.RunOptions(tmp_path / "run", device="cpu"), lambda plan, e: None)
    run = store.load(tmp_path / "run")
    assert {record.status for record in run.records} == {"ok"}
    sections = {section.metric: section for section in rank([run]).sections}
    ranked = {m: {row.model.name for row in of.rows} for m, of in sections.items()}
    assert ranked == {
        "bits_per_byte": {"gpt", "llama"},
        "pseudo_bits_per_byte": {"bert"},
        "accuracy": {"gpt", "llama"},
    }
    table = frame(ranking_table(rank([run])))
    bits = table[(table.metric == "bits_per_byte") & table.status.isin(["ok", "control"])]
    assert (bits.value > 0).all(), "as the metric is, though a ranking turns it round"
    assert ((bits.low <= bits.value) & (bits.value <= bits.high)).all()
    controls = {c.model.name: -c.value for c in sections["bits_per_byte"].controls}
    assert controls.keys() == {"majority", "raw-input"}
    assert {c.model.name for c in sections["accuracy"].controls} == {
        "chance", "majority", "raw-input",
    }  # fmt: skip


def answered(model: str, dataset: str, **params: Any) -> Any:
    """(record, outcomes) of a cell of as-is."""
    ref, data = models.resolve(model), datasets.resolve(dataset)
    task = datasets.card(data).task
    method = methods.build("as-is", params, task=task)
    versions = {"protocol": 1, "precision": "fp32", "task": f"{task}@1"}
    return Bench(settings()).run(
        Cell(ref, data, "as-is", methods.params_of(method), versions=versions)
    )


def test_documents_are_judged_whole_by_the_bits_of_all_their_tokens(world: Path) -> None:
    result = answered(
        f"language-model/gpt?weights={world}/gpt",
        f"folder/notes?path={world}/notes&task=language-modelling",
    )
    splits = datasets.load(result.record.cell.dataset)
    model: Any = models.load(result.record.cell.model)
    texts = [splits.test.read(i) for i in range(len(splits.test))]
    bits = [
        causal_bits(model.module, model.coder, [model.coder.encode(text)])[0].sum()
        for text in texts
    ]
    np.testing.assert_allclose(result.outcomes.arrays["bits"], bits, rtol=1e-6)
    sizes = [len(text.encode()) for text in texts]
    assert result.outcomes.arrays["bytes"].tolist() == sizes
    assert result.record.value("bits_per_byte") == pytest.approx(sum(bits) / sum(sizes), rel=1e-6)
    assert result.record.chosen == {}


def flat(folder: Path) -> int:
    """Make all tokens equally likely; how many there are."""
    network = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    network.save_pretrained(folder)
    return int(network.config.vocab_size)


def test_models_of_two_tokenizers_are_ranked_by_bytes_and_not_by_tokens(
    world: Path, tmp_path: Path
) -> None:
    """Of two models that know nothing, that of more tokens needs more bits for each of them, but
    less for the text, since its tokens are longer."""
    data = f"folder/notes?path={world}/notes&task=language-modelling"
    found = {}
    for size in (257, 320):
        folder = tiny_decoder("gpt2", tmp_path / str(size), byte_tokenizer(size))
        many = flat(folder)
        assert many == size
        result = answered(f"language-model/flat?weights={folder}", data)
        bytes_, bits = (result.outcomes.arrays[name] for name in ("bytes", "bits"))
        found[size] = result.record.value("bits_per_byte")
        tokens = bits.sum() / np.log2(many)
        assert tokens == pytest.approx(round(tokens), abs=1e-3)
        if size == 257:
            assert found[size] == pytest.approx(np.log2(257), rel=1e-6), "a token a byte"
            truth = bytes_
    assert found[320] < found[257]
    assert truth.tolist() == bytes_.tolist(), "what is divided by is the test set's"


def test_options_are_scored_by_their_likelihood_per_byte_after_the_question(world: Path) -> None:
    ref = models.resolve(f"language-model/llama?weights={world}/llama")
    source = Features(models.load(ref), View(str(ref)))
    model: Any = source.backbone
    asked = [
        Choices("The cat sat on the", ("mat", "mat and the dog", "日本")),
        Choices("", ("The river came.", "Came river the.")),
        Choices("Why?\n", ("Nobody knew.", " Nobody knew.")),
    ]
    truth = RightOptions.of([0, 0, 1], [3, 2, 2])
    split = Split("test", ("a", "b", "c"), truth, lambda i: asked[i])
    method = methods.build("as-is", {}, task="multiple-choice")
    splits: Any = type("Sealed", (), {"task": "multiple-choice", "valid": split, "classes": ()})
    said = method.adapt(source, splits, 0).predict(split)
    assert [len(one) for one in said] == [3, 2, 2]
    for one, scores in zip(asked, said, strict=True):
        for option, score in zip(one.options, scores, strict=True):
            whole = model.coder.encode(joined(one.question, option))
            (bits,) = causal_bits(model.module, model.coder, [whole])
            own = [i for i, end in enumerate(whole.ends) if end > len(one.question)]
            assert score == pytest.approx(-bits[own].sum() / len(option.encode()), rel=1e-5)


def test_a_text_of_which_a_tokenizer_keeps_nothing_is_not_known_for_free(world: Path) -> None:
    ref = models.resolve(f"language-model/gpt?weights={world}/gpt")
    source = Features(models.load(ref), View(str(ref)))
    model: Any = source.backbone
    model.coder.backend.normalizer = Replace(Regex("[0-9]"), "")
    texts = ["12345", "a cat 12345"]
    split = Split("test", ("a", "b"), Documents.of(texts), lambda i: texts[i])
    splits: Any = type("Sealed", (), {"task": "language-modelling", "valid": split})
    said = methods.build("as-is", {}, task=splits.task).adapt(source, splits, 0).predict(split)
    assert said[0] == 8 * 5
    asked = Choices("What?\n", ("12", "a cat"))
    split = Split("test", ("a",), RightOptions.of([0], [2]), lambda i: asked)
    splits = type("Sealed", (), {"task": "multiple-choice", "valid": split})
    (scores,) = methods.build("as-is", {}, task=splits.task).adapt(source, splits, 0).predict(split)
    assert scores[0] == -8


def test_pseudo_likelihood_says_how_many_tokens_and_flags_what_is_forgotten(world: Path) -> None:
    data = f"folder/notes?path={world}/notes&task=masked-language-modelling"
    bert = f"language-model/bert?weights={world}/bert"
    few, more = (answered(bert, data, tokens=n).record for n in (2, 500))
    assert few.cell.params == {"tokens": 2}
    assert few.key != more.key
    assert few.value("pseudo_bits_per_byte") != more.value("pseudo_bits_per_byte")
    assert few.value("bits_per_byte") is None


def test_a_model_of_the_other_kind_is_refused_by_name(world: Path) -> None:
    data = f"folder/notes?path={world}/notes&task=language-modelling"
    record = answered(f"language-model/bert?weights={world}/bert", data).record
    assert record.status == "unsupported"
    message = (record.error or {})["message"]
    assert "a masked language model, which answers masked-language-modelling" in message
    method = methods.build("as-is", {}, task="language-modelling")
    splits = datasets.load(datasets.resolve(data))
    encoder = models.resolve("synthetic/bag")
    with pytest.raises(Unsupported, match="it is no language model"):
        method.adapt(Features(models.load(encoder), View(str(encoder))), splits.sealed(), 0)
    why = planning.unsuited(encoder, datasets.resolve(data), "linear-probe")
    assert "linear-probe serves" in why
