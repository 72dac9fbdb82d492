"""packaged/...: data that ships inside a pip package, read without importing its code, or inside
a package of Debian.

The revision is the card's while the file is the known one (by sha256), the file's own
digest otherwise, and the package's version where the data is made from many files, or a digest of
what was made or of the files.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from zoobench.datasets import (
    catalog_packaged,
    options,
    packaged_docstrings,
    packaged_mosaic,
    packaged_patches,
    packaged_photos,
    packaged_prose,
    packaged_shapes,
    packaged_slots,
    packaged_sounds,
    packaged_stamps,
    packaged_text,
    packaged_trees,
    regular,
)
from zoobench.datasets.ids import array_ids, bytes_id
from zoobench.datasets.readers import PixelArray
from zoobench.datasets.splits import Found, assemble
from zoobench.errors import BadData, MissingExtra, unknown
from zoobench.interfaces import Split, Splits
from zoobench.schema import DatasetCard, Ref, digest
from zoobench.tasks.classification import Labels


def cards() -> tuple[DatasetCard, ...]:
    return tuple(row.card for row in catalog_packaged.PACKAGED)


def resolve(ref: Ref, where: str) -> Ref:
    """Raises UserError for an unknown name or option, and for a package that is absent."""
    row = _row(ref, where)
    options.check(ref, (), where)
    options.check_against(ref, row.card, where)
    return options.pin(ref, _revision(row), where)


def available(ref: Ref) -> tuple[bool, str]:
    row = _row(ref, "")
    if _file(row) is None:
        return False, f"needs the package {row.package}: {row.install}"
    return True, f"inside the package {row.package}"


def load(ref: Ref) -> Splits:
    """Raises BadData where the installed package holds other data than `ref` names."""
    row = _row(ref, "")
    here = _revision(row)
    if ref.revision not in ("", here):
        raise BadData(
            f"{ref.id} was pinned at {ref.revision}, but the installed {_package(row)} holds {here}"
        )
    path = _file(row)
    assert path is not None  # _revision has raised
    return assemble(READ[ref.name](path), ref)


def _row(ref: Ref, where: str) -> catalog_packaged.PackagedDataset:
    rows = {row.card.name: row for row in catalog_packaged.PACKAGED}
    if ref.name not in rows:
        raise unknown(where, "dataset", ref.id, [f"packaged/{name}" for name in rows])
    return rows[ref.name]


def _package(row: catalog_packaged.PackagedDataset) -> str:
    if not row.module:
        return f"Debian package {row.package}"
    return f"{row.package} {importlib.metadata.version(row.package)}"


def _file(row: catalog_packaged.PackagedDataset) -> Path | None:
    """The file of a package, found without importing it; None where it is not installed."""
    if not row.module:
        there = all(os.path.exists(path) for path in (row.file, *row.beside))
        return Path(row.file) if there else None
    spec = importlib.util.find_spec(row.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / row.file
    return path if path.exists() else None


def _revision(row: catalog_packaged.PackagedDataset) -> str:
    path = _file(row)
    if path is None:
        what = f"packaged/{row.card.name} needs {row.package}, which is not installed"
        if not row.module:
            gone = next(one for one in (row.file, *row.beside) if not os.path.exists(one))
            what = f"packaged/{row.card.name} needs {gone}, which Debian's packages hold"
        raise MissingExtra(f"{what}. Install it with: {row.install}")
    if not row.module:
        return _digest(row.file, *row.beside)
    if row.card.name in MADE_OF_MANY:
        return MADE_OF_MANY[row.card.name]()
    if not row.sha256:
        return importlib.metadata.version(row.package)
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    return row.card.revision if content == row.sha256 else content[:12]


@cache  # some 20 MB are hashed, and a process asks more than once
def _digest(*places: str) -> str:
    """Of the files at `places`, and of those below them. Raises BadData where one is unreadable."""
    files = sorted(
        path
        for place in places
        for path in ([place] if os.path.isfile(place) else map(str, Path(place).rglob("*")))
        if os.path.isfile(path)
    )
    try:
        ids = [bytes_id(regular.read(path)) for path in files]
    except OSError as error:
        why = error.strerror or error
        raise BadData(f"{error.filename}: cannot be read: {why}") from error
    names = [os.path.relpath(path, places[0]) for path in files]
    return digest(list(zip(names, ids, strict=True)))


def _pictures(path: Path, size: tuple[int, int], top: int) -> Found:
    """CSV lines of grey values 0..`top`, row by row, and the class last, one of ten digits."""
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    grey = np.rint(table[:, :-1] * (255 / top)).astype(np.uint8).reshape(-1, *size)
    labels = table[:, -1].astype(np.int64)
    train = Split("train", array_ids(grey), Labels(labels), PixelArray(grey))
    return Found(train, None, None, tuple("0123456789"), "image")


READ: Mapping[str, Callable[[Path], Found]] = {
    "asterisk-prompts": packaged_sounds.prompts,
    "asterisk-words": packaged_sounds.words,
    "hydrogen-drums": packaged_sounds.drums,
    "pocketsphinx-clips": packaged_sounds.clips,
    "stamp-captions": packaged_stamps.stamp_captions,
    "digits": lambda path: _pictures(path, (8, 8), 16),
    "mnist-5k": lambda path: _pictures(path, (28, 28), 255),
    "photo-crops": packaged_photos.photo_crops,
    "photo-mosaic": packaged_mosaic.photo_mosaic,
    "photo-patches": packaged_patches.photo_patches,
    "photo-shapes": packaged_shapes.photo_shapes,
    "tree-crowns": packaged_trees.tree_crowns,
    "home-slots": packaged_slots.home_slots,
    "hironsan": packaged_text.hironsan,
    "word-polarity": packaged_text.word_polarity,
    "word-valence": packaged_text.word_valence,
    "docstring-qa": lambda path: packaged_docstrings.docstring_qa(),
    "docstrings": lambda path: packaged_prose.docstrings(),
    "language-id": lambda path: packaged_text.language_id(),
}
"""Name -> what reads the package's file."""
MADE_OF_MANY: Mapping[str, Callable[[], str]] = {
    "docstring-qa": packaged_docstrings.revision,
    "docstrings": packaged_prose.revision,
}
"""Sets made of several packages, and what gives their revision."""
