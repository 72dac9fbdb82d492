"""Causal models as encoders: padding, sides, tokenizers without a pad token, and pooling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tinymodels import byte_tokenizer, tiny_decoder
from zoobench import models
from zoobench.errors import UserError

KINDS = ("gpt2", "llama", "qwen2")
TEXTS = ("a cat", "The dog sat on the cat. A good day", "x", "", "the river, the river")


def load(folder: Path, options: str = "&pool=last") -> Any:
    return models.load(models.resolve(f"hf/tiny?weights={folder}{options}"))


def features(backbone: Any, texts: tuple[str, ...]) -> torch.Tensor:
    with torch.no_grad():
        made: torch.Tensor = backbone.embed(backbone.collate([backbone.prepare(t) for t in texts]))
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("side", "pad"), [("left", True), ("right", True), ("right", False)])
def test_features_are_the_librarys_alone_and_in_any_batch(
    kind: str, side: str, pad: bool, tmp_path: Path
) -> None:
    folder = tiny_decoder(kind, tmp_path / kind, byte_tokenizer(300, pad=pad, side=side))
    backbone = load(folder)
    together = features(backbone, TEXTS)
    network = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for i, text in enumerate(TEXTS):
        torch.testing.assert_close(features(backbone, (text,))[0], together[i], atol=1e-5, rtol=0)
        if text:
            with torch.no_grad():
                ids = torch.tensor([tokenizer(text)["input_ids"]])
                last = network(ids).last_hidden_state[0, -1]
            torch.testing.assert_close(together[i], last, atol=1e-5, rtol=0)


def test_last_is_another_name_of_lasttoken(tmp_path: Path) -> None:
    folder = tiny_decoder("llama", tmp_path / "llama", byte_tokenizer(300))
    one, other = (
        models.resolve(f"hf/tiny?weights={folder}&pool={name}") for name in ("last", "lasttoken")
    )
    assert one == other
    assert models.load(one).pooling == "lasttoken"
    with pytest.raises(UserError, match="Known: cls, lasttoken"):
        models.resolve(f"hf/tiny?weights={folder}&pool=lst")


def test_a_pad_token_that_the_model_has_not_does_no_harm(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(300)
    folder = tiny_decoder("gpt2", tmp_path / "gpt2", tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<later>"})
    plain = features(load(folder), TEXTS)
    tokenizer.save_pretrained(folder)
    torch.testing.assert_close(features(load(folder), TEXTS), plain)


def test_a_decoder_reads_no_more_tokens_than_it_has_positions_for(tmp_path: Path) -> None:
    folder = tiny_decoder("gpt2", tmp_path / "gpt2", byte_tokenizer(300), length=16)
    backbone = load(folder)
    assert backbone.input_spec.length == 16
    assert bool(torch.isfinite(features(backbone, ("word " * 50,))).all())
    with pytest.raises(UserError, match="length = 17 is above its 16 positions"):
        models.resolve(f"hf/tiny?weights={folder}&length=17")


def test_words_of_a_decoder_are_read_by_their_first_piece(tmp_path: Path) -> None:
    folder = tiny_decoder("qwen2", tmp_path / "qwen2", byte_tokenizer(300, side="left"))
    reader = load(folder).token_reader()
    words = ["The", "cat", "sat."]
    joined = AutoTokenizer.from_pretrained(folder)(" ".join(words))["input_ids"]
    assert [one for word in reader.pieces(words) for one in word] == joined
    assert (reader.before, reader.after) == ((), ())
