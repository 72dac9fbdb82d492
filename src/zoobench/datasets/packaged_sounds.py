"""Recordings that packages of Debian install: prompts of a telephone, drums, sentences of a novel.

asterisk-prompts: what a telephone says, by one speaker, at 8 kHz. asterisk-words: does the prompt
hold the word `WORD`? hydrogen-drums: which drum is struck, on kits that train has not heard.
pocketsphinx-clips: a few sentences of LibriVox, to judge a recogniser as it is.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from zoobench import audio
from zoobench.datasets import regular, twins
from zoobench.datasets.faults import check_faults
from zoobench.datasets.readers import Recordings
from zoobench.datasets.splits import Found
from zoobench.errors import BadData
from zoobench.files import parse_xml
from zoobench.interfaces import Split, Targets
from zoobench.schema import digest
from zoobench.tasks.classification import Labels
from zoobench.tasks.speech_recognition import Transcripts

SAID = "/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
LONGEST = 30.0
"""Seconds of a prompt: three are longer than what most recognisers read."""
WORD = "to"
KINDS = {
    "cymbal": r"crash|ride|splash", "hat": r"hat|hh\b", "kick": r"kick|bass ?drum",
    "snare": r"snare", "tom": r"\btom",
}  # fmt: skip
"""A kind of drum, and what the names of its instruments hold, in lower case."""
UNHEARD = frozenset(
    ("Audiophob", "ColomboAcousticDrumkit", "ElectricEmpireKit", "ForzeeStereo", "HardElectro1",
     "VariBreaks")
)  # fmt: skip
"""The kits of the test split: others made them than those of train."""

_REMARK = re.compile(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)")
"""What a transcript says of a prompt and the prompt does not say."""


def prompts(folder: Path) -> Found:
    """The prompts of at most `LONGEST` seconds in which something is said."""
    texts = _prompts(folder)
    return _found(list(texts), Transcripts.of(list(texts.values())), {}, "speech-recognition")


def words(folder: Path) -> Found:
    """Each prompt with `WORD`, and one without it that is about as long: those with it are longer
    than most, which is not to be learned. Lengths are matched from the longest down. Half of the
    pairs, by a hash, are the test split: a fifth would be too few to tell models apart."""
    texts = _prompts(folder)
    seconds = {path: _seconds(path) for path in texts}
    with_it = {path for path, text in texts.items() if WORD in re.findall(r"[a-z']+", text.lower())}
    free = {path for path in texts if path not in with_it}
    split_of: dict[str, str] = {}
    for path in sorted(with_it, key=lambda one: (-seconds[one], one)):
        near = min(free, key=lambda one: (abs(seconds[one] - seconds[path]), one), default=None)
        if near is not None:
            free.remove(near)
            half = int(digest([os.path.basename(path), "half"]), 16) % 2
            split_of |= dict.fromkeys((path, near), "test" if half else "train")
    paths = sorted(split_of)
    labels = np.asarray([path in with_it for path in paths], dtype=np.int64)
    names = (f"without {WORD!r}", f"with {WORD!r}")
    splits = [split_of[path] for path in paths]
    return _found(paths, Labels(labels), {}, classes=names, splits=splits)


def drums(folder: Path) -> Found:
    """The strokes on drums of `KINDS`, in groups by kit; those of `UNHEARD` are the test split."""
    rows = [
        (str(folder / kit / file), label, kit)
        for kit in sorted(os.listdir(folder))
        for file, label in sorted(_strokes(folder / kit).items())
    ]
    paths, labels, kits = zip(*rows, strict=True)
    splits = ["test" if kit in UNHEARD else "train" for kit in kits]
    groups = dict(zip(paths, kits, strict=True))
    made = Labels(np.asarray(labels, dtype=np.int64))
    return _found(paths, made, groups, classes=tuple(KINDS), splits=splits)


def clips(folder: Path) -> Found:
    """Names of cards to train on, and sentences of a novel, by another speaker, as the test."""
    paths, texts, splits = [], [], []
    for split, name, listed in (("train", "cards", "cards.transcription"),
                                ("test", "librivox", "transcription")):  # fmt: skip
        for line in (folder / name / listed).read_text(encoding="utf-8").splitlines():
            if match := re.fullmatch(r"<s>(.*)</s>\s*\((.*)\)\s*", line):
                paths.append(str(folder / name / f"{os.path.basename(match[2])}.wav"))
                texts.append(match[1].strip())
                splits.append(split)
    return _found(paths, Transcripts.of(texts), {}, "speech-recognition", splits=splits)


def _found(
    paths: Sequence[str],
    targets: Targets,
    group_of: Mapping[str, str],
    task: str = "classification",
    classes: tuple[str, ...] = (),
    splits: Sequence[str] = (),
) -> Found:
    """Recordings as one pool, or as train and test. Raises BadData where some are damaged."""
    ids, faults, looks = twins.scan(paths, verify=True, sound=True)
    named = [f"{path}: {why}" for path, why in zip(paths, faults, strict=True) if why]
    place = os.path.commonpath(paths)
    notes = {**check_faults(named, len(ids), place, "recording", None), **looks.notes}

    def split(name: str) -> Split:
        rows = [i for i, why in enumerate(faults) if not why and (not splits or splits[i] == name)]
        read = Recordings(tuple(paths[i] for i in rows))
        some = targets.subset(np.asarray(rows, dtype=np.intp))
        return Split(name, tuple(ids[i] for i in rows), some, read)

    groups = {of: group_of[path] for of, path in zip(ids, paths, strict=True) if path in group_of}
    test = split("test") if splits else None
    return Found(
        split("train"), None, test, classes, "audio", notes, groups, task=task, looks=looks
    )


def _prompts(folder: Path) -> dict[str, str]:
    """Path -> what is said, of the prompts of at most `LONGEST` seconds, by path."""
    texts = {}
    for line in gzip.decompress(_content(SAID)).decode("utf-8").splitlines():
        name, colon, said = line.partition(":")
        text = " ".join(_REMARK.sub(" ", said).split())
        path = str(folder / f"{name.strip()}.wav")
        if colon and re.search(r"\w", text) and os.path.isfile(path) and _seconds(path) <= LONGEST:
            texts[path] = text
    return dict(sorted(texts.items()))


def _strokes(kit: Path) -> dict[str, int]:
    """File -> number of its kind, of the recordings of a kit of which one kind alone fits."""
    description = kit / "drumkit.xml"
    if not description.is_file():
        return {}
    found: dict[str, set[int]] = {}
    for instrument in parse_xml(_content(str(description))).iter():
        if _tag(instrument.tag) != "instrument":
            continue
        name = next((one.text or "" for one in instrument if _tag(one.tag) == "name"), "")
        kinds = {i for i, k in enumerate(KINDS) if re.search(KINDS[k], name.casefold())}
        for one in instrument.iter():
            if _tag(one.tag) == "filename" and one.text:
                found.setdefault(os.path.basename(one.text), set()).update(kinds)
    whole = {file: kinds for file, kinds in found.items() if (kit / file).is_file()}
    return {file: next(iter(kinds)) for file, kinds in whole.items() if len(kinds) == 1}


def _tag(name: str) -> str:
    return name.rpartition("}")[2]


def _seconds(path: str) -> float:
    return float(audio.library().info(path).duration)


def _content(path: str) -> bytes:
    try:
        return regular.read(path)
    except OSError as error:
        raise BadData(f"{path}: cannot be read: {error.strerror or error}") from error
