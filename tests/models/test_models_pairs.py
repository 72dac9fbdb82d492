"""Windows over a question and its text: nothing is lost, and places are exact characters."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from zoobench.errors import Unsupported
from zoobench.models.pairs import PairWindow, collate_pairs, pair_windows
from zoobench.tasks.question_answering import AnswerSpan, TextQuestion
from zoobench.views import TokenReader


def as_bert() -> Tokenizer:
    """Characters and two special tokens around each text, accents left out."""
    words = {"[CLS]": 1, "[SEP]": 2, "?": 0}
    words |= {chr(c): i for i, c in enumerate(range(97, 123), 3)}
    made = Tokenizer(models.WordLevel(words, unk_token="?"))
    made.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")]
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )  # fmt: skip
    return made


def as_bytes() -> Tokenizer:
    """Bytes, the blank before a word kept in its first piece, and nothing between two texts."""
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(alphabet, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    return made


def as_roberta() -> Tokenizer:
    """Bytes, whose blanks the post-processor trims from the pieces' characters."""
    made = as_bytes()
    alphabet = made.get_vocab()
    joined = ("Ġb", "Ġbl", "Ġblu", "Ġblue")
    alphabet |= {piece: len(alphabet) + i for i, piece in enumerate(joined)}
    made.model = models.BPE(alphabet, [("Ġ", "b"), ("Ġb", "l"), ("Ġbl", "u"), ("Ġblu", "e")])
    made.add_special_tokens(["<s>", "</s>"])
    vocabulary = made.get_vocab()
    last, first = (("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]))
    made.post_processor = processors.RobertaProcessing(
        last, first, trim_offsets=True, add_prefix_space=False
    )
    return made


def reader(backend: Any, length: int = 60) -> TokenReader:
    def pieces(words: Any) -> list[list[int]]:
        return [[ord(c) % 99 for c in word] for word in words]

    return TokenReader(
        pieces, (), (), length, 1, lambda *given: [], 9, backend is not None, backend
    )


BACKENDS: dict[str, Callable[[], Any]] = {
    "bert": as_bert, "bytes": as_bytes, "roberta": as_roberta,
    "words": lambda: None,
}  # fmt: skip
every_reader = pytest.mark.parametrize("kind", sorted(BACKENDS))


def windows_of(kind: str, question: str, text: str, length: int = 60) -> list[PairWindow]:
    return pair_windows(TextQuestion(question, text), reader(BACKENDS[kind](), length), 7)


@every_reader
def test_windows_hold_every_piece_of_a_long_text_and_overlap(kind: str) -> None:
    text = " ".join("".join(random.Random(i).choices("abcdef", k=4)) for i in range(60))
    windows = windows_of(kind, "what is it then, my dear old friend?", text)
    assert len(windows) > 4
    assert all(len(one) <= 60 and one.number == 7 for one in windows)
    first, last = windows[0], windows[-1]
    assert (first.begin, last.end) == (0, len(first.text))
    for one, after in pairwise(windows):
        assert one.end - after.begin >= 20, "a third of the length stands in the next one, too"
    for one in windows:
        assert one.ids[: one.first] == first.ids[: first.first], "the question stands in each"
        assert len(one.places) == 1 + one.end - one.begin
        if kind == "bert":
            assert (one.ids[0], one.ids[one.first - 1], one.ids[-1]) == (1, 2, 2)
            assert one.first == 2 + 10, "of a question a sixth of the length is read"
            assert one.types == (0,) * one.first + (1,) * (len(one) - one.first)
    assert "".join(text[a:b].strip() for a, b in dict.fromkeys(first.text)) == text.replace(" ", "")


@every_reader
def test_an_answer_s_place_gives_the_answer_again_wherever_it_stands(kind: str) -> None:
    draw = random.Random(3)
    odd = ["cafe\u0301", "naïve", "東京", "🙂🙂", "x\u00a0y", "ﬁ", "end.", "\ud800q", "ab"]
    text = " ".join(draw.choices(odd, k=90))
    windows = windows_of(kind, "which?", text)
    words = [(at.start(), at.group()) for at in re.finditer(r"\S+", text)]
    found = 0
    for i, (start, _) in enumerate(words):
        end = words[min(i + 2, len(words) - 1)]
        answer = AnswerSpan(text[start : end[0] + len(end[1])], start)
        held = [one for one in windows if one.target(answer) != (0, 0)]
        assert held, "an answer of three words stands whole in at least one window"
        found += len(held)
        for one in held:
            assert one.said(text, *one.target(answer)) == answer.text
            assert (
                one.ids[one.places[one.target(answer)[0]]]
                == one.ids[one.first :][one.target(answer)[0] - 1]
            )
    assert found > len(words), "some stand in the overlap of two"
    assert windows[-1].said(text, len(windows[-1].places) - 1, len(windows[-1].places) - 1) != ""


@every_reader
def test_an_answer_beyond_a_window_is_none_there(kind: str) -> None:
    text = " ".join(f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200))
    windows = windows_of(kind, "which?", text)
    last = AnswerSpan(text[-2:], len(text) - 2)
    places = [one.target(last) for one in windows]
    assert places[-1] != (0, 0)
    assert set(places[:-2]) == {(0, 0)}
    whole = AnswerSpan(text, 0)
    assert {one.target(whole) for one in windows} == {(0, 0)}
    assert windows[0].target(None) == (0, 0)
    assert windows[0].said(text, 0, 0) == windows[0].said(text, 0, 3) == ""


def test_offsets_that_are_off_by_one_give_another_answer() -> None:
    text = "the answer is blue today"
    (window,) = windows_of("bert", "which?", text)
    begin, end = window.target(AnswerSpan("blue", 14))
    assert window.said(text, begin, end) == "blue"
    assert window.said(text, begin + 1, end) == "lue"
    assert window.said(text, begin, end - 1) == "blu"
    assert window.said(text, begin - 1, end) == "s blue"


def test_blanks_that_a_tokenizer_trims_are_trimmed_once() -> None:
    text = "the answer is blue  blue today"
    (window,) = windows_of("roberta", "which blue?", text)
    whole = as_roberta().encode("which blue?", text)
    assert list(window.ids) == whole.ids
    assert list(window.text) == [
        span for span, of in zip(whole.offsets, whole.sequence_ids, strict=True) if of == 1
    ]
    for start in (14, 20):
        begin, end = window.target(AnswerSpan("blue", start))
        assert begin == end, "one piece"
        assert window.said(text, begin, end) == "blue"


def test_texts_without_pieces_and_lengths_without_room_are_said() -> None:
    (window,) = windows_of("words", "", "   ")
    assert window.places == [0]
    assert len(window) == 1
    (window,) = windows_of("bert", "a", " ")
    assert window.ids == (1, 3, 2, 2)
    with pytest.raises(Unsupported, match="no room for a text"):
        windows_of("bert", "a", "b", 4)


def test_a_batch_is_padded_and_has_types_where_the_network_takes_them() -> None:
    own = reader(as_bert())
    some = [pair_windows(TextQuestion("a", text), own)[0] for text in ("b", "c d e")]
    batch = collate_pairs(some, own)
    assert batch["input_ids"].tolist() == [[1, 3, 2, 4, 2, 9, 9], [1, 3, 2, 5, 6, 7, 2]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [5, 7]
    assert batch["token_type_ids"][1].tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert all(one.dtype == torch.int64 for one in batch.values())
    assert "token_type_ids" not in collate_pairs(some, reader(None))
