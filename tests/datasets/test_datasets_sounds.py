"""Folders of recordings: layouts, damage, groups, and every mistake with its message."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from zoobench import audio, datasets
from zoobench.errors import BadData, UserError
from zoobench.interfaces import Splits
from zoobench.schema import Ref, Value

MakeSounds = Callable[[Mapping[str, int]], Path]


def save(path: Path, seed: int, rate: int = 8000, seconds: float = 0.05) -> None:
    """Noise that only its seed decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(rate * seconds))
    soundfile.write(path, samples, rate)


@pytest.fixture
def make_sounds(tmp_path: Path) -> MakeSounds:
    """{"train/bell": 5, ...} as a folder of different recordings, numbered in each class."""

    def make(sizes: Mapping[str, int]) -> Path:
        for nth, (name, many) in enumerate(sizes.items()):
            for i in range(many):
                save(tmp_path / "sounds" / name / f"{i:04}.wav", nth * 10_000 + i)
        return tmp_path / "sounds"

    return make


def ref_to(root: Path, **options: Value) -> Ref:
    return Ref("folder", "sounds").with_options(path=str(root), **options)


def loaded(root: Path, **options: Value) -> Splits:
    return datasets.load(datasets.resolve(ref_to(root, **options)))


def refused(root: Path, **options: Value) -> str:
    with pytest.raises(UserError) as caught:
        datasets.resolve(ref_to(root, **options), "suite.toml: datasets[0]")
    message = str(caught.value)
    assert message.startswith("suite.toml: datasets[0]: ")
    assert "\n" not in message
    return message


def test_recordings_by_class(make_sounds: MakeSounds) -> None:
    root = make_sounds({"bell": 10, "horn": 10})
    ref = datasets.resolve(ref_to(root))
    assert ref.option("modality") == "audio"
    assert datasets.card(ref).modality == datasets.card(ref_to(root)).modality == "audio"
    made = datasets.load(ref)
    assert made.test.reader == f"folder 1 sound {audio.VERSION}", "features are kept by it"
    assert (made.classes, made.modality) == (("bell", "horn"), "audio")
    assert [len(s) for s in (made.train, made.valid, made.test)] == [14, 2, 4]
    clip = pickle.loads(pickle.dumps(made.train)).read(0)
    assert isinstance(clip, audio.Clip)
    assert (len(clip.samples), clip.rate) == (400, 8000)
    assert made.notes["sound_seconds"] == {"least": 0.05, "median": 0.05, "most": 0.05}
    assert made.notes["sound_rates"] == {"8000": 20}
    assert made.notes["sound_hours"] == pytest.approx(20 * 0.05 / 3600, abs=1e-4)


def test_official_splits_suffixes_and_a_file_without_one(make_sounds: MakeSounds) -> None:
    root = make_sounds({f"{s}/{c}": 3 for s in ("Train", "val", "test") for c in ("a", "b")})
    for i, suffix in enumerate(("flac", "ogg", "mp3", "AIFF", "au")):
        save(root / "Train" / "a" / f"more.{suffix}", 500 + i, 16_000)
    (root / "Train" / "a" / "0000.wav").rename(root / "Train" / "a" / "plain")
    made = loaded(root)
    assert made.flags == ()
    assert [len(s) for s in (made.train, made.valid, made.test)] == [11, 6, 6]


def test_the_same_samples_in_another_format_are_a_twin(make_sounds: MakeSounds) -> None:
    root = make_sounds({"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2})
    samples, rate = soundfile.read(root / "test" / "a" / "0000.wav", dtype="int16")
    soundfile.write(root / "train" / "a" / "again.flac", samples, rate)
    made = loaded(root)
    assert made.notes["duplicates_across_splits"] == 1
    assert len(made.train) + len(made.valid) == 12


def test_damaged_recordings_are_named_and_left_out(make_sounds: MakeSounds) -> None:
    root = make_sounds({"a": 30, "b": 30})
    whole = (root / "a" / "0000.wav").read_bytes()
    (root / "a" / "0000.wav").write_bytes(whole[:400])
    (root / "a" / "0001.wav").write_bytes(b"")
    (root / "b" / "0000.wav").write_text("no sound <script>")
    (root / "b" / "0001.wav").unlink()
    (root / "b" / "0001.wav").mkdir()
    soundfile.write(root / "b" / "0002.wav", np.zeros(100), 8000)
    soundfile.write(root / "b" / "0003.wav", np.asarray([0.25]), 8000)
    made = loaded(root)
    assert made.notes["corrupt"] == 3
    said = " ".join(made.notes["corrupt_files"])
    assert "a/0000.wav: it breaks off: 356 of 800 bytes" in said
    assert "a/0001.wav: the file is empty" in said
    assert "b/0000.wav: it is no recording" in said
    assert made.notes["silent"] == 1
    assert sum(map(len, (made.train, made.valid, made.test))) == 56
    assert made.notes == loaded(root).notes, "what is kept of the first reading says the same"


def test_many_damaged_recordings_refuse(make_sounds: MakeSounds) -> None:
    root = make_sounds({"a": 8, "b": 8})
    for i in range(3):
        (root / "a" / f"{i:04}.wav").write_text("none")
    with pytest.raises(BadData, match=r"3 of 16 recordings cannot be used"):
        loaded(root)
    assert loaded(root, allow_unused=True).notes["corrupt"] == 3


@pytest.mark.skipif(os.name == "nt", reason="names of bytes")
def test_names_of_any_bytes_and_links(make_sounds: MakeSounds) -> None:
    root = make_sounds({"a": 20, "b": 20})
    os.rename(root / "a" / "0000.wav", os.fsencode(root / "a") + b"/\xe9\n<b>.wav")
    (root / "b" / "link.wav").symlink_to(root / "b" / "0000.wav")
    (root / "b" / "gone.wav").symlink_to(root / "nowhere")
    os.mkfifo(root / "b" / "pipe.wav")
    made = loaded(root)
    assert made.notes["unused"] == {"broken link": 1, "named pipe": 1}
    assert sum(map(len, (made.train, made.valid, made.test))) == 40, "the link is a twin"


def test_pictures_and_recordings_in_one_folder(make_sounds: MakeSounds) -> None:
    root = make_sounds({"a": 10, "b": 10})
    for i in range(10):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(root / "ab"[i % 2] / f"{i}.png")
    said = refused(root)
    assert "10 pictures and 20 recordings" in said
    assert 'modality = "audio"' in said
    assert "Did you mean 'audio'" in refused(root, modality="audios")
    assert "range is for pictures" in refused(root, modality="audio", range=255)
    with pytest.raises(UserError, match="10 of 30 files"):
        datasets.resolve(ref_to(root, modality="audio"))
    made = loaded(root, modality="audio", allow_unused=True)
    assert made.notes["unused"] == {".png file": 10}
    assert loaded(root, modality="image", allow_unused=True).modality == "image"


def test_a_few_pictures_beside_recordings_are_counted(make_sounds: MakeSounds) -> None:
    root = make_sounds({"a": 20, "b": 20})
    Image.new("RGB", (4, 4)).save(root / "a" / "cover.jpg")
    assert loaded(root).notes["unused"] == {".jpg file": 1}


def test_no_recordings_says_what_is_expected(make_sounds: MakeSounds) -> None:
    root = make_sounds({"a": 2, "b": 2})
    assert "class 'a' has 2 recordings" in refused(root)
    for path in root.rglob("*.wav"):
        path.rename(path.with_suffix(".m4a"))
    said = refused(root, modality="audio")
    assert "no recordings found but .m4a file (4)" in said
    assert "CLASS/recording.wav" in said


def test_numbers_of_recordings(make_sounds: MakeSounds) -> None:
    root = make_sounds({"all": 20})
    rows = "".join(f"all/{i:04}.wav,{i / 2}\n" for i in range(20))
    (root / "targets.csv").write_text("file,target\n" + rows)
    made = loaded(root, task="regression")
    assert (made.modality, made.task) == ("audio", "regression")
    assert isinstance(made.test.read(0), audio.Clip)


GROUPED: dict[str, Value] = {"group_level": 1, "group_pattern": "{group}_nohash_*"}


@pytest.mark.parametrize("way", GROUPED)
def test_groups_are_whole_in_a_split(way: str, tmp_path: Path) -> None:
    for speaker in range(10):
        for i in range(4):
            name = f"who{speaker}/{i}" if way == "group_level" else f"who{speaker}_nohash_{i}"
            save(tmp_path / "ab"[i % 2] / f"{name}.wav", 100 * speaker + i)
    made = loaded(tmp_path, **{way: GROUPED[way]})
    parts = [set(s.groups) for s in (made.train, made.valid, made.test)]
    assert set.union(*parts) == {f"who{i}" for i in range(10)}
    assert sum(map(len, parts)) == 10
    assert len(np.unique(made.test.units)) == 2


def test_a_group_in_two_official_splits_is_counted(tmp_path: Path) -> None:
    for split, who in (("train", "abc"), ("test", "cd")):
        for one in who:
            for i in range(4):
                save(tmp_path / split / "xy"[i % 2] / f"{one}-{i}.wav", ord(one) * 10 + i * 999)
    for i, path in enumerate(sorted((tmp_path / "test").rglob("c-*"))):
        save(path, 77_000 + i)  # another recording of the same
    made = loaded(tmp_path, group_pattern="{group}-*")
    assert made.notes["groups_across_splits"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"group_level": 1}, "12 of 12 files are of no group, such as 'a/0000.wav'"),
        ({"group_pattern": "{group}_*"}, "12 of 12 files are of no group"),
        ({"group_pattern": "*"}, "with {group} once"),
        ({"group_pattern": "(a+)+{group}$"}, "12 of 12 files are of no group"),
        ({"group_pattern": "*-*-*-*-*-{group}"}, "up to 4 times"),
        ({"group_pattern": "{group}*"}, "where {group} ends or begins"),
        ({"group_pattern": "x" * 300 + "{group}"}, "with {group} once"),
        ({"group_level": 0}, "group_level is 1 for"),
        ({"group_level": 1, "group_pattern": "{group}_*"}, "two ways to group"),
    ],
    ids=str,
)
def test_groups_that_cannot_be(
    options: dict[str, Value], said: str, make_sounds: MakeSounds
) -> None:
    assert said in refused(make_sounds({"a": 6, "b": 6}), **options)
