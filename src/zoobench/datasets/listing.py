"""What lies in a folder: examples, and everything else by kind, so that nothing goes uncounted."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from zoobench.datasets import images, regular, sounds
from zoobench.errors import BadData

SYSTEM = frozenset(
    (
        "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "__macosx",
        "system volume information", "lost+found", "__pycache__", "thumbs.db", "ehthumbs.db",
        "desktop.ini",
    )
)  # fmt: skip
"""What file systems, NAS boxes and file managers leave behind (in lower case). Never read."""

BESIDE = frozenset(
    (
        ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".md", ".html",
        ".htm", ".pdf", ".py", ".ipynb", ".sh", ".npy", ".npz", ".mat", ".xmp", ".aae", ".log",
        ".ini", ".db", ".sqlite", ".cache", ".lock", ".sha256", ".md5", ".url",
    )
)  # fmt: skip
"""Files that stand beside examples and are none: counted, but no loss."""

_SUFFIX = re.compile(r"\.(?=[^.]*[a-z])[a-z0-9_]{1,8}")
"""What tells a suffix from the rest of a name such as `St. Bernard 12`."""


@dataclass(frozen=True)
class Kind:
    """What the examples of a folder are: the word for one, the name of such a file, how names of
    its files end, and whether they are `sound`."""

    noun: str
    example: str
    suffixes: frozenset[str]
    sound: bool = False


PICTURES = Kind("picture", "picture.jpg", images.SUFFIXES)
RECORDINGS = Kind("recording", "recording.wav", sounds.SUFFIXES, sound=True)


@dataclass
class Unused:
    """What a reading leaves out, by kind. `lost` may have been examples, `beside` was none."""

    lost: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def lose(self, kind: str, path: str) -> None:
        self.lost[kind] += 1
        self.first.setdefault(kind, path)


def entries(folder: str) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """(folders, other entries) in the order of their names, but hidden ones and `SYSTEM`'s.

    A link to a folder is among the folders. Raises BadData for a folder that cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            inside = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise BadData(f"{shown(folder)}: the folder cannot be read: {error.strerror}") from error
    seen = [e for e in inside if not e.name.startswith(".") and e.name.casefold() not in SYSTEM]
    folders = [entry for entry in seen if _is_folder(entry)]
    names = {entry.name for entry in folders}
    return folders, [entry for entry in seen if entry.name not in names]


def examples(folder: str, unused: Unused, kind: Kind = PICTURES) -> Iterator[str]:
    """The examples below `folder`, at any depth; whatever else is there is counted in `unused`.

    Links to folders are not followed, since they may lead round in a ring.
    """
    waiting = [folder]
    while waiting:
        folders, files = entries(waiting.pop())
        for entry in folders:
            if entry.is_symlink():
                unused.lose("linked folder", entry.path)
            else:
                waiting.append(entry.path)
        for entry in files:
            if is_example(entry, unused, kind):
                yield entry.path


def is_example(entry: os.DirEntry[str], unused: Unused, kind: Kind = PICTURES) -> bool:
    """Whether a file counts as an example: by its suffix, or by its content where it has none."""
    if entry.is_symlink() or not entry.is_file(follow_symlinks=False):
        try:
            what = regular.irregular(entry.path)
        except OSError as error:
            what = f"file that cannot be looked at ({error.strerror})"
        if what:
            unused.lose(what.removeprefix("a "), entry.path)
            return False
    suffix = os.path.splitext(entry.name)[1].casefold()
    if suffix in kind.suffixes:
        return True
    if _SUFFIX.fullmatch(suffix):
        if suffix in BESIDE:
            unused.beside[f"{suffix} file"] += 1
        else:
            unused.lose(f"{suffix} file", entry.path)
        return False
    head = _head(entry.path)
    picture, read = images.kind(head)
    sound = sounds.kind(head)
    if kind.sound:
        read = bool(sound)
    if not read:
        what = picture or sound
        unused.lose(f"file without a suffix{f' ({what})' if what else ''}", entry.path)
    return read


def holds_examples(folder: str, kind: Kind = PICTURES) -> bool:
    """Whether there is an example below `folder`; looks no further than the first."""
    return next(examples(folder, Unused(), kind), None) is not None


def counts(folder: str) -> dict[Kind, int]:
    """How many files below `folder` are of each kind by their suffixes alone."""
    found = dict.fromkeys((PICTURES, RECORDINGS), 0)
    waiting = [folder]
    while waiting:
        folders, files = entries(waiting.pop())
        waiting += [entry.path for entry in folders if not entry.is_symlink()]
        for entry in files:
            suffix = os.path.splitext(entry.name)[1].casefold()
            for kind in found:
                found[kind] += suffix in kind.suffixes
    return found


def leads_home(link: str, root: str) -> bool:
    """Whether a linked folder is one that holds `root`, or that `root` holds: a ring or a twin."""
    there, here = os.path.realpath(link), os.path.realpath(root)
    try:
        return os.path.commonpath([there, here]) in (there, here)
    except ValueError:  # two drives of Windows
        return False


def leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether it is a broken link that does not call itself a picture: a folder, perhaps."""
    suffix = os.path.splitext(entry.name)[1].casefold()
    return entry.is_symlink() and not os.path.exists(entry.path) and not _SUFFIX.fullmatch(suffix)


def shown(path: str) -> str:
    r"""A name for people and digests: bytes that are no UTF-8 as \xe9."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a ring of links, say: no folder, and counted as what it is
        return False


def _head(path: str) -> bytes:
    try:
        return regular.head(path, images.HEAD)
    except OSError:
        return b""
