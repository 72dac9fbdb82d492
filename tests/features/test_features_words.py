"""Features of words: what the network's own library gives, however they are cut and batched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoobench import models
from zoobench.errors import NotFinite, Unsupported
from zoobench.features.cache import FeatureCache
from zoobench.features.source import Features, View
from zoobench.features.words import WordSource
from zoobench.interfaces import Split
from zoobench.tasks.regression import Numbers

SENTENCES = (
    ("Ana", "lives", "in", "Reykjavik", "."),
    (),
    ("Unbelievably", "nice", "weather"),
    ("yes",),
)


def split_of(sentences: tuple[tuple[str, ...], ...], name: str = "train") -> Split:
    ids = tuple(" ".join(words) for words in sentences)
    return Split(name, ids, Numbers(np.zeros(len(sentences))), sentences.__getitem__)


def source(ref: str, cache: Path | None = None) -> Features:
    backbone = models.load(models.resolve(ref), 0)
    return Features(backbone, View(ref), FeatureCache(cache) if cache else None)


def test_they_are_the_states_of_first_pieces() -> None:
    own = source("packaged/minilm-l6-v2")
    found = own.words(split_of(SENTENCES))
    assert found.layers == (3, 5, 6)
    assert found.starts.tolist() == [0, 5, 5, 8, 9]
    assert found.values.shape == (9, 3, 384)
    assert 0 < found.loss < 1e-3
    reader: Any = own.backbone.token_reader()  # type: ignore[attr-defined]
    encoder: Any = own.module
    encoder = encoder["encoder"] if hasattr(encoder, "keys") else encoder
    for i, sentence in enumerate(SENTENCES):
        if not sentence:
            continue
        plain = reader.backend.encode(" ".join(sentence))
        with torch.no_grad():
            states = encoder(
                input_ids=torch.tensor([plain.ids]), output_hidden_states=True
            ).hidden_states
        firsts = [
            plain.char_to_token(len(" ".join((*sentence[:k], "")))) for k in range(len(sentence))
        ]
        for layer in found.layers:
            rows = found.layer(layer)[found.starts[i] : found.starts[i + 1]]
            torch.testing.assert_close(rows, states[layer][0, firsts], rtol=2e-3, atol=2e-3)


def test_they_do_not_hang_on_what_else_there_is() -> None:
    own = source("packaged/minilm-l6-v2")
    whole = own.words(split_of(SENTENCES))
    alone = own.words(split_of(SENTENCES[2:3], "test"))
    np.testing.assert_allclose(alone.values, whole.values[5:8], rtol=2e-3, atol=2e-3)


def test_they_are_kept_and_read_again(tmp_path: Path) -> None:
    first = source("synthetic/bag", tmp_path)
    split = split_of(SENTENCES)
    once = first.words(split)
    assert len(first.computed) == 1
    again = source("synthetic/bag", tmp_path)
    twice = again.words(split)
    assert again.computed == []
    assert isinstance(twice.values, np.memmap)
    np.testing.assert_array_equal(once.values, twice.values)
    np.testing.assert_array_equal(once.starts, twice.starts)
    other = source("synthetic/bag?weights=random", tmp_path)
    assert not np.array_equal(other.words(split).values, once.values)


def test_long_texts_are_read_in_windows() -> None:
    own = source("synthetic/bag")
    sentence = tuple(f"w{i}" for i in range(500))
    found = own.words(split_of((sentence, ("x",))))
    assert found.starts.tolist() == [0, 500, 501]
    lone = own.words(split_of((("w499",), ("w77",)), "test"))
    np.testing.assert_array_equal(found.values[[499, 77]], lone.values)


def test_what_is_no_number_is_named() -> None:
    own = source("synthetic/bag")
    with torch.no_grad():
        own.module.weight[:] = float("nan")  # type: ignore[operator]
    with pytest.raises(NotFinite, match="the states of 9 words of train"):
        own.words(split_of(SENTENCES))


def test_a_network_of_pictures_has_none() -> None:
    with pytest.raises(Unsupported, match="no tokens"):
        source("synthetic/gabor").words(split_of(SENTENCES))


def test_a_key_is_another_where_the_tokenizer_has_other_rules() -> None:
    """Of the same vocabulary and weights: those of merges that the fixed batch does not ask for."""
    own = source("packaged/minilm-l6-v2")
    split = split_of(SENTENCES)
    of_texts, of_words = own.key(split), WordSource(own, None).key(split)
    own.backbone.rules = "other"  # type: ignore[attr-defined]
    assert own.key(split) != of_texts
    assert WordSource(own, None).key(split) != of_words
