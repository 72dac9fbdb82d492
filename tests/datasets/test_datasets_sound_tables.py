"""Tables of recordings: classes, numbers, transcripts, groups, and files that are not theirs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from zoobench import audio, datasets
from zoobench.errors import BadData, UserError
from zoobench.interfaces import Splits
from zoobench.schema import Ref, Value
from zoobench.tasks.speech_recognition import transcripts_of

WORDS = ("one", "two", "three", "four", "")
SPEECH: dict[str, Value] = {"audio": "file", "text": "said", "task": "speech-recognition"}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder `clips` of 20 recordings."""
    (tmp_path / "clips").mkdir()
    for i in range(20):
        samples = np.random.default_rng(i).uniform(-0.5, 0.5, 800)
        soundfile.write(tmp_path / "clips" / f"{i}.wav", samples, 8000)
    return tmp_path


def table(folder: Path, names: Sequence[str] = (), **columns: Sequence[object]) -> Path:
    files = [*(f"clips/{i}.wav" for i in range(20)), *names]
    held: dict[str, Sequence[object]] = {
        "file": files,
        "label": ["ab"[i % 2] for i in range(len(files))],
        "said": [f"{WORDS[i % 5]} and {WORDS[i % 3]}" for i in range(len(files))],
        "who": [f"speaker {i // 4}" for i in range(len(files))],
        **columns,
    }
    with open(folder / "t.csv", "w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([list(held), *zip(*held.values(), strict=True)])
    return folder / "t.csv"


def loaded(path: Path, **said: Value) -> Splits:
    return datasets.load(datasets.resolve(ref_to(path, **said)))


def ref_to(path: Path, **said: Value) -> Ref:
    return Ref("table", "t").with_options(path=str(path), **said)


def test_recordings_with_a_class(clips: Path) -> None:
    ref = datasets.resolve(ref_to(table(clips), audio="file", label="label"))
    assert datasets.card(ref).modality == "audio"
    made = datasets.load(ref)
    assert (made.modality, made.classes, made.test.groups) == ("audio", ("a", "b"), ())
    clip = made.test.read(0)
    assert isinstance(clip, audio.Clip)
    assert clip.seconds == 0.1
    (clips / "clips" / "3.wav").write_bytes((clips / "clips" / "4.wav").read_bytes())
    with pytest.raises(BadData, match="its content is not what"):
        datasets.load(ref)


def test_transcripts_of_speakers(clips: Path) -> None:
    ref = datasets.resolve(ref_to(table(clips), **SPEECH, group="who"))
    card = datasets.card(ref)
    assert (card.modality, card.task) == ("audio", "speech-recognition")
    made = datasets.load(ref)
    assert (made.task, made.modality, made.classes) == ("speech-recognition", "audio", ())
    speakers = [set(split.groups) for split in (made.train, made.valid, made.test)]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 5
    names = {soundfile.read(path)[0][0]: path.stem for path in (clips / "clips").iterdir()}
    for row in range(len(made.train)):
        number = int(names[made.train.read(row).samples[0]])
        said = f"{WORDS[number % 5]} and {WORDS[number % 3]}".strip()
        assert transcripts_of(made.train).texts[row] == said
        assert made.train.groups[row] == f"speaker {number // 4}"


def test_a_recording_without_words_is_kept(clips: Path) -> None:
    made = loaded(table(clips, said=["", *["yes"] * 10, *["no"] * 9]), **SPEECH)
    texts = [t for s in (made.train, made.valid, made.test) for t in transcripts_of(s).texts]
    assert sorted(texts)[:2] == ["", "no"]
    assert "corrupt" not in made.notes


def test_the_normaliser_is_a_choice_of_the_table(clips: Path) -> None:
    said = ["One, TWO!"] * 10 + ["Three."] * 10
    path = table(clips, said=said)
    made = loaded(path, **SPEECH, normaliser="basic")
    assert set(transcripts_of(made.train).compared) == {"one two", "three"}
    plain = loaded(path, **SPEECH, normaliser="none")
    assert plain.fingerprints != made.fingerprints
    with pytest.raises(UserError, match="Did you mean 'basic'"):
        datasets.resolve(ref_to(path, **SPEECH, normaliser="basics"), "suite.toml")


def test_numbers_and_splits(clips: Path) -> None:
    split = ["train"] * 12 + ["dev"] * 4 + ["test"] * 4
    path = table(clips, loud=[i / 7 for i in range(20)], part=split)
    made = loaded(path, audio="file", label="loud", task="regression", split="part")
    assert [len(s) for s in (made.train, made.valid, made.test)] == [12, 4, 4]
    assert made.flags == ()


@pytest.mark.parametrize(
    "name",
    ["../secret.wav", "/etc/passwd", "clips/../../secret.wav", "", " ", "clips", "absent.wav"],
)
def test_files_are_read_from_the_tables_folder_alone(name: str, clips: Path) -> None:
    inside = clips / "inside"
    inside.mkdir()
    (clips / "clips").rename(inside / "clips")
    soundfile.write(clips / "secret.wav", np.ones(100), 8000)
    path = table(inside, [name])
    made = loaded(path, audio="file", label="label")
    (said,) = made.notes["corrupt_files"]
    assert said.startswith(f"row 21 ({name}): ")
    if name.endswith("secret.wav") or name.startswith("/"):
        assert said.endswith("the file is not in the table's folder")
    with pytest.raises(UserError, match="3 of 23 rows cannot be used"):
        datasets.resolve(ref_to(table(inside, [name] * 3), audio="file", label="label"), "s.toml")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"audio": "file", "text": "said"}, "give one of the options text, image and audio"),
        ({"audio": "file"}, "give the option label"),
        ({"audio": "file", "task": "speech-recognition"}, "give the options audio and text"),
        ({"audio": "file", "text": "file", "task": "speech-recognition"}, "are the same column"),
        ({**SPEECH, "label": "label"}, "unknown option 'label'"),
        ({**SPEECH, "group": "whom"}, "Did you mean 'who'"),
        ({"audio": "file", "label": "label", "normaliser": "basic"}, "unknown option 'normaliser'"),
    ],
    ids=str,
)
def test_columns_that_cannot_be(said: dict[str, Value], told: str, clips: Path) -> None:
    with pytest.raises(UserError, match=r"^s\.toml: ") as caught:
        datasets.resolve(ref_to(table(clips), **said), "s.toml")
    assert told in str(caught.value)


def test_texts_have_groups_too(clips: Path) -> None:
    made = loaded(table(clips), text="file", label="label", group="who")
    assert sum(len(set(s.groups)) for s in (made.train, made.valid, made.test)) == 5
    some = loaded(table(clips, who=["x"] * 4 + [""] * 16), text="file", label="label", group="who")
    parts = [split.groups for split in (some.train, some.valid, some.test)]
    assert sum(len(set(groups)) for groups in parts) == 17, "no group is a group of its own"


@pytest.mark.parametrize("shape", ["bytes", "struct"])
def test_a_parquet_file_may_hold_the_recordings(shape: str, clips: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    files: list[bytes | None] = [(clips / "clips" / f"{i}.wav").read_bytes() for i in range(20)]
    files[4] = None
    cells: list[object] = (
        list(files) if shape == "bytes" else [{"bytes": one, "path": "../x.wav"} for one in files]
    )
    rows = {"file": cells, "said": [WORDS[i % 4] for i in range(20)]}
    parquet.write_table(pyarrow.table(rows), clips / "t.parquet")
    made = loaded(clips / "t.parquet", **SPEECH)
    assert made.notes["corrupt_files"] == ["row 5 (0 bytes): the file is empty"]
    assert sum(map(len, (made.train, made.valid, made.test))) == 19
    names = {soundfile.read(path)[0][0]: path.stem for path in (clips / "clips").iterdir()}
    for row, text in enumerate(transcripts_of(made.train).texts):
        assert WORDS[int(names[made.train.read(row).samples[0]]) % 4] == text
