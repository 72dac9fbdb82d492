"""Speech recognition: counts against jiwer and a brute-force alignment, and what is compared."""

from __future__ import annotations

import sys
import unicodedata
from functools import cache

import jiwer
import numpy as np
import pytest

from zoobench import tasks
from zoobench.errors import BadData, MissingExtra, UnknownName
from zoobench.schema import Outcomes
from zoobench.tasks import normalisers
from zoobench.tasks.normalisers import basic, english, normaliser
from zoobench.tasks.speech_recognition import (
    COUNTS,
    EDITS,
    Transcripts,
    answers_kept,
    error_rates,
    outcomes_of,
)

JUDGE = tasks.task("speech-recognition")


def least_edits(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """By all ways to align two sequences."""

    @cache
    def apart(i: int, j: int) -> int:
        if i == len(one) or j == len(other):
            return len(one) - i + len(other) - j
        if one[i] == other[j]:
            return min(apart(i + 1, j + 1), 1 + apart(i + 1, j), 1 + apart(i, j + 1))
        return 1 + min(apart(i + 1, j + 1), apart(i + 1, j), apart(i, j + 1))

    return apart(0, 0)


def rates(outcomes: Outcomes) -> dict[str, float]:
    found = JUDGE.statistics(outcomes)(np.ones((1, outcomes.n)), JUDGE.metrics)
    return {name: float(value[0]) for name, value in found.items()}


def random_texts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    words = ["a", "ab", "ba", "b'a", "ć", "日"]
    return [" ".join(rng.choice(words, int(rng.integers(0, 9)))) for _ in range(n)]


def test_rates_are_jiwers_and_each_utterance_has_the_least_edits_there_are() -> None:
    truth, said = random_texts(60, 0), random_texts(60, 1)
    kept = outcomes_of(said, Transcripts.of(truth))
    found = rates(kept)
    assert found["wer"] == pytest.approx(jiwer.wer(truth, said), abs=1e-12)
    assert found["cer"] == pytest.approx(jiwer.cer(truth, said), abs=1e-12)
    by_word = np.sum([kept.arrays[name] for name in EDITS], axis=0)
    for i, (one, other) in enumerate(zip(truth, said, strict=True)):
        assert by_word[i] == least_edits(tuple(one.split()), tuple(other.split()))
        assert kept.arrays["character_edits"][i] == least_edits(tuple(one), tuple(other))
    whole = jiwer.process_words(truth, said)
    for name in EDITS:
        assert kept.arrays[name].sum() == getattr(whole, name)
    assert answers_kept(kept) == said


@pytest.mark.parametrize(
    ("reference", "answer", "counts"),
    [
        ("turn the light on", "turn light on please", (0, 1, 1, 4)),
        ("one two", "one two two two two", (0, 0, 3, 2)),  # a hallucinated repeat
        ("", "thank you", (0, 0, 2, 0)),
        ("", "", (0, 0, 0, 0)),
        ("yes", "", (0, 1, 0, 1)),
        ("Yes, Sir!", "yes  sir", (0, 0, 0, 2)),
    ],
)
def test_golden_counts(reference: str, answer: str, counts: tuple[int, ...]) -> None:
    kept = outcomes_of([answer, "x"], Transcripts.of([reference, "x"]))
    assert tuple(int(kept.arrays[name][0]) for name in COUNTS[:4]) == counts


def test_insertions_of_an_empty_reference_count_and_it_adds_no_words() -> None:
    truth = Transcripts.of(["", "a b"])
    assert rates(outcomes_of(["thank you very much", "a b"], truth))["wer"] == 2.0
    assert error_rates(["", "a c"], truth)[0] == 0.5


def test_a_test_set_without_a_word_is_bad_data() -> None:
    with pytest.raises(BadData, match="no recording has a word"):
        outcomes_of(["a", ""], Transcripts.of(["", "..."]))


def test_rates_weigh_utterances_by_their_words() -> None:
    kept = outcomes_of(["a b c x", "x"], Transcripts.of(["a b c d", "a"]))
    found = JUDGE.statistics(kept)(np.array([[1.0, 1.0], [3.0, 0.0]]), ["wer"])["wer"]
    assert found.tolist() == [0.4, 0.25]


@pytest.mark.parametrize("name", COUNTS)
def test_counts_that_no_utterance_has_are_refused(name: str) -> None:
    kept = outcomes_of(["a", "b"], Transcripts.of(["a", "b"]))
    for bad in (np.array([-1, 0]), np.zeros(3)):
        with pytest.raises(ValueError, match="one number an utterance"):
            JUDGE.statistics(Outcomes(2, {**kept.arrays, name: bad}))
    with pytest.raises(KeyError):
        JUDGE.statistics(Outcomes(2, {k: a for k, a in kept.arrays.items() if k != name}))


def test_what_was_said_is_kept_whatever_is_written() -> None:
    said = ["", "zażółć 日本", "half \ud83d", "<b>\0"]
    kept = outcomes_of(said, Transcripts.of(["x"] * 4, "none"))
    assert answers_kept(kept) == ["", "zażółć 日本", "half ?", "<b>\0"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Don’t STOP -- 'now' (please).", "don't stop now please"),
        ("twenty-one, 3.5%", "twenty one 3 5"),
        ("Straße ﬁn Ｗide", "strasse fin wide"),
        ("हिन्दी में", "हिन्दी में"),  # vowel signs are marks, and stay
        ("a\tb\nc\u00a0d\u200be", "a b c d e"),
        ("rock 'n' roll's", "rock n roll's"),
        ("co\u00adoperate \ufeff\u2060x\u200dy", "cooperate xy"),  # what is not seen parts nothing
        ("می\u200cخواهم", "میخواهم"),
        ("e\u00ad\u0301 e\u034f\u0301", "é é"),
        ("I \u2764\ufe0f it", "i it"),  # a sign's form goes with the sign
        ("…", ""),
    ],
)
def test_basic_leaves_letters_marks_digits_and_apostrophes_inside(text: str, kept: str) -> None:
    assert basic(text) == kept


def test_what_basic_has_made_it_leaves_as_it_is() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    known = [sign for sign in every if unicodedata.category(sign)[0] in "LMNPSZ"]
    known += 3 * [sign for sign in every if unicodedata.category(sign) == "Cf"]
    once = [basic(f"a{sign}b'{sign}") for sign in known[::3]]
    assert [basic(text) for text in once] == once


@pytest.mark.parametrize("name", ["basic", "english"])
def test_a_soft_hyphen_is_no_word_error(name: str) -> None:
    truth = Transcripts.of(["we cooperate"], name)
    assert error_rates(["we co\u00adoperate\u200e"], truth) == (0.0, 0.0)
    assert error_rates(["we\u200bcooperate"], truth) == (0.0, 0.0), "which does part words"


def test_english_is_what_it_is_said_to_be() -> None:
    """Golden: where transformers' own changes, the version of ours does."""
    assert english("Um, I'm [noise] Dr. Smith's  café; it won't cost $20") == (
        "i am doctor smith is cafe it will not cost $20"
    )
    assert english("twenty one men, a hundred and five, the second of two") == (
        "21 men a 105 the 2nd of 2"
    )
    assert english("Colour") == "colour"
    assert english("1" * 5000 + "!") == "1" * 5000, "as basic makes it"


def test_none_collapses_blanks_alone() -> None:
    assert normaliser("none")(" A, b\t\tC ") == "A, b C"
    assert error_rates(["a, b c"], Transcripts.of(["A, b C"], "none"))[0] == pytest.approx(2 / 3)


def test_a_normaliser_is_known_and_stands_in_the_fingerprint() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'english'"):
        Transcripts.of(["a"], "englisch")
    contents = {Transcripts.of(["a"], name).content() for name in normalisers.VERSIONS}
    assert len(contents) == 3


def test_jiwer_is_asked_for_before_anything_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(MissingExtra, match=r"pip install 'zoobench\[sound\]'"):
        Transcripts.of(["a"])
