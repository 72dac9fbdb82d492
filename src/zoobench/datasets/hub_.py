"""hf/...: data sets of the Hugging Face hub, by the `datasets` library (extra `hub`).

Catalogued names know their columns; any other `hf/user/name` works when they are
given: `text`, `image` or `audio`, `label`, and where need be `group`, `config`, `train_split`,
`valid_split`, `test_split`. Speech recognition reads `audio` and `text`. Text tasks have columns of
their own (see `hub_text`).
HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are the library's.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoobench.datasets import (
    catalog,
    hub_dense,
    hub_rows,
    hub_text,
    labels,
    options,
    ranges,
    rows,
    table_,
)
from zoobench.datasets.splits import assemble
from zoobench.errors import BadData, UserError, missing_extra, opening, unknown
from zoobench.interfaces import Splits
from zoobench.schema import DatasetCard, Modality, Ref

OPTIONS = (
    "config", "text", "image", "audio", "label", "labels", "group", "train_split", "valid_split",
    "test_split", "range", "allow_unused", "task", "names", "box_format", "reduce_labels",
)  # fmt: skip

TASKS = (
    "classification", "segmentation", "detection", table_.SPEECH,
    *(task for task in rows.ROWS if task not in rows.OF_FILES),
)  # fmt: skip
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_]|[-.](?![-.])){0,94}[A-Za-z0-9_]|[A-Za-z0-9_]"
_REPOSITORY = re.compile(rf"(?:{_PART})/(?:{_PART})")
"""owner/name in the hub's alphabet: never a path, never one of the library's own readers."""

_PAIRS = (
    "text", "image", "audio", "label", "labels", "group", "range", "names", "box_format",
    "reduce_labels",
)  # fmt: skip
"""Options of sets that hold a content and its label."""
_USUAL = {"train": ("train",), "valid": ("validation", "valid", "val", "dev"), "test": ("test",)}


def cards() -> tuple[DatasetCard, ...]:
    return tuple(row.card for row in catalog.HUB)


def card(ref: Ref) -> DatasetCard:
    return _row(ref, "").card


def resolve(ref: Ref, where: str) -> Ref:
    """Revision: the one given, else the card's, else main. No network.

    Raises UserError for an unknown option or a name that needs columns,
    MissingExtra where the library is not installed.
    """
    options.check(ref, _options(ref), where)
    ranges.range_of(ref, where)
    labels.as_words(ref, where)
    options.allow_unused(ref, where)
    row = _row(ref, where)
    hub_dense.check_options(ref, where)
    options.check_against(ref, row.card, where)
    if importlib.util.find_spec("datasets") is None:
        raise missing_extra("datasets", "hub", f"{opening(where)}{ref.id}")
    return ref.at(ref.revision or row.card.revision)


def _options(ref: Ref) -> tuple[str, ...]:
    """The options that a set of this task has."""
    task = _task(ref)
    if task == table_.SPEECH:
        other = set(_PAIRS) - {"text", "audio", "group"}
        return (*(one for one in OPTIONS if one not in other), "normaliser")
    if task not in rows.ROWS:
        return OPTIONS
    return (*(one for one in OPTIONS if one not in _PAIRS), *rows.options_of(task))


def _catalogued(ref: Ref) -> catalog.Hub | None:
    return next((row for row in catalog.HUB if row.card.name == ref.name), None)


def _task(ref: Ref) -> str:
    """What `ref` asks for, else its card, else classes."""
    known = _catalogued(ref)
    return options.text(ref, "task") or (known.card.task if known else TASKS[0])


def repository(ref: Ref) -> str:
    """The repository on the hub."""
    return _row(ref, "").repo


def available(ref: Ref) -> tuple[bool, str]:
    """Looks for the prepared data in the library's cache; nothing is imported."""
    row = _row(ref, "")
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets")
    wanted = _folded(row.repo.replace("/", "___"))
    if cache.is_dir() and any(_folded(path.name) == wanted for path in cache.iterdir()):
        return True, f"in {cache}"
    return False, f"will be downloaded from the hub ({row.repo})"


def load(ref: Ref) -> Splits:
    """Raises BadData where it cannot be fetched, or lacks the column, split or labels."""
    row = _row(ref, "")
    try:
        library = importlib.import_module("datasets")  # slow: only when data is really wanted
    except ImportError:
        raise missing_extra("datasets", "hub", ref.id) from None
    tables = _fetched(library, row, ref)
    named = {name: tables[inside] for name, inside in _splits(row, list(tables), ref).items()}
    if row.card.task in rows.ROWS:
        return assemble(hub_text.found(named, row, ref), ref)
    return assemble(hub_rows.found(named, row, ref, library), ref)


def _fetched(library: Any, row: catalog.Hub, ref: Ref) -> Any:
    """The repository's tables by their names there, without running any of its code.

    Raises BadData where they cannot be had, and where the repository sends for files elsewhere.
    """
    if Path(row.repo).exists():
        raise BadData(
            f"{ref.id}: here lies a folder {row.repo} as well, which the library would read in "
            "place of the hub's set. Run it from another folder"
        )
    # Versions before 4 ask whether to run a repository's script, and some ran it unasked.
    asks = "trust_remote_code" in inspect.signature(library.load_dataset_builder).parameters
    try:
        builder = library.load_dataset_builder(
            row.repo, row.config or None, revision=ref.revision or row.card.revision,
            **({"trust_remote_code": False} if asks else {}),
        )  # fmt: skip
        _check_origin(builder.config.data_files or {}, row.repo, ref)
        builder.download_and_prepare()
        return builder.as_dataset()
    except (MemoryError, BadData):
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise BadData(
            f"{ref.id}: could not be fetched from the hub ({row.repo}): "
            f"{type(error).__name__}: {first}"
        ) from error


def _check_origin(files: Mapping[str, Iterable[str]], repo: str, ref: Ref) -> None:
    """Raises BadData where the repository's README names files that are not its own."""
    for name in (str(one) for group in files.values() for one in group):
        inside = name.rpartition("::")[2]
        if not inside.startswith(f"hf://datasets/{repo}@") or ".." in inside.split("/"):
            raise BadData(f"{ref.id}: its files are not all its own: {name!r}")


def _folded(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def _row(ref: Ref, where: str) -> catalog.Hub:
    """The catalogue's row with the options of `ref` laid over it, or one from the options."""
    given = {name: options.text(ref, name) for name in OPTIONS if name in dict(ref.options)}
    known = _catalogued(ref)
    task = _task(ref)
    contents = [name for name in table_.CONTENTS if name in given]
    if task == table_.SPEECH:
        contents = [name for name in contents if name != "text"]
        if "text" in given:
            given["label"] = given["text"]
    if len(contents) > 1:
        raise UserError(f"{opening(where)}{ref.id}: give {' or '.join(contents)}, not both")
    column = given[contents[0]] if contents else ""
    if known is None and "/" not in ref.name:
        raise unknown(where, "dataset", ref.id, [f"hf/{row.card.name}" for row in catalog.HUB])
    if known is None and not _REPOSITORY.fullmatch(ref.name):
        raise UserError(
            f"{opening(where)}{ref.id!r}: a set of the hub is called owner/name, of "
            "letters, digits, '-', '_' and '.'. A folder of your own is folder/NAME?path=DIR, a "
            "file table/NAME?path=FILE"
        )
    if task in rows.ROWS:
        return _texts(ref, known, task, given, where)
    if known is None and not (column and "label" in given):
        speech = f"task={task}&audio=audio&text=text"
        such = speech if task == table_.SPEECH else "text=text&label=label"
        raise UserError(
            f"{opening(where)}{ref.id} is not in the catalogue: say which columns to read, "
            f"such as hf/{ref.name}?{such}"
        )
    splits = _said_splits(given)
    if known is None:
        known = catalog.Hub(_said_card(ref, task, contents[0], where), ref.name, column)
    return replace(
        known,
        column=column or known.column,
        label=given.get("label", known.label),
        config=given.get("config", known.config),
        splits={**known.splits, **splits},
        group=given.get("group", known.group),
        names=given.get("names", known.names),
        reduce_labels=bool(ref.option("reduce_labels", known.reduce_labels)),
    )


def _said_card(ref: Ref, task: str, content: str, where: str) -> DatasetCard:
    """The card of a set that only its name tells of. Raises UserError for a task that its
    `content` (text, image or audio) cannot have."""
    serves = {"segmentation": "image", "detection": "image", table_.SPEECH: "audio"}
    if task not in TASKS or serves.get(task, content) != content:
        raise unknown(where, "task", task, TASKS, f"of {ref.id}, which is of {content}s")
    modality: Modality = (
        "audio" if content == "audio" else "image" if content == "image" else "text"
    )
    return DatasetCard("hf", ref.name, modality, 0, (0, 0, 0), ref.revision or "main", task=task)


def _said_splits(given: Mapping[str, str]) -> dict[str, str]:
    return {name: given[f"{name}_split"] for name in _USUAL if f"{name}_split" in given}


def _texts(
    ref: Ref, known: catalog.Hub | None, task: str, given: Mapping[str, str], where: str
) -> catalog.Hub:
    """The row of a set of a text task."""
    if known is None or known.card.task != task:
        own = known.card if known else None
        card_ = DatasetCard(
            "hf", ref.name, "text", 0, (0, 0, 0), ref.revision or (own.revision if own else "main"),
            task=task, license=own.license if own else "unknown",
        )  # fmt: skip
        known = replace(known or catalog.Hub(card_, ref.name), card=card_, columns={})
    return replace(
        known,
        columns=rows.columns_of(ref, task, "hf/USER/NAME", known.columns, where),
        config=given.get("config", known.config),
        splits={**known.splits, **_said_splits(given)},
    )


def _splits(row: catalog.Hub, there: list[str], ref: Ref) -> dict[str, str]:
    """train/valid/test -> the repository's name; BadData where one is not there."""
    named = dict(row.splits)
    if not {"train", "test"} <= set(named):
        for ours, usual in _USUAL.items():
            match = next((name for name in usual if name in there), None)
            if match is not None and match not in named.values():
                named.setdefault(ours, match)
    for ours, inside in named.items():
        if inside not in there:
            raise BadData(str(unknown(ref.id, f"split (for {ours})", inside, there)))
    if "train" not in named:
        raise BadData(f"{ref.id}: no train split among {', '.join(there)}; give train_split")
    return named
