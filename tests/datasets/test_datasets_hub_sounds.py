"""hf/...: columns of recordings, with a class or with what is said in them."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from zoobench import audio, datasets
from zoobench.datasets import catalog
from zoobench.datasets.ids import bytes_id
from zoobench.errors import BadData, UserError
from zoobench.tasks.speech_recognition import transcripts_of

library = pytest.importorskip("datasets")

Serve = Callable[[Mapping[str, Any]], list[Any]]


def encoded(seed: int, kind: str = "FLAC") -> bytes:
    file = io.BytesIO()
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, 400)
    soundfile.write(file, samples, 8000, format=kind)
    return file.getvalue()


def table(start: int, many: int = 12, **columns: Sequence[Any]) -> Any:
    rows = {
        "audio": [{"bytes": encoded(start + i), "path": f"{i}.flac"} for i in range(many)],
        "label": [i % 2 for i in range(many)],
        "text": [f"words of {start + i}" for i in range(many)],
        "speaker_id": [(start + i) // 3 for i in range(many)],
        **columns,
    }
    features = library.Features(
        {
            "audio": {"bytes": library.Value("binary"), "path": library.Value("string")},
            "label": library.ClassLabel(names=["no", "yes"]),
            "text": library.Value("string"),
            "speaker_id": library.Value("int64"),
        }
    )
    made = library.Dataset.from_dict(rows, features=features)  # an Audio is not encoded here
    return made.cast_column("audio", library.Audio(sampling_rate=8000))


SPEECH = "hf/me/said?task=speech-recognition&audio=audio&text=text&group=speaker_id"


def test_recordings_with_a_class_are_named_by_their_own_bytes(serve: Serve) -> None:
    serve({"train": table(0), "validation": table(50), "test": table(100)})
    ref = datasets.resolve("hf/me/heard?audio=audio&label=label")
    assert datasets.card(ref).modality == "audio"
    made = datasets.load(ref)
    assert (made.classes, made.modality, made.flags) == (("no", "yes"), "audio", ())
    assert made.test.ids[3] == bytes_id(encoded(103))
    clip = pickle.loads(pickle.dumps(made)).test.read(3)
    assert isinstance(clip, audio.Clip)
    assert clip.rate == 8000
    assert made.notes["sound_rates"] == {"8000": 36}


def test_transcripts_and_speakers(serve: Serve) -> None:
    serve({"train": table(0, 30), "test": table(100)})
    made = datasets.load(datasets.resolve(SPEECH))
    assert (made.task, made.modality) == ("speech-recognition", "audio")
    assert transcripts_of(made.test).texts[3] == "words of 103"
    assert made.test.groups[3] == str(103 // 3)
    assert not set(made.train.groups) & set(made.valid.groups)


def test_damaged_rows_are_named(serve: Serve) -> None:
    rows = [{"bytes": encoded(i), "path": None} for i in range(40)]
    rows[3] = {"bytes": b"no sound", "path": None}
    rows[7] = {"bytes": None, "path": None}
    texts = ["words"] * 20 + [None] + ["more words"] * 19
    serve({"train": table(0, 40, audio=rows, text=texts), "test": table(100)})
    said = " ".join(datasets.load(datasets.resolve(SPEECH)).notes["corrupt_files"])
    assert "train, row 4: it is no recording" in said
    assert "train, row 8: there is no recording" in said
    assert "train, row 21: the transcript is missing" in said


def test_a_path_of_somebody_else_is_refused(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "mine.flac").write_bytes(encoded(1))
    rows = [{"bytes": None, "path": os.fspath(tmp_path / "mine.flac")}] * 12
    serve({"train": table(0, audio=rows), "test": table(100)})
    with pytest.raises(BadData, match="not in its own repository"):
        datasets.load(datasets.resolve(SPEECH))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf/me/x?task=speech-recognition&audio=a", "hf/me/x?task=speech-recognition&audio="),
        ("hf/me/x?audio=a&image=b&label=c", "give image or audio, not both"),
        ("hf/me/x?audio=a&label=b&task=segmentation", "which is of audios"),
        ("hf/me/x?image=a&text=b&task=speech-recognition", "unknown option 'image'"),
    ],
)
def test_names_that_cannot_be(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        datasets.resolve(name, "s.toml")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("audio=text&text=speaker_id", "column 'speaker_id' holds int64, which are no transcripts"),
        ("audio=label&text=text", "column 'label' holds ClassLabel, which are no recordings"),
        ("audio=audio&text=text&group=audio", "column 'audio' holds Audio, which are no groups"),
        ("audio=audio&text=words", "unknown column 'words'"),
    ],
)
def test_columns_that_hold_something_else(columns: str, said: str, serve: Serve) -> None:
    serve({"train": table(0), "test": table(100)})
    with pytest.raises(BadData) as caught:
        datasets.load(datasets.resolve(f"hf/me/x?task=speech-recognition&{columns}"))
    assert said in str(caught.value)


def test_catalogued_sets_say_their_columns() -> None:
    rows = [row for row in catalog.HUB if row.card.modality == "audio"]
    assert len(rows) >= 3
    for row in rows:
        assert row.column
        assert row.label
        assert datasets.resolve(row.card.ref.at("")).revision == row.card.revision
        if row.card.task == "speech-recognition":
            assert row.card.classes == 0
