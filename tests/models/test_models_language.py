"""Language models: bits against a plain loop, the first token, unknown ones, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.normalizers import NFKC, BertNormalizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
)

from tinymodels import byte_tokenizer, tiny_bert, tiny_decoder, tiny_masked, write_files
from zoobench import models
from zoobench.costs.architectures import architecture
from zoobench.errors import Unsupported, UserError
from zoobench.models import likelihood
from zoobench.models.likelihood import UNKNOWN, Coder, causal_bits, masked_bits
from zoobench.models.weights import untrained

TEXT = "The cat sat on thé mat <|endoftext|> 🙂 and\n\nthe river came from the village. " * 8
LENGTH = 32
KINDS = ("gpt2", "llama", "qwen2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("decoders")
    return {kind: tiny_decoder(kind, root / kind, byte_tokenizer(300)) for kind in KINDS}


def load(folder: Path, options: str = "") -> Any:
    ref = models.resolve(f"language-model/tiny?weights={folder}{options}")
    return models.load(ref)


def looped(folder: Path, text: str, start: int | None) -> float:
    """Bits of one long text, a window and a token at a time, by transformers alone."""
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    head = [] if start is None else [start]
    total, scored = 0.0, 0
    if start is None:
        total, scored = math.log2(network.config.vocab_size), 1
    for begin in range(0, len(ids), LENGTH // 2):
        window = [*head, *ids[begin : begin + LENGTH - len(head)]]
        with torch.no_grad():
            said = network(torch.tensor([window])).logits[0].double().log_softmax(dim=1)
        for place in range(1, len(window)):
            number = begin + place - len(head)
            if number >= scored:
                total -= float(said[place - 1, window[place]]) / math.log(2)
                scored = number + 1
    assert scored == len(ids)
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_bits_are_those_of_a_plain_loop_whatever_the_batch(
    kind: str, batch: int, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "MOST_WINDOWS", batch)
    model = load(folders[kind])
    assert model.input_spec.length == LENGTH
    texts = [TEXT[:5], TEXT, TEXT[:200], TEXT[7:90], TEXT[:1]]
    found = causal_bits(model.module, model.coder, [model.coder.encode(text) for text in texts])
    wanted = [looped(folders[kind], text, model.coder.start) for text in texts]
    np.testing.assert_allclose([bits.sum() for bits in found], wanted, rtol=1e-6)


def test_without_a_start_token_the_first_may_be_any_of_the_vocabulary(
    folders: dict[str, Path],
) -> None:
    model = load(folders["gpt2"])
    coder = replace(model.coder, start=None)
    pieces = coder.encode(TEXT)
    (found,) = causal_bits(model.module, coder, [pieces])
    assert found[0] == math.log2(model.module.config.vocab_size)
    assert found.sum() == pytest.approx(looped(folders["gpt2"], TEXT, None), rel=1e-6)


def test_the_start_is_the_tokenizers_own(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(280)
    assert Coder.of(tokenizer, 8).start == tokenizer.bos_token_id
    tokenizer.bos_token = None
    assert Coder.of(tokenizer, 8).start == tokenizer.eos_token_id
    assert Coder.of(byte_tokenizer(280, ""), 8).start is None


def test_what_follows_a_token_is_scored_as_with_all_before_it(folders: dict[str, Path]) -> None:
    model = load(folders["llama"])
    pieces = [model.coder.encode(text) for text in (TEXT, TEXT[:9], TEXT[:70])]
    firsts = [150, 2, 40]
    whole = causal_bits(model.module, model.coder, pieces)
    part = causal_bits(model.module, model.coder, pieces, firsts)
    for first, every, some in zip(firsts, whole, part, strict=True):
        assert not some[:first].any()
        assert some[first:].any()
        if first < LENGTH // 2:
            np.testing.assert_allclose(some[first:], every[first:], rtol=1e-5)


def test_a_texts_own_special_tokens_are_text(folders: dict[str, Path]) -> None:
    coder = load(folders["gpt2"]).coder
    ids = coder.encode("a <|endoftext|> b").ids
    assert coder.start not in ids
    assert coder.forgets() == ()


def test_a_tokenizer_that_forgets_is_told() -> None:
    tokenizer = byte_tokenizer(280)
    assert Coder.of(tokenizer, 8).forgets() == ()
    tokenizer.backend_tokenizer.normalizer = BertNormalizer(lowercase=True)
    assert Coder.of(tokenizer, 8).forgets() == ("case", "accents", "line breaks")
    tokenizer.backend_tokenizer.normalizer = NFKC()
    assert Coder.of(tokenizer, 8).forgets() == ("forms of letters",)


def test_unknown_words_are_spelt_out(tmp_path: Path) -> None:
    model = load(tiny_masked(tmp_path / "bert"))
    assert model.coder.forgets() == (), "of the words that it knows"
    pieces = model.coder.encode("the zyxw sat")
    assert pieces.unknown == (0, 4, 0)
    known = masked_bits(model.module, model.coder, [replace(pieces, unknown=(0, 0, 0))], 9)
    assert masked_bits(model.module, model.coder, [pieces], 9) == known + 4 * UNKNOWN


def test_pseudo_likelihood_masks_each_token_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_masked(tmp_path / "bert")
    model = load(folder)
    network = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "the cat sat on the mat a good dog sat on a bad cat"
    ids = tokenizer(text)["input_ids"]
    wanted = 0.0
    for place in range(1, len(ids) - 1):
        gap = [tokenizer.mask_token_id if i == place else one for i, one in enumerate(ids)]
        with torch.no_grad():
            said = network(torch.tensor([gap])).logits[0, place].double().log_softmax(dim=0)
        wanted -= float(said[ids[place]]) / math.log(2)
    pieces = model.coder.encode(text)
    for batch in (1, 64):
        monkeypatch.setattr(likelihood, "MOST_WINDOWS", batch)
        found = masked_bits(model.module, model.coder, [pieces, model.coder.encode("a cat")], 99)
        assert found[0] == pytest.approx(wanted, rel=1e-6)


def test_of_a_long_text_some_tokens_stand_for_all(tmp_path: Path) -> None:
    model = load(tiny_masked(tmp_path / "bert"))
    pieces = model.coder.encode("the cat sat on the mat and a dog sat " * 12)
    assert len(pieces) > model.coder.length
    (whole,) = masked_bits(model.module, model.coder, [pieces], 10**6)
    (part,) = masked_bits(model.module, model.coder, [pieces], 40)
    assert part == pytest.approx(whole, rel=0.2)
    assert part != whole
    assert part == masked_bits(model.module, model.coder, [pieces], 40)


def test_a_card_says_what_a_configuration_answers(folders: dict[str, Path], tmp_path: Path) -> None:
    def answers(folder: Path) -> tuple[str, ...]:
        return models.card(models.resolve(f"language-model/tiny?weights={folder}")).answers

    assert answers(folders["llama"]) == ("language-modelling", "multiple-choice")
    assert answers(tiny_masked(tmp_path / "bert")) == ("masked-language-modelling",)
    hub = models.card(models.resolve("language-model/some/model"))
    assert len(hub.answers) == 3, "nobody knows before it is downloaded"
    assert hub.license == "unknown"
    assert models.card(models.resolve("language-model/Qwen/Qwen2.5-0.5B")).license == "Apache-2.0"


def test_a_model_that_sees_what_it_is_to_predict_is_no_causal_one(tmp_path: Path) -> None:
    """A BERT with the head of a decoder that is none: its attention goes both ways."""
    folder = tiny_masked(tmp_path / "bert")
    config = BertConfig.from_pretrained(folder)
    for decoder in (False, True):
        config.is_decoder = decoder
        BertLMHeadModel(config).save_pretrained(folder)
        if decoder:
            assert load(folder).answers == ("language-modelling", "multiple-choice")
        else:
            with pytest.raises(Unsupported, match="a BertLMHeadModel that sees the tokens"):
                load(folder)


def test_a_folders_model_can_be_drawn_anew_and_profiled(folders: dict[str, Path]) -> None:
    ref = models.resolve(f"language-model/tiny?weights={folders['llama']}")
    drawn: list[Any] = [models.load(models.resolve(untrained(ref)), seed) for seed in (0, 1)]
    pieces = [drawn[0].coder.encode(TEXT)]
    first, other = (causal_bits(m.module, m.coder, pieces)[0] for m in drawn)
    assert not np.allclose(first, other)
    assert architecture(ref).sequence_length == LENGTH


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    bare = write_files(tiny_bert(), tmp_path / "encoder")
    with pytest.raises(Unsupported, match="the weights do not fit the model"):
        load(bare)
    with pytest.raises(UserError, match="Did you mean"):
        models.resolve("language-model/smollm2-135m-instrct")
    with pytest.raises(UserError, match="unknown option 'prefix'"):
        models.resolve("language-model/smollm2-135m-instruct?prefix=x")
