"""Ranks of retrieval beside brute force, and the metrics that follow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zoobench import tasks
from zoobench.errors import NotFinite
from zoobench.interfaces import Split
from zoobench.tasks.retrieval import SAME, Captions, Embedded, ranks

RETRIEVAL = tasks.task("retrieval")


def split_of(owner: NDArray[np.int32]) -> Split:
    counts = np.bincount(owner)
    texts = [tuple(f"{i}.{k}" for k in range(many)) for i, many in enumerate(counts)]
    ids = tuple(f"p{i}" for i in range(len(counts)))
    return Split("test", ids, Captions(tuple(texts)), lambda i: None)


def brute(said: Embedded, owner: NDArray[np.int32]) -> tuple[list[int], list[int]]:
    """What is level with the right one, or above it, stands before it."""

    def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        x, y = a.astype(np.float64), b.astype(np.float64)
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    to_text, to_image = [], []
    for i, picture in enumerate(said.pictures):
        every = [(cosine(picture, text), owner[m] == i) for m, text in enumerate(said.captions)]
        best = max(value for value, own in every if own)
        to_text.append(1 + sum(value > best - SAME for value, own in every if not own))
    for m, text in enumerate(said.captions):
        values = [cosine(picture, text) for picture in said.pictures]
        right = values[owner[m]]
        to_image.append(1 + sum(v > right - SAME for i, v in enumerate(values) if i != owner[m]))
    return to_text, to_image


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_ranks_are_those_of_brute_force_with_ties_and_several_captions(
    seed: int, counts: list[int]
) -> None:
    drawn = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    # Whole numbers of few dimensions: many cosines are level.
    pictures, captions = (drawn.integers(-1, 2, (n, 3)) for n in (len(counts), len(owner)))
    vectors = [np.where((x == 0).all(1, keepdims=True), 1, x) for x in (pictures, captions)]
    said = Embedded(*(x.astype(np.float32) for x in vectors))
    to_text, to_image = ranks(said, owner)
    assert (to_text.tolist(), to_image.tolist()) == brute(said, owner)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(0)
    owner = np.repeat(np.arange(40), drawn.integers(1, 4, 40)).astype(np.int32)
    vectors = [drawn.normal(size=(n, 8)).astype(np.float32) for n in (40, len(owner))]
    whole = ranks(Embedded(*vectors), owner)
    monkeypatch.setattr("zoobench.tasks.retrieval.BLOCK", 3 * len(owner))
    parts = ranks(Embedded(*vectors), owner)
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_the_worked_example_and_both_ways() -> None:
    """Three pictures; the third has two captions, of which one is nearer to the first picture."""
    pictures = np.eye(3, dtype=np.float32)
    captions = np.asarray([[1, 0, 0], [1, 0.5, 0], [0, 0, 1], [1, 0, 0.5]], dtype=np.float32)
    owner = np.asarray([0, 1, 2, 2], dtype=np.int32)
    kept = RETRIEVAL.judge(Embedded(pictures, captions), split_of(owner), (None, split_of(owner)))
    assert kept.arrays["to_text"].tolist() == [1, 1, 1]
    assert kept.arrays["to_image"].tolist() == [1, 2, 1, 2]
    found = RETRIEVAL.statistics(kept)(np.ones((1, 3)), RETRIEVAL.metrics)
    assert found["image_to_text_recall_at_1"] == pytest.approx(1.0)
    assert found["text_to_image_recall_at_1"] == pytest.approx(2 / 4)
    assert found["recall_at_1"] == pytest.approx(0.75)
    assert found["recall_at_5"] == pytest.approx(1.0)
    twice = RETRIEVAL.statistics(kept)(np.asarray([[0.0, 0.0, 2.0]]), ["text_to_image_recall_at_1"])
    assert twice["text_to_image_recall_at_1"] == pytest.approx(0.5), "a picture takes its captions"


def test_all_alike_is_found_nowhere() -> None:
    owner = np.arange(6, dtype=np.int32)
    same = np.ones((6, 4), dtype=np.float32)
    to_text, to_image = ranks(Embedded(same, same), owner)
    assert set(to_text) == set(to_image) == {6}


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_what_is_no_direction_is_said(bad: float) -> None:
    vectors = np.ones((3, 2), dtype=np.float32)
    broken = vectors.copy()
    broken[1] = bad
    owner = np.arange(3, dtype=np.int32)
    with pytest.raises(NotFinite, match="1 of 3 captions"):
        ranks(Embedded(vectors, broken), owner)
    with pytest.raises(ValueError, match="2 pictures and 3 captions are embedded, of 3 and 3"):
        ranks(Embedded(vectors[:2], vectors), owner)
