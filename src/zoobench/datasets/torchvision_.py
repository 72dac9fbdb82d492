"""torchvision/...: its own download, once, into $ZOOBENCH_CACHE/datasets/torchvision/NAME.

A folder of that name exists only after its download completed. Fashion-MNIST is
also taken from Debian's package dataset-fashion-mnist, where that is installed.
"""

from __future__ import annotations

import gzip
import importlib
import os
import shutil
import tempfile
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets import catalog, options, torchvision_dense, twins
from zoobench.datasets.faults import check_faults
from zoobench.datasets.ids import array_ids
from zoobench.datasets.readers import Files, PixelArray
from zoobench.datasets.splits import Found, assemble
from zoobench.errors import BadData, unknown
from zoobench.interfaces import Split, Splits
from zoobench.machine import cache_dir
from zoobench.schema import DatasetCard, Ref
from zoobench.tasks.classification import Labels

DEBIAN = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
"""Where Debian's packages put a dataset, as gzipped IDX files."""
WHOLE = ("SBDataset",)
"""Types that unpack all of their splits at once, and cannot do so again."""


def cards() -> tuple[DatasetCard, ...]:
    return tuple(row.card for row in catalog.TORCHVISION)


def resolve(ref: Ref, where: str) -> Ref:
    row = _row(ref, where)
    options.check(ref, (), where)
    options.check_against(ref, row.card, where)
    return options.pin(ref, row.card.revision, where)


def available(ref: Ref) -> tuple[bool, str]:
    """Looks for the folder only; nothing is imported."""
    row = _row(ref, "")
    folder, debian = _folder(row), DEBIAN.get(row.card.name)
    if folder.is_dir():
        return True, f"downloaded to {folder}"
    if debian is not None and debian.is_dir():
        return True, f"from the Debian package in {debian}"
    return False, "will be downloaded by torchvision"


def load(ref: Ref) -> Splits:
    """Downloads where need be. Raises BadData where that fails, or what is here is damaged: all
    of it, or 1% of the pictures."""
    row = _row(ref, "")
    folder, debian = _folder(row), DEBIAN.get(row.card.name)
    if not folder.is_dir() and debian is not None and debian.is_dir():
        with tempfile.TemporaryDirectory(prefix="zoobench-") as unpacked:
            sets = _unpacked(row, debian, Path(unpacked))
    else:
        if not folder.is_dir():
            _fetch(row, folder)
        sets = _open(row, folder, folder)
    if row.card.task != "classification":
        return assemble(torchvision_dense.found(row.type, sets, str(folder), ref), ref)
    found = {name: _split(name, dataset) for name, dataset in sets.items()}
    names = getattr(sets["train"], "classes", None) or range(row.card.classes)
    classes = tuple(str(name) for name in names)
    files: dict[str, str] = {}
    for split in found.values():
        if isinstance(split.read, Files):  # the id of a picture in an array is of its pixels
            files.update(zip(split.ids, map(str, split.read.paths), strict=True))
    looks, wrong = twins.of_pictures(list(files), list(files.values()).__getitem__)
    total = sum(map(len, found.values()))
    named = [f"{os.path.relpath(files[one], folder)}: {why}" for one, why in sorted(wrong.items())]
    notes = check_faults(named, total, row.card.id, "picture", allowed=None)
    if wrong:
        found = {name: _without(split, wrong) for name, split in found.items()}
    valid, test = found.get("valid"), found.get("test")
    whole = Found(found["train"], valid, test, classes, "image", notes, looks=looks)
    return assemble(whole, ref)


def _without(split: Split, ids: Container[str]) -> Split:
    return split.subset(np.flatnonzero([one not in ids for one in split.ids]))


def _row(ref: Ref, where: str) -> catalog.Torchvision:
    rows = {row.card.name: row for row in catalog.TORCHVISION}
    if ref.name not in rows:
        raise unknown(where, "dataset", ref.id, [f"torchvision/{name}" for name in rows])
    return rows[ref.name]


def _folder(row: catalog.Torchvision) -> Path:
    return cache_dir() / "datasets" / "torchvision" / row.card.name


def _type(row: catalog.Torchvision) -> Any:
    # Loads torch: only when the data is really wanted.
    return getattr(importlib.import_module("torchvision.datasets"), row.type)


def _open(row: catalog.Torchvision, folder: Path, source: Path) -> dict[str, Any]:
    """The official splits from `folder`, which holds what `source` does."""
    try:
        return {
            name: _type(row)(str(folder), download=False, **given)
            for name, given in row.splits.items()
        }
    except (RuntimeError, OSError, ValueError, EOFError, AssertionError, TypeError) as error:
        raise BadData(
            f"{row.card.id}: {source} is damaged ({error!r}). Remove it to download it again"
        ) from error


def _unpacked(row: catalog.Torchvision, debian: Path, folder: Path) -> dict[str, Any]:
    """As `_open`, from the files of a Debian package, for which `folder` gives room."""
    raw = folder / row.type / "raw"
    raw.mkdir(parents=True)
    for packed in debian.glob("*.gz"):
        try:
            with gzip.open(packed) as content, (raw / packed.stem).open("wb") as file:
                shutil.copyfileobj(content, file)
        except (OSError, EOFError) as error:
            raise BadData(f"{packed}: {error}") from error
    return _open(row, folder, debian)


def _fetch(row: catalog.Torchvision, folder: Path) -> None:
    """Download beside `folder`, then rename: two processes cannot see half of it."""
    from filelock import FileLock

    part = folder.with_name(folder.name + ".part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        with FileLock(str(part) + ".lock"):
            if folder.is_dir():  # another process was first
                return
            for nth, given in enumerate(row.splits.values()):
                _type(row)(str(part), download=not nth or row.type not in WHOLE, **given)
            part.rename(folder)
    except MemoryError:
        raise
    except Exception as error:
        raise BadData(
            f"{row.card.id}: could not be fetched: {type(error).__name__}: {error}"
        ) from error


def _split(name: str, dataset: Any) -> Split:
    """A torchvision dataset as a split, from its arrays or its list of files."""
    pixels = getattr(dataset, "data", None)
    if pixels is not None:
        labels = getattr(dataset, "targets", None)
        return _from_array(name, np.asarray(pixels), dataset.labels if labels is None else labels)
    for files in ("_image_files", "_images"):
        if hasattr(dataset, files):
            return _from_files(name, getattr(dataset, files), dataset._labels)
    pairs = dataset.samples if hasattr(dataset, "samples") else dataset._samples
    return _from_files(name, [path for path, _ in pairs], [label for _, label in pairs])


def _from_array(name: str, pixels: NDArray[Any], labels: Any) -> Split:
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
        raise BadData(f"pictures in an array of {pixels.dtype}, {pixels.shape}: uint8 was due")
    if pixels.ndim == 4 and pixels.shape[1] == 3:  # channels first: STL-10, SVHN
        pixels = pixels.transpose(0, 2, 3, 1)
    pixels = np.ascontiguousarray(pixels)
    targets = Labels(np.asarray(labels, dtype=np.int64))
    return Split(name, array_ids(pixels), targets, PixelArray(pixels))


def _from_files(name: str, files: Any, labels: Any) -> Split:
    paths = tuple(str(path) for path in files)
    targets = Labels(np.asarray(labels, dtype=np.int64))
    ids, _, _ = twins.scan(paths, verify=False)
    return Split(name, tuple(ids), targets, Files(paths))
