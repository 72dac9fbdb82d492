"""Recordings out of Debian's packages, where they are installed; and how each is read, anywhere."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import soundfile

from zoobench import datasets
from zoobench.datasets import catalog_packaged, packaged_, packaged_sounds
from zoobench.datasets.splits import Found, assemble
from zoobench.errors import BadData, MissingExtra
from zoobench.interfaces import Splits
from zoobench.schema import Ref
from zoobench.tasks.speech_recognition import transcripts_of

NAMES = ("asterisk-prompts", "asterisk-words", "hydrogen-drums", "pocketsphinx-clips")
ROWS = {row.card.name: row for row in catalog_packaged.PACKAGED if row.card.name in NAMES}


def save(path: Path, seed: int, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(8000 * seconds))
    soundfile.write(path, samples, 8000)


def made_of(found: Found) -> Splits:
    return assemble(found, Ref("packaged", "made"))


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty prompts, of which every second holds the word, and is longer than the other."""
    lines = ["; a list", "", "beep: [a tone]", "tone: <a sweep> (of 2 s)", "gone: nobody says it"]
    for i in range(40):
        said = f"Press to key {i} [#]" if i % 2 else f"Toes {i}"
        lines.append(f"deep/{i}: {said}")
        save(tmp_path / "en" / "deep" / f"{i}.wav", i, 0.1 + 0.01 * i)
    for i, name in enumerate(("beep", "tone")):
        save(tmp_path / "en" / f"{name}.wav", 100 + i)
    (tmp_path / "said.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    monkeypatch.setattr(packaged_sounds, "SAID", str(tmp_path / "said.gz"))
    monkeypatch.setattr(packaged_sounds, "LONGEST", 0.475)
    return tmp_path / "en"


def test_a_prompt_is_what_is_said_without_remarks(prompts: Path) -> None:
    made = made_of(packaged_sounds.prompts(prompts))
    texts = [t for s in (made.train, made.valid, made.test) for t in transcripts_of(s).texts]
    assert len(texts) == 38, "no tones, none that is absent, none that is too long"
    assert {"Press to key 1", "Toes 36"} < set(texts)
    assert made.task == "speech-recognition"


def test_prompts_with_and_without_the_word_are_as_long(prompts: Path) -> None:
    made = made_of(packaged_sounds.words(prompts))
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for split in (made.train, made.valid, made.test):
        for i, label in enumerate(split.targets.strata.tolist()):
            seconds[label].append(split.read(i).seconds)
    assert len(seconds[0]) == len(seconds[1]) == 19
    assert np.mean(seconds[1]) - np.mean(seconds[0]) == pytest.approx(0, abs=0.015)


def test_drums_are_told_by_their_instruments_and_kits_are_apart(tmp_path: Path) -> None:
    kinds = ("Kick 1", "Snare Rock", "Closed HH", "Tom Low", "Ride Bell", "Whistle", "Snare Hat")
    for nth, kit in enumerate(("Audiophob", "VariBreaks", "one", "two", "three")):
        layers = ""
        for i, name in enumerate(kinds):
            file = f"../{i}.wav" if i == 0 else f"{i}.wav"  # no path leads out of the kit
            save(tmp_path / kit / f"{i}.wav", 10 * nth + i)
            layer = f"<layer><filename>{file}</filename></layer>"
            layers += f"<instrument><name>{name}</name>{layer}</instrument>"
        layers += "<instrument><name>Kick</name><filename>gone.wav</filename></instrument>"
        text = f'<drumkit_info xmlns="http://x">{layers}</drumkit_info>'
        (tmp_path / kit / "drumkit.xml").write_text(text)
    (tmp_path / "no kit").mkdir()
    made = made_of(packaged_sounds.drums(tmp_path))
    assert made.classes == ("cymbal", "hat", "kick", "snare", "tom")
    assert set(made.test.groups) == {"Audiophob", "VariBreaks"}
    assert sorted(made.test.targets.strata.tolist()) == sorted([*range(5)] * 2)
    assert set(made.train.groups) | set(made.valid.groups) == {"one", "two", "three"}
    (tmp_path / "one" / "drumkit.xml").write_text("<!DOCTYPE x><x/>")
    with pytest.raises(ValueError, match="document type"):
        packaged_sounds.drums(tmp_path)


def test_what_debian_did_not_install_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    rows = tuple(
        dataclasses.replace(row, file=str(tmp_path / "absent")) if row.card.name in NAMES else row
        for row in catalog_packaged.PACKAGED
    )
    monkeypatch.setattr(catalog_packaged, "PACKAGED", rows)
    with pytest.raises(
        MissingExtra, match=r"^packaged/hydrogen-drums needs .*absent.*apt-get install hydr"
    ):
        datasets.resolve("packaged/hydrogen-drums")
    here, why = datasets.available("packaged/asterisk-words")
    assert not here
    assert "apt-get install asterisk-core-sounds-en" in why


@pytest.mark.rare  # a few hundred files are decoded
@pytest.mark.parametrize("name", NAMES)
def test_what_the_card_says_is_what_is_loaded(name: str) -> None:
    row = ROWS[name]
    if packaged_._file(row) is None:
        pytest.skip(row.install)
    ref = datasets.resolve(f"packaged/{name}")
    made = datasets.load(ref)
    assert (made.modality, made.task) == (row.card.modality, row.card.task)
    assert len(made.classes) == row.card.classes
    parts = (made.train, made.valid, made.test)
    left_out = made.notes.get("duplicates", 0) + made.notes.get("duplicates_across_splits", 0)
    assert sum(map(len, parts)) + left_out == sum(row.card.sizes)
    groups = [set(part.groups) for part in parts]
    assert len(set.union(*groups)) == sum(map(len, groups))
    with pytest.raises(BadData, match="was pinned at 0, but the installed Debian package"):
        datasets.load(ref.at("0"))
