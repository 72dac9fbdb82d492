"""A really pretrained audio encoder on real recordings, told from log-mel statistics, and not where
8 kHz are read as 16; where Debian's packages are installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from cells import write_suite
from zoobench import datasets, rank, run
from zoobench.interfaces import Splits
from zoobench.ranking.nouns import Row

WORDS = "packaged/asterisk-words?max_train=52&max_test=60"

pytestmark = [pytest.mark.rare, pytest.mark.timeout(900)]


def write_misread(splits: Splits, folder: Path) -> None:
    """The recordings as they are, in files that say twice their rate."""
    for split in (splits.train, splits.valid, splits.test):
        for i, label in enumerate(split.targets.strata):
            into = folder / split.name / splits.classes[label].replace("'", "")
            into.mkdir(parents=True, exist_ok=True)
            clip = split.read(i)
            soundfile.write(into / f"{i}.wav", clip.samples, 2 * clip.rate, subtype="FLOAT")


def test_a_pretrained_encoder_beats_log_mel_and_a_wrong_rate_is_suspect(tmp_path: Path) -> None:
    there, why = datasets.available(datasets.resolve(WORDS))
    if not there:
        pytest.skip(why)
    write_misread(datasets.load(datasets.resolve(WORDS)), tmp_path / "misread")  # the same ones
    model = "packaged/whisper-tiny-en"
    file = write_suite(
        tmp_path / "s.toml",
        models=[model],
        datasets=[WORDS, f"folder/misread?path={tmp_path / 'misread'}"],
        methods=["linear-probe"],
        controls='["raw-input"]',
        rest="[limits]\ncost_seconds = 0",
    )
    sections = {s.dataset.name: s for s in rank(run(file, tmp_path / "run", device="cpu")).sections}

    def row(dataset: str) -> Row:
        (found,) = (r for r in sections[dataset].rows if r.model.source == "packaged")
        return found

    right, misread = row("asterisk-words"), row("misread")
    assert right.value > 0.8
    assert "suspect" not in {flag.name for flag in right.flags}
    assert misread.value < right.value - 0.05
    assert "suspect" in {flag.name for flag in misread.flags}
