"""Words as pieces, and windows of them: aligned by the tokenizer itself, none dropped."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from tinymodels import tiny_bert, write_files
from zoobench import models as catalogue
from zoobench.errors import Unsupported
from zoobench.models.text import tokenizer_rules
from zoobench.models.tokens import reader_of, windows
from zoobench.schema import Ref
from zoobench.views import TokenReader

TEXTS = ["The cat sat on the mat.", "Good dogs, bad cats; all of them sat.", "naïve café 東京 🎉"]


def loaded(ref: str) -> Any:
    return catalogue.load(catalogue.resolve(ref), 0)


def trained(kind: str) -> Any:
    """A fast tokenizer of transformers of each kind that there is, trained on TEXTS."""
    from transformers import PreTrainedTokenizerFast

    specials = ["<unk>", "<s>", "</s>"]
    trainer: Any = trainers.BpeTrainer(
        vocab_size=400, special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    if kind == "metaspace":
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=specials)
    else:
        blank = kind == "byte-level with a blank"
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank)
        backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator([*TEXTS, " ".join(TEXTS)], trainer)
    if kind != "byte-level":
        backend.post_processor = TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def nothing(*_: Any) -> list[Any]:
    return []


def reader(length: int = 10, before: int = 1, after: int = 1) -> TokenReader:
    return TokenReader(nothing, (101,) * before, (102,) * after, length, 4, nothing)


@pytest.mark.parametrize("kind", ["byte-level", "byte-level with a blank", "metaspace"])
@pytest.mark.parametrize("text", TEXTS)
def test_words_become_the_pieces_of_their_text(kind: str, text: str) -> None:
    tokenizer = trained(kind)
    found = reader_of(tokenizer, 64, 2, nothing)
    pieces = found.pieces(text.split())
    assert [one for word in pieces for one in word] == tokenizer.encode(
        text, add_special_tokens=False
    )
    for word, ids in zip(text.split(), pieces, strict=True):
        assert tokenizer.decode(ids).strip() == word
    assert (found.before, found.after) == (((), ()) if kind == "byte-level" else ((1,), (2,)))


def test_a_tokenizer_of_words_cuts_as_it_does_in_a_text(tmp_path: Path) -> None:
    write_files(tiny_bert(), tmp_path)
    backbone = loaded(f"hf/tiny?weights={tmp_path}")
    found = backbone.token_reader()
    words = ["The", "cats", "sat", "\u200b", "unheardof", ""]
    pieces = found.pieces(words)
    ((cls, *ids, sep),) = backbone.tokenize(["the cats sat"])
    assert (found.before, found.after) == ((cls,), (sep,))
    assert [one for word in pieces[:3] for one in word] == ids
    assert len(pieces[1]) == 2
    unknown = pieces[4]
    assert pieces[3] == pieces[5] == unknown  # no word is without a piece
    assert found.layers == 2
    assert found.depths == (1, 2)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        pass

    with pytest.raises(Unsupported, match="Slow does not say which word"):
        reader_of(Slow(), 64, 2, nothing)


@pytest.mark.parametrize("seed", range(20))
def test_each_word_is_read_once_where_most_is_around_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    room = int(rng.integers(1, 12))
    sizes = rng.integers(1, 4, rng.integers(1, 60))
    ids = iter(range(1000, 2000))
    pieces = [[next(ids) for _ in range(size)] for size in sizes]
    flat = [one for word in pieces for one in word]
    firsts = np.cumsum(sizes) - sizes
    found = windows(pieces, reader(room + 2))
    read = sorted(number for one in found for number, _ in one.words)
    assert read == list(range(len(pieces)))
    for one in found:
        inside = list(one.ids[1:-1])
        start = inside[0] - 1000
        assert inside == flat[start : start + room]
        for number, place in one.words:
            assert one.ids[place] == pieces[number][0]
            context = [
                min(
                    place - 1 if start else 99,
                    len(inside) - place if start + room < len(flat) else 99,
                )
            ]
            for other in found:
                begin = other.ids[1] - 1000
                at = firsts[number] - begin
                if 0 <= at < len(other.ids) - 2:
                    left = at if begin else 99
                    right = len(other.ids) - 3 - at if begin + room < len(flat) else 99
                    context.append(min(left, right))
            assert context[0] == max(context)


def test_windows_at_the_bounds() -> None:
    assert windows([], reader()) == []
    (whole,) = windows([[7]] * 8, reader(10))
    assert whole.ids == (101, *[7] * 8, 102)
    (long,) = windows([list(range(50))], reader(10))  # a word longer than a window
    assert (long.ids[1:-1], long.words) == (tuple(range(8)), ((0, 1),))
    with pytest.raises(Unsupported, match="has no room"):
        windows([[1]], reader(2))


def test_a_word_of_static_vectors_is_its_own_vector() -> None:
    import torch

    backbone = loaded("packaged/glove-6b-50d")
    found = backbone.token_reader()
    pieces = found.pieces(["Paris", ",", "well-known", "zzqqx", "."])
    assert [len(one) for one in pieces] == [1] * 5
    ids = torch.tensor([[one[0] for one in pieces]])
    (vectors,) = found.read(backbone.module, {"input_ids": ids}, [1])
    assert torch.equal(vectors[0, 0], backbone.embed({"input_ids": ids[:, :1]})[0])
    assert vectors[0, [0, 1, 2, 4]].abs().sum(dim=1).min() > 0
    assert not vectors[0, 3].any()
    assert ids[0, 3] == found.pad_id


def test_pictures_have_no_tokens() -> None:
    backbone = loaded("synthetic/gabor")
    with pytest.raises(Unsupported, match="only embed"):
        backbone.token_reader()
    assert Ref.parse("synthetic/bag").name == "bag"


def test_what_a_tokenizer_does_is_in_its_digest_beside_its_vocabulary() -> None:
    first = trained("byte-level")
    assert tokenizer_rules(first) == tokenizer_rules(trained("byte-level"))
    first(TEXTS, truncation=True, max_length=3, padding=False)
    assert first.backend_tokenizer.truncation is not None
    assert tokenizer_rules(first) == tokenizer_rules(trained("byte-level")), "cut or not"
    others = [trained("byte-level") for _ in range(3)]
    others[0].backend_tokenizer.normalizer = normalizers.Lowercase()
    others[1].backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    others[2].backend_tokenizer.model = models.BPE(first.get_vocab(), [], unk_token="<unk>")
    digests = {tokenizer_rules(one) for one in (first, *others)}
    assert all(one.get_vocab() == first.get_vocab() for one in others)
    assert len(digests) == 4


def test_how_a_library_writes_a_tokenizer_down_is_not_in_its_digest() -> None:
    """What it leaves out is off, and a merge is a pair or a text, as versions before wrote it."""

    def rewritten(change: Any) -> Any:
        body = json.loads(whole.backend_tokenizer.to_str())
        change(body["model"])
        backend = SimpleNamespace(to_str=lambda: json.dumps(body))
        return SimpleNamespace(backend_tokenizer=backend, special_tokens_map=named)

    whole = trained("byte-level")
    named = whole.special_tokens_map
    plain, on, off, old, other = (
        tokenizer_rules(rewritten(change))
        for change in (
            lambda model: None,
            lambda model: model.update(novelty=True),
            lambda model: model.update(novelty=False, other=None),
            lambda model: model.update(merges=[" ".join(pair) for pair in model["merges"]]),
            lambda model: model.update(merges=model["merges"][::-1]),
        )
    )
    assert plain == off == old
    assert len({plain, on, other}) == 3
