"""The worst transcripts: planted ones first, aligned word by word, and never as markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoobench import datasets
from zoobench.ranking.outcomes import open_book
from zoobench.ranking.rank import rank
from zoobench.report.worst_transcripts import NOTHING, WorstTranscripts, worst_transcripts
from zoobench.report.write import write_report
from zoobench.schema import Cell, Outcomes, Record, Ref
from zoobench.statistics.bootstrap import numbered
from zoobench.store import Run, Store, load
from zoobench.tasks import task
from zoobench.tasks.evaluate import evaluate
from zoobench.tasks.speech_recognition import outcomes_of, transcripts_of

TASK = "speech-recognition"
DATA = f"synthetic/phrases?task={TASK}&test=9&train=12&valid=6"
HOSTILE = "<script>alert(1)</script> [x](javascript:1) | `a`"


def made(path: Path, told: str = "", said: dict[int, str] | None = None, **changes: Any) -> Run:
    """A run of one model that is right but where it `said` something else."""
    where = datasets.resolve(DATA)
    splits = datasets.load(where)
    truth = transcripts_of(splits.test)
    answers = [(said or {}).get(i, text) for i, text in enumerate(truth.texts)]
    kept: Outcomes = outcomes_of(answers, truth).of(numbered(9, "spoken"))
    cell = Cell(
        Ref.parse("recogniser/a/b@1"), where, "as-is",
        versions={"protocol": 1, "task": f"{TASK}@1", "method": 1},
    )  # fmt: skip
    facts = {
        "splits": {"test": splits.test.fingerprint}, "sizes": {"test": 9},
        "model": {"license": "MIT"},
    }  # fmt: skip
    record = Record(cell, "ok", evaluate(task(TASK), kept, splits), provenance=facts | changes)
    suite = f'name = "s"\nidentity = "s"\ndatasets = ["{told or where}"]\n'
    with Store(path, suite, "s") as store:
        store.append(record, kept)
    return load(path)


def shown(run: Run) -> WorstTranscripts:
    (one,) = worst_transcripts(open_book([run]), rank([run]), [run])
    return one


def spoken(i: int) -> list[str]:
    return transcripts_of(datasets.load(datasets.resolve(DATA)).test).texts[i].split()


def test_the_planted_ones_come_first_with_each_word_marked(tmp_path: Path) -> None:
    first, second = spoken(4), spoken(7)
    said = {4: "hmm " * 5 + " ".join(first), 7: " ".join(second[:-1])}
    one = shown(made(tmp_path / "run", said=said))
    assert [t.caption for t in one.transcripts] == [
        f"5 insertions; {len(first)} words", f"1 deletions; {len(second)} words",
    ]  # fmt: skip
    added, left = (t.words for t in one.transcripts)
    assert added == (*[("inserted", NOTHING, "hmm")] * 5, *(("", word, word) for word in first))
    assert left[-1] == ("deleted", second[-1], NOTHING)
    assert one.transcripts[1].line.endswith(f"[{second[-1]} > {NOTHING}]")


def test_a_substituted_word_stands_beside_what_was_said(tmp_path: Path) -> None:
    one = shown(made(tmp_path / "run", said={2: " ".join(["wrong", *spoken(2)[1:]])}))
    assert one.transcripts[0].words[0] == ("substituted", spoken(2)[0], "wrong")
    assert len(one.transcripts) == 1, "what is right is not shown"


@pytest.mark.parametrize(
    ("told", "changes", "word"),
    [
        ("folder/gone?path=/nowhere", {}, "does not say where the data lie"),
        ("", {"splits": {"test": "another"}}, "are not those of the run"),
    ],
)
def test_data_that_are_not_at_hand_are_a_word(
    told: str, changes: dict[str, Any], word: str, tmp_path: Path
) -> None:
    one = shown(made(tmp_path / "run", told, {1: ""}, **changes))
    assert one.transcripts == ()
    assert word in one.about


def test_they_are_shown_where_asked_for_and_never_as_markup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoobench.report.write.write_figures", lambda *_: [])
    monkeypatch.setattr("zoobench.tasks.normalisers.basic", lambda text: " ".join(text.split()))
    run = made(tmp_path / "run", said={3: HOSTILE})
    plain = write_report([run], tmp_path / "plain")
    told = write_report([run], tmp_path / "told", pictures=True)
    assert "Worst transcripts" not in plain[0].read_text() + plain[1].read_text()
    page, text = told[0].read_text(), told[1].read_text()
    assert "holds transcripts of the test set" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page + text
    assert "[x](" not in text
