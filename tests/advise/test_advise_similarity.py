"""`zoobench similarity`: two datasets in a model's feature space."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from zoobench.advise.similarity import similarity
from zoobench.cli.main import main
from zoobench.errors import UserError

GABOR, STRIPES = "synthetic/gabor", "synthetic/stripes?train=80&test=20"
DIGITS = "packaged/digits?max_train=80"


def test_other_data_is_further_away_than_the_same_data() -> None:
    other = similarity(GABOR, STRIPES, DIGITS, 60)
    same = similarity(GABOR, STRIPES, STRIPES, 60)
    assert (same.frechet < 1e-6 * max(same.frechet_within, 1e-9)) or same.frechet < 1e-6
    assert same.p == 1.0 or same.mmd <= 0
    assert other.p < 0.01
    assert other.frechet > 3 * other.frechet_within
    assert other.n == (60, 60)
    assert similarity(GABOR, STRIPES, DIGITS, 60) == other


def test_the_command_prints_a_sentence_or_json() -> None:
    invoke = CliRunner().invoke
    done = invoke(main, ["similarity", GABOR, STRIPES, DIGITS, "--max", "40"])
    assert done.exit_code == 0, done.output
    assert "tells them apart" in done.output
    done = invoke(main, ["similarity", GABOR, STRIPES, DIGITS, "--max", "40", "--json"])
    assert json.loads(done.output)["n"] == [40, 40]


def test_another_modality_is_refused() -> None:
    done = CliRunner().invoke(main, ["similarity", GABOR, STRIPES, "packaged/word-polarity"])
    assert done.exit_code == 2
    assert "reads image, but packaged/word-polarity holds text" in done.output


@pytest.mark.parametrize("task", ["token-classification", "question-answering"])
def test_examples_that_are_no_single_texts_are_refused(task: str) -> None:
    with pytest.raises(UserError, match="its examples are no single texts"):
        similarity("synthetic/bag", f"synthetic/phrases?task={task}", "synthetic/phrases", 20)
