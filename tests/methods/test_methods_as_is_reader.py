"""Complete readers of transformers with random weights, through all of it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tinymodels import WORDS
from zoobench import datasets, methods, models
from zoobench.errors import CellError, Unsupported, UserError
from zoobench.features.source import Features, View
from zoobench.runs import planning, suite
from zoobench.schema import Ref
from zoobench.tasks.question_answering import answers_of
from zoobench.workers.runner import Bench
from zoobench.workers.settings import Settings

VOCABULARY = [w for w in WORDS[5:] if not w.startswith("#")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers import models as kinds

    path = tmp_path_factory.mktemp("reader")
    words = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(kinds.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )  # fmt: skip
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, initializer_range=1.0,
    )  # fmt: skip
    torch.manual_seed(6)
    transformers.BertForQuestionAnswering(config).save_pretrained(path)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_max_length=64,
    ).save_pretrained(path)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(0)
    articles = []
    for i in range(30):
        # The last ones need several windows of 64 pieces.
        text = " ".join(draw.choices([*VOCABULARY, "Mat", "cats"], k=20 if i < 20 else 150))
        start = text.rindex(" ") + 1
        rows = [
            {"question": f"the {w}", "answers": [{"text": text[start:], "answer_start": start}]}
            for w in VOCABULARY[:3]
        ]
        rows.append({"question": "none", "answers": [], "is_impossible": True})  # type: ignore[dict-item]
        articles.append({"title": f"t{i}", "paragraphs": [{"context": text, "qas": rows}]})
    path = tmp_path_factory.mktemp("data") / "cats.json"
    path.write_text(json.dumps({"data": articles}))
    return path


def expected(folder: Path, question: str, text: str, none: bool) -> str:
    """As the field's scripts do it for one window, again and plainly."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    given = tokenizer(question, text, return_offsets_mapping=True, return_tensors="pt")
    offsets = given.pop("offset_mapping")[0].tolist()
    sides = given.sequence_ids(0)
    with torch.no_grad():
        said = model(**given)
    begins, ends = said.start_logits[0].tolist(), said.end_logits[0].tolist()
    inside = [i for i, side in enumerate(sides) if side == 1]
    best = {
        (i, j): begins[i] + ends[j]
        for i in sorted(inside, key=lambda i: -begins[i])[:20]
        for j in sorted(inside, key=lambda j: -ends[j])[:20]
        if i <= j < i + 30
    }
    i, j = max(best, key=lambda pair: best[pair])
    if none and begins[0] + ends[0] >= best[i, j]:
        return ""
    return text[offsets[i][0] : offsets[j][1]]


def test_it_says_what_transformers_would_and_a_none_where_the_data_has_some(
    folder: Path, data: Path
) -> None:
    splits = datasets.load(datasets.resolve(f"squad/cats?path={data}"))
    ref = models.resolve(f"reader/mine?weights={folder}")
    source = Features(models.load(ref, 0), View(str(ref)))
    fitted = methods.build("as-is", {}, task="question-answering").adapt(source, splits.sealed(), 0)
    said = fitted.predict(splits.test)
    short = [i for i in range(len(splits.test)) if len(splits.test.read(i).context) < 120]
    assert len(short) > 8
    for i in short:
        asked = splits.test.read(i)
        assert said[i] == expected(folder, asked.question, asked.context, True)
    assert "" in said
    assert len({len(one.split()) for one in said}) > 2
    assert all(one in splits.test.read(i).context for i, one in enumerate(said))
    with_answers = splits.test.subset(answers_of(splits.test).answerable.nonzero()[0])
    sealed = splits.sealed()
    only = type(sealed)(with_answers, sealed.valid, (), "text", sealed.task)
    always = methods.build("as-is", {}, task="question-answering").adapt(source, only, 0)
    assert "" not in always.predict(splits.test)


def test_a_cell_is_judged_with_costs_and_planned_for_its_task_alone(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "suite.toml"
    file.write_text(
        f'name = "s"\n[[models]]\nid = "reader/mine"\nweights = "{folder}"\n'
        f'[[datasets]]\nid = "squad/cats"\npath = "{data}"\n[[datasets]]\nid = "packaged/digits"\n'
        '[[methods]]\nname = "as-is"\n[[methods]]\nname = "linear-probe"\n'
    )
    made = planning.plan(suite.read(str(file)))
    asked = [(c.method, c.dataset.short) for c in made if c.model.source == "reader"]
    assert asked == [("as-is", "squad/cats")]
    (own,) = (c for c in made if c.model.source == "reader")
    record = Bench(Settings(threads=1, cost_seconds=0)).run(own).record
    assert record.status == "ok", record.error
    names = {m.metric for m in record.measurements}
    assert {"f1", "exact_match", "has_answer_f1", "no_answer_f1", "params", "macs"} <= names


def test_a_folder_without_a_trained_head_or_of_another_kind_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    state = load_file(bare / "model.safetensors")
    kept = {name: value for name, value in state.items() if not name.startswith("qa_outputs")}
    save_file(kept, bare / "model.safetensors", {"format": "pt"})
    with pytest.raises(Unsupported, match="do not fit the model"):
        models.load(models.resolve(f"reader/mine?weights={bare}"))
    for fields in ({"auto_map": {"AutoModel": "code.X"}}, {"model_type": "vit"}):
        other = Path(shutil.copytree(folder, tmp_path / next(iter(fields))))
        body = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps({**body, **fields}))
        with pytest.raises(CellError):
            models.load(models.resolve(f"reader/mine?weights={other}"))
    with pytest.raises(UserError, match="reader/USER/NAME"):
        models.resolve("reader/mine")
    source: Any = Features(models.load(models.resolve("synthetic/bag"), 0), View("x"))
    splits = datasets.load(datasets.resolve("synthetic/phrases?task=question-answering"))
    method = methods.build("as-is", {}, task="question-answering")
    with pytest.raises(Unsupported, match="needs a head"):
        method.adapt(source, splits.sealed(), 0)


def test_random_weights_of_a_reader_s_own_folder_can_be_drawn(folder: Path) -> None:
    ref = models.resolve(f"reader/mine?configuration={folder}&weights=random")
    made = [models.load(ref, seed).module for seed in (0, 0, 1)]
    one, two, other = (module.state_dict()["qa_outputs.weight"] for module in made)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert isinstance(ref, Ref)
