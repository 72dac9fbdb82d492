"""Entity F1 against seqeval, on random tags and on sequences that no one should write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from seqeval import metrics as theirs
from seqeval.scheme import IOB2

from zoobench.interfaces import Split, Splits
from zoobench.tasks.tagsets import Tagset, as_iob2, ordered, scheme_of
from zoobench.tasks.token_classification import Tags, TokenClassification, entity_f1, outcomes_of

TASK = TokenClassification()
NAMES = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")

Rows = list[list[str]]


def drawn(seed: int, sentences: int = 40, names: Sequence[str] = NAMES) -> Rows:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, sentences)
    return [[names[k] for k in rng.integers(0, len(names), size)] for size in sizes]


def numbers(rows: Rows, names: Sequence[str] = NAMES) -> list[NDArray[np.int64]]:
    return [np.asarray([names.index(tag) for tag in row]) for row in rows]


def values(said: Rows, true: Rows, names: tuple[str, ...] = NAMES) -> dict[str, float]:
    judged = outcomes_of(numbers(said, names), Tags.of(true, names))
    whole = TASK.statistics(judged)(np.ones((1, judged.n)), TASK.metrics)
    return {name: float(value[0]) for name, value in whole.items()}


def sound(rows: Rows) -> Rows:
    return [as_iob2(row, "iob2")[0] for row in rows]


def same_words(rows: Rows, others: Rows) -> Rows:
    """`others`, cut or repeated to the lengths of `rows`."""
    return [(other * 9)[: len(row)] for row, other in zip(rows, others, strict=True)]


ADVERSARIAL: list[tuple[Rows, Rows]] = [
    ([["B-PER", "I-PER"]], [["I-PER", "I-PER"]]),  # begins with I-
    ([["B-PER", "I-PER"]], [["B-PER", "B-PER"]]),
    ([["B-PER", "I-PER"]], [["B-PER", "I-LOC"]]),  # changes its type inside
    ([["B-PER", "B-PER"]], [["B-PER", "I-PER"]]),
    ([["O", "B-LOC"], ["B-LOC", "O"]], [["O", "B-LOC"], ["I-LOC", "O"]]),  # over the sentence's end
    ([["O", "B-LOC"], ["B-PER"]], [["O", "B-LOC"], ["I-LOC"]]),
    ([["B-LOC", "I-LOC", "I-LOC"]], [["B-LOC", "O", "I-LOC"]]),
    ([["B-LOC", "I-LOC", "O"]], [["O", "I-LOC", "O"]]),
    ([["O", "O"]], [["O", "O"]]),  # nothing true and nothing said
    ([["O", "O"]], [["I-PER", "I-PER"]]),
    ([["B-PER", "I-PER"]], [["O", "O"]]),
]


@pytest.mark.parametrize("seed", range(12))
def test_random_tags_have_seqevals_scores(seed: int) -> None:
    true = sound(drawn(seed))
    said = same_words(true, drawn(seed + 100))
    check(true, said)


@pytest.mark.parametrize(("true", "said"), ADVERSARIAL)
def test_adversarial_tags_have_seqevals_scores(true: Rows, said: Rows) -> None:
    check(true, said)


def check(true: Rows, said: Rows) -> None:
    with np.errstate(all="ignore"):
        ours = values(said, true)
        assert ours["entity_f1"] == pytest.approx(theirs.f1_score(true, said, zero_division=0))
        for name, of in (
            ("entity_precision", theirs.precision_score),
            ("entity_recall", theirs.recall_score),
        ):
            assert ours[name] == pytest.approx(of(true, said, zero_division=0)), name
        strict = theirs.f1_score(true, said, mode="strict", scheme=IOB2, zero_division=0)
        assert ours["strict_entity_f1"] == pytest.approx(strict)
        assert ours["token_accuracy"] == pytest.approx(theirs.accuracy_score(true, said))


def test_the_f1_of_each_type_is_seqevals() -> None:
    true = sound(drawn(7))
    said = same_words(true, drawn(8))
    targets = Tags.of(true, NAMES)
    judged = outcomes_of(numbers(said), targets)
    splits = splits_with(targets)
    report: Any = theirs.classification_report(true, said, output_dict=True, zero_division=0)
    shown = TASK.reported(judged, splits)["entity_f1"]
    assert shown["f1"] == pytest.approx(
        {name: report[name]["f1-score"] for name in ("LOC", "PER")}, abs=1e-6
    )
    assert "types_not_in_test" not in shown


def splits_with(targets: Tags) -> Splits:
    n = len(targets)

    def read(i: int) -> tuple[str, ...]:
        return tuple("w" for _ in targets.row(i))

    split = Split("test", tuple(map(str, range(n))), targets, read)
    return Splits(split, split, split, targets.names, "text", task="token-classification")


def test_plain_tags_are_words_of_their_own() -> None:
    names = ("O", "ADP", "NOUN", "BE")
    true, said = [["NOUN", "NOUN", "O", "ADP"]], [["NOUN", "ADP", "BE", "ADP"]]
    ours = values(said, true, names)
    assert ours["entity_precision"] == pytest.approx(2 / 4)
    assert ours["entity_recall"] == pytest.approx(2 / 3)
    assert ours["entity_f1"] == ours["strict_entity_f1"] == pytest.approx(4 / 7)
    assert ours["token_accuracy"] == pytest.approx(2 / 4)
    assert Tagset(names).types == ("ADP", "NOUN", "BE")


def test_no_tag_at_all_is_outside_and_never_right() -> None:
    truth = Tags.of([["O", "B-PER", "I-PER"]], NAMES)
    judged = outcomes_of([[-1, 3, -1]], truth)
    assert judged.arrays["predicted"].sum() == 1
    assert judged.arrays["correct"].sum() == 0
    assert judged.arrays["right"].tolist() == [1]
    assert entity_f1([[-1, 3, 4]], truth) == 1.0


def test_tags_that_are_none_are_refused() -> None:
    truth = Tags.of([["O", "B-PER"], ["O"]], NAMES)
    wrong: list[tuple[Any, str]] = [
        ([[0, 5], [0]], "must lie in 0 to 4"), ([[0, -2], [0]], "must lie"),
        ([[0], [0]], "prediction 0 must be 2 tags"), ([[0, 0]], "must be of 2 sentences"),
    ]  # fmt: skip
    for said, says in wrong:
        with pytest.raises(ValueError, match=says):
            outcomes_of(said, truth)


def written(scheme: str) -> Callable[[list[str]], list[str]]:
    """IOB2 -> the same entities in another way of writing."""

    def write(tags: list[str]) -> list[str]:
        out = []
        for i, tag in enumerate(tags):
            if tag == "O":
                out.append(tag)
                continue
            letter, kind = tag.split("-", 1)
            follows = i > 0 and tags[i - 1].endswith(f"-{kind}") and tags[i - 1] != "O"
            last = i + 1 == len(tags) or tags[i + 1] != f"I-{kind}"
            if scheme == "iob1":
                letter = "B" if letter == "B" and follows else "I"
            elif scheme in ("bilou", "bioes"):
                single, final = ("U", "L") if scheme == "bilou" else ("S", "E")
                letter = (single if last else "B") if letter == "B" else (final if last else "I")
            out.append(f"{letter}-{kind}")
        return out

    return write


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "bilou", "bioes"])
def test_every_way_of_writing_entities_is_told_and_becomes_iob2(scheme: str) -> None:
    rows = sound(drawn(3))
    other = [written(scheme)(row) for row in rows]
    assert scheme_of(other) == scheme
    back = [as_iob2(row, scheme) for row in other]
    assert [tags for tags, _ in back] == rows
    assert sum(broken for _, broken in back) == 0


def test_what_breaks_the_rules_is_read_and_counted() -> None:
    assert as_iob2(["O", "I-PER", "I-PER", "I-LOC"], "iob2") == (
        ["O", "B-PER", "I-PER", "B-LOC"],
        2,
    )
    assert as_iob2(["O", "I-PER", "B-PER"], "iob1") == (["O", "B-PER", "B-PER"], 0)
    assert as_iob2(["B-PER", "O", "L-PER"], "bilou") == (["B-PER", "O", "B-PER"], 2)
    assert as_iob2(["B", "I", "O"], "iob2") == (["B-_", "I-_", "O"], 0)
    assert as_iob2(["NOUN", "B-X"], "plain") == (["NOUN", "B-X"], 0)
    with pytest.raises(ValueError, match="'NOUN' is none of IOB2"):
        as_iob2(["NOUN"], "iob2")


def test_plain_tags_are_told_from_parts_of_entities() -> None:
    assert scheme_of([["NOUN", "O"], ["B-PER"]]) == "plain"
    assert scheme_of([["NOUN", "O"], ["B-PER", "I-PER"]]) == "iob2"  # NOUN is a slip
    assert scheme_of([["O", "O"]]) == "plain"
    assert scheme_of([["B-PER", "L-PER", "S-PER"]]) == "plain"  # of two ways at once
    assert ordered(["I-b", "O", "B-a"], "iob2") == ("O", "B-a", "I-a", "B-b", "I-b")
    assert ordered(["c", "O", "a", "c"], "plain") == ("O", "a", "c")
